"""What a device really executes, found by asking it for sums that only the right arithmetic gets right.

A runtime may lower fp32 to bf16 or tf32, and may run a quantized graph in floats or in kernels whose 16-bit sums
saturate. So a precision is on a device's menu only after a small convolution in it, and in floats a product of
matrices, gave the right numbers, and an integer one only where the runtime says besides that the convolution ran in
integers.
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
    """Return the precision in which floats are computed, of ``FLOATS``: the narrower of convolutions and products.

    Args:
        open_session: Loads a graph as it is timed.

    Returns:
        The precision; None if one of the two is wrong in all.

    Raises:
        DeviceError: The device cannot load or run one of them.
    """
    image = np.zeros((1, CHANNELS, SIDE, SIDE), np.float32)
    image[0, 1] = 1
    image[0, 0] = 1 + np.resize([*STEPS.values()], (SIDE, SIDE))
    found = dict.fromkeys(STEPS, True)
    for model in (_convolution(), _product()):
        result = open_session(model).run(None, {INPUT: image})[0]
        exact = np.abs(result[0] - (image[0, 0] - 1)).max(axis=0) < 1e-7
        found = {name: found[name] and bool(right) for name, right in zip(STEPS, exact.ravel(), strict=False)}
    return next((name for name, right in found.items() if right), None)


def _convolution() -> bytes:
    """Return a 1x1 convolution that subtracts the second channel from the first."""
    weight = np.zeros((OUT, CHANNELS, 1, 1), np.float32)
    weight[:, 0], weight[:, 1] = 1, -1
    return probe_model([helper.make_node("Conv", [INPUT, "weight"], [OUTPUT], kernel_shape=[1, 1])], {"weight": weight})


def _product() -> bytes:
    """Return a product of matrices that does the same, its images with the channels last."""
    weight = np.zeros((CHANNELS, OUT), np.float32)
    weight[0], weight[1] = 1, -1
    nodes = [
        helper.make_node("Transpose", [INPUT], ["last"], perm=[0, 2, 3, 1]),
        helper.make_node("MatMul", ["last", "weight"], ["product"]),
        helper.make_node("Transpose", ["product"], [OUTPUT], perm=[0, 3, 1, 2]),
    ]
    return probe_model(nodes, {"weight": weight})


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
