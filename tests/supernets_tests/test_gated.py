"""A supernet run at full size with gates: the same networks as those that are sliced out of it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_families import tiny_bottleneck
from tiny_space import tiny_space

from nas.errors import UsageError
from search_spaces import SearchSpace, get_space
from supernets import ImageInfo, Supernet, make_supernet
from supernets.gated import GatedForward


def trained(space: SearchSpace) -> Supernet:
    """Return a supernet in double precision whose kernel transforms and batch norms are not as they began."""
    preset = space.preset
    classes = tuple(map(str, range(preset.classes)))
    net = make_supernet(space, ImageInfo("none", classes, (0.5,) * preset.channels, (0.5,) * preset.channels))
    generator = torch.Generator().manual_seed(1)
    for parameter in net.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    for module in net.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return net.train().double()


@pytest.mark.parametrize("name", ["tiny", "ofa-mbv3"])  # the second has squeeze-and-excitation and hard swish
def test_gated_network_has_logits_and_gradients_of_the_sliced_one(name: str) -> None:
    space = tiny_space() if name == "tiny" else get_space(name, precisions=("fp32",))
    net = trained(space)
    gated, rng = GatedForward(net), np.random.default_rng(0)
    rows = [*space.sample(3, rng), space.smallest("fp32"), space.largest("fp32")]
    for candidate in map(space.candidate, rows):
        side = min(candidate.resolution, 64)
        images = torch.from_numpy(rng.standard_normal((4, space.preset.channels, side, side)))
        gates = gated.stack([candidate], torch.device("cpu"))[0].double()
        found = []
        for logits in (net(images, candidate), gated(images, gates)):
            net.zero_grad(set_to_none=True)
            F.cross_entropy(logits, torch.arange(4) % space.preset.classes).backward()
            gradients = {name: one.grad for name, one in net.named_parameters() if one.grad is not None}
            found.append((logits.detach(), gradients))
        (expected, some), (logits, every) = found
        torch.testing.assert_close(logits, expected)
        for name, gradient in every.items():
            wanted = some.get(name, torch.zeros_like(gradient))
            torch.testing.assert_close(gradient, wanted, msg=lambda text, name=name: f"{name}: {text}")


def test_gates_of_another_family_are_refused() -> None:
    with pytest.raises(UsageError, match="tiny-bottleneck of another family; allowed with CUDA graphs: mbconv"):
        GatedForward(trained(tiny_bottleneck()))
