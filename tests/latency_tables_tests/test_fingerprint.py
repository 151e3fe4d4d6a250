"""A fingerprint tells machines apart and their owners not."""

import json
import os
import platform
import subprocess
from pathlib import Path

import pytest

from latency_tables import get_device
from latency_tables.fingerprint import describe_cpu, differences, digest, usable_cores

CPUINFO = """\
processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 106
model name\t: Some CPU @ 2.00GHz
stepping\t: 6
flags\t\t: fpu sse4_1 avx2 avx512f avx512_vnni hypervisor

processor\t: 1
model name\t: Another
"""


def test_it_reads_what_matters_for_speed(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(CPUINFO)
    cache = tmp_path / "cpu0" / "cache" / "index0"
    cache.mkdir(parents=True)
    for name, value in (("level", "1"), ("type", "Data"), ("size", "48K")):
        (cache / name).write_text(value + "\n")
    found = describe_cpu(tmp_path / "cpuinfo", tmp_path / "cpu0")
    assert found["cpu"] == "Some CPU @ 2.00GHz (GenuineIntel, 6, 106, 6)"
    assert found["isa"] == ["sse4_1", "avx2", "avx512f", "avx512_vnni"]
    assert found["caches"] == ["L1 Data 48K"]
    assert found["hypervisor"].startswith("yes") and found["governor"] == "unknown"


def test_a_board_whose_processor_has_no_name_is_known_by_its_own(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("Features\t: fp asimd\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\n")
    (tmp_path / "board").write_bytes(b"Raspberry Pi 4 Model B Rev 1.4\0")
    found = describe_cpu(tmp_path / "cpuinfo", tmp_path / "cpu0", tmp_path / "board")
    assert found["cpu"] == "Raspberry Pi 4 Model B Rev 1.4 (0x41, 0xd08)" and found["isa"] == ["asimd"]


def test_what_cannot_be_read_is_unknown_or_empty(tmp_path: Path) -> None:
    found = describe_cpu(tmp_path / "absent", tmp_path / "absent")
    assert found["isa"] == [] and found["caches"] == [] and found["governor"] == "unknown"


def test_no_host_name_is_in_it() -> None:
    description = json.dumps(get_device("cpu").describe()).lower()
    assert platform.node().lower() not in description or len(platform.node()) < 3


def test_the_digest_changes_with_any_entry_and_with_nothing_else() -> None:
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    assert digest({"a": 1, "b": [2]}) != digest({"a": 1, "b": [3]})


def test_differences_say_what_was_and_what_is() -> None:
    before, now = (
        {"cpu": "x", "runtime_version": "1.31.0", "old": 1},
        {"cpu": "x", "runtime_version": "1.32.0", "new": 2},
    )
    assert differences(before, now) == [
        "runtime_version: '1.31.0' before, '1.32.0' now",
        "old: 1 before, 'unknown' now",
        "new: 'unknown' before, 2 now",
    ]


def test_only_cores_that_this_process_may_use_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5, 7}, raising=False)
    assert usable_cores() == describe_cpu()["cores"] == 3
    monkeypatch.delattr(os, "sched_getaffinity")  # as on a Mac
    assert usable_cores() == 64


@pytest.mark.parametrize("error", [OSError(), subprocess.TimeoutExpired("sysctl", 5)])
def test_a_mac_that_does_not_name_its_processor_is_named_otherwise(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "processor", lambda: "arm")
    monkeypatch.setattr(subprocess, "run", fail)
    assert describe_cpu(tmp_path / "absent", tmp_path, tmp_path / "absent")["cpu"] == "arm"
