"""Batch norm statistics of one subnet, measured anew: without this a subnet's accuracy can be near chance."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn


@torch.no_grad()
def recalibrate_batch_norm(model: nn.Module, images: Tensor | Iterable[Tensor], batch_size: int = 200) -> None:
    """Replace the running statistics by the mean over batches of ``images``, in place (OFA: 2,000 images, batch 200).

    Args:
        model: A network with batch norms; left in the mode it was in.
        images: Preprocessed training images ``(n, c, h, w)``; a last batch that is not full is left out if others are.
            Or an iterable of batches, each of which counts.
        batch_size: Images a batch, where they are one tensor.
    """
    batches = images
    if isinstance(images, Tensor):
        batches = images.split(batch_size)
        if len(batches) > 1 and len(batches[-1]) < batch_size:
            batches = batches[:-1]
    mode = model.training
    update_bn(batches, model)
    model.train(mode)
