"""Once-for-all's published latency table of a phone (Samsung Note10): its blocks, each at five resolutions.

``note10_lut.json`` (gzipped or not) holds, by resolution and by block as spelled there, mean milliseconds. A "network"
of this benchmark is a block at a resolution: ``224 expanded_conv-input:…``; the latency of a subnet is their sum.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nas.errors import FileFormatError
from nasbench.benchmark import Benchmark
from nasbench.columns import find, unzipped

FILES = ("note10_lut.json.gz", "note10_lut.json")
SOURCE = "it comes from once-for-all's files, github.com/han-cai/files, folder ofa: {resolution: {block: {mean}}}"
AMOUNTS = ("block", "pointwise macs", "depthwise macs", "elements", "squeeze-excite", "h-swish elements")
SHAPE = re.compile(r"input:(\d+)x\d+x(\d+)-output:(?:(\d+)x\d+x)?(\d+)")


def read_note10(folder: Path) -> Benchmark:
    """Read the table."""
    path = find(folder, FILES, SOURCE)
    try:
        content = json.loads(unzipped(path))
        blocks = [(f"{size} {block}", entry["mean"]) for size, part in content.items() for block, entry in part.items()]
        names, means = zip(*blocks, strict=True)
        latency, amounts = np.array(means, np.float64), np.array([_amounts(name) for name in names])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise FileFormatError(f"{path}: not a table of blocks ({error!r:.120}); fetch it again") from error
    return Benchmark("ofa-note10", path, names, {}, {"note10": latency}, amounts, AMOUNTS)


def _amounts(block: str) -> list[float]:
    """Return what a block computes, by ``AMOUNTS``, in millions."""
    shape = SHAPE.search(block)
    if shape is None:
        raise ValueError(f"block {block!r:.80} has no input and output")
    side, width_in, after, width_out = (int(number or 1) for number in shape.groups())
    options: Mapping[str, Any] = dict(re.findall(r"(expand|kernel|se|hs):(\d+)", block))
    kernel, middle = int(options.get("kernel", 0)), int(options.get("expand", width_out))
    pixels, out = side**2 / 1e6, after**2 / 1e6
    if not kernel:  # stem, head or classifier: one convolution
        taps = 9 if "Conv-input" in block else 1
        macs = 0.0 if "Pool" in block else out * width_in * width_out * taps
        return [1.0, macs, 0.0, pixels * width_in + out * width_out, 0.0, 0.0]
    pointwise = (pixels * width_in if middle != width_in else 0.0) * middle + out * middle * width_out
    swish = (pixels + out) * middle * int(options["hs"])
    elements = (pixels + out) * middle + out * width_out
    return [1.0, pointwise, out * middle * kernel**2, elements, float(options["se"]), swish]
