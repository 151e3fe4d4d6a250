"""Gates between a torch network and the quantized graph that ships: each step is compared with the one before it.

    kernels  every quantized convolution and matrix product runs as one integer kernel
    A        torch fp32              and the device's floats: the graph is the network
    Q        the device's floats     and the QDQ graph as written: quantization leaves the answers as they were
    B        QDQ graph as written    and after basic optimisation, which keeps the float simulation of the integers
    C        the simulation          and the device's integer kernels, which are timed

The graph as written and the simulation are onnxruntime's, on this machine. Fused kernels round differently by one or
two steps (onnxruntime issue 32132), so C allows them as much error as quantization itself makes, which Q bounds. Errors
are root mean squares over the spread of the logits. Over 30 subnets of the shipped supernet, 64 images, quantization's
error was at most 0.026 and 95 to 100 % of the images kept their class; over 18 subnets with random weights 0.055 and 90
%. B was exactly 0 and C at most 0.012; on nets with random weights C was up to 0.4 of quantization's error.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnxruntime
import torch
from onnx import ModelProto
from onnxruntime import GraphOptimizationLevel as Level

from nas.compression.engine import HOST, Engine, Session
from nas.compression.sessions import open_session
from nas.compression.units import PRODUCTS, expected_kernels
from nas.errors import UsageError, VerificationError

FLOAT_LIMITS = {"fp32": 1e-4, "fp16": 0.0125, "bf16": 0.1}
"""Gate A, by the device's floats: of a logit, relative to the largest logit.

Accuracy in other floats is predicted as that of fp32 because of it. Over 16 subnets of the shipped supernet on OpenVINO
bf16 moved a logit by at most 0.034 of the largest, and the accuracy over 4,000 validation images by at most 0.15 points
(0.04 in the mean); fp16 has eight times the places.
"""

QUANTIZATION_LIMIT = 0.25
"""Gate Q: quantization's error."""

MIN_AGREEMENT = 0.8
"""Gate Q: the images that keep their class."""

ROUNDING_LIMIT = 0.01
"""Gates B and C: the error that is allowed on top of quantization's own."""

BATCH = 64
"""Images per inference of a graph whose batch is open."""


@dataclass(frozen=True)
class ParityReport:
    """What the gates found.

    Attributes:
        images: Number of images compared on.
        kernels: How many Conv, Gemm and MatMul run in integers; as many as were asked for.
        floats: A: the precision of the device's floats.
        fp32_difference: A: the largest difference of a logit from fp32's, over the largest where that is above 1.
        simulation_error: B: root mean square of the difference over the standard deviation of the logits.
        fused_error: C: likewise.
        fused_agreement: C: fraction of the images that get the same class.
        quantization_error: Q: likewise, and what B and C are measured by.
        quantization_agreement: Q: fraction of the images that get the same class.
    """

    images: int
    kernels: Mapping[str, int]
    floats: str
    fp32_difference: float
    simulation_error: float
    fused_error: float
    fused_agreement: float
    quantization_error: float
    quantization_agreement: float


def parity(
    network: Callable[[torch.Tensor], torch.Tensor],
    graph: ModelProto,
    quantized: ModelProto,
    precisions: Mapping[str, str],
    images: np.ndarray,
    *,
    engine: Engine = HOST,
    min_agreement: float = MIN_AGREEMENT,
) -> ParityReport:
    """Check that ``quantized`` computes what ``network`` does, in the kernels that were asked for.

    Args:
        network: The plain network, in eval mode, or anything that returns its logits.
        graph: The network as an fp32 graph.
        quantized: ``graph`` after quantization by ``precisions``.
        precisions: Unit to precision, as given to ``quantize_graph``.
        images: float32 (n, channels, resolution, resolution), preprocessed; 64 are enough.
        engine: The device that it ships to.
        min_agreement: Fraction of the images that quantization must leave in their class.

    Raises:
        VerificationError: A gate does not hold; the message says which and by how much.
        UsageError: The images do not divide into the graph's batches.
    """
    kernels = _check_kernels(engine, quantized, expected_kernels(graph, precisions))
    with torch.inference_mode():
        reference = network(torch.from_numpy(images)).numpy()
    plain = _logits(engine.session(graph.SerializeToString()), graph, images)
    written = _logits(open_session(quantized, Level.ORT_DISABLE_ALL), graph, images)
    simulated = _logits(open_session(quantized, Level.ORT_ENABLE_BASIC), graph, images)
    fused = _logits(engine.session(quantized.SerializeToString()), graph, images)
    report = ParityReport(
        images=len(images),
        kernels=kernels,
        floats=engine.executed_float,
        fp32_difference=float(np.abs(plain - reference).max() / max(1.0, np.abs(reference).max())),
        simulation_error=_relative_error(simulated, written),
        fused_error=_relative_error(fused, simulated),
        fused_agreement=_agreement(fused, simulated),
        quantization_error=_relative_error(written, plain),
        quantization_agreement=_agreement(written, plain),
    )
    _check_errors(report, min_agreement)
    return report


def _check_kernels(engine: Engine, quantized: ModelProto, expected: Mapping[str, int]) -> dict[str, int]:
    executed = engine.integer_kernels(quantized.SerializeToString())
    found = {kind: executed.get(kind, 0) for kind in PRODUCTS}
    wrong = [f"{expected.get(kind, 0)} {kind} asked for, {count} run" for kind, count in found.items()]
    if any(count != expected.get(kind, 0) for kind, count in found.items()):
        raise VerificationError(
            f"the int8 units do not run as integer kernels: {'; '.join(wrong)}. The graph was quantized with other "
            f"precisions, or {engine.runtime} lacks the kernels here: search in fp32 there"
        )
    return found


def _check_errors(report: ParityReport, min_agreement: float) -> None:
    limit = FLOAT_LIMITS[report.floats]
    if not report.fp32_difference <= limit:
        raise VerificationError(
            f"gate A: the graph's logits in {report.floats} differ from torch's in fp32 by "
            f"{report.fp32_difference:.2g} of the largest, allowed {limit:g}; write the graph again from the network "
            "in eval mode"
        )
    error, agreement = report.quantization_error, report.quantization_agreement
    if not (error <= QUANTIZATION_LIMIT and agreement >= min_agreement):
        raise VerificationError(
            f"gate Q: quantization changes the logits by {error:.2g} of their spread, allowed {QUANTIZATION_LIMIT:g}, "
            f"and {100 * agreement:.0f} % of the images keep their class, allowed from {100 * min_agreement:g} %; "
            "calibrate the ranges on images of this kind, or keep more units in fp32"
        )
    allowed = ROUNDING_LIMIT + report.quantization_error
    if not report.simulation_error <= allowed:
        raise VerificationError(
            f"gate B: basic optimisation changes the quantized graph's logits by {report.simulation_error:.2g} of "
            f"their spread, allowed {allowed:.2g}; onnxruntime {onnxruntime.__version__} rewrites it wrongly"
        )
    if not report.fused_error <= allowed:
        raise VerificationError(
            f"gate C: the integer kernels' logits differ from the simulation's by {report.fused_error:.2g} of their "
            f"spread, allowed {allowed:.2g}; on a processor without VNNI quantize in the form u8s7"
        )


def _relative_error(found: np.ndarray, reference: np.ndarray) -> float:
    """Return the root mean square of the difference over the standard deviation of ``reference``."""
    return float(np.sqrt(np.mean((found - reference) ** 2)) / max(float(reference.std()), np.finfo(np.float32).tiny))


def _agreement(found: np.ndarray, reference: np.ndarray) -> float:
    return float((found.argmax(axis=1) == reference.argmax(axis=1)).mean())


def _logits(session: Session, graph: ModelProto, images: np.ndarray) -> np.ndarray:
    """Run ``images`` in batches of the graph's size; return (n, classes)."""
    batch = graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value
    if batch and len(images) % batch:
        raise UsageError(f"{len(images)} images do not divide into the graph's batches of {batch}; give a multiple")
    name, step = graph.graph.input[0].name, batch or BATCH
    parts = [session.run(None, {name: images[start : start + step]})[0] for start in range(0, len(images), step)]
    return np.concatenate(parts)
