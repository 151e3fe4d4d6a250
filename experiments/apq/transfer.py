"""What transfer is worth: how well a predictor orders quantized networks, against how many of them it was taught by.

APQ (Wang et al., CVPR 2020) fits a predictor to fp32 pairs, adds a layer for the precisions, and fine-tunes on
quantized pairs. Beside it here: a predictor fitted to the quantized pairs alone, one fitted to both kinds at once, and
the one of the fp32 pairs alone, which takes every network for fp32 and is what transfer has to beat.
"""

import copy
import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from predictors import AccuracyPredictor
from predictors.pairs import Pairs
from predictors.ranks import kendall
from search_spaces import SearchSpace

Floats = NDArray[np.floating]
Key = tuple[str, int, int, str]  # method, seed, pairs, data
METHODS = ("transfer", "scratch", "both", "fp32")
SIZES = (60, 80, 110, 150, 200, 260, 320)


@dataclass(frozen=True)
class Judged:
    """How well one predictor orders the held-out quantized networks.

    Attributes:
        method: Of ``METHODS``.
        seed: Of the draw of pairs and of the fit.
        pairs: Quantized pairs that it was taught by.
        pairwise: Fraction of all couples of networks whose order it gets right.
        kendall: Kendall's rank correlation.
        mean_error: Mean absolute error, a fraction.
        data: Digest of all pairs, those held out too.
    """

    method: str
    seed: int
    pairs: int
    pairwise: float
    kendall: float
    mean_error: float
    data: str

    @property
    def key(self) -> Key:
        """What decides the figures."""
        return self.method, self.seed, self.pairs, self.data


def pairs_digest(*pairs: Pairs) -> str:
    """Return a digest of what predictors are taught and judged by."""
    found = hashlib.sha256()
    for one in pairs:
        found.update(np.ascontiguousarray(one.genes).tobytes() + np.ascontiguousarray(one.accuracy).tobytes())
    return found.hexdigest()[:12]


def judge_transfer(
    space: SearchSpace,
    plain: Pairs,
    quantized: Pairs,
    sizes: Sequence[int],
    seeds: Sequence[int],
    done: Collection[Key] = (),
) -> Iterator[Judged]:
    """Yield every method, number of pairs and seed, judged on the same held-out networks.

    Args:
        space: The pairs' own.
        plain: In fp32; those of held-out architectures are left out.
        quantized: With quantized units; every fifth is held out.
        sizes: Numbers of quantized pairs; those beyond what there is are left out.
        seeds: One draw of pairs and one fit each; a larger draw holds the smaller ones.
        done: Left out.
    """
    data = pairs_digest(plain, quantized)
    taught, held = quantized.split()
    known, _ = plain.split()
    for seed in seeds:
        missing = [
            (size, method)
            for size in sizes
            for method in METHODS
            if size <= len(taught) and (method, seed, size, data) not in done
        ]
        if not missing:
            continue
        order = np.random.default_rng(seed).permutation(len(taught))
        base = AccuracyPredictor(space, seed=seed).fit(known.genes, known.accuracy)
        for size, method in missing:
            own = replace(taught, genes=taught.genes[order[:size]], accuracy=taught.accuracy[order[:size]])
            rows = space.with_precision(held.genes, "fp32") if method == "fp32" else held.genes
            predicted = _fitted(base, method, known, own, seed).predict(rows).mean
            yield _judged((method, seed, size, data), predicted, held.accuracy)


def _fitted(base: AccuracyPredictor, method: str, known: Pairs, own: Pairs, seed: int) -> AccuracyPredictor:
    """Return a predictor taught by the ``own`` quantized pairs; ``base`` was fitted to the ``known`` ones in fp32."""
    if method == "fp32":
        return base
    if method == "transfer":
        return copy.deepcopy(base).transfer(own.genes, own.accuracy, replay=(known.genes, known.accuracy))
    fresh = AccuracyPredictor(base.space, seed=seed)
    if method == "scratch":
        return fresh.fit(own.genes, own.accuracy)
    return fresh.fit(np.concatenate([known.genes, own.genes]), np.concatenate([known.accuracy, own.accuracy]))


def _judged(key: Key, predicted: Floats, measured: Floats) -> Judged:
    method, seed, pairs, data = key
    error = float(np.abs(predicted - measured).mean())
    return Judged(method, seed, pairs, pairwise(predicted, measured), kendall(predicted, measured), error, data)


def pairwise(predicted: Floats, measured: Floats) -> float:
    """Return the fraction of couples that ``predicted`` orders as ``measured`` does; equal ones do not count."""
    one, other = np.triu_indices(len(measured), 1)
    truth = np.sign(measured[one] - measured[other])
    said = np.sign(predicted[one] - predicted[other])
    return float((truth == said)[truth != 0].mean())


def mean_of(results: Sequence[Judged], method: str, pairs: int, measure: str) -> tuple[float, float]:
    """Return the mean and the standard deviation of a measure over the seeds."""
    values = [getattr(one, measure) for one in results if (one.method, one.pairs) == (method, pairs)]
    return float(np.mean(values)), float(np.std(values))


def pairs_needed(results: Sequence[Judged], method: str, measure: str) -> int | None:
    """Return with how many pairs ``method`` is as good, in the mean, as scratch is with most; None: with none."""
    sizes = sorted({one.pairs for one in results})
    goal, _ = mean_of(results, "scratch", sizes[-1], measure)
    return next((size for size in sizes if mean_of(results, method, size, measure)[0] >= goal), None)
