"""The whole job of ``nas quantize``: open a model, search its precisions, and leave what was measured in a folder.

model.onnx    the file that was timed and whose accuracy was counted
report.json   everything that was found, for programs
report.md     the same for people
path.png      every configuration that was tried, and the target
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from latency_tables import FULL, Device, Measurement, MeasuringPlan
from nas.compression import RANGE_IMAGES, Session, activation_ranges, correct_images
from nas.compression.layers import layered
from nas.compression.mixed import MixedPlan, MixedResult, check_drop, search_mixed
from nas.compression.paired import Difference, paired_difference
from nas.compression.qat import Recipe
from nas.compression.timing import Reports, check_menu
from nas.compression.trials import Correct, Trials, fusable_layers
from nas.errors import DataError, UsageError
from nas.export.accuracy import matching_splits
from nas.export.folder import new_folder
from nas.export.progress import NO_PROGRESS, Progress
from nas.export.quantize_report import write_report
from nas.export.quantize_tuning import tuned
from nas.export.sources import ModelChoice, Source, open_source
from nas.files import write_bytes
from supernets import ImageInfo, prepare
from supernets.datasets import ImageSet, Splits, inspect_data, load_splits

MODEL = "model.onnx"
LOSS_IMAGES = 128
"""Calibration images behind losses and gradients; ranges take as many as there are, to ``RANGE_IMAGES``."""


@dataclass(frozen=True)
class QuantizeJob:
    """What to quantize and how.

    Attributes:
        model: What to quantize.
        device: What it is for.
        out: Folder of the results; it must be absent or empty.
        max_drop: The fraction of fp32's accuracy that may be lost.
        data: As in ``load_splits``.
        confident: Whether the whole interval of the paired difference must be within ``max_drop``.
        loss_images: Calibration images behind losses and gradients.
        search: How precisions are searched.
        tuning: How the chosen configuration is fine-tuned at the end, on training images; None leaves it as it is.
        plan: How latency is measured.
    """

    model: ModelChoice
    device: Device
    out: Path
    max_drop: float = 0.001
    data: str | None = None
    confident: bool = False
    loss_images: int = LOSS_IMAGES
    search: MixedPlan = field(default_factory=MixedPlan)
    tuning: Recipe | None = None
    plan: MeasuringPlan = FULL


@dataclass(frozen=True, eq=False)
class Quantized:
    """What a job found.

    Attributes:
        source: The model.
        data: What its images are called.
        images: How many of them gave the ranges, the losses and gradients, and counted validation and test accuracy.
        info: How they were normalised.
        device: What was measured, as JSON.
        result: What the search found.
        test: Accuracies of fp32 and of what was chosen on test images, which chose nothing, and their difference.
        seconds: By stage.
    """

    source: Source
    data: str
    images: Mapping[str, int]
    info: ImageInfo
    device: Mapping[str, object]
    result: MixedResult
    test: tuple[float, float, Difference]
    seconds: Mapping[str, float]


def run_quantize(job: QuantizeJob, progress: Progress = NO_PROGRESS) -> Quantized:
    """Quantize a model and write the folder ``job.out``.

    Raises:
        UsageError: Something that was asked for cannot be.
        DataError: The images are missing, or have other classes than the model.
        InfeasibleError: As in ``search_mixed``; the message says the best that was tried, or how many images it takes.
        VerificationError: No finalist passes its gates.
        DeviceError: The device cannot measure, or runs nothing in integers.
    """
    check_drop(job.max_drop)
    check_menu(job.device, job.device.name)
    with new_folder(job.out) as folder, threadpool_limits(1):
        start = time.monotonic()
        source, splits, info = _open(job, progress)
        opened = time.monotonic()
        trials, images = _trials(job, source, splits, info, progress)
        result = search_mixed(
            trials, job.max_drop, _measure(job, progress), reference=source.reference, plan=job.search,
            confident=job.confident, reports=Reports(progress.listener, progress.note),
        )  # fmt: skip
        if job.tuning is not None and splits.train is not None:
            result = tuned(
                result, images, splits.train, info, job.tuning, _measure(job, progress), job.search.seed, progress
            )
        searched = time.monotonic()
        test = _test(job.device, result, _counter(splits.test, source.resolution, info))
        found = Quantized(
            source=source,
            data=splits.name,
            images={
                "ranges": len(images), "losses": len(trials.images),
                "validation": len(splits.validation), "test": len(splits.test),
            },
            info=info,
            device={
                "name": job.device.name, "runtime": job.device.runtime, "fingerprint": job.device.fingerprint,
                "simulated": job.device.simulated, "floats": job.device.executed_float,
            },
            result=result,
            test=test,
            seconds={"open": opened - start, "search": searched - opened, "test": time.monotonic() - searched},
        )  # fmt: skip
        write_bytes(folder / MODEL, result.chosen.model)
        write_report(folder, found, job.search)
    return found


def _open(job: QuantizeJob, progress: Progress) -> tuple[Source, Splits, ImageInfo]:
    """Return the model, its images, and how they are normalised."""
    source = open_source(job.model, len(inspect_data(job.data).classes))
    report = progress.part("read images")
    if source.info is not None:
        return (
            source,
            matching_splits(job.data, source.info, source.resolution, report, need_train=job.tuning is not None),
            source.info,
        )
    splits = load_splits(
        job.data, size=source.resolution, channels=source.channels, need_train=job.tuning is not None, progress=report
    )
    mean, std = source.mean or splits.mean, source.std or splits.std
    if not len(mean) == len(std) == source.channels or min(std) <= 0:
        raise UsageError(
            f"--mean {mean} and --std {std} for images of {source.channels} channels; "
            "allowed: one number a channel for both, deviations above 0"
        )
    info = ImageInfo(splits.name, splits.classes, mean, std)
    with torch.inference_mode():
        found = source.reference(prepare(splits.calibration.images[:1], source.resolution, info)).shape
    if tuple(found) != (1, len(info.classes)):
        raise DataError(
            f"{source.name} returns {tuple(found)} of one image; data {splits.name} has {len(info.classes)} classes: "
            "give the images of its classes with --data, one folder each in the order of their names"
        )
    return source, splits, info


def _trials(
    job: QuantizeJob, source: Source, splits: Splits, info: ImageInfo, progress: Progress
) -> tuple[Trials, NDArray[np.float32]]:
    """Return the trials and the images that their ranges are from."""
    if not job.loss_images >= 1:
        raise UsageError(f"loss images {job.loss_images}; allowed: 1 and above")
    graph = layered(source.graph)
    images = prepare(splits.calibration.images[:RANGE_IMAGES], source.resolution, info).numpy()
    ranges = activation_ranges(graph.model, images)
    possible = fusable_layers(graph, ranges, job.device)
    if left := [layer.name for layer, able in zip(graph.layers, possible, strict=True) if not able]:
        progress.note(
            f"{job.device.runtime} cannot run {', '.join(left)} in integers; they stay in {job.device.executed_float}"
        )
    labels = splits.calibration.labels[: job.loss_images].numpy()
    count = _counter(splits.validation, source.resolution, info)
    return Trials(graph, ranges, job.device, images[: job.loss_images], labels, count, possible), images


def _counter(images: ImageSet, resolution: int, info: ImageInfo) -> Callable[[Session], Correct]:
    return partial(correct_images, images=images, resolution=resolution, info=info)


def _measure(job: QuantizeJob, progress: Progress) -> Callable[[Mapping[str, bytes]], Mapping[str, Measurement]]:
    return partial(
        job.device.measure_many, plan=job.plan, seed=job.search.seed, progress=progress.part("time"), note=progress.note
    )


def _test(device: Device, result: MixedResult, count: Callable[[Session], Correct]) -> tuple[float, float, Difference]:
    plain, chosen = (count(device.session(one.model)) for one in (result.fp32, result.chosen))
    return float(np.mean(plain)), float(np.mean(chosen)), paired_difference(chosen, plain)
