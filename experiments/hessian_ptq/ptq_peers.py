"""Living peers on the same network, images, target and device: nncf's accuracy control and ModelOpt's AutoQuantize.

Both are asked for what they can be asked for. nncf quantizes the same ONNX graph and reverts layers until the accuracy
target holds; what it returns is timed and counted as it is. ModelOpt knows no latency and no accuracy target, but a
budget of effective bits: its choice of layers is deployed by our quantizer, and the budget is bisected on the target,
from 8 bits, which is int8 throughout.
Each counts its questions to the validation images. Neither is a dependency: ``pip install hwnas[peers]``.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from networks import Network
from onnx import ModelProto
from torch.nn import functional

from nas.compression.curvature import differentiable
from nas.compression.layers import Mask
from nas.compression.trials import Attempts, Target
from supernets.graph import INPUT

BITS = (8.0, 16.0)
STEPS = 8
CHUNK = 16


def by_nncf(network: Network, target: Target) -> tuple[bytes, int]:
    """Return nncf's graph and how many times it asked for an accuracy."""
    import nncf

    trials, asked = network.trials, 0

    def validate(model: ModelProto, data: object) -> tuple[float, list[float]]:
        nonlocal asked
        asked += 1
        correct = network.count(trials.engine.session(model.SerializeToString()))
        return float(correct.mean()), correct.astype(float).tolist()

    images = nncf.Dataset([image[None] for image in trials.images], lambda image: {INPUT: image})
    found = nncf.quantize_with_accuracy_control(
        trials.graph.model, images, images, validate, max_drop=target.allowed, drop_type=nncf.DropType.ABSOLUTE,
        subset_size=len(trials.images), target_device=nncf.TargetDevice.CPU,
    )  # fmt: skip
    return found.SerializeToString(), asked


def by_modelopt(network: Network, target: Target, budget: int) -> tuple[Mask, int]:
    """Return the fewest effective bits' choice of layers that meets the target, and how many accuracies that took."""
    attempts = Attempts(network.trials, target, budget)
    mask = fewest_bits(lambda bits: _auto_quantized(network, bits), lambda mask: attempts.meets(mask, "modelopt"))
    return mask or (False,) * len(network.trials.possible), len(attempts.history)


def fewest_bits(choose: Callable[[float], Mask], meets: Callable[[Mask], bool]) -> Mask | None:
    """Bisect the budget of effective bits, int8 throughout first; None where no choice of layers meets the target."""
    low, high = BITS
    best, bits = None, low
    for _ in range(STEPS):
        mask = choose(bits)
        if meets(mask):
            best, high = mask, bits
        else:
            low = bits
        if low == high:
            break
        bits = (low + high) / 2
    return best


def _auto_quantized(network: Network, bits: float) -> Mask:
    import modelopt.torch.quantization as mtq

    trials = network.trials
    model = differentiable(trials.graph)

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        images, labels = torch.from_numpy(trials.images), torch.from_numpy(trials.labels)
        yield from zip(images.split(CHUNK), labels.split(CHUNK), strict=True)

    data = list(batches())
    found, _ = mtq.auto_quantize(
        model.network, constraints={"effective_bits": bits}, quantization_formats=[mtq.INT8_DEFAULT_CFG],
        data_loader=data, forward_step=lambda net, batch: net(batch[0]),
        loss_func=lambda logits, batch: functional.cross_entropy(logits, batch[1]),
        num_calib_steps=len(data), num_score_steps=len(data), disabled_layers=[],
    )  # fmt: skip
    layers = [module for module in found.modules() if hasattr(module, "weight_quantizer")]
    enabled = [bool(layer.weight_quantizer.is_enabled) for layer in layers]
    return tuple(bool(one) for one in np.array(enabled))
