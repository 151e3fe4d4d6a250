"""What an exported file gets right: the session that is timed, on stored images."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.compression import Session, correct_images
from nas.errors import DataError
from supernets import ImageInfo
from supernets.datasets import DATA_SETS, ImageSet, Splits, load_splits

WORKERS = 2

Correct = NDArray[np.bool_]
Progress = Callable[[int, int], None]  # (done, total)


def count_correct(
    jobs: Mapping[str, tuple[Session, int]],
    images: ImageSet,
    info: ImageInfo,
    progress: Progress = lambda done, total: None,
) -> dict[str, Correct]:
    """Return which images several exported models get right, two at a time (their sessions have one thread each).

    Args:
        jobs: Name to session and resolution.
        images: What they are evaluated on.
        info: How images are normalised.
        progress: Called after each model.

    Returns:
        Name to one truth value an image, ``(n,)``; the mean is the accuracy.
    """
    with ThreadPoolExecutor(WORKERS) as pool:
        futures = {
            name: pool.submit(correct_images, session, images, resolution, info)
            for name, (session, resolution) in jobs.items()
        }
        results = {}
        try:
            for name, future in futures.items():
                results[name] = future.result()
                progress(len(results), len(futures))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return results


def matching_splits(
    data: str | Path | None,
    info: ImageInfo,
    size: int,
    progress: Progress = lambda done, total: None,
    *,
    need_train: bool = False,
) -> Splits:
    """Load the images that a network was trained for.

    Args:
        data: As in ``load_splits``; None for the known data set that the network was trained on, if it was one, else
            for the one that ships.
        info: What the network was trained on.
        size: Side in pixels.
        progress: Called with (images read, images in all) while a folder is read.
        need_train: Whether training images are wanted.

    Raises:
        DataError: The images have other classes.
    """
    found = info.dataset if data is None and info.dataset in DATA_SETS else data
    splits = load_splits(found, size=size, channels=info.channels, need_train=need_train, progress=progress)
    if splits.classes != info.classes:
        where = f"data {found}" if found is not None else f"the shipped data set {splits.name}"
        raise DataError(
            f"{where} has {_classes(splits.classes)}; the network was trained on {info.dataset} with "
            f"{_classes(info.classes)}; name its images with --data, or train one for these (nas train --data)"
        )
    return splits


def _classes(names: tuple[str, ...]) -> str:
    return f"{len(names)} classes ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
