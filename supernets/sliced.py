"""A supernet whose subnets' tensors are the leading parts of its own.

A candidate is run as the plain network of its shape on views of the supernet's tensors, and cut out by copying them.
There is no other elastic code.
"""

from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.func import functional_call

from search_spaces import Candidate
from supernets.subnet import Subnet
from supernets.supernet import Supernet


class SlicedSupernet(Supernet):
    """Holds every tensor of its space's networks at its largest."""

    @abstractmethod
    def holders(self) -> Mapping[str, Tensor]:
        """Return our tensors by the names that they have in subnets."""

    def forward(self, x: Tensor, candidate: Candidate) -> Tensor:
        shape = self._shape(candidate)
        logits: Tensor = functional_call(shape.train(self.training), _leading(self.holders(), shape), (x,))
        return logits

    @torch.no_grad()
    def extract(self, candidate: Candidate) -> Subnet:
        return self.cut(candidate, self.holders())

    def cut(self, candidate: Candidate, tensors: Mapping[str, Tensor]) -> Subnet:
        """Return the candidate with copies of the leading parts of ``tensors``, in evaluation mode."""
        subnet = self._shape(candidate)
        copies = {name: tensor.clone() for name, tensor in _leading(tensors, subnet).items()}
        subnet.load_state_dict(copies, assign=True)
        return subnet.eval()

    def _shape(self, candidate: Candidate) -> Subnet:
        """Return the candidate's network without memory for its tensors."""
        with torch.device("meta"):
            return self.plain(self.space, candidate, channels=self.channels, classes=self.classes)


def _leading(tensors: Mapping[str, Tensor], subnet: Subnet) -> dict[str, Tensor]:
    """Return the leading part of each of ``tensors``, as large as the subnet's of that name."""
    shapes = {name: tensor.shape for name, tensor in subnet.state_dict().items()}
    return {name: tensors[name][tuple(slice(size) for size in shape)] for name, shape in shapes.items()}
