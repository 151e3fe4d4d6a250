"""Two processes never hold one lock at once."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nas.errors import DeviceError, OutputError
from nas.lock import exclusive

BUSY = "device 'cpu' is being measured"
HOLDER = """
import sys, time
from pathlib import Path
from nas.errors import DeviceError
from nas.lock import exclusive
with exclusive(Path(sys.argv[1]), "device 'cpu' is being measured", DeviceError):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_second_is_refused_by_the_name_of_the_first_and_admitted_when_it_dies(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "cpu.lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        refused = pytest.raises(DeviceError, match=rf"device 'cpu' is being measured by process {holder.pid}; wait")
        with refused, exclusive(path, BUSY, DeviceError):
            pass
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with exclusive(path, BUSY, DeviceError):
        pass
    with exclusive(path, BUSY, DeviceError):  # and it is free again after use
        pass


def test_who_waits_is_told_once_and_admitted_when_the_other_ends(tmp_path: Path) -> None:
    path, notes = tmp_path / "cpu.lock", []
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True)

    def ended(line: str) -> None:
        notes.append(line)
        holder.kill()

    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with exclusive(path, BUSY, DeviceError, wait_seconds=60, note=ended):
            assert notes == [f"{BUSY} by process {holder.pid}; waiting for it to end, for 60 s at most"]
    finally:
        holder.kill()
        holder.wait()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused = pytest.raises(OutputError, match=r"file/a\.lock: cannot be written")
    with refused, exclusive(tmp_path / "file" / "a.lock", BUSY, DeviceError):
        pass
