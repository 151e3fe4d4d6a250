"""Which network of a front to run next, decided from the latencies seen so far, with hysteresis.

ApproxDet (Xu et al., 2020) meets a latency objective on a device whose other work comes and goes: it models how
contention slows each of its branches and runs the most accurate one that is predicted to be in time.

Departures: how much slower than reported the networks are now is one number for all of them, the ``share`` quantile of
the last few ratios of seen to reported latency, with no model to fit beforehand. So it serves any device whose
contention slows networks alike, and reported latencies need no more than the right proportions. A frame for which even
the fastest would have been late, as one is that the scheduler interrupts, says nothing for or against a network and is
left out. ApproxDet charges a switch its cost; here all networks stay loaded, and hysteresis keeps switches rare: down
at once, up only after a better network would have been in time, with a margin, for many frames in a row.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.errors import UsageError
from nas.export.choose import front_of


@dataclass(frozen=True)
class Hysteresis:
    """How fast a choice follows the latencies.

    Args:
        share: Of the recent frames that some network is in time for, those that the chosen one is to be in time for.
        window: Frames that count as recent.
        margin: By how much a more accurate network must be expected below the objective before it is taken.
        patience: Frames in a row for which it must have been.

    Raises:
        UsageError: A value is out of its range.
    """

    share: float = 0.9
    window: int = 16
    margin: float = 0.1
    patience: int = 20

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UsageError(f"share {self.share:g}; allowed: above 0, at most 1")
        if self.window < 1 or self.patience < 1:
            raise UsageError(f"window {self.window} and patience {self.patience}; allowed: 1 frame and more")
        if not 0 <= self.margin < np.inf:
            raise UsageError(f"margin {self.margin:g}; allowed: 0 and above")


STEADY = Hysteresis()


class SwitchPolicy:
    """Chooses among networks.

    Args:
        latency_ms: Reported latency of each network, ``(n,)``, n ≥ 1, above 0; proportions are all that matters.
        accuracy: Of each network, ``(n,)``. Networks that another one dominates are never chosen.
        objective_ms: Latency within which a frame is in time.
        hysteresis: How fast the choice follows.

    Raises:
        UsageError: No network, or a latency or the objective is not above 0.
    """

    def __init__(
        self,
        latency_ms: ArrayLike,
        accuracy: ArrayLike,
        objective_ms: float,
        hysteresis: Hysteresis = STEADY,
    ):
        reported = np.asarray(latency_ms, np.float64)
        if not len(reported) or not ((reported > 0) & np.isfinite(reported)).all():
            raise UsageError(f"latencies {reported.tolist()}; allowed: one network or more, each above 0 ms")
        if not 0 < objective_ms < np.inf:
            raise UsageError(f"objective {objective_ms:g} ms; allowed: above 0")
        self._networks = front_of(reported, accuracy)
        self._reported: NDArray[np.float64] = reported[self._networks]
        self._objective, self._hysteresis = objective_ms, hysteresis
        self._ratios: deque[float] = deque(maxlen=hysteresis.window)
        self._place = self._best(1.0)
        self._room = 0  # frames in a row for which a more accurate network would have been in time

    @property
    def choice(self) -> int:
        """The network to run next, as an index into what was given."""
        return int(self._networks[self._place])

    def observe(self, latency_ms: float) -> None:
        """Take in how long the chosen network took, and choose anew.

        Raises:
            UsageError: The latency is negative or no number.
        """
        if not 0 <= latency_ms < np.inf:
            raise UsageError(f"a latency of {latency_ms:g} ms was seen; allowed: 0 and above")
        self._ratios.append(latency_ms / float(self._reported[self._place]))
        slower = self._slower()
        now, with_room = self._best(slower), self._best(slower * (1 + self._hysteresis.margin))
        self._room = self._room + 1 if with_room > self._place else 0
        if now < self._place:
            self._place, self._room = now, 0
        elif self._room >= self._hysteresis.patience:
            self._place, self._room = with_room, 0

    def _slower(self) -> float:
        """Return how many times slower than reported everything is; infinite where nothing is in time."""
        hopeful = [ratio for ratio in self._ratios if ratio * self._reported[0] <= self._objective]
        return float(np.quantile(hopeful, self._hysteresis.share, method="higher")) if hopeful else np.inf

    def _best(self, slower: float) -> int:
        """Return the most accurate in time where everything is so many times slower; the fastest where nothing is."""
        return max(0, int(np.searchsorted(self._reported * slower, self._objective, side="right")) - 1)
