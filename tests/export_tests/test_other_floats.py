"""The whole job on a device that computes floats in bf16."""

from dataclasses import replace
from pathlib import Path

from tiny_job import invented_scorer, make_tiny, tiny_job

from latency_tables.simulated import SimulatedDevice
from nas.export import load_bundle, run_search
from search_spaces import get_space


def test_a_device_of_other_floats_takes_networks_written_in_fp32(tmp_path: Path) -> None:
    tiny = make_tiny(tmp_path)
    job = replace(tiny_job(tiny, tmp_path / "out"), device=SimulatedDevice(precisions=("bf16", "int8")))
    found = run_search(job, scorer=invented_scorer(get_space(tiny.preset, precisions=("bf16", "int8"))))
    assert {name for one in found.verified for name in one.entry.candidate.precisions} == {"bf16", "int8"}
    for one in found.front:
        bundle = load_bundle(tmp_path / "out" / "bundles" / one.entry.candidate.id)
        assert bundle.candidate == one.entry.candidate and bundle.report["checks"]["floats"] == "bf16"
