"""Reinforcement learning as in MnasNet (Tan et al., 2019): a recurrent controller, trained by PPO on ``reward``.

The controller (``controller``) draws a batch of networks gene by gene; their rewards, less a baseline, are what its
choices are worth; PPO (Schulman et al., 2017) takes several small steps on a batch, each choice's probability held
within a clipped ratio of what it was. The baseline is a moving average, as in NASNet (Zoph et al., 2018).

Departures: a network drawn again costs nothing, its reward is remembered and it still teaches. Advantages are divided
by a moving standard deviation, so that neither the scale of the scores nor that of T matters; learning rate and
entropy bonus were chosen for that, the best of some twelve settings on published tables and on ``fashion-mbv3``, with
budgets of 400 to 10,000. Where less than half of a batch is new, mutants of it are scored and taught too: a controller
that has settled goes on. The averages forget faster than NASNet's (0.8 a batch, not 0.95): once limits are met,
rewards shrink.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from nas.search.controller import Controller
from nas.search.offspring import unseen_mutants
from nas.search.problem import Genes, Problem
from nas.search.reward import rewards
from nas.search.unique import Seen

UPDATES = 200  # of the controller, in a budget
LEAST_BATCH, MOST_BATCH = 20, 256  # NASNet's is 20
STEPS = 4  # on a batch
CLIP = 0.2
LEARNING_RATE = 1e-3
ENTROPY = 0.03  # of the mean entropy of a choice, beside standardised advantages
MEMORY = 0.8  # of the baseline and the spread, exponential moving averages


class ReinforcementLearning:
    """Ask and tell, a batch of the controller at a time."""

    def __init__(self, problem: Problem, budget: int, rng: np.random.Generator):
        self._problem, self._space, self._rng = problem, problem.space, rng
        self._generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        self._controller = Controller(self._space.cardinalities.tolist(), self._generator)
        self._optimizer = torch.optim.Adam(self._controller.parameters(), lr=LEARNING_RATE)
        self._batch = max(LEAST_BATCH, min(MOST_BATCH, round(budget / UPDATES)))
        self._seen = Seen()
        self._known: dict[bytes, float] = {}  # the reward of every network that was scored
        self._drawn = np.empty((0, self._space.num_genes), np.int64)  # as drawn, of the batch at hand
        self._baseline: NDArray[np.float64] | None = None  # mean and standard deviation of rewards

    def ask(self, n: int) -> Genes:
        wanted = min(n, self._batch)
        self._drawn = self._controller.sample(self._batch, self._generator).numpy()
        rows = self._space.canonical(self._drawn.astype(np.int8))
        fresh = self._seen.claim(rows, wanted)
        missing = wanted - len(fresh)
        if 2 * missing > wanted:
            mutants = unseen_mutants(self._space, self._seen, rows, missing, self._rng)
            self._drawn = np.concatenate([self._drawn, mutants.astype(np.int64)])
            fresh = np.concatenate([fresh, mutants])
        return fresh

    def tell(self, genes: Genes, scores: Mapping[str, NDArray[np.float64]]) -> None:
        keys = [row.tobytes() for row in genes]
        self._known.update(zip(keys, rewards(self._problem, scores).tolist(), strict=True))
        rows = self._space.canonical(self._drawn.astype(np.int8))
        worth = np.array([self._known.get(row.tobytes(), np.nan) for row in rows])
        known = np.isfinite(worth)  # the last batch of a budget has rows that were not scored
        self._learn(torch.from_numpy(self._drawn[known]), worth[known])

    def _learn(self, rows: torch.Tensor, worth: NDArray[np.float64]) -> None:
        """Take PPO's steps on rows as they were drawn, ``(n, genes)``, and their rewards."""
        told = np.array([worth.mean(), worth.std()])
        self._baseline = told if self._baseline is None else MEMORY * self._baseline + (1 - MEMORY) * told
        mean, spread = self._baseline
        advantages = torch.tensor((worth - mean) / (spread + 1e-12), dtype=torch.float32)[:, None]
        with torch.no_grad():
            before = self._controller.believe(rows).chosen
        for _ in range(STEPS):
            now = self._controller.believe(rows)
            ratio = (now.chosen - before).exp()
            gain = torch.minimum(ratio * advantages, ratio.clamp(1 - CLIP, 1 + CLIP) * advantages)
            self._optimizer.zero_grad()
            (-gain.mean() - ENTROPY * now.entropy.mean()).backward()
            self._optimizer.step()
