"""Profiles of a person's own: what they make of a runtime, and what is said of those that do not fit."""

from pathlib import Path

import pytest

from latency_tables import get_device
from latency_tables.fingerprint import usable_cores
from latency_tables.profile import Profile, read_profile
from nas.errors import DeviceError, FileFormatError, UsageError


def write(folder: Path, *lines: str, name: str = "mine") -> Path:
    path = folder / f"{name}.toml"
    path.write_text("\n".join(["schema_version = 1", *lines]))
    return path


def test_a_profile_makes_a_device_of_its_own(tmp_path: Path) -> None:
    path = write(tmp_path, 'runtime = "onnxruntime"', 'precisions = ["fp32"]')
    assert read_profile(path) == Profile("mine", "onnxruntime", 1, ("fp32",))
    mine, cpu = get_device(path), get_device("cpu")
    assert (mine.name, mine.precisions) == ("mine", ("fp32",))
    assert mine.fingerprint != cpu.fingerprint and mine.occupies == cpu.occupies
    named = write(tmp_path, 'runtime = "onnxruntime"', 'name = "bench-1"', name="other")
    assert get_device(str(named)).name == "bench-1"
    assert get_device(named).fingerprint == cpu.fingerprint  # the name changes nothing that is measured


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], r"mine\.toml: runtime is missing; allowed: onnxruntime, .*openvino"),
        (['runtime = "tflite"'], r"mine\.toml: runtime is 'tflite'; allowed: onnxruntime, .*openvino"),
        (['runtime = "openvino"', "threads = 0"], r"threads is 0; allowed: 1 to 1024"),
        (['runtime = "openvino"', 'threads = "two"'], r"threads is 'two'; allowed: 1 to 1024"),
        (['runtime = "openvino"', 'precisions = ["int4"]'], r"precisions is \['int4'\]; allowed: a list of fp32, fp16"),
        (['runtime = "openvino"', "precisions = []"], r"precisions is \[\]; allowed: a list of fp32, fp16, bf16, int8"),
        (['runtime = "openvino"', 'name = "../up"'], r"name is '\.\./up'; allowed: up to 40 letters, digits"),
        (['runtime = "openvino"', "cores = 4"], r"cores is an unknown key; allowed: .*runtime, threads, precisions"),
        (['runtime = "ssh"'], r"mine\.toml: host is missing; allowed: as after `ssh`, such as pi@raspberrypi"),
        (['runtime = "ssh"', 'host = "-oProxyCommand=id"'], r"host is '-oProxyCommand=id'; allowed: as after `ssh`"),
        (['runtime = "ssh"', 'host = "pi"', "port = 0"], r"port is 0; allowed: 1 to 65535"),
        (['runtime = "ssh"', 'host = "pi"', 'inner = "tflite"'], r"inner is 'tflite'; allowed: onnxruntime, openvino"),
        (['runtime = "ssh"', 'host = "pi"', 'identity = "no"'], r"identity is 'no'; allowed: a file"),
        (['runtime = "ssh"', 'host = "pi"', 'identity = "~nobody-here/key"'], r"allowed: a file"),
        (['runtime = "ssh"', 'host = "pi"', 'python = ""'], r"python is ''; allowed: an interpreter over there"),
        (['runtime = "openvino"', 'host = "pi"'], r"host is an unknown key; allowed: .*precisions"),
        (["runtime = "], r"mine\.toml: not a TOML file"),
    ],
)
def test_a_profile_that_does_not_fit_names_the_key_and_what_is_allowed(
    lines: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(FileFormatError, match=message):
        get_device(write(tmp_path, *lines))


def test_a_profile_of_another_version_or_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "old.toml"
    path.write_text('schema_version = 2\nruntime = "onnxruntime"')
    with pytest.raises(FileFormatError, match=r"old\.toml: schema_version is 2; allowed: 1"):
        get_device(path)
    with pytest.raises(FileFormatError, match=r"absent\.toml: cannot be read"):
        get_device(tmp_path / "absent.toml")


def test_what_the_machine_has_not_is_refused(tmp_path: Path) -> None:
    cores = usable_cores()
    with pytest.raises(DeviceError, match=rf"'mine' asks for 1000 threads; allowed on this machine: 1 to {cores}"):
        get_device(write(tmp_path, 'runtime = "onnxruntime"', "threads = 1000"))
    greedy = get_device(write(tmp_path, 'runtime = "onnxruntime"', 'precisions = ["fp32", "fp16"]'))
    with pytest.raises(UsageError, match=r"device 'mine' does not execute fp16 here; allowed: fp32"):
        greedy.fingerprint  # noqa: B018
