"""What every supernet owes its user, on a small space of each family; a new one is a line in tests/tiny_families.py."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_families import TINY
from torch import Tensor, nn

from nas.compression import activation_ranges, parity, quantize_graph
from nas.errors import UsageError
from search_spaces import Candidate, SearchSpace
from supernets import ImageInfo, Supernet, get_supernet, load_supernet, make_supernet, save_supernet
from supernets.graph import to_onnx

INFO = ImageInfo("noise", ("a", "b", "c"), (0.5,), (0.25,))


def supernet_of(space: SearchSpace, seed: int = 0) -> Supernet:
    """Return a supernet whose batch norms have statistics such as training leaves."""
    net, generator = make_supernet(space, INFO, seed), torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    return net.eval()


@pytest.fixture(params=TINY)
def net(request: pytest.FixtureRequest) -> Supernet:
    return supernet_of(TINY[request.param]())


def ends_and_others(space: SearchSpace, count: int = 8) -> list[Candidate]:
    rows = [space.largest(), space.smallest(), *space.sample(count, np.random.default_rng(0))]
    return [space.candidate(row) for row in rows]


def images(candidate: Candidate, count: int = 2) -> Tensor:
    shape = (count, INFO.channels, candidate.resolution, candidate.resolution)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.detach().abs().max()))


def state(net: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def equal(net: nn.Module, before: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_an_extracted_subnet_has_the_same_logits(net: Supernet) -> None:
    for candidate in ends_and_others(net.space):
        x, subnet = images(candidate), net.extract(candidate)
        assert subnet(x).shape == (2, net.classes) and not subnet.training
        close(subnet(x), net(x, candidate))


def test_running_and_extracting_change_neither_the_supernet_nor_anybodys_draws(net: Supernet) -> None:
    before, draws = state(net), torch.get_rng_state()
    for candidate in ends_and_others(net.space, 2):
        net(images(candidate), candidate)
        for parameter in net.extract(candidate).parameters():
            nn.init.zeros_(parameter)  # copies
    assert equal(net, before) and torch.equal(torch.get_rng_state(), draws)


def test_a_step_trains_the_candidates_weights_and_statistics(net: Supernet) -> None:
    smallest = ends_and_others(net.space, 0)[1]
    before = state(net)
    net.train()(images(smallest, 4), smallest).square().mean().backward()
    moved = [parameter for parameter in net.parameters() if parameter.grad is not None and parameter.grad.any()]
    assert moved and all(torch.isfinite(parameter.grad).all() for parameter in moved)
    assert not all(parameter.grad is not None and parameter.grad.all() for parameter in net.parameters())
    assert any("running_mean" in name and not torch.equal(t, before[name]) for name, t in net.state_dict().items())


def test_a_subnet_may_be_had_for_smaller_images(net: Supernet) -> None:
    largest, small = ends_and_others(net.space, 0)[0], min(net.space.resolutions)
    same = replace(largest, resolution=small)
    close(net.resized(net.extract(largest), small)(images(same)), net(images(same), same))


def test_the_seed_decides_the_weights(net: Supernet) -> None:
    first, same, other = (make_supernet(net.space, INFO, seed) for seed in (3, 3, 4))
    assert equal(same, state(first)) and not equal(other, state(first))


def test_its_units_are_modules_in_the_candidates_precisions(net: Supernet) -> None:
    for candidate in ends_and_others(net.space):
        subnet = net.extract(candidate)
        units = subnet.units()
        assert subnet.candidate == candidate and tuple(precision for _, precision in units) == candidate.precisions
        assert all(subnet.get_submodule(path) is not None for path, _ in units)


def test_sorting_channels_keeps_what_was_trained_and_moves_the_rest(net: Supernet) -> None:
    space = net.space
    whole = space.preset.elastic
    for grows in space.preset.sorted_by:
        trained = space.restricted({**whole, grows: 1})
        candidates = [space.candidate(space.genes(trained.candidate(row))) for row in trained_rows(trained)]
        before = [net(images(one), one) for one in candidates]
        narrow = ends_and_others(space, 0)[1]
        moved = net(images(narrow), narrow)
        net.sort_channels(trained)
        for candidate, logits in zip(candidates, before, strict=True):
            close(net(images(candidate), candidate), logits)
        assert not torch.allclose(net(images(narrow), narrow), moved)
        nn.init.normal_(next(iter(net.parameters())), 0, 0.1)  # something new to sort by


def trained_rows(space: SearchSpace) -> list[np.ndarray]:
    return [space.largest(), space.smallest(), *space.sample(6, np.random.default_rng(2))]


def test_it_comes_back_from_its_file(net: Supernet, tmp_path: Path) -> None:
    save_supernet(net, tmp_path / "supernet.safetensors", {"seed": 0})
    for again in (load_supernet(tmp_path / "supernet.safetensors"), get_supernet(tmp_path)):
        assert type(again) is type(net) and again.info == net.info and not again.training
        assert again.space.preset == net.space.preset and equal(again, state(net))


def test_a_candidate_of_another_space_is_refused(net: Supernet) -> None:
    foreign = replace(ends_and_others(net.space, 0)[0], space="elsewhere")
    for refused in (lambda: net.extract(foreign), lambda: net(images(foreign), foreign)):
        with pytest.raises(UsageError, match=f"candidate of space 'elsewhere'; allowed: '{net.space.name}'"):
            refused()


def test_its_graphs_compute_the_same_in_fp32_and_run_whole_in_int8(net: Supernet) -> None:
    space = net.space
    mixed = space.sample(2, np.random.default_rng(3))
    for row in (space.largest("int8"), space.smallest("int8"), *mixed):
        candidate = space.candidate(row)
        subnet, x = net.extract(candidate), images(candidate, 32).numpy()
        graph, units = to_onnx(subnet, net.channels, candidate.resolution, batch="N"), dict(subnet.units())
        quantized = quantize_graph(graph, units, activation_ranges(graph, x))
        report = parity(subnet, graph, quantized, units, x)  # raises where a gate does not hold
        assert report.kernels["Conv"] > 0 or "int8" not in candidate.precisions
