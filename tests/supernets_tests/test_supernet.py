"""The supernet: what it holds, cuts out, sorts, writes and reads."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_space import tiny_space

from nas.errors import FileFormatError, UsageError
from nas.files import read_tensors, write_tensors
from search_spaces import Candidate, MBConvSpace, get_space
from supernets import (
    ImageInfo,
    Supernet,
    calibrated_subnet,
    evaluate_accuracy,
    get_supernet,
    load_supernet,
    make_subnet,
    make_supernet,
    prepare,
    recalibrate_batch_norm,
    save_supernet,
)
from supernets.datasets import load_splits

INFO = ImageInfo("noise", ("a", "b", "c"), (0.5,), (0.25,))


def disturbed(space: MBConvSpace, seed: int = 0) -> Supernet:
    """A supernet none of whose parameters or statistics is at its initial value."""
    supernet = make_supernet(space, INFO, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in supernet.state_dict().items():
            if tensor.is_floating_point():
                noise = torch.rand(tensor.shape, generator=generator)
                tensor.add_(noise if "running_var" in name else 0.3 * (noise - 0.5))
    return supernet.eval()


def images(candidate: Candidate, count: int = 3) -> torch.Tensor:
    size = candidate.resolution
    return torch.randn(count, 1, size, size, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def space() -> MBConvSpace:
    return tiny_space()


def candidates(space: MBConvSpace, count: int = 12) -> list[Candidate]:
    rows = space.sample(count, np.random.default_rng(0))
    return [space.candidate(row) for row in (*rows, space.largest(), space.smallest())]


def test_an_extracted_subnet_is_plain_torch_with_the_same_logits(space: MBConvSpace) -> None:
    supernet = disturbed(space)
    for candidate in candidates(space):
        subnet = supernet.extract(candidate)
        assert all(type(module).__module__ != "supernets.elastic" for module in subnet.modules())
        x = images(candidate)
        torch.testing.assert_close(subnet(x), supernet(x, candidate), rtol=1e-5, atol=1e-5)
        assert subnet(x).std() > 1e-3


def test_subnets_of_the_shipped_space_have_the_same_logits_too() -> None:
    space = get_space("fashion-mbv3")
    supernet = disturbed(space)
    for candidate in candidates(space, 4):
        x = images(candidate)
        torch.testing.assert_close(supernet.extract(candidate)(x), supernet(x, candidate), rtol=1e-4, atol=1e-4)


def test_queries_leave_the_supernet_as_it_is(space: MBConvSpace) -> None:
    supernet = disturbed(space)
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    subnet = supernet.extract(space.candidate(space.smallest()))
    recalibrate_batch_norm(subnet, images(subnet.candidate, 8), batch_size=4)
    with torch.no_grad():
        for parameter in subnet.parameters():
            parameter.zero_()
    supernet(images(subnet.candidate), subnet.candidate)
    assert all(torch.equal(tensor, before[name]) for name, tensor in supernet.state_dict().items())


def test_extraction_draws_nothing_from_torchs_generator(space: MBConvSpace) -> None:
    supernet, state = disturbed(space), torch.get_rng_state()
    supernet.extract(space.candidate(space.largest()))
    assert torch.equal(torch.get_rng_state(), state)


def test_an_extracted_subnet_shares_no_memory_and_holds_what_a_file_of_it_needs(space: MBConvSpace) -> None:
    candidate = space.candidate(space.largest())
    supernet = disturbed(space)
    subnet = supernet.extract(candidate)
    theirs = {tensor.data_ptr() for tensor in supernet.state_dict().values()}
    assert not theirs & {tensor.data_ptr() for tensor in subnet.state_dict().values()}
    assert subnet.state_dict().keys() == make_subnet(space, candidate, channels=1, classes=3).state_dict().keys()
    assert not subnet.training and all(parameter.requires_grad for parameter in subnet.parameters())


def test_a_small_kernel_begins_as_the_centre_of_the_largest() -> None:
    block = make_supernet(get_space("fashion-mbv3"), INFO).blocks["block_0_0"]
    full = block.depthwise_weight(7, 24)
    assert torch.equal(block.depthwise_weight(5, 24), full[..., 1:-1, 1:-1])
    assert torch.equal(block.depthwise_weight(3, 24), full[..., 2:-2, 2:-2])


def test_a_smaller_kernel_is_the_centre_of_the_next_larger_times_its_matrix() -> None:
    block = disturbed(get_space("fashion-mbv3")).blocks["block_1_1"]
    seven = block.depthwise.conv.weight[:40].detach()
    five = np.einsum("ci,ij->cj", seven[:, 0, 1:6, 1:6].reshape(40, 25), block.transforms["7to5"].detach())
    three = np.einsum(
        "ci,ij->cj", five.reshape(40, 5, 5)[:, 1:4, 1:4].reshape(40, 9), block.transforms["5to3"].detach()
    )
    for kernel, expected in ((7, seven.numpy()), (5, five), (3, three)):
        weight = block.depthwise_weight(kernel, 40).detach().numpy()
        np.testing.assert_allclose(weight, expected.reshape(40, 1, kernel, kernel), rtol=1e-4, atol=1e-5)


def test_kernel_matrices_change_the_logits_of_smaller_kernels_only(space: MBConvSpace) -> None:
    supernet = disturbed(space)
    ends = [space.candidate(space.largest()), space.candidate(space.smallest())]
    before = [supernet(images(end), end) for end in ends]
    with torch.no_grad():
        for block in supernet.blocks.values():
            block.transforms["5to3"].mul_(2.0)
    after = [supernet(images(end), end) for end in ends]
    assert torch.equal(before[0], after[0]) and (before[1] - after[1]).abs().max() > 1e-3


def test_units_are_module_paths_with_the_candidates_precisions(space: MBConvSpace) -> None:
    for candidate in candidates(space):
        subnet = make_supernet(space, INFO).extract(candidate)
        names = dict(subnet.named_modules())
        assert all(name in names for name, _ in subnet.units())
        assert tuple(precision for _, precision in subnet.units()) == candidate.precisions


def test_sorting_puts_the_important_channels_first_and_keeps_the_full_networks_logits(space: MBConvSpace) -> None:
    supernet = disturbed(space)
    full = space.candidate(space.largest())
    before = supernet(images(full), full)
    supernet.sort_channels(MBConvSpace(largest_only(space)))
    torch.testing.assert_close(supernet(images(full), full), before, rtol=1e-4, atol=1e-4)
    for block in supernet.blocks.values():
        importance = block.project.conv.weight.abs().sum(dim=(0, 2, 3))
        assert torch.equal(importance, importance.sort(descending=True).values)


def test_sorting_again_keeps_the_networks_of_the_widths_already_trained(space: MBConvSpace) -> None:
    supernet = disturbed(space)
    trained = [space.candidate(space.largest()), space.candidate(space.smallest())]
    before = [supernet(images(candidate), candidate) for candidate in trained]
    supernet.sort_channels(space)
    for candidate, logits in zip(trained, before, strict=True):
        torch.testing.assert_close(supernet(images(candidate), candidate), logits, rtol=1e-4, atol=1e-4)


def largest_only(space: MBConvSpace):  # type: ignore[no-untyped-def]
    return replace(space.preset, expands=space.preset.expands[-1:], keeps=space.preset.keeps[-1:])


def test_recalibration_forgets_the_statistics_that_were_there(space: MBConvSpace) -> None:
    candidate = space.candidate(space.largest())
    first, second = disturbed(space).extract(candidate), disturbed(space).extract(candidate)
    with torch.no_grad():
        second.stem.bn.running_mean.add_(100)
        second.stem.bn.running_var.mul_(100)
    for subnet in (first, second):
        recalibrate_batch_norm(subnet, images(candidate, 10), batch_size=4)
        assert not subnet.training
    assert torch.equal(first(images(candidate)), second(images(candidate)))


def test_recalibrated_statistics_are_the_mean_over_full_batches(space: MBConvSpace) -> None:
    subnet = disturbed(space).extract(space.candidate(space.smallest()))
    x = images(subnet.candidate, 10)
    recalibrate_batch_norm(subnet, x, batch_size=4)
    outputs = [subnet.stem.conv(batch).mean(dim=(0, 2, 3)) for batch in (x[:4], x[4:8])]
    torch.testing.assert_close(subnet.stem.bn.running_mean, torch.stack(outputs).mean(0), rtol=1e-4, atol=1e-5)


def test_statistics_come_from_an_iterable_of_batches_too(space: MBConvSpace) -> None:
    candidate = space.candidate(space.smallest())
    one, other = disturbed(space).extract(candidate), disturbed(space).extract(candidate)
    x = images(candidate, 8)
    recalibrate_batch_norm(one, x, batch_size=4)
    recalibrate_batch_norm(other, iter([x[:4], x[4:]]))
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in one.state_dict().items())


def test_a_candidate_of_another_space_is_refused(space: MBConvSpace) -> None:
    foreign = get_space("fashion-mbv3")
    with pytest.raises(UsageError, match="candidate of space 'fashion-mbv3'; allowed: 'tiny'"):
        make_supernet(space, INFO).extract(foreign.candidate(foreign.largest()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel": 9}, "block_0_1: kernel 9; allowed: 3, 5"),
        ({"kernel": 7}, "block_0_1: kernel 7; allowed: 3, 5"),
        ({"expand": 9}, "block_0_1: expand 9; allowed: 2, 3"),
        ({"keep": 0.7}, "block_0_1: keep 0.7; allowed: 0.5, 1.0"),
        ({"resolution": 99}, "resolution 99; allowed: 12, 16"),
        (None, "stage 0 lacks a block before one it has"),
    ],
)
def test_a_choice_that_the_space_lacks_is_refused(space: MBConvSpace, change: dict | None, message: str) -> None:
    candidate = space.candidate(space.largest())
    first, second = candidate.blocks[0]
    if change is None:
        candidate = replace(candidate, blocks=((None, second), *candidate.blocks[1:]))
    elif "resolution" in change:
        candidate = replace(candidate, **change)
    else:
        candidate = replace(candidate, blocks=((first, replace(second, **change)), *candidate.blocks[1:]))
    supernet = make_supernet(space, INFO)
    for use in (supernet.extract, lambda wrong: supernet(torch.zeros(1, 1, 16, 16), wrong)):
        with pytest.raises(UsageError, match=message):
            use(candidate)


def test_precisions_do_not_matter_to_a_supernet(space: MBConvSpace) -> None:
    candidate = replace(space.candidate(space.largest()), stem="int4", head="bf16")
    assert make_supernet(space, INFO).extract(candidate).candidate == candidate


def test_a_supernet_reads_back_as_it_was_written(space: MBConvSpace, tmp_path: Path) -> None:
    supernet = disturbed(space)
    save_supernet(supernet, tmp_path / "supernet.safetensors", {"seed": 3})
    again = get_supernet(tmp_path)
    assert again.info == supernet.info and again.space.preset == space.preset and not again.training
    candidate = space.candidate(space.smallest())
    assert torch.equal(again(images(candidate), candidate), supernet(images(candidate), candidate))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("stem.conv.weight"), "tensor stem.conv.weight is missing"),
        (lambda t: t.update(extra=torch.zeros(1)), "tensor extra is unknown"),
        (
            lambda t: t.update({"stem.conv.weight": torch.zeros(1)}),
            "tensor stem.conv.weight has shape (1,); allowed: (",
        ),
        (lambda t: t["stem.conv.weight"].fill_(float("nan")), "tensor stem.conv.weight holds NaN or infinity"),
    ],
)
def test_tensors_that_do_not_fit_are_named(space: MBConvSpace, tmp_path: Path, change, message: str) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "supernet.safetensors"
    save_supernet(disturbed(space), path, {})
    tensors, info = read_tensors(path, "supernet", 1)
    change(tensors)
    write_tensors(path, tensors, "supernet", 1, info)
    with pytest.raises(FileFormatError, match=re.escape(message)):
        load_supernet(path)


def test_a_header_that_describes_no_supernet_is_refused(space: MBConvSpace, tmp_path: Path) -> None:
    path = tmp_path / "supernet.safetensors"
    write_tensors(path, {"x": torch.zeros(1)}, "supernet", 1, {})
    with pytest.raises(FileFormatError, match="its header does not describe a supernet"):
        load_supernet(path)


def test_an_unknown_supernet_lists_the_shipped_ones() -> None:
    with pytest.raises(UsageError, match=r"unknown supernet 'fashion-mbv4'; .*fashion-mbv3.*Did you mean"):
        get_supernet("fashion-mbv4")


def test_the_shipped_supernet_is_trained() -> None:
    supernet, splits = get_supernet("fashion-mbv3"), load_splits(size=28, channels=1)
    for row, accuracy in ((supernet.space.largest(), 0.940), (supernet.space.smallest(), 0.911)):  # as its log ends
        candidate = supernet.space.candidate(row)
        subnet = calibrated_subnet(supernet, candidate, splits.calibration.subset(torch.arange(200)))
        x = prepare(splits.validation.images[:1000], candidate.resolution, supernet.info)
        assert evaluate_accuracy(subnet, x, splits.validation.labels[:1000], batch_size=100) == pytest.approx(
            accuracy, abs=0.015
        )
