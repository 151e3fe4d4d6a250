"""Fine-tuning sees what the integers will compute, and what it learns is in the graph."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from onnx import numpy_helper
from small_classifier import small_classifier

from nas.compression import HOST, activation_ranges, quantize_graph
from nas.compression.layers import LayeredGraph, Mask
from nas.compression.qat import Recipe, _rounded, _RoundedWeight, fine_tuned
from nas.compression.trials import cross_entropy
from nas.errors import TrainingError, UsageError

EVERY: Mask = (True,) * 6


def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    small = small_classifier()
    yield from zip(small.images[96:].split(32), small.labels[96:].split(32), strict=True)


def loss(graph: LayeredGraph, mask: Mask) -> float:
    """Return the loss of a configuration on the images that are trained on."""
    small = small_classifier()
    images = small.images[96:].numpy()
    quantized = quantize_graph(graph.model, graph.precisions(mask), activation_ranges(graph.model, images))
    logits = HOST.session(quantized.SerializeToString()).run(None, {"input": images})[0]
    return cross_entropy(logits, small.labels[96:].numpy())


@pytest.mark.parametrize("mask", [EVERY, (False, True, True, False, False, True)])
def test_the_quantized_network_loses_less_afterwards(mask: Mask) -> None:
    small = small_classifier()
    ranges = activation_ranges(small.graph.model, small.images.numpy())
    before = small.graph.model.SerializeToString()
    done: list[int] = []
    tuned = fine_tuned(
        small.graph, mask, ranges, batches, Recipe(3, 0.03, 0.2), progress=lambda now, total: done.append(now)
    )
    assert loss(tuned, mask) < loss(small.graph, mask) - 0.005
    assert small.graph.model.SerializeToString() == before and tuned.layers == small.graph.layers and done == [1, 2, 3]


def test_without_a_step_the_graph_stays_as_it_is() -> None:
    small = small_classifier()
    ranges = activation_ranges(small.graph.model, small.images.numpy())
    same = fine_tuned(small.graph, EVERY, ranges, batches, Recipe(1, 0.0))
    for one, other in zip(small.graph.model.graph.initializer, same.model.graph.initializer, strict=True):
        np.testing.assert_array_equal(numpy_helper.to_array(one), numpy_helper.to_array(other))


def test_rounding_is_that_of_the_quantizer_and_lets_gradients_through() -> None:
    x = torch.tensor([-3.0, -1.0, 0.004, 0.9, 3.0], requires_grad=True)
    rounded = _rounded(x, (-1.0, 1.0))
    assert (rounded - x.clamp(-1, 1)).abs().max() <= 1 / 255 + 1e-6
    rounded.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [0, 1, 1, 1, 0]
    weight = torch.randn(4, 3, 2, 2)
    steps = weight / weight.abs().amax((1, 2, 3), keepdim=True) * 127
    torch.testing.assert_close(
        _RoundedWeight(127)(weight) / weight.abs().amax((1, 2, 3), keepdim=True) * 127, steps.round()
    )


def test_a_loss_that_is_not_finite_ends_it() -> None:
    small = small_classifier()
    ranges = activation_ranges(small.graph.model, small.images.numpy())
    with pytest.raises(TrainingError, match=r"the loss of epoch \d is not finite; lower the learning rate"):
        fine_tuned(small.graph, (False,) * 6, ranges, batches, Recipe(3, 1e30))


def test_shared_weights_are_refused() -> None:
    small = small_classifier()
    twice = LayeredGraph(small.graph.model, (small.graph.layers[0],) * 6, ())
    with pytest.raises(UsageError, match=r"layers that share weights cannot be trained apart; leave the"):
        fine_tuned(twice, EVERY, activation_ranges(small.graph.model, small.images.numpy()), batches)


def test_a_product_that_takes_its_relu_in_is_trained_in_the_range_of_that(monkeypatch: pytest.MonkeyPatch) -> None:
    small = small_classifier()
    ranges, seen = activation_ranges(small.graph.model, small.images.numpy()), []
    monkeypatch.setattr("nas.compression.qat._fake_quantize", lambda module, given, result, *rest: seen.append(result))
    fine_tuned(small.graph, EVERY, ranges, batches, Recipe(1, 0.0))
    assert [low < 0 for low, _ in seen] == [False, False, True, True, False, True]
