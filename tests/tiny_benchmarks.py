"""A tiny file of every published benchmark, as its reader expects it. A new one is one more line in BENCHMARKS."""

import gzip
import json
import pickle
from collections.abc import Callable
from pathlib import Path

RUNS = ("test_acc_200ep", "val_acc_12ep", "test_acc_12ep")
CELLS = ("421211", "334131", "000000")
SPELLINGS = (
    "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|",
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|",
    "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|",
)


def tiny_nasbench201(folder: Path) -> Path:
    names = [f"{data}_{run}" for data in ("cifar10", "cifar100", "in16") for run in RUNS]
    lines = [f"{number},{cell},{','.join(['70.5'] * len(names))}" for number, cell in enumerate(CELLS)]
    return _csv(folder / "nb201.csv.gz", f"index,ops,{','.join(names)}", lines[::-1])


def tiny_help_nasbench201(folder: Path) -> Path:
    tiny_nasbench201(folder)
    return _csv(folder / "nb201_latency.csv.gz", "index,pixel3,gold", ["0,3.5,10", "1,4.5,9", "2,0.01,8"])


def tiny_help_fbnet(folder: Path) -> Path:
    return _csv(folder / "fbnet_latency.csv.gz", "arch,gold", [f"{'8' * 22},3.5", f"{'01234567' * 2}888888,9"])


def tiny_help_ofa(folder: Path) -> Path:
    lines = [f"{'7' * 20},{'6' * 20},44444,224,9.5", f"{'3' * 20},{'3' * 20},22222,128,2.5"]
    return _csv(folder / "ofa_latency.csv.gz", "ks,e,d,r,titan", lines)


def tiny_hw_nas_bench(folder: Path) -> Path:
    metrics = {"config": [{"arch_str": cell} for cell in SPELLINGS], "edgegpu_latency": [3.0, 4.0, 1.0]}
    return _write(folder / "HW-NAS-Bench-v1_0.pickle", pickle.dumps({"nasbench201": {"cifar10": metrics}}))


def tiny_note10(folder: Path) -> Path:
    blocks = ("Conv-input:160x160x3-output:80x80x24", "Logits-input:1x1x1536-output:1000")
    block = "expanded_conv-input:10x10x136-output:10x10x136-expand:408-kernel:3-stride:1-idskip:1-se:1-hs:1"
    table = {"160": {name: {"count": 1, "mean": 0.5, "std": 0.1} for name in (*blocks, block)}}
    return _write(folder / "note10_lut.json.gz", gzip.compress(json.dumps(table).encode()))


def _csv(path: Path, head: str, lines: list[str]) -> Path:
    return _write(path, gzip.compress("\n".join([head, *lines, ""]).encode()))


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


BENCHMARKS: dict[str, Callable[[Path], Path]] = {
    "nasbench201": tiny_nasbench201,
    "help-nasbench201": tiny_help_nasbench201,
    "help-fbnet": tiny_help_fbnet,
    "help-ofa": tiny_help_ofa,
    "hw-nas-bench": tiny_hw_nas_bench,
    "ofa-note10": tiny_note10,
}
