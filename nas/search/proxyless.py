"""ProxylessNAS (Cai, Zhu and Han, 2019): one network for one latency, found while the weights are trained.

Every choice between paths has a softmax. A step of the weights draws one path a choice and trains it on training
images. A step of the architecture, on held-out images, moves the softmaxes by one of the paper's two rules:

- *gradient*: two paths a choice are drawn, one of them open. The loss is differentiated by the two binary gates, whose
  gradient stands for that of the probabilities; afterwards the two are rescaled, so that together they are as probable
  as before. The expected latency is differentiated as it is.
- *REINFORCE*: some networks are drawn and judged on the same images; the log probability of each is raised by how much
  better than their mean it is.

The choices are independent, so the expected latency is linear in the probabilities of each: the coefficient of an
option is the mean latency of networks with it, the other choices as drawn. Under an additive latency table that is the
table's entry and what the options have in common; a predictor that corrects its table is followed as well.

Departures. The paper's loss adds the latency times a factor, or multiplies by its power, and the factor is tuned until
the latency is the one that is wanted; here the size of the log of its ratio to that latency is added, so that both
rules aim at it from either side. The architecture's learning rate is larger and its steps are fewer. The baseline of
REINFORCE is the mean of the draws, not a moving one. The paths share the weights of a supernet
(``supernets/paths.py``), trained already or not; the warm-up, on paths drawn evenly, is for one that is not.

What is asked for are draws from the softmaxes as training goes on, the most probable network before them. A resumed
search trains again.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas.search.cost import Cost, cost_of
from nas.search.offspring import unseen_mutants
from nas.search.problem import Genes, Problem
from nas.search.training import Paths, training_of
from nas.search.unique import Seen
from supernets.paths import Gate

ROUNDS = 32  # of proposals, from the end of the warm-up to that of the training
RATE = 0.02  # of the architecture, by Adam without momentum
BETAS = (0.0, 0.999)
MOMENTUM, WEIGHT_DECAY = 0.9, 1e-4
STRENGTH = 0.5  # of the distance to the latency wanted, beside the cross-entropy
REWARD_STRENGTH = 0.1  # likewise, beside the accuracy
DRAWS = 16  # networks whose latencies are the coefficients of the expected latency
DERIVED_DRAWS, MOST_CHANGES = 1024, 100  # on the way to the network that is derived
WINDOW = 0.05  # how far below the cost wanted its own may be
JUDGED = 8  # networks that REINFORCE judges in a step


class Proxyless:
    """Ask and tell; the scores that it is told teach it nothing. The rule is the gradient's."""

    name = "proxyless"

    def __init__(self, problem: Problem, budget: int, rng: np.random.Generator):
        self._space, self._budget, self._rng = problem.space, budget, rng
        self._paths: Paths = training_of(problem, self.name).paths()
        self._cost = cost_of(problem, self._paths.costs, rng)
        self._alphas = [torch.zeros(count) for count in self._paths.counts]
        self._optimizer = torch.optim.Adam(self._alphas, RATE, betas=BETAS)
        self._weights = torch.optim.SGD(
            self._paths.parameters(), self._paths.schedule.learning_rate, MOMENTUM, weight_decay=WEIGHT_DECAY,
            nesterov=True,
        )  # fmt: skip
        schedule = self._paths.schedule
        self._cosine = torch.optim.lr_scheduler.CosineAnnealingLR(
            self._weights, max(1, schedule.warmup + schedule.steps)
        )
        self._asked, self._steps = 0, 0
        self._seen = Seen()

    def ask(self, n: int) -> Genes:
        wanted = min(n, max(1, self._budget // ROUNDS))
        schedule = self._paths.schedule
        self._train(schedule.warmup + round(schedule.steps * min(1, (self._asked + wanted) / self._budget)))
        rows = np.concatenate([self.derived()[None], self._paths.genes(self._draw(wanted))])
        found = self._seen.claim(rows, wanted)
        if len(found) < wanted:
            more = unseen_mutants(self._space, self._seen, rows, wanted - len(found), self._rng)
            found = np.concatenate([found, more])
        self._asked += len(found)
        return found

    def tell(self, genes: Genes, scores: Mapping[str, NDArray[np.float64]]) -> None:
        pass

    def derived(self) -> Genes:
        """Return the network that the softmaxes have come to, ``(num_genes,)``.

        Without a cost that of the most probable paths. With one, the most probable draw whose cost is just below the
        one wanted (``WINDOW``), then single changes that make it more probable and keep it there.
        """
        logs = [np.log(p) for p in self.probabilities()]
        if self._cost is None:
            return self._paths.genes(np.array([[int(values.argmax()) for values in logs]]))[0]
        picks = self._draw(DERIVED_DRAWS)
        best = picks[self._most_probable(picks, logs)]
        for _ in range(MOST_CHANGES):
            near = np.concatenate([best[None], _changed(best[None], self._paths.counts)[:, 0]])
            better = near[self._most_probable(near, logs)]
            if (better == best).all():
                break
            best = better
        return self._paths.genes(best[None])[0]

    def _most_probable(self, picks: NDArray[np.intp], logs: Sequence[NDArray[np.float64]]) -> int:
        """Return which of options ``(n, choices)`` is the most probable at the cost wanted, or else the nearest to it.

        The first of equals.
        """
        assert self._cost is not None
        ratio = self._cost.of(self._paths.genes(picks)) / self._cost.target
        there = (ratio > 1 - WINDOW) & (ratio <= 1)
        if not there.any():
            return int(np.where(ratio <= 1, 1 - ratio, ratio).argmin())
        return int(np.where(there, _log_probability(picks, logs), -np.inf).argmax())

    def probabilities(self) -> list[NDArray[np.float64]]:
        """Return the probabilities of each choice's options."""
        return [alpha.double().softmax(0).numpy() for alpha in self._alphas]

    def _draw(self, n: int) -> NDArray[np.intp]:
        """Draw options ``(n, choices)`` from the softmaxes."""
        return np.stack([self._rng.choice(len(p), size=n, p=p) for p in self.probabilities()], axis=1)

    def _train(self, until: int) -> None:
        """Train up to a number of steps of the weights."""
        schedule = self._paths.schedule
        while self._steps < until:
            warming = self._steps < schedule.warmup
            picks = self._rng.integers(self._paths.counts) if warming else self._draw(1)[0]
            loss, _ = self._paths.loss(_open(picks), self._rng, held_out=False)
            self._weights.zero_grad(set_to_none=True)
            loss.backward()
            self._weights.step()
            self._cosine.step()
            self._steps += 1
            if not warming and (self._steps - schedule.warmup) % schedule.every == 0:
                self._step_architecture()

    def _step_architecture(self) -> None:
        pairs = [self._pair(alpha) for alpha in self._alphas]
        before = [alpha[pair].logsumexp(0) for alpha, pair in zip(self._alphas, pairs, strict=True)]
        for alpha, gradient, dear in zip(self._alphas, self._gate_gradients(pairs), self._dear(), strict=True):
            alpha.grad = gradient + dear
        self._optimizer.step()
        for alpha, pair, total in zip(self._alphas, pairs, before, strict=True):
            alpha[pair] += total - alpha[pair].logsumexp(0)

    def _pair(self, alpha: Tensor) -> Tensor:
        """Draw two options of a choice, or its only one."""
        probabilities = alpha.double().softmax(0).numpy()
        drawn = self._rng.choice(len(alpha), size=min(2, len(alpha)), replace=False, p=probabilities)
        return torch.from_numpy(drawn)

    def _gate_gradients(self, pairs: Sequence[Tensor]) -> list[Tensor]:
        """Return the gradient of the loss by each alpha through the gates of two paths."""
        gates, shares = [], []
        for alpha, pair in zip(self._alphas, pairs, strict=True):
            shares.append(alpha[pair].softmax(0))
            opened = self._rng.random() >= float(shares[-1][0])
            gates.append(torch.eye(len(pair))[int(opened)].requires_grad_())
        named = [dict(zip(pair.tolist(), gate, strict=True)) for pair, gate in zip(pairs, gates, strict=True)]
        loss, _ = self._paths.loss(named, self._rng, held_out=True)
        found = torch.autograd.grad(loss, gates, allow_unused=True)
        results = []
        for alpha, pair, share, by_gate in zip(self._alphas, pairs, shares, found, strict=True):
            gradient = torch.zeros_like(alpha)
            if by_gate is not None:  # the paths of blocks that no drawn depth has are not run
                gradient[pair] = share * (by_gate - (share * by_gate).sum())
            results.append(gradient)
        return results

    def _dear(self) -> list[Tensor]:
        """Return the gradient of the expected latency's penalty by each alpha."""
        if self._cost is None:
            return [torch.zeros_like(alpha) for alpha in self._alphas]
        mean, coefficients = expected_cost(self._cost, self._paths, self._draw(DRAWS))
        slope = STRENGTH * self._cost.slope(mean)
        results = []
        for alpha, by_option in zip(self._alphas, coefficients, strict=True):
            p, values = alpha.softmax(0), torch.from_numpy(by_option).to(alpha)
            results.append(slope * p * (values - (p * values).sum()))
        return results


class ProxylessReinforce(Proxyless):
    """The same by the rule of REINFORCE."""

    name = "proxyless:reinforce"

    @torch.no_grad()
    def _step_architecture(self) -> None:
        picks = self._draw(JUDGED)
        seed = int(self._rng.integers(2**62))
        rewards = np.array(
            [self._paths.loss(_open(one), np.random.default_rng(seed), held_out=True)[1] for one in picks]
        )
        if self._cost is not None:
            rewards -= REWARD_STRENGTH * self._cost.distance(self._cost.of(self._paths.genes(picks)))
        advantages = torch.from_numpy(rewards - rewards.mean()).float()
        for alpha, options in zip(self._alphas, picks.T, strict=True):
            chosen = torch.nn.functional.one_hot(torch.from_numpy(options), len(alpha)).float()
            alpha.grad = -(advantages[:, None] * (chosen - alpha.softmax(0))).mean(0)
        self._optimizer.step()


def expected_cost(cost: Cost, paths: Paths, picks: NDArray[np.intp]) -> tuple[float, list[NDArray[np.float64]]]:
    """Return the mean cost of drawn networks, and its coefficients at the probabilities of each choice's options.

    Args:
        cost: What to expect.
        paths: Spell networks.
        picks: Draws, ``(n, choices)``.
    """
    mean = float(cost.of(paths.genes(picks)).mean())
    changed = _changed(picks, paths.counts)
    means = cost.of(paths.genes(changed.reshape(-1, picks.shape[1]))).reshape(changed.shape[:2]).mean(axis=1)
    return mean, np.split(means, np.cumsum(paths.counts)[:-1])


def _changed(picks: NDArray[np.intp], counts: Sequence[int]) -> NDArray[np.intp]:
    """Return ``(n, choices)`` with each option of each choice in turn, ``(options of all choices, n, choices)``."""
    places = [(choice, option) for choice, count in enumerate(counts) for option in range(count)]
    changed = np.repeat(picks[None], len(places), axis=0)
    for row, (choice, option) in enumerate(places):
        changed[row, :, choice] = option
    return changed


def _log_probability(picks: NDArray[np.intp], logs: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the log probability of options ``(n, choices)``, ``(n,)``."""
    return np.sum([values[options] for values, options in zip(logs, picks.T, strict=True)], axis=0)


def _open(picks: NDArray[np.integer]) -> list[Gate]:
    """Return the gates of one network: one path a choice."""
    return [{int(option): 1.0} for option in picks]
