"""A device of a person's own, as a TOML file: a runtime and how it is set.

Every key there is:

    schema_version = 1
    name = "four-threads"             # optional; else the file's name
    runtime = "openvino"              # what executes: `nas devices` lists the runtimes
    threads = 4                       # optional: 1
    precisions = ["fp32", "int8"]     # optional: a part of what the device really executes; else all of it

A runtime is called with the name, and with threads and precisions as keywords.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from nas.registry import Registry
from search_spaces.toml_tables import TableReader, read_toml

SCHEMA_VERSION = 1
MOST_THREADS = 1024
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")  # it begins the names of files

RUNTIMES = Registry("runtime")
RUNTIMES.register("onnxruntime", "latency_tables.onnxruntime_cpu:OnnxRuntimeCpu", "onnxruntime on the processor")
RUNTIMES.register("onnxruntime-web", "latency_tables.browser:Browser", "onnxruntime-web in headless Chromium")
RUNTIMES.register("openvino", "latency_tables.openvino_cpu:OpenVinoCpu", "OpenVINO on the processor")


@dataclass(frozen=True)
class Profile:
    """What a profile says.

    Attributes:
        name: What the device is called in results.
        runtime: Of ``RUNTIMES``.
        threads: Threads that an inference may use.
        precisions: The menu; None for all that is executed.
    """

    name: str
    runtime: str
    threads: int
    precisions: tuple[str, ...] | None


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
    reader.finish()
    return Profile(name, runtime, threads, precisions)
