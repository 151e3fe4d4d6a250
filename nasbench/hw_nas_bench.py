"""HW-NAS-Bench (Li et al., ICLR 2021): latency of NAS-Bench-201's cells on edge devices, from its published pickle.

``HW-NAS-Bench-v1_0.pickle`` holds ``[space][data set][metric]``, a list with an entry a cell, in the order of the
benchmark's numbers. Of each device the latency on CIFAR-10 is read; ``eyeriss`` and ``fpga`` are estimated by their
tools, the others measured. FBNet's part, a table of blocks, is not read.
"""

from pathlib import Path

import numpy as np

from nas.errors import FileFormatError
from nasbench.benchmark import Benchmark
from nasbench.columns import find
from nasbench.foreign import read_pickle
from nasbench.nasbench201 import AMOUNTS, amounts_of, cell_digits

FILES = ("HW-NAS-Bench-v1_0.pickle",)
SOURCE = "it comes from HW-NAS-Bench's repository, github.com/GATECH-EIC/HW-NAS-Bench (MIT): name its folder"
LATENCY = "_latency"


def read_hw_nas_bench(folder: Path) -> Benchmark:
    """Read the cells' latencies on CIFAR-10, spelled as in ``nasbench201``."""
    path = find(folder, FILES, SOURCE)
    content = read_pickle(path)
    try:
        metrics = content["nasbench201"]["cifar10"]
        cells = tuple(cell_digits(config["arch_str"]) for config in metrics["config"])
        latency = {
            name.removesuffix(LATENCY): np.array(values, np.float64)
            for name, values in metrics.items()
            if name.endswith(LATENCY)
        }
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise FileFormatError(f"{path}: not as published ({error!r:.120}); fetch it again") from error
    return Benchmark("hw-nas-bench", path, cells, {}, latency, amounts_of(cells), AMOUNTS)
