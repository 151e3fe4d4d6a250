"""Supernets with squeeze-and-excitation, first block and mixing layer: extraction, sorting, export, int8, tables."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from squeezed_space import squeezed_space
from torch import nn

from latency_tables.builder import timing_model
from latency_tables.costs import Images
from latency_tables.features import cost_features, feature_matrix
from nas.compression import activation_ranges, parity, quantize_graph, quantized_convs
from search_spaces import Candidate, MBConvSpace
from supernets import ImageInfo, Supernet, make_supernet, recalibrate_batch_norm
from supernets.graph import to_onnx

INFO = ImageInfo("noise", ("a", "b", "c"), (0.5,) * 3, (0.25,) * 3)
SPACE = squeezed_space()


def disturbed() -> Supernet:
    """A supernet none of whose parameters or statistics is at its initial value."""
    supernet = make_supernet(SPACE, INFO, seed=0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in supernet.state_dict().items():
            if tensor.is_floating_point():
                noise = torch.rand(tensor.shape, generator=generator)
                tensor.add_(noise if "running_var" in name else 0.3 * (noise - 0.5))
    return supernet.eval()


SUPERNET = disturbed()


def images(candidate: Candidate, count: int = 3) -> torch.Tensor:
    size = candidate.resolution
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def drawn(seed: int) -> Candidate:
    return SPACE.candidate(SPACE.sample(1, np.random.default_rng(seed))[0])


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_an_extracted_subnet_is_plain_torch_with_the_same_logits(seed: int) -> None:
    candidate = drawn(seed)
    subnet = SUPERNET.extract(candidate)
    assert not any("elastic" in type(module).__module__ for module in subnet.modules())
    x = images(candidate)
    torch.testing.assert_close(subnet(x), SUPERNET(x, candidate), rtol=1e-5, atol=1e-5)
    assert subnet(x).std() > 1e-3


def test_extraction_leaves_the_supernet_alone() -> None:
    before = {name: tensor.clone() for name, tensor in SUPERNET.state_dict().items()}
    subnet = SUPERNET.extract(SPACE.candidate(SPACE.smallest()))
    with torch.no_grad():
        for parameter in subnet.parameters():
            parameter.zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in SUPERNET.state_dict().items())


def test_batch_norms_have_the_presets_epsilon_everywhere() -> None:
    for net in (SUPERNET, SUPERNET.extract(drawn(0))):
        assert {norm.eps for norm in net.modules() if isinstance(norm, nn.BatchNorm2d)} == {1e-3}


def test_sorting_keeps_the_networks_of_the_widths_already_trained() -> None:
    supernet = disturbed()
    chosen = [SPACE.candidate(row) for row in (SPACE.largest(), SPACE.smallest())]
    before = [supernet(images(candidate), candidate) for candidate in chosen]
    supernet.sort_channels(SPACE)
    for candidate, logits in zip(chosen, before, strict=True):
        torch.testing.assert_close(supernet(images(candidate), candidate), logits, rtol=1e-4, atol=1e-4)


def test_sorting_puts_the_important_channels_of_a_squeeze_first() -> None:
    supernet = disturbed()
    full = SPACE.candidate(SPACE.largest())
    before = supernet(images(full), full)
    preset = replace(SPACE.preset, expands=SPACE.preset.expands[-1:], keeps=SPACE.preset.keeps[-1:])
    supernet.sort_channels(MBConvSpace(preset))
    torch.testing.assert_close(supernet(images(full), full), before, rtol=1e-4, atol=1e-4)
    importance = supernet.blocks["block_2_0"].depthwise.se.expand.weight.abs().sum(dim=(0, 2, 3))  # type: ignore[union-attr]
    assert len(importance) > 8 and all(a >= b for a, b in pairwise(importance.tolist()))


def test_two_supernets_of_a_seed_are_equal() -> None:
    torch.manual_seed(1)
    first = make_supernet(SPACE, INFO, seed=3).state_dict()
    torch.manual_seed(2)
    assert all(
        torch.equal(tensor, first[name]) for name, tensor in make_supernet(SPACE, INFO, seed=3).state_dict().items()
    )


@pytest.mark.parametrize("precision", ["int8", "mixed"])
def test_quantized_subnets_pass_every_gate(precision: str) -> None:
    row = SPACE.largest("int8") if precision == "int8" else SPACE.sample(1, np.random.default_rng(3))[0]
    candidate = SPACE.candidate(row)
    subnet = SUPERNET.extract(candidate)
    recalibrate_batch_norm(subnet, images(candidate, 64), batch_size=32)
    graph = to_onnx(subnet, 3, candidate.resolution, batch="N")
    x = images(candidate, 32).numpy()
    quantized = quantize_graph(graph, dict(subnet.units()), activation_ranges(graph, x))
    found = parity(subnet, graph, quantized, dict(subnet.units()), x)
    assert sum(found.kernels.values()) > 0 and found.fp32_difference < 1e-5
    if precision == "int8":
        convs = sum(isinstance(module, nn.Conv2d) for module in subnet.modules())
        assert quantized_convs(quantized) == convs


def test_the_model_that_is_timed_runs() -> None:
    for row in SPACE.sample(3, np.random.default_rng(0)):
        session = onnxruntime.InferenceSession(timing_model(SPACE, row, Images(3, 3)))
        size = SPACE.candidate(row).resolution
        assert session.run(None, {"input": np.ones((2, 3, size, size), np.float32)})[0].shape == (2, 3)


def test_what_a_preset_adds_is_charged_in_the_latency_features() -> None:
    features = cost_features(SPACE, Images(3, 3))
    matrix = dict(zip(features, feature_matrix(features, SPACE.largest()[None])[0], strict=True))
    assert matrix["fp32 squeeze-excite"] == 4 and matrix["fp32 h-swish elements"] > 0
    plain = MBConvSpace(replace(SPACE.preset, stem_block_width=0, head_mix_width=0))
    less = cost_features(plain, Images(3, 3))
    for name in ("fp32 stem macs", "fp32 head macs"):
        assert feature_matrix({name: less[name]}, plain.largest()[None])[0, 0] < matrix[name]
