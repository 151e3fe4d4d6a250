"""What a device really executes, found by asking it for sums that only the right arithmetic gets right.

A runtime may lower fp32 to bf16 or tf32, and may run a quantized graph in floats or in kernels whose 16-bit sums
saturate. So a precision is on a device's menu only after a small convolution in it gave the right numbers, and an
integer one only where the runtime says besides that the convolution ran in integers.
"""

from collections.abc import Callable, Mapping

import numpy as np
from onnx import helper

from latency_tables.int8_probe import CHANNELS, INPUT, OUT, OUTPUT, PROBE_TOLERANCE, SIDE, int8_probe, probe_model
from nas.compression.engine import Session
from search_spaces import FLOATS

ARM = {"aarch64", "arm64", "armv7l", "armv8l"}
STEPS = dict(zip(FLOATS, (2.0**-12, 2.0**-9, 2.0**-6), strict=True))
"""A number that each can add to one and the next cannot: they have 23, 10 and 7 binary places (tf32 has 10 as well)."""

Open = Callable[[bytes], Session]
Count = Callable[[bytes], Mapping[str, int]]


def executed_float(open_session: Open) -> str | None:
    """Return the precision in which a float convolution is computed, of ``FLOATS``; None if it is wrong in all.

    Args:
        open_session: Loads a graph as it is timed.

    Raises:
        DeviceError: The device cannot load or run the convolution.
    """
    weight = np.zeros((OUT, CHANNELS, 1, 1), np.float32)
    weight[:, 0], weight[:, 1] = 1, -1
    image = np.zeros((1, CHANNELS, SIDE, SIDE), np.float32)
    image[0, 1] = 1
    image[0, 0] = 1 + np.resize([*STEPS.values()], (SIDE, SIDE))
    nodes = [helper.make_node("Conv", [INPUT, "weight"], [OUTPUT], kernel_shape=[1, 1])]
    result = open_session(probe_model(nodes, {"weight": weight})).run(None, {INPUT: image})[0]
    exact = np.abs(result[0] - (image[0, 0] - 1)).max(axis=0) < 1e-7
    found = [name for name, right in zip(STEPS, exact.ravel(), strict=False) if right]
    return found[0] if found else None


def int8_form(open_session: Open, integer_kernels: Count, machine: str) -> str | None:
    """Return the first form of int8 that runs as an integer kernel and gives the right numbers; None if none does.

    Args:
        open_session: Loads a graph as it is timed.
        integer_kernels: Counts what of a graph runs in integers.
        machine: The kind of the machine that executes, as ``platform.machine()`` has it.
    """
    forms = ("s8s8",) if machine.lower() in ARM else ("u8s8", "u8s7")
    return next((form for form in forms if _executes(form, open_session, integer_kernels)), None)


def _executes(form: str, open_session: Open, integer_kernels: Count) -> bool:
    model, image, expected = int8_probe(form)
    try:
        if integer_kernels(model).get("Conv") != 1:
            return False
        result = open_session(model).run(None, {INPUT: image})[0]
    except Exception:  # the runtimes' share no base class; a kernel that is missing shows when loading or only when run
        return False
    return result.shape == expected.shape and bool(np.abs(result - expected).max() <= PROBE_TOLERANCE)
