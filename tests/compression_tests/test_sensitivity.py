"""Traces, Fisher information and errors are what their definitions say, and an order begins with what loses least."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_classifier import small_classifier
from torch import nn
from torch.nn import functional

from nas.compression import HOST, activation_ranges
from nas.compression.canonical import canonical
from nas.compression.curvature import differentiable, fisher_traces, hard_sigmoid, hessian_traces
from nas.compression.layers import layered
from nas.compression.network_graph import network_graph
from nas.compression.order import augmented_order, interactions, plain_order
from nas.compression.sensitivity import activation_errors, sensitivities, single_losses, weight_errors
from nas.compression.trials import Trials, cross_entropy, only
from nas.errors import UsageError
from supernets.graph import to_onnx


@pytest.fixture(scope="module")
def trials() -> Trials:
    small = small_classifier()
    images = small.images[:64]
    ranges = activation_ranges(small.graph.model, images.numpy())
    labels = small.labels[:64].numpy()
    return Trials(small.graph, ranges, HOST, images.numpy(), labels, lambda session: np.ones(1, bool), (True,) * 6)


def two_layers() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 2, 2), nn.Hardsigmoid(), nn.Flatten(), nn.Linear(8, 3)).eval()
    return net, torch.randn(12, 1, 3, 3), torch.arange(12) % 3


def test_the_trace_is_that_of_the_whole_hessian() -> None:
    net, images, labels = two_layers()
    model = differentiable(layered(canonical(to_onnx(net, 1, 3, "N"), "two", 1, 3)))
    exact = []
    for place in range(2):

        def loss(weight: torch.Tensor, place: int = place) -> torch.Tensor:
            names = {id(parameter): name for name, parameter in model.network.named_parameters()}
            return functional.cross_entropy(
                torch.func.functional_call(model.network, {names[id(model.weights[place])]: weight}, (images,)), labels
            )

        size = model.weights[place].numel()
        exact.append(
            float(torch.autograd.functional.hessian(loss, model.weights[place].detach()).reshape(size, size).trace())
        )
    found = hessian_traces(model, images, labels, rng=torch.Generator().manual_seed(0), probes=600, tolerance=0.0)
    np.testing.assert_allclose(found, exact, rtol=0.15)


def test_the_fisher_information_is_the_mean_square_of_each_images_gradient() -> None:
    net, images, labels = two_layers()
    model = differentiable(layered(canonical(to_onnx(net, 1, 3, "N"), "two", 1, 3)))
    found = fisher_traces(model, images, labels)
    exact = np.zeros(2)
    for image, label in zip(images, labels, strict=True):
        loss = functional.cross_entropy(model.network(image[None]), label[None])
        exact += [float(part.square().sum()) for part in torch.autograd.grad(loss, model.weights)]
    np.testing.assert_allclose(found.weights, exact / 12, rtol=1e-4)
    logits = net(images).softmax(1) - functional.one_hot(labels, 3)
    assert found.outputs[1] == pytest.approx(float(logits.detach().square().sum(1).mean()), rel=1e-4)
    assert (found.inputs > 0).all()


def test_the_hard_sigmoid_that_has_two_derivatives_is_the_same_function() -> None:
    x = torch.linspace(-5, 5, 101)
    torch.testing.assert_close(hard_sigmoid(x), functional.hardsigmoid(x))


def test_weight_errors_are_those_of_rounding(trials: Trials) -> None:
    weight = small_classifier().network.get_parameter("head.2.weight").detach().numpy()
    steps = np.abs(weight).max(axis=1, keepdims=True) / 127
    rounded = np.rint(weight / steps) * steps
    errors = weight_errors(trials)
    assert errors[5] == pytest.approx(float(((rounded - weight) ** 2).sum()), rel=1e-3)
    assert (errors > 0).all()


@pytest.mark.parametrize("name", ["hessian", "fisher", "measured", "random"])
def test_every_sensitivity_gives_one_finite_number_a_layer_and_repeats(name: str, trials: Trials) -> None:
    one, again = (sensitivities(name, trials, np.random.default_rng(3)) for _ in range(2))
    assert one.shape == (6,) and np.isfinite(one).all() and (one == again).all()


def test_a_measured_sensitivity_is_a_difference_of_losses(trials: Trials) -> None:
    small = small_classifier()
    plain = functional.cross_entropy(small.network(small.images[:64]), small.labels[:64])
    assert trials.loss(only([], 6)) == pytest.approx(float(plain), rel=1e-4)
    assert single_losses(trials)[2] == trials.loss(only(2, 6)) - trials.loss(only([], 6))


def test_interactions_are_what_pairs_add_and_stop_at_their_reach(trials: Trials) -> None:
    singles = single_losses(trials)
    found = interactions(trials, singles, reach=1)
    assert (found == found.T).all() and not found.diagonal().any() and found[0, 5] == 0
    both = trials.loss(only([0, 1], 6)) - trials.loss(only([], 6))
    assert found[0, 1] == pytest.approx(both - singles[0] - singles[1])


def test_the_strength_is_the_one_whose_order_loses_least(trials: Trials) -> None:
    singles = single_losses(trials)
    pairs = interactions(trials, singles)
    order = augmented_order(singles, singles, pairs, trials)
    assert dict(order.trail)[order.strength] == min(loss for _, loss in order.trail)
    assert sorted(order.places) == list(range(6)) and (np.diff(order.scores[list(order.places)]) >= 0).all()
    none = augmented_order(singles, singles, pairs, trials, strengths=(0.0,))
    assert none.places == plain_order(singles, trials.possible).places


def test_layers_that_do_not_run_in_integers_are_in_no_order() -> None:
    order = plain_order(np.array([3.0, 1.0, 2.0]), (True, False, True))
    assert order.places == (2, 0) and order.prefix(1) == (False, False, True)


def test_cross_entropy_is_torchs() -> None:
    rng = np.random.default_rng(0)
    logits, labels = 50 * rng.normal(size=(20, 4)).astype(np.float32), rng.integers(0, 4, 20)
    expected = functional.cross_entropy(torch.from_numpy(logits).double(), torch.from_numpy(labels))
    assert cross_entropy(logits, labels) == pytest.approx(float(expected))


def test_an_unknown_sensitivity_is_named(trials: Trials) -> None:
    with pytest.raises(UsageError, match=r"unknown sensitivity 'fischer'; .* Did you mean 'fisher'\?"):
        sensitivities("fischer", trials, np.random.default_rng(0))


def test_without_gradients_there_is_a_way_on() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x).sin().mean((2, 3))

    graph = layered(canonical(network_graph(Odd().eval(), torch.zeros(1, 1, 4, 4), "odd"), "odd", 1, 4))
    images = np.zeros((2, 1, 4, 4), np.float32)
    odd = Trials(
        graph,
        activation_ranges(graph.model, images),
        HOST,
        images,
        np.zeros(2, np.int64),
        lambda s: np.ones(1, bool),
        (True,),
    )
    with pytest.raises(UsageError, match=r"sensitivity 'fisher' needs gradients: cannot read Sin .*; take 'measured'"):
        sensitivities("fisher", odd, np.random.default_rng(0))


def test_a_hessian_trace_below_0_makes_no_layer_better_than_another(
    trials: Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "nas.compression.sensitivity.hessian_traces", lambda *given, rng: np.array([-3.0, 1, -1, 2, 0, 1])
    )
    found = sensitivities("hessian", trials, np.random.default_rng(0))
    assert (found > 0).tolist() == [False, True, False, True, False, True] and found.min() == 0


def test_an_error_that_is_not_of_gradients_is_left_as_it_is(trials: Trials, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(trials: Trials) -> np.ndarray:
        raise UsageError("something else")

    monkeypatch.setattr("nas.compression.sensitivity.weight_errors", fails)
    with pytest.raises(UsageError, match=r"^something else$"):
        sensitivities("fisher", trials, np.random.default_rng(0))


def test_what_stays_in_fp32_does_not_move_the_scale_of_interactions(trials: Trials) -> None:
    singles, able = np.array([1.0, 2, 3, 4, 5, 0]), replace(trials, possible=(True,) * 5 + (False,))
    pairs = np.ones((6, 6)) - np.eye(6)
    small, great = singles.copy(), singles + 1e6 * np.eye(6)[5]
    found = [augmented_order(one, singles, pairs, able, strengths=(1.0,)).scores for one in (small, great)]
    np.testing.assert_array_equal(found[0][:5], found[1][:5])


def test_a_product_that_takes_its_relu_in_is_rounded_to_the_range_of_that(trials: Trials) -> None:
    relu = next(node for node in trials.graph.model.graph.node if node.op_type == "Relu")
    high = trials.ranges.limits[relu.output[0]][1]
    assert trials.ranges.limits[relu.input[0]][0] < 0
    assert activation_errors(trials)[1][0] == pytest.approx((high / 255) ** 2 / 12)
