"""What tells one machine from another for the purpose of timing: the processor and what it can do, never who owns it.

No serial numbers, host names, addresses or user names: a table may be published with its fingerprint.
"""

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

UNKNOWN = "unknown"
CPUINFO = Path("/proc/cpuinfo")
CPU_FOLDER = Path("/sys/devices/system/cpu/cpu0")
BOARD = Path("/proc/device-tree/model")  # such as "Raspberry Pi 4 Model B Rev 1.4"

# The instruction sets that onnxruntime's and other runtimes' kernels ask for.
ISA_FLAGS = (
    "sse4_1", "sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512dq", "avx512vl",
    "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16",
    "neon", "asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve", "sve2",
)  # fmt: skip


def describe_cpu(cpuinfo: Path = CPUINFO, cpu_folder: Path = CPU_FOLDER, board: Path = BOARD) -> dict[str, Any]:
    """Return model, instruction sets, usable cores, caches, hypervisor, governor; what cannot be read is "unknown"."""
    fields = _cpuinfo(cpuinfo)
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "cpu": _cpu_name(fields, board),
        "isa": [flag for flag in ISA_FLAGS if flag in flags],
        "cores": usable_cores(),
        "caches": _caches(cpu_folder),
        "hypervisor": _hypervisor(flags),
        "governor": _read(cpu_folder / "cpufreq" / "scaling_governor"),
    }


def usable_cores() -> int:
    """Return how many cores this process may run on: those of its affinity, which containers set too.

    A quota of time (cgroup's ``cpu.max``) is none of cores and does not show here.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def digest(description: Mapping[str, Any]) -> str:
    """Return 16 hexadecimal digits that change when the description does."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()[:16]


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return one line for each entry that differs: ``"runtime_version: '1.31.0' before, '1.32.0' now"``."""
    names = [*before, *(name for name in now if name not in before)]
    return [
        f"{name}: {before.get(name, UNKNOWN)!r} before, {now.get(name, UNKNOWN)!r} now"
        for name in names
        if before.get(name, UNKNOWN) != now.get(name, UNKNOWN)
    ]


def _cpuinfo(path: Path) -> dict[str, str]:
    """Return the first processor's fields of ``/proc/cpuinfo``; empty elsewhere."""
    fields: dict[str, str] = {}
    for line in _read(path, "").splitlines():
        if not line.strip():
            break
        name, _, value = line.partition(":")
        fields[name.strip()] = value.strip()
    return fields


def _cpu_name(fields: Mapping[str, str], board: Path) -> str:
    named = (
        fields.get("model name"),
        _sysctl("machdep.cpu.brand_string"),
        _read(board, "").strip("\0"),
        platform.processor(),
    )
    name = next(filter(None, named), UNKNOWN)
    marks = [
        fields[key]
        for key in ("vendor_id", "cpu family", "model", "stepping", "CPU implementer", "CPU part")
        if key in fields
    ]
    return f"{name} ({', '.join(marks)})" if marks else name


def _caches(cpu_folder: Path) -> list[str]:
    caches = []
    for folder in sorted((cpu_folder / "cache").glob("index*")):
        level, kind, size = (_read(folder / name) for name in ("level", "type", "size"))
        caches.append(f"L{level} {kind} {size}")
    return caches


def _hypervisor(flags: set[str]) -> str:
    vendor = _read(Path("/sys/class/dmi/id/sys_vendor"))
    return f"yes ({vendor})" if "hypervisor" in flags else "none seen"


def _sysctl(name: str) -> str:
    if platform.system() != "Darwin":
        return ""
    try:
        return subprocess.run(
            ["sysctl", "-n", name], capture_output=True, text=True, timeout=5, check=False
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _read(path: Path, absent: str = UNKNOWN) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return absent
