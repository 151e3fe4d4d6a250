"""The experiment on once-for-all's claims: equal compute, honest sizes, jobs that end in tables."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from tiny_job import make_tiny
from torch.utils.flop_counter import FlopCounterMode

from nas.errors import FileFormatError
from nas.files import write_json
from search_spaces import get_space, preset_path, read_preset
from supernets import make_subnet
from supernets.training import read_plan

SPACE, METHODS = "fashion-mbv3", ("shrinking", "sandwich", "joint")


@pytest.fixture
def run(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the script as a module; its results go into a temporary folder."""
    folder = repository / "experiments" / "ofa"
    monkeypatch.syspath_prepend(folder)
    spec = importlib.util.spec_from_file_location("ofa_experiment", folder / "run.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(__import__("sys").modules, "ofa_experiment", module)  # where dataclasses look for it
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    return module


def test_multiply_adds_are_torch_s_own_count_and_sort_the_sizes(run: ModuleType) -> None:
    import subnets

    space = get_space(SPACE, precisions=("fp32",))
    chosen = subnets.choose(space)
    counts = subnets.macs(space, np.array([space.genes(one.candidate) for one in chosen]), 1, 10).tolist()
    assert counts[:-2] == sorted(counts[:-2]) and counts[-2] < counts[0] and counts[-3] < counts[-1]
    assert [chosen[at].size for at in (0, 9, 10, 19, 20, 29)] == ["small"] * 2 + ["medium"] * 2 + ["large"] * 2
    for one, count in list(zip(chosen, counts, strict=True))[::8]:
        net = make_subnet(space, one.candidate, channels=1, classes=10).eval()
        with FlopCounterMode(display=False) as counter:
            net(torch.zeros(1, 1, one.candidate.resolution, one.candidate.resolution))
        assert counter.get_total_flops() == 2 * count
    alone = [one.candidate.id for one in subnets.trained_alone(space)]
    assert len(set(alone)) == 12 and set(alone) <= {one.candidate.id for one in chosen}


def test_methods_are_at_equal_compute(run: ModuleType) -> None:
    import plans

    preset, table = read_preset(preset_path(SPACE))
    space = get_space(SPACE, precisions=("fp32",))
    made = plans.make_plans(read_plan(table, preset, SPACE), space)
    assert sorted(made) == sorted(plans.METHODS)
    costs = {method: plans.compute(plan, space) for method, plan in made.items()}
    assert list(costs.values()) == pytest.approx([costs["preset"]] * 5, rel=0.01)
    assert not any(stage.sandwich or stage.extremes for stage in made["shrinking"].stages)
    [sandwich], [joint] = made["sandwich"].stages, made["joint"].stages
    assert sandwich.sandwich and not joint.sandwich and sandwich.distillation == joint.distillation == 0
    assert sandwich.epochs < joint.epochs and not made["unsorted"].sort_channels


def test_a_small_run_ends_in_the_tables(
    run: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny, out = make_tiny(tmp_path), tmp_path / "out"
    common = ["--space", str(tiny.preset), "--data", str(tiny.images)]
    for method in METHODS:
        run.main(["train", method, "0", str(out), *common])
    run.main(["alone", "3", str(out), *common])
    run.main(["plans", *common])
    assert "naive joint training: epochs 1; for each training image 4 subnet-images" in capsys.readouterr().out
    monkeypatch.setattr(run, "train", None)  # what is done is not trained again
    run.main(["train", "joint", "0", str(out), *common])
    run.main(["alone", "3", str(out), *common])
    run.main(["report", str(out)])
    text = capsys.readouterr().out
    assert text.count("## ") == 3 and "| naive joint training | 1 | 1 | " in text
    kept = {path.name for path in (tmp_path / "results").iterdir()}
    assert kept == {*(f"{method}-0.json" for method in METHODS), "alone-3.json"}
    rows = json.loads((tmp_path / "results" / "joint-0.json").read_text())["subnets"]
    assert len(rows) == 32 and all(0 <= row[key] <= 1 for row in rows for key in ("validation", "test", "test_raw"))


def test_differences_are_paired_over_subnets(run: ModuleType) -> None:
    import tables

    assert tables.paired(np.array([1.0, 1.0, 1.0])) == "+1.00 [+1.00, +1.00]"
    assert tables.paired(np.array([-0.5])) == "-0.50"
    mean, low, high = (float(text.strip(" [],")) for text in tables.paired(np.arange(100.0)).split())
    assert mean == 49.5 and 42 < low < 45 and 54 < high < 57  # 1.96 standard errors of 2.9 each way
    assert tables.with_error(np.array([[1.0, 3.0], [3.0, 5.0]])) == "3.00 ± 1.00"


def test_seeds_of_different_plans_are_not_averaged(run: ModuleType, tmp_path: Path) -> None:
    import tables

    for seed in (0, 1):
        content = {"method": "joint", "seed": seed, "plan": {"epochs": seed}, "compute": 1.0, "subnets": []}
        write_json(tmp_path / f"joint-{seed}.json", *tables.SCHEMA, content)
    with pytest.raises(FileFormatError, match=r"joint-1.json: of another plan than another seed of joint; train them"):
        tables.read_results(tmp_path)


def invented(size: str, test: float, name: str = "a") -> dict[str, object]:
    return {"id": name, "size": size, "resolution": 28, "macs": 10**6, "test": test, "test_raw": test - 0.5}


def test_seeds_are_compared_with_the_same_seed_of_shrinking(run: ModuleType) -> None:
    import tables

    sizes = ("small", "medium", "large", "smallest", "largest")
    methods = {
        name: {seed: [invented(size, base + 0.01 * seed, size) for size in sizes] for seed in seeds}
        for name, base, seeds in (("shrinking", 0.9, (0, 1, 2)), ("joint", 0.8, (2,)))
    }
    plans = {name: {"stages": [{"epochs": 1}, {"epochs": 2}]} for name in methods}
    results = tables.Results(methods, plans, dict.fromkeys(methods, 2.0), {"small": invented("small", 0.93, "small")})
    text = tables.tables(results)
    assert "| 1 | 3 | 1.00 |" in text and "| 82.00 | -10.00 [-10.00, -10.00] | -10.00 |" in text  # seed 2 with seed 2
    assert "| `small` | small | 1.0 | 28 | 93.00 | 91.00 | -2.00 |" in text
    assert "| all but the ends | 91.00 | 41.00 | +50.00 [+50.00, +50.00] |" in text
