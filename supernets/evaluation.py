"""A candidate as it would be used: cut out, its batch norms recalibrated, its accuracy counted."""

import torch
from torch import Tensor, nn

from search_spaces import Candidate
from supernets.batch_norm import recalibrate_batch_norm
from supernets.datasets import ImageSet, preprocess
from supernets.subnet import Subnet
from supernets.supernet import ImageInfo, Supernet

RECALIBRATION_IMAGES = 1000  # once-for-all takes 2,000, for accuracies that differ by less than 0.1 points


def prepare(images: Tensor, resolution: int, info: ImageInfo) -> Tensor:
    """Return ``uint8`` images ``(n, c, h, w)`` resized and normalised as the supernet was trained."""
    return preprocess(images, resolution, info.mean, info.std)


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
def evaluate_accuracy(model: nn.Module, images: Tensor, labels: Tensor, batch_size: int = 1000) -> float:
    """Return the fraction of preprocessed ``images`` ``(n, c, h, w)`` whose largest logit is at the label."""
    mode = model.training
    model.eval()
    pairs = zip(images.split(batch_size), labels.split(batch_size), strict=True)
    correct = sum((model(x).argmax(1) == y.to(x.device)).sum() for x, y in pairs)
    model.train(mode)
    return float(correct) / len(labels)
