"""The families of supernets: from a space to its supernet, and from a candidate to its plain network.

A new family is one file with its ``Supernet``, and a line here under the name of its family of spaces.
"""

from nas.registry import Registry
from search_spaces import Candidate, SearchSpace
from supernets.subnet import Subnet
from supernets.supernet import ImageInfo, Supernet

FAMILIES = Registry("family of supernets")
FAMILIES.register("mbconv", "supernets.mbconv:MBConvSupernet", "inverted residual blocks")
FAMILIES.register("bottleneck", "supernets.bottleneck:BottleneckSupernet", "bottleneck blocks")
FAMILIES.register("metaformer", "supernets.metaformer:MetaformerSupernet", "blocks on maps, then on tokens")
FAMILIES.register("factorised", "supernets.factorised:FactorisedSupernet", "one block a stage, repeated")


def make_supernet(space: SearchSpace, info: ImageInfo, seed: int = 0) -> Supernet:
    """Return the supernet of a space, with random weights.

    Args:
        space: The space; its precisions do not matter here.
        info: The images it is for.
        seed: Of the weights.
    """
    return _supernet_type(space)(space, info, seed)  # type: ignore[call-arg]  # each family's takes a seed


def make_subnet(space: SearchSpace, candidate: Candidate, *, channels: int, classes: int) -> Subnet:
    """Return a candidate's network as plain torch, its weights as torch initialises them.

    Raises:
        UsageError: The candidate has a choice that the space lacks.
    """
    return _supernet_type(space).plain(space, candidate, channels=channels, classes=classes)


def _supernet_type(space: SearchSpace) -> type[Supernet]:
    found = FAMILIES.get(space.preset.family)
    assert isinstance(found, type) and issubclass(found, Supernet)
    return found
