"""The supernet of metaformers: extraction, training through views of its tensors, sorted channels, graphs."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from test_graph import exported_by_torch, logits
from torch import nn

from nas.errors import UsageError
from search_spaces import Candidate, MetaformerSpace, get_space
from supernets import ImageInfo
from supernets.graph import to_onnx
from supernets.metaformer import MetaformerSupernet

SPACE = get_space("fashion-former")


def make_supernet(space: MetaformerSpace = SPACE) -> MetaformerSupernet:
    """Return a supernet whose scales, biases and statistics are as after training."""
    generator = torch.Generator().manual_seed(0)
    classes = tuple(map(str, range(10)))
    net = MetaformerSupernet(space, ImageInfo("noise", classes, (0.5,), (0.25,)), seed=1)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if name.endswith(("scale", "biases", "running_mean", "classifier.weight")):
                tensor.normal_(0, 0.5, generator=generator)
            elif name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5, generator=generator)
    return net.eval()


@pytest.fixture
def supernet() -> MetaformerSupernet:
    return make_supernet()


def ends_and_others(count: int) -> list[Candidate]:
    rows = SPACE.sample(count - 2, np.random.default_rng(0))
    return [SPACE.candidate(row) for row in (SPACE.largest(), SPACE.smallest(), *rows)]


def images(candidate: Candidate, count: int = 2) -> torch.Tensor:
    side = candidate.resolution
    return torch.randn(count, 1, side, side, generator=torch.Generator().manual_seed(0))


def test_an_extracted_subnet_has_the_same_logits_and_copies_of_the_weights(supernet: MetaformerSupernet) -> None:
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    state = torch.get_rng_state()
    for candidate in ends_and_others(12):
        x = images(candidate)
        subnet = supernet.extract(candidate)
        torch.testing.assert_close(subnet(x), supernet(x, candidate), rtol=1e-5, atol=1e-5)
        assert not subnet.training and subnet.candidate == candidate
        with torch.no_grad():
            for parameter in subnet.parameters():
                parameter.zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in supernet.state_dict().items())
    assert torch.equal(torch.get_rng_state(), torch.get_rng_state() if state is None else state)


def test_every_tensor_of_the_supernet_is_in_some_subnet(supernet: MetaformerSupernet) -> None:
    largest = SPACE.candidate(SPACE.largest())
    found: dict[str, tuple[int, ...]] = {}
    for mixer in ("pool", "conv", ""):
        blocks = [[replace(block, mixer=mixer or block.mixer) for block in stage] for stage in largest.blocks]
        candidate = replace(largest, blocks=tuple(map(tuple, blocks)))
        found |= {name: tuple(tensor.shape) for name, tensor in supernet.extract(candidate).state_dict().items()}
    own = {name.replace("attention_blocks", "blocks"): tensor for name, tensor in supernet.state_dict().items()}
    first = "blocks.block_2_0."  # at its deepest, the last stage begins without attention
    unused = {name for name in own if name.startswith(first) and name.removeprefix(first).startswith(("att", "token"))}
    assert own.keys() - unused == found.keys()
    assert all(tuple(own[name].shape) == shape for name, shape in found.items())


def test_a_step_on_a_subnet_moves_the_leading_channels_alone(supernet: MetaformerSupernet) -> None:
    smallest = SPACE.candidate(SPACE.smallest())
    supernet.train()(images(smallest, 4), smallest).square().mean().backward()
    own = dict(supernet.named_parameters())
    for name, parameter in supernet.extract(smallest).named_parameters():
        gradient = own[name].grad
        assert gradient is not None, name
        inside = tuple(slice(size) for size in parameter.shape)
        assert gradient[inside].abs().sum() > 0, name
        gradient[inside] = 0
        assert not gradient.any(), name
    mean = supernet.stem.first.bn.running_mean
    fresh = make_supernet().stem.first.bn.running_mean
    width = len(supernet.extract(smallest).stem.first.bn.weight)
    assert not torch.equal(mean[:width], fresh[:width]) and torch.equal(mean[width:], fresh[width:])


def test_attention_at_a_smaller_resolution_has_the_biases_of_the_offsets_it_has(supernet: MetaformerSupernet) -> None:
    largest = SPACE.candidate(SPACE.largest())
    small, large = (supernet.extract(replace(largest, resolution=side)) for side in (20, 28))
    biases = [net.blocks.block_2_2.attention.biases for net in (small, large)]
    assert [tuple(each.shape) for each in biases] == [(4, 3, 3), (4, 4, 4)]
    assert torch.equal(biases[0], biases[1][:, :3, :3])
    attention = large.blocks.block_2_2.attention
    by_pair = attention.biases.flatten(1)[:, attention.offsets].view(4, 4, 4, 4, 4)
    assert torch.equal(by_pair[:, 0, 3, 2, 1], attention.biases[:, 2, 2])  # two down, two left


def test_sorting_keeps_every_network_already_trained_and_puts_important_channels_first() -> None:
    supernet = make_supernet()
    trained = SPACE.restricted({"widths": 2, "expands": 2, "depths": 3, "mixers": 2, "attentions": 3})
    largest = SPACE.candidate(SPACE.largest())
    candidates = [trained.candidate(row) for row in trained.sample(6, np.random.default_rng(0))]
    expected = [supernet(images(candidate), candidate) for candidate in candidates]
    supernet.sort_channels(trained)
    for candidate, before in zip(candidates, expected, strict=True):
        torch.testing.assert_close(supernet(images(candidate), candidate), before, rtol=1e-4, atol=1e-4)
    x, before = images(largest), supernet(images(largest), largest)
    supernet.sort_channels(SPACE.restricted({}))
    torch.testing.assert_close(supernet(x, largest), before, rtol=1e-4, atol=1e-4)
    read = supernet.blocks["block_0_0"].mlp.project.conv.weight.abs().sum(dim=(0, 2, 3))
    assert torch.equal(read, read.sort(descending=True).values)


def test_no_network_changes_by_sorting_within_the_bounds_of_all() -> None:
    supernet = make_supernet()
    candidates = ends_and_others(8)
    expected = [supernet(images(candidate), candidate) for candidate in candidates]
    supernet.sort_channels(SPACE)
    for candidate, before in zip(candidates, expected, strict=True):
        torch.testing.assert_close(supernet(images(candidate), candidate), before, rtol=1e-4, atol=1e-4)


def test_units_are_modules_in_the_candidates_precisions(supernet: MetaformerSupernet) -> None:
    for candidate in ends_and_others(6):
        subnet = supernet.extract(candidate)
        names = [name for name, _ in subnet.units()]
        assert [precision for _, precision in subnet.units()] == list(candidate.precisions)
        assert {name.split("/")[0].rpartition(".")[0] or name for name in names} <= {"", *names, "blocks"}
        graph = to_onnx(subnet, 1, candidate.resolution)
        for node in graph.graph.node:
            assert any(node.name.startswith((f"{name}.", f"{name}/")) for name in names), node.name


def test_graphs_compute_what_subnets_do_at_any_batch(supernet: MetaformerSupernet) -> None:
    for candidate in ends_and_others(6):
        subnet, x = supernet.extract(candidate), images(candidate, 3)
        model = to_onnx(subnet, 1, candidate.resolution, "N")
        onnx.checker.check_model(model, full_check=True)
        np.testing.assert_allclose(logits(model, x), subnet(x).detach().numpy(), rtol=0, atol=1e-4)
        kinds = {node.op_type for node in model.graph.node}
        assert not kinds & {"BatchNormalization", "Sub", "Gather"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("number", range(3))
def test_graphs_compute_what_torchs_exporter_writes(supernet: MetaformerSupernet, number: int) -> None:
    candidate = ends_and_others(3)[number]
    subnet, x = supernet.extract(candidate), images(candidate, 1)
    expected = logits(exported_by_torch(subnet, x), x)
    np.testing.assert_allclose(logits(to_onnx(subnet, 1, candidate.resolution), x), expected, rtol=0, atol=1e-4)


def test_the_same_seed_gives_the_same_weights() -> None:
    info = ImageInfo("noise", ("a", "b"), (0.5,), (0.25,))
    first, second, other = (MetaformerSupernet(SPACE, info, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert not torch.equal(first["stem.first.conv.weight"], other["stem.first.conv.weight"])


def test_a_candidate_of_another_space_is_refused(supernet: MetaformerSupernet) -> None:
    other = replace(SPACE.candidate(SPACE.largest()), space="other")
    for call in (supernet.extract, lambda candidate: supernet(images(candidate), candidate)):
        with pytest.raises(UsageError, match="candidate of space 'other'; allowed: 'fashion-former'"):
            call(other)


def test_sizes_are_as_the_summary_of_the_preset_has_them(supernet: MetaformerSupernet) -> None:
    largest, smallest, *_ = ends_and_others(2)
    counts = [sum(p.numel() for p in supernet.extract(c).parameters()) for c in (largest, smallest)]
    assert counts[0] < 900_000 and counts[1] < 70_000
    assert all(isinstance(module, nn.Module) for module in supernet.extract(largest).children())
