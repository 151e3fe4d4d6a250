"""Latency-driven slimming against uniform scaling, both cut out of one supernet; see README.md.

    python experiments/search/slimming/run.py OUT [--device cpu] [--seeds 3] [--steps 500]

Each network is a file in OUT: what is there is not made again. At the end come a table and OUT/results.csv.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from latency_tables import get_device
from latency_tables.costs import Images
from latency_tables.network_costs import NetworkCosts
from nas.export.scoring import beside, calibrated, load_accuracy_predictor
from nas.files import read_json, write_csv, write_json
from nas.search import Problem
from nas.search.problem import Genes, Scores
from nas.search.slimming import Slimming
from nas.search.training import TRAINED, SupernetTraining
from search_spaces import Block, Candidate, MBConvSpace, get_space
from supernets import calibrated_subnet, evaluate_accuracy, get_supernet, prepare, supernet_folder
from supernets.datasets import Splits, load_splits

SPACE = "fashion-mbv3"
SCHEMA = ("hwnas slimming experiment", 1)
SHARES = (0.15, 0.25, 0.35, 0.5, 0.7)  # of the largest network's cost
BUDGET = 1000


@dataclass(frozen=True)
class Setting:
    """What every part of the experiment has in common; see the options."""

    out: Path
    device: str | None
    steps: int
    splits: Splits

    @cached_property
    def space(self) -> MBConvSpace:
        """The space, in fp32."""
        found = get_space(SPACE, precisions=("fp32",))
        assert isinstance(found, MBConvSpace)
        return found

    @cached_property
    def predictors(self) -> tuple[Any, Any]:
        """Of the accuracy, and of the latency if there is a device."""
        supernet = get_supernet(SPACE)
        accuracy = load_accuracy_predictor(beside(supernet_folder(SPACE)), self.space, supernet)
        if self.device is None:
            return accuracy, None
        return accuracy, calibrated(get_device(self.device), self.space, supernet, fresh=False).predictor

    def score(self, genes: Genes) -> Scores:
        """Return predicted accuracy, and as ``latency_ms`` milliseconds, or millions of multiply-adds."""
        accuracy, latency = self.predictors
        if latency is None:
            counted = NetworkCosts(self.space, Images(self.splits.channels, len(self.splits.classes)))
            cost = counted.predict(genes, "macs_m")
        else:
            cost = np.asarray(latency.predict(genes).mean, np.float64)
        return {"accuracy": np.asarray(accuracy.predict(genes).mean, np.float64), "latency_ms": cost}


def slimmed(setting: Setting, limit: float, seed: int) -> Candidate:
    """Return the network of the greatest predicted accuracy within a limit that slimming looked at on its way."""
    assert setting.splits.train is not None
    training = SupernetTraining(
        get_supernet(SPACE), setting.space, setting.splits.train, setting.splits.validation, setting.score,
        replace(TRAINED, steps=setting.steps),
    )  # fmt: skip
    limits = {"latency_ms": (None, limit)}
    problem = Problem(setting.space, {"accuracy": "max"}, limits, setting.score, training=training)
    strategy = Slimming(problem, BUDGET, np.random.default_rng(seed))
    best, top = strategy.ask(1), -np.inf
    strategy.tell(best, problem.score(best))
    while not strategy.finished:
        genes = strategy.ask(BUDGET)
        scores = problem.score(genes)
        strategy.tell(genes, scores)
        within = np.where(scores["latency_ms"] <= limit, scores["accuracy"], -np.inf)
        if within.max() > top:
            best, top = genes[[int(within.argmax())]], within.max()
    return setting.space.candidate(best[0])


def uniform(space: MBConvSpace, *, width_alone: bool) -> Iterator[Candidate]:
    """Yield the networks whose blocks are all alike and whose stages are all at the same place of their depths."""
    preset = space.preset
    places = range(min(len(stage.depths) for stage in preset.stages))
    menus = places, preset.kernels, space.resolutions
    largest = [menu[-1:] for menu in menus]
    for place, kernel, side, expand, keep in product(
        *(largest if width_alone else menus), preset.expands, preset.keeps
    ):
        block = Block(kernel, expand, keep, "fp32")
        blocks = tuple(
            tuple(block if index < stage.depths[place] else None for index in range(max(stage.depths)))
            for stage in preset.stages
        )
        yield Candidate(space.name, side, "fp32", blocks, "fp32")


def scaled(setting: Setting, limit: float, *, width_alone: bool) -> Candidate | None:
    """Return the uniform network of the greatest predicted accuracy within a limit; None if none is within it."""
    every = np.array([setting.space.genes(one) for one in uniform(setting.space, width_alone=width_alone)])
    scores = setting.score(every)
    within = scores["latency_ms"] <= limit
    best = int(np.where(within, scores["accuracy"], -np.inf).argmax())
    return setting.space.candidate(every[best]) if within.any() else None


def measured(setting: Setting, how: str, candidate: Candidate) -> dict[str, Any]:
    """Return what a network costs, and its accuracy on test images as it is cut out of the supernet."""
    supernet, test = get_supernet(SPACE), setting.splits.test
    subnet = calibrated_subnet(supernet, candidate, setting.splits.calibration)
    accuracy = evaluate_accuracy(subnet, prepare(test.images, candidate.resolution, supernet.info), test.labels)
    cost = float(setting.score(setting.space.genes(candidate)[None])["latency_ms"][0])
    return {"by": how, "id": candidate.id, "cost": cost, "accuracy": accuracy}


def results(setting: Setting, seeds: int) -> list[dict[str, Any]]:
    """Return a row a network, from OUT where it is there."""
    rows = []
    whole = float(setting.score(setting.space.largest()[None])["latency_ms"][0])
    ways = [f"slimming-{seed}" for seed in range(seeds)] + ["width", "uniform"]
    for share, how in product(SHARES, ways):
        path = setting.out / f"{how}-{share:g}.json"
        if not path.exists():
            limit = share * whole
            if how.startswith("slimming"):
                candidate: Candidate | None = slimmed(setting, limit, int(how.partition("-")[2]))
            else:
                candidate = scaled(setting, limit, width_alone=how == "width")
            row = None if candidate is None else measured(setting, how, candidate)
            write_json(path, *SCHEMA, {"row": row})
            print(share, row, flush=True)
        row = read_json(path, *SCHEMA)["row"]
        if row is not None:
            rows.append({"share": share, **row})
    return rows


def report(rows: Sequence[dict[str, Any]], out: Path) -> None:
    """Write OUT/results.csv and print a table: a line a limit, test accuracy by each way."""
    write_csv(out / "results.csv", tuple(rows[0]), [tuple(map(str, row.values())) for row in rows])
    print(
        "| share of the largest's cost | slimming, mean | each seed | width alone | all alike |\n|---|---|---|---|---|"
    )
    for share in SHARES:
        found = {row["by"]: 100 * row["accuracy"] for row in rows if row["share"] == share}
        slim = [value for how, value in found.items() if how.startswith("slimming")]
        others = " | ".join(f"{found[how]:.2f}" if how in found else "none" for how in ("width", "uniform"))
        print(f"| {share:g} | {np.mean(slim):.2f} | {', '.join(f'{value:.2f}' for value in slim)} | {others} |")


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and run what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--device", help="whose latency is the cost; without it, multiply-adds are")
    parser.add_argument("--steps", type=int, default=TRAINED.steps, help="a fifth of which give blocks importances")
    parser.add_argument("--data")
    options = parser.parse_args(arguments)
    preset = get_space(SPACE).preset
    splits = load_splits(options.data, size=max(preset.resolutions), channels=preset.channels, need_train=True)
    options.out.mkdir(parents=True, exist_ok=True)
    report(results(Setting(options.out, options.device, options.steps, splits), options.seeds), options.out)


if __name__ == "__main__":
    main()
