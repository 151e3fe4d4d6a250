"""Once-for-all's subnets for a device: the front of predicted latency and of accuracy as measured on ImageNet.

Accuracy is what once-for-all's released predictor answers, brought to accuracies measured on ImageNet's validation
images (DyNAS-T's, fp32, 224 pixels). Its bias and its 90 % interval are of networks among those that it selects itself,
and at that size, so subnets of other sizes are not searched. A search selects from far more, so a part of its optimism
stays.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from imagenet_networks import IMAGES, PRECISIONS, SPACE, Network
from numpy.typing import NDArray

from latency_tables import Device
from latency_tables.network_costs import NetworkCosts
from nas.export.choose import spread_over
from nas.search import Problem, Scored, search
from nas.search.fronts import non_dominated
from predictors.calibration import calibrate
from predictors.conformal import conformal_radius
from predictors.latency import LatencyPredictor
from predictors.ofa_accuracy import OFAAccuracyPredictor, distinct_means, import_ofa_predictor
from predictors.ofa_measured import read_measured
from search_spaces import Genes, SearchSpace, get_space, make_space
from search_spaces.space import RESOLUTION

PREDICTOR, MEASURED = "acc_predictor_mbv3.npz", "dynast_ofa_mbv3_w10_imagenet.csv.gz"
PIXELS = (224,)
SELECTED = 100  # measured networks that the bias and the interval are of, at least
SECONDS = 300.0  # of a calibration, as `nas calibrate --space ofa-mbv3 --seconds 300`


def accuracy_predictor(data: Path) -> OFAAccuracyPredictor:
    """Return the released predictor, brought to the measured accuracies, from the folder with both."""
    predictor = import_ofa_predictor(data / PREDICTOR)
    genes, accuracy = distinct_means(*read_measured(data / MEASURED, predictor.space))
    fitted = np.arange(len(genes)) % 2 == 0
    return of_selected(predictor.calibrate(genes[fitted], accuracy[fitted]), genes[~fitted], accuracy[~fitted])


def of_selected(predictor: OFAAccuracyPredictor, genes: Genes, accuracy: NDArray[np.float64]) -> OFAAccuracyPredictor:
    """Return the predictor without its bias on networks that it selects, and with the interval of their errors.

    Selected are fronts of predicted accuracy and multiply-adds, one below the other, among measured networks that it
    was not fitted to: a search takes what is predicted too well rather than what is predicted too badly.

    Args:
        predictor: Brought to measured accuracies.
        genes: Other networks ``(n, num_genes)``.
        accuracy: As measured, fractions ``(n,)``.
    """
    predicted = np.asarray(predictor.predict(genes).mean, np.float64)
    macs = NetworkCosts(predictor.space, IMAGES).predict(genes, "macs_m")
    losses, left = np.stack([-predicted, macs], axis=1), np.arange(len(genes))
    while len(genes) - len(left) < SELECTED and len(left):
        left = left[~non_dominated(losses[left])]
    errors = np.delete(predicted - accuracy, left)
    bias, scale = float(errors.mean()), predictor.scale
    scale = replace(scale, offset=scale.offset - bias, radius=conformal_radius(errors - bias))
    return OFAAccuracyPredictor(predictor.space, predictor.layers, scale)


def latency_predictor(device: Device, space: SearchSpace) -> LatencyPredictor:
    """Return what predicts a device's latencies: from its calibration in the cache, or a new one."""
    print(f"calibrate {device.name} for {space.name}", file=sys.stderr, flush=True)
    return calibrate(device, space, **vars(IMAGES), seconds=SECONDS).predictor


def ofa_networks(
    device: Device, accuracy: OFAAccuracyPredictor, *, count: int, levels: Sequence[float], budget: int
) -> list[Network]:
    """Return subnets of a device's front, for each precision that it executes.

    Args:
        device: The device.
        accuracy: Predicts.
        count: Subnets spread over each front.
        levels: Accuracies, fractions: of each front also the fastest subnets that reach them.
        budget: Candidates that each search scores.
    """
    preset = get_space(SPACE).preset
    whole = make_space(preset, [name for name in PRECISIONS if name in device.precisions])
    part = make_space(replace(preset, resolutions=PIXELS), PRECISIONS[:1])
    latency, found = latency_predictor(device, whole), []
    for precision in whole.precisions:

        def score(genes: Genes, precision: str = precision) -> dict[str, NDArray[np.float64]]:
            rows = whole.with_precision(moved(genes, part, whole), precision)
            return {
                "accuracy": np.asarray(accuracy.predict(moved(genes, part, accuracy.space)).mean, np.float64),
                "latency_ms": np.asarray(latency.predict(rows).mean, np.float64),
            }

        front = search(Problem(part, {"accuracy": "max", "latency_ms": "min"}, {}, score), budget=budget).front
        rows = front.take(chosen_rows(front, count, levels)).genes
        found += _networks(rows, precision, accuracy, part, whole)
    return found


def chosen_rows(front: Scored, count: int, levels: Sequence[float]) -> NDArray[np.intp]:
    """Return the rows of a front that are measured: some spread over it, and the fastest of each level of accuracy."""
    latency, reached = front.scores["latency_ms"], front.scores["accuracy"]
    found = set(spread_over(latency, reached, count).tolist())
    for level in levels:
        if reached.max() >= level:
            found.add(int(np.where(reached >= level, latency, np.inf).argmin()))
    return np.array(sorted(found), np.intp)


def _networks(
    rows: Genes, precision: str, accuracy: OFAAccuracyPredictor, part: SearchSpace, whole: SearchSpace
) -> list[Network]:
    predicted = accuracy.predict(moved(rows, part, accuracy.space))
    genes = whole.with_precision(moved(rows, part, whole), precision)
    return [
        Network(one.id, "ofa", precision, "", float(mean), float(low), one.resolution, one.to_dict())
        for one, mean, low in zip(map(whole.candidate, genes), predicted.mean, predicted.low, strict=True)
    ]


def moved(genes: Genes, space: SearchSpace, other: SearchSpace) -> Genes:
    """Return the rows, in ``other``, of networks of ``space``: the same choices but for the menus of sizes."""
    places = np.array([other.resolutions.index(pixels) for pixels in space.resolutions], np.int8)
    rows = genes.copy()
    rows[:, RESOLUTION] = places[genes[:, RESOLUTION]]
    return rows
