"""What the tests of pruning share: a small network of every kind of coupling, and a task that takes no time."""

import torch
from torch import Tensor, nn

from nas.compression.pruning import CLASSIFICATION, Examples, Task

CLASSES, SIDE = 3, 8


class Coupled(nn.Module):
    """A stem, a depthwise convolution in a residual block, a concatenation, a head."""

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.expand = nn.Conv2d(16, 32, 1, bias=False)
        self.norm = nn.BatchNorm2d(32)
        self.depthwise = nn.Conv2d(32, 32, 3, padding=1, groups=32)
        self.project = nn.Conv2d(32, 16, 1)
        self.side = nn.Conv2d(16, 8, 1)
        self.mix = nn.Conv2d(16 + 8, 12, 1)
        self.head = nn.Linear(12 * 4, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.project(torch.relu(self.depthwise(torch.relu(self.norm(self.expand(x))))))
        x = torch.cat([x, torch.relu(self.side(x))], 1)
        return self.head(torch.flatten(nn.functional.adaptive_avg_pool2d(torch.relu(self.mix(x)), 2), 1))


def coupled(classes: int = CLASSES) -> nn.Module:
    """Return the network with weights of seed 0 and batch norms that do something, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Coupled(classes)
        for norm in (network.stem[1], network.norm):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.running_mean, -0.5, 0.5)
        return network.eval()


def tiny_task(seed: int = 0) -> Task:
    """Return bright, dark and striped images to tell apart."""
    rng = torch.Generator().manual_seed(seed)

    def examples(n: int) -> Examples:
        labels = torch.arange(n) % CLASSES
        images = torch.randint(0, 90, (n, 1, SIDE, SIDE), generator=rng)
        images[labels == 0] += 150
        images[labels == 2, :, ::2] += 150
        return Examples(images.to(torch.uint8), labels)

    return Task("tiny", CLASSIFICATION, examples(48), examples(24), examples(24), SIDE, (0.5,), (0.5,))
