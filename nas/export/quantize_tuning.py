"""A short fine-tuning of what a quantization chose, as the integers compute it, kept if it is no less accurate."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas.compression import activation_ranges
from nas.compression.curvature import differentiable
from nas.compression.mixed import Finalist, MixedResult, gated
from nas.compression.paired import paired_difference
from nas.compression.qat import Recipe, fine_tuned
from nas.compression.timing import Measure
from nas.compression.trials import Attempt
from nas.errors import TrainingError, UsageError, VerificationError
from nas.export.progress import Progress
from supernets import ImageInfo, prepare
from supernets.datasets import ImageSet

BATCH = 32
STAGE = "fine-tuned"


def tuned(
    result: MixedResult,
    calibration: NDArray[np.float32],
    train: ImageSet,
    info: ImageInfo,
    recipe: Recipe,
    measure: Measure,
    seed: int,
    progress: Progress,
) -> MixedResult:
    """Return the result with the chosen configuration fine-tuned, or as it was where that does not help.

    Args:
        result: What the search found.
        calibration: The images that its ranges are from, as the network takes them.
        train: Images to train on.
        info: How they are normalised.
        recipe: How to train.
        measure: Times graphs.
        seed: Of the order of the images.
        progress: Told of the epochs and of the outcome.

    A training that cannot be, or that diverges, is told of too and leaves the result as it was: the search is not lost.
    """
    chosen, trials = result.chosen, result.trials
    if chosen.attempt is None:
        progress.note(f"{trials.engine.executed_float} was chosen; there is nothing to fine-tune")
        return result
    batches = _batches(train, info, trials.images.shape[-1], seed)
    try:
        graph = fine_tuned(
            trials.graph, chosen.mask, trials.ranges, batches, recipe,
            form=trials.engine.quantization, progress=progress.part("fine-tune"),
        )  # fmt: skip
        ranges = activation_ranges(graph.model, calibration)
    except (TrainingError, UsageError) as error:
        progress.note(f"not fine-tuned: {error}")
        return result
    own = replace(trials, graph=graph, ranges=ranges, _losses={})
    model = own.build(chosen.mask).SerializeToString()
    correct = own.count(own.engine.session(model))
    change = paired_difference(correct, result.target.baseline)
    accuracies = f"{100 * chosen.attempt.accuracy:.2f} to {100 * correct.mean():.2f} %"
    progress.note(f"fine-tuned: validation accuracy {accuracies}")
    attempt = Attempt(chosen.mask, STAGE, float(correct.mean()), change, result.target.met_by(change))
    result = replace(result, attempts=(*result.attempts, attempt))
    if not attempt.meets or attempt.accuracy < chosen.attempt.accuracy:
        return result
    models = {str(number): one.model for number, one in enumerate(result.measured)}
    timings = measure({**models, STAGE: model})
    before = [replace(one, timing=timings[str(number)]) for number, one in enumerate(result.measured)]
    last = Finalist(chosen.mask, model, timings[STAGE], attempt)
    try:
        checks = gated(own, last, differentiable(graph).network)
    except VerificationError as error:
        progress.note(f"the fine-tuned network is left out: {error}")
        return result
    return replace(result, measured=(*before, last), chosen=last, checks=checks)


def _batches(
    train: ImageSet, info: ImageInfo, resolution: int, seed: int
) -> Callable[[], Iterator[tuple[Tensor, Tensor]]]:
    """Return what gives one epoch, in another order each time."""
    rng = torch.Generator().manual_seed(seed)

    def epoch() -> Iterator[tuple[Tensor, Tensor]]:
        for drawn in torch.randperm(len(train), generator=rng).split(BATCH):
            yield prepare(train.images[drawn], resolution, info), train.labels[drawn]

    return epoch
