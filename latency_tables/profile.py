"""A device of a person's own, as a TOML file: a runtime and how it is set.

Every key there is:

    schema_version = 1
    name = "four-threads"             # optional; else the file's name
    runtime = "openvino"              # what executes: `nas devices` lists the runtimes
    threads = 4                       # optional: 1
    precisions = ["fp32", "int8"]     # optional: a part of what the device really executes; else all of it

With ``runtime = "ssh"`` it is on another machine, which is entered with OpenSSH and has its key in ``known_hosts``:

    host = "pi@raspberrypi"           # as one types it after `ssh`
    inner = "onnxruntime"             # optional: what executes over there, "onnxruntime" or "openvino"
    python = "~/venv/bin/python"      # optional: "python3"; has the inner runtime and numpy
    port = 2222                       # optional, as the following: else what ssh is configured for
    identity = "keys/pi"              # a private key; from the profile's folder
    known_hosts = "keys/known_hosts"  # another file of host keys than one's own

A runtime is called with the name, and with threads and precisions as keywords; ``ssh`` with host and inner besides.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from latency_tables.ssh_command import HOST, SshHost
from latency_tables.ssh_runner import RUNTIMES as INNER_RUNTIMES
from nas.files import is_file
from nas.registry import Registry
from search_spaces.toml_tables import TableReader, read_toml

SCHEMA_VERSION = 1
MOST_THREADS = 1024
INNER = tuple(INNER_RUNTIMES)
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")  # it begins the names of files

RUNTIMES = Registry("runtime")
RUNTIMES.register("onnxruntime", "latency_tables.onnxruntime_cpu:OnnxRuntimeCpu", "onnxruntime on the processor")
RUNTIMES.register("onnxruntime-web", "latency_tables.browser:Browser", "onnxruntime-web in headless Chromium")
RUNTIMES.register("openvino", "latency_tables.openvino_cpu:OpenVinoCpu", "OpenVINO on the processor")
RUNTIMES.register("openvino-bf16", "latency_tables.openvino_cpu:OpenVinoBf16", "OpenVINO on the processor, in bf16")
RUNTIMES.register("ssh", "latency_tables.ssh:SshDevice", "onnxruntime or OpenVINO on another machine, through OpenSSH")
RUNTIMES.register("torch", "latency_tables.torch_device:TorchDevice", "torch on the processor, eager")
RUNTIMES.register("torch-compiled", "latency_tables.torch_device:TorchCompiled", "torch on the processor, compiled")
RUNTIMES.register("torch-cuda", "latency_tables.torch_device:TorchCuda", "torch on a CUDA GPU, eager")


@dataclass(frozen=True)
class Profile:
    """What a profile says.

    Attributes:
        name: What the device is called in results.
        runtime: Of ``RUNTIMES``.
        threads: Threads that an inference may use.
        precisions: The menu; None for all that is executed.
        host: The other machine; None for this one.
        inner: What executes over there.
    """

    name: str
    runtime: str
    threads: int
    precisions: tuple[str, ...] | None
    host: SshHost | None = None
    inner: str = INNER[0]


def read_profile(path: Path) -> Profile:
    """Read a profile.

    Raises:
        FileFormatError: It is no TOML, or a key is missing, unknown or out of range; the message names it and what is
            allowed.
    """
    reader = TableReader(path, read_toml(path))
    reader.take("schema_version", int, str(SCHEMA_VERSION), lambda value: value == SCHEMA_VERSION)
    name = reader.take("name", str, "up to 40 letters, digits, '.', '_' and '-'", NAME.fullmatch, path.stem)
    runtime = reader.take("runtime", str, ", ".join(RUNTIMES.names()), lambda value: value in RUNTIMES.names())
    threads = reader.take("threads", int, f"1 to {MOST_THREADS}", lambda value: 1 <= value <= MOST_THREADS, 1)
    precisions = reader.items("precisions", str, ", ".join(PRECISIONS), lambda value: value in PRECISIONS, None)
    if runtime != "ssh":
        reader.finish()
        return Profile(name, runtime, threads, precisions)
    inner = reader.take("inner", str, ", ".join(INNER), lambda value: value in INNER, INNER[0])
    host = _host(reader, path.parent)
    reader.finish()
    return Profile(name, runtime, threads, precisions, host, inner)


def _host(reader: TableReader, folder: Path) -> SshHost:
    """Take the keys that say where another machine is; paths begin at the profile's folder."""
    host = reader.take("host", str, "as after `ssh`, such as pi@raspberrypi", HOST.fullmatch)
    port = reader.take("port", int, "1 to 65535", lambda value: 0 < value < 2**16, None)
    python = reader.take(
        "python", str, "an interpreter over there", lambda value: value and value.isprintable(), "python3"
    )
    return SshHost(host, port, _file(reader, "identity", folder), _file(reader, "known_hosts", folder), python)


def _file(reader: TableReader, key: str, folder: Path) -> Path | None:
    def there(value: str) -> Path:
        return folder / os.path.expanduser(value)

    value = reader.take(key, str, "a file", lambda value: is_file(there(value)), None)
    return None if value is None else there(value)
