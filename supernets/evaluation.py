"""A candidate as it would be used: cut out, its batch norms recalibrated, its accuracy counted."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from search_spaces import Candidate
from supernets.batch_norm import recalibrate_batch_norm
from supernets.datasets import ImageSet, preprocess
from supernets.subnet import Subnet
from supernets.supernet import ImageInfo, Supernet

RECALIBRATION_IMAGES = 1000  # once-for-all takes 2,000
BATCH_PIXELS = 2**20  # of the images that are prepared at a time


def prepare(images: Tensor, resolution: int, info: ImageInfo) -> Tensor:
    """Return ``uint8`` images ``(n, c, h, w)`` resized and normalised as the supernet was trained."""
    return preprocess(images, resolution, info.mean, info.std)


def prepare_batches(images: Tensor, resolution: int, info: ImageInfo, pixels: int = BATCH_PIXELS) -> Iterator[Tensor]:
    """Yield the same, as many images at a time as have ``pixels`` pixels when prepared, and one at least."""
    for batch in images.split(max(1, pixels // resolution**2)):
        yield prepare(batch, resolution, info)


def calibrated_subnet(supernet: Supernet, candidate: Candidate, calibration: ImageSet) -> Subnet:
    """Extract a candidate and recalibrate its batch norms on training images; the supernet is left as it was."""
    images = calibration.images[:RECALIBRATION_IMAGES].to(next(supernet.parameters()).device)
    return recalibrated_subnet(supernet, candidate, prepare(images, candidate.resolution, supernet.info))


def recalibrated_subnet(supernet: Supernet, candidate: Candidate, images: Tensor) -> Subnet:
    """Do the same with images ``(n, c, r, r)`` already prepared at the candidate's resolution, on their device."""
    subnet = supernet.extract(candidate).to(images.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    recalibrate_batch_norm(subnet, images.contiguous(memory_format=torch.channels_last))  # half the time on a processor
    return subnet.to(memory_format=torch.contiguous_format)


@torch.no_grad()
def evaluate_accuracy(
    model: nn.Module, images: Tensor | Iterable[Tensor], labels: Tensor, batch_size: int = 1000
) -> float:
    """Return the fraction of images whose largest logit is at the label.

    Args:
        model: A network; left in the mode it was in.
        images: Prepared, ``(n, c, h, w)``; or an iterable of batches of them.
        labels: Of all images, ``(n,)``.
        batch_size: Images a batch, where they are one tensor.

    Raises:
        ValueError: There are more labels than images, or fewer.
    """
    batches = images.split(batch_size) if isinstance(images, Tensor) else images
    mode = model.training
    model.eval()
    predicted = torch.cat([model(batch).argmax(1) for batch in batches])
    model.train(mode)
    if len(predicted) != len(labels):
        raise ValueError(f"{len(predicted)} images and {len(labels)} labels")
    return float((predicted == labels.to(predicted.device)).sum()) / len(labels)
