"""Runs, frame by frame, the network of a front that is in time now: the choice is ``switch_policy``'s.

    switcher = Switcher([load_bundle(folder) for folder in folders], objective_ms=20)
    for frame in frames:
        logits = switcher.run(frame)  # by switcher.bundle, which changes with the load of the device

Every network stays loaded, so a switch costs nothing but the memory that they take together.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from nas.errors import FileFormatError, UsageError
from nas.export.bundle import REPORT, Bundle
from nas.export.switch_policy import STEADY, Hysteresis, SwitchPolicy
from supernets.datasets import preprocess


class Switcher:
    """Several bundles behind one ``run``.

    Args:
        bundles: Networks for the same images, as one search finds them.
        objective_ms: Latency of a call of ``run`` to stay within, without resizing and normalising.
        device: What runs them, a name or a profile; None is the device that each was made for.
        hysteresis: How fast the choice follows the latencies.
        clock: Seconds, ascending.

    Raises:
        UsageError: There is no bundle, they are not for the same images, or the objective is not above 0.
        FileFormatError: A report has no latency or accuracy.
        DeviceError: The device is not here, or its runtime refuses a model.
    """

    def __init__(
        self,
        bundles: Sequence[Bundle],
        objective_ms: float,
        *,
        device: str | Path | None = None,
        hysteresis: Hysteresis = STEADY,
        clock: Callable[[], float] = time.perf_counter,
    ):
        if not bundles:
            raise UsageError("no bundle to switch between; give those of one front")
        for other in bundles[1:]:
            if other.images != bundles[0].images:
                raise UsageError(f"{other.path} is for other images than {bundles[0].path}; give bundles of one search")
        latencies, accuracies = zip(*map(_figures, bundles), strict=True)
        self._policy = SwitchPolicy(latencies, accuracies, objective_ms, hysteresis)
        self._bundles, self._clock = tuple(bundles), clock
        self._latency_ms: float | None = None
        self._sessions = [bundle.session(bundle.device_name if device is None else device) for bundle in bundles]
        for bundle, session in zip(bundles, self._sessions, strict=True):  # the first run allocates
            side = bundle.candidate.resolution
            session.run(None, {"input": np.zeros((1, bundle.images.channels, side, side), np.float32)})

    @property
    def bundle(self) -> Bundle:
        """What runs the next call."""
        return self._bundles[self._policy.choice]

    @property
    def latency_ms(self) -> float | None:
        """How long the last call took; None before the first."""
        return self._latency_ms

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return logits ``(n, classes)``, and choose anew by how long they took.

        Args:
            images: ``(n, channels, height, width)``, the same n in every call.

        Raises:
            UsageError: The images are not uint8 of four dimensions with the network's channels.
        """
        bundle, session = self.bundle, self._sessions[self._policy.choice]
        side, info = bundle.candidate.resolution, bundle.images
        prepared = preprocess(torch.from_numpy(images), side, info.mean, info.std).numpy()
        started = self._clock()
        logits: NDArray[np.float32] = session.run(None, {"input": prepared})[0]
        self._latency_ms = 1e3 * (self._clock() - started)
        self._policy.observe(self._latency_ms)
        return logits


def _figures(bundle: Bundle) -> tuple[float, float]:
    """Return latency in ms and accuracy, the predicted one where none was measured."""
    try:
        measured = bundle.report["measured"]
        accuracy = measured["accuracy"]
        if accuracy is None:
            accuracy = bundle.report["predicted"]["accuracy"]
        return float(measured["latency_ms"]), float(accuracy)
    except (KeyError, TypeError, ValueError) as error:
        raise FileFormatError(f"{bundle.path / REPORT}: it has no measured latency or accuracy ({error})") from error
