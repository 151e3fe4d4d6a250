"""Readers of published benchmarks: figures that are known, and files that do not fit."""

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from shared_data import shared_data
from tiny_benchmarks import CELLS, SPELLINGS, tiny_help_nasbench201, tiny_hw_nas_bench, tiny_nasbench201

from nas.errors import FileFormatError
from nasbench import get_benchmark
from nasbench.fbnet import AMOUNTS as FBNET_AMOUNTS
from nasbench.fbnet import layers, network_amounts
from nasbench.nasbench201 import AMOUNTS, cell_amounts, cell_digits, live_edges


def rewritten(path: Path, old: str, new: str) -> None:
    text = gzip.decompress(path.read_bytes()).decode()
    assert old in text
    path.write_bytes(gzip.compress(text.replace(old, new).encode()))


def test_networks_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    tiny_nasbench201(tmp_path)  # its lines are in reverse
    found = get_benchmark("nasbench201", tmp_path)
    assert found.networks == CELLS and set(found.accuracy["in16_val_12ep"]) == {0.705}


def test_spellings_of_a_cell_agree() -> None:
    assert tuple(map(cell_digits, SPELLINGS)) == CELLS
    with pytest.raises(ValueError, match=r"allowed: \|op~0\|"):
        cell_digits("|nor_conv_3x3~1|+|none~0|none~1|+|none~0|none~1|none~2|")


@pytest.mark.parametrize(
    ("cell", "live"),
    [
        ("333333", [0, 1, 2, 3, 4, 5]),
        ("300000", []),  # reaches node 1 and stops
        ("003003", []),  # begins nowhere
        ("300030", [0, 4]),
        ("330030", [0, 4]),  # node 2 reaches nothing
        ("003303", [3]),  # nodes 1 and 2 hold zeros
    ],
)
def test_dead_branches_are_told_from_live_ones(cell: str, live: list[int]) -> None:
    assert live_edges(cell) == live
    counts = dict(zip(AMOUNTS, cell_amounts(cell), strict=True))
    assert counts["live nor_conv_3x3"] == len(live) <= counts["every nor_conv_3x3"] == cell.count("3")


def test_the_known_best_cells_of_nasbench201() -> None:
    found = get_benchmark("nasbench201", shared_data("nasbench201"))
    best = {"cifar10": (6111, 0.9437), "cifar100": (9930, 0.7351), "in16": (857, 0.4731)}
    for data, (number, accuracy) in best.items():
        values = found.accuracy[f"{data}_test_200ep"]
        assert int(np.argmax(values)) == number and values[number] == pytest.approx(accuracy, abs=5e-5)


def test_disconnected_cells_are_those_that_take_no_time_and_learn_nothing() -> None:
    data = shared_data("")
    latency, accuracy = get_benchmark("help-nasbench201", data), get_benchmark("nasbench201", data)
    assert latency.networks == accuracy.networks
    dead = np.array([not live_edges(cell) for cell in latency.networks])
    assert dead.sum() == 341 and (accuracy.accuracy["cifar10_test_200ep"][dead] == 0.1).all()
    quick = latency.latency_ms["pixel3"] < 0.1
    assert quick.any() and not (quick & ~dead).any()


def test_the_note10_s_blocks_add_up_to_the_published_network() -> None:
    found = get_benchmark("ofa-note10", shared_data("ofa"))
    assert found.latency_ms["note10"].min() > 0 and len({name.split()[0] for name in found.networks}) == 5
    counted = found.amounts[found.networks.index("224 Conv_1-input:7x7x192-output:7x7x1152")]
    assert counted[1] == pytest.approx(7 * 7 * 192 * 1152 / 1e6)


def test_fbnet_s_skips_cost_where_they_change_the_shape() -> None:
    shapes = list(layers())
    assert len(shapes) == 22 and shapes[-1] == (184, 352, 1, 16)
    amounts = dict(zip(FBNET_AMOUNTS, network_amounts("8" * 22), strict=True))
    assert amounts["projections"] == 6 and amounts["blocks"] == 0
    with pytest.raises(ValueError, match="allowed: 22 digits of 0 to 8"):
        network_amounts("9" * 22)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("3.5", "-3.5", "nb201_latency.csv.gz: latency of pixel3 of network 421211 is -3.5; allowed: above 0 ms"),
        ("3.5", "nan", "nb201_latency.csv.gz: line 2, column 'pixel3': nan; allowed: finite"),
        ("3.5", "fast", "nb201_latency.csv.gz: column 'pixel3': .*; allowed: numbers"),
        ("0,3.5,10", "0,3.5", "nb201_latency.csv.gz: line 2 has 2 fields; allowed: 3"),
        ("0,3.5,10", "7,3.5,10", "nb201_latency.csv.gz: its networks are not as published"),
        ("0,3.5,10", "1,3.5,10", "nb201_latency.csv.gz: it has no networks, or one twice"),
        ("index", "number", "nb201_latency.csv.gz: no column 'index'; it has number, pixel3, gold"),
    ],
)
def test_latencies_that_do_not_fit_are_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    rewritten(tiny_help_nasbench201(tmp_path), old, new)
    with pytest.raises(FileFormatError, match=message):
        get_benchmark("help-nasbench201", tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("421211", "921211", "line 4: cell '921211'; allowed: six digits of 0 to 4"),
        ("0,421211", "1,421211", "column 'index' is not 0, 1, 2 and so on"),
        ("70.5", "170.5", "accuracy cifar10_test_200ep of network 421211 is 1.705; allowed: 0 to 1"),
    ],
)
def test_accuracies_that_do_not_fit_are_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    rewritten(tiny_nasbench201(tmp_path), old, new)
    with pytest.raises(FileFormatError, match=message):
        get_benchmark("nasbench201", tmp_path)


def test_a_file_of_nothing_but_a_head_is_refused(tmp_path: Path) -> None:
    (tmp_path / "nb201.csv").write_text("index,ops\n")
    with pytest.raises(FileFormatError, match=r"nb201\.csv: no rows"):
        get_benchmark("nasbench201", tmp_path)


def test_a_benchmark_is_of_one_figure_a_network(tmp_path: Path) -> None:
    tiny_hw_nas_bench(tmp_path)
    found = get_benchmark("hw-nas-bench", tmp_path)
    with pytest.raises(FileFormatError, match=r"latency of d: \(2,\) values for 3 networks; allowed: one each"):
        replace(found, latency_ms={"d": np.ones(2)})
    with pytest.raises(FileFormatError, match=r"amounts \(3, 1\); allowed: \(3, 10\), 0 or more"):
        replace(found, amounts=np.ones((3, 1)))


def official(folder: Path, archive: str, networks: object, latency: object) -> Path:
    (folder / "latency").mkdir()
    torch.save(networks, folder / archive)
    torch.save(latency, folder / "latency" / "gold.pt")
    return folder


@pytest.mark.parametrize("latency", [[1.0, 2.0, 3.0], np.array([1.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 3.0])])
def test_help_s_own_files_are_read(tmp_path: Path, latency: object) -> None:
    numbers = {cell: number for number, cell in enumerate(SPELLINGS)}
    found = get_benchmark("help-nasbench201", official(tmp_path, "str_arch2idx.pt", numbers, latency))
    assert found.networks == CELLS and found.latency_ms["gold"].tolist() == [1, 2, 3]


def test_help_s_own_fbnet_and_ofa_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "fbnet").mkdir(), (tmp_path / "ofa").mkdir()
    layers = {"arch": [{"op_idx_list": [number] * 22} for number in (3, 8)]}
    subnets = {"arch": [{"ks": [7] * 20, "e": [6] * 20, "d": [4] * 5, "r": size} for size in (128, 224)]}
    found = get_benchmark("help-fbnet", official(tmp_path / "fbnet", "metainfo.pt", layers, [1.0, 2.0]))
    assert found.networks == ("3" * 22, "8" * 22)
    found = get_benchmark("help-ofa", official(tmp_path / "ofa", "ofa_archs.pt", subnets, [1.0, 2.0]))
    assert found.networks[1] == f"{'7' * 20}-{'6' * 20}-44444-224"


@pytest.mark.parametrize(
    ("networks", "latency", "message"),
    [
        ({SPELLINGS[0]: 3}, [1.0], "str_arch2idx.pt: its networks are not as published.*its numbers are not 0, 1, 2"),
        ({"nonsense": 0}, [1.0], "str_arch2idx.pt: its networks are not as published"),
        ({SPELLINGS[0]: 0}, [[1.0]], r"gold.pt: shape \(1, 1\); allowed: one latency a network"),
        ({SPELLINGS[0]: 0}, ["fast"], "gold.pt: not a row of latencies"),
    ],
)
def test_help_s_files_that_do_not_fit_are_named(
    tmp_path: Path, networks: object, latency: object, message: str
) -> None:
    with pytest.raises(FileFormatError, match=message):
        get_benchmark("help-nasbench201", official(tmp_path, "str_arch2idx.pt", networks, latency))


def test_help_s_folder_without_devices_is_named(tmp_path: Path) -> None:
    (official(tmp_path, "str_arch2idx.pt", {SPELLINGS[0]: 0}, [1.0]) / "latency" / "gold.pt").unlink()
    with pytest.raises(FileFormatError, match=r"latency: no \*\.pt in it; it comes from HELP"):
        get_benchmark("help-nasbench201", tmp_path)


def test_a_pickle_of_something_else_is_named(tmp_path: Path) -> None:
    import pickle

    (tmp_path / "HW-NAS-Bench-v1_0.pickle").write_bytes(pickle.dumps({"nasbench201": []}))
    with pytest.raises(FileFormatError, match=r"HW-NAS-Bench-v1_0.pickle: not as published"):
        get_benchmark("hw-nas-bench", tmp_path)
