"""ProxylessNAS's network against random ones of equal cost, all trained alone; see README.md.

    python experiments/search/proxyless/run.py OUT [--seeds 3] [--device cpu] [--epochs-scale X] [--from-scratch]

Each network found and each accuracy is a file in OUT: what is there is not made again, and a killed training goes on
from its checkpoint. At the end come a table and OUT/results.csv.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from latency_tables import get_device
from latency_tables.costs import Images
from latency_tables.network_costs import NetworkCosts
from nas.export.scoring import calibrated
from nas.files import read_json, write_csv, write_json
from nas.search import Problem, get_strategy
from nas.search.problem import Genes, Scores
from nas.search.proxyless import Proxyless
from nas.search.training import SCRATCH, TRAINED, SupernetTraining
from search_spaces import Candidate, MBConvSpace, get_space, preset_path, read_preset
from supernets import calibrated_subnet, evaluate_accuracy, get_supernet, make_supernet, prepare
from supernets.datasets import Splits, load_splits
from supernets.training import read_plan, train

SPACE = "fashion-mbv3"
SCHEMA = ("hwnas proxyless experiment", 1)
RULES = {"gradient": "proxyless", "reinforce": "proxyless:reinforce"}
RANDOM = "random"
NEAR = 0.02  # how far the cost of a random network may be from that of the one found
ROUNDS, DRAWS = 32, 20_000


@dataclass(frozen=True)
class Setting:
    """What every part of the experiment has in common; see the options."""

    out: Path
    space: MBConvSpace
    splits: Splits
    device: str | None
    share: float
    steps: int | None
    from_scratch: bool
    epochs_scale: float
    batch_size: int | None
    train_device: str

    def costs(self, genes: Genes) -> Scores:
        """Return the cost of rows as ``latency_ms``: milliseconds on the device, or millions of multiply-adds."""
        if self.device is None:
            counted = NetworkCosts(self.space, Images(self.splits.channels, len(self.splits.classes)))
            return {"latency_ms": counted.predict(genes, "macs_m")}
        found = calibrated(get_device(self.device), self.space, get_supernet(SPACE), fresh=False)
        return {"latency_ms": np.asarray(found.predictor.predict(genes).mean, np.float64)}

    def limit(self) -> float:
        """Return the cost that is wanted: a quantile of random networks'."""
        return float(
            np.quantile(self.costs(self.space.sample(2000, np.random.default_rng(0)))["latency_ms"], self.share)
        )


def find(setting: Setting, rule: str, seed: int) -> Candidate:
    """Return the network that a rule comes to, from OUT if it is there."""
    path = setting.out / f"found-{rule}-{seed}.json"
    if path.exists():
        return Candidate.from_dict(read_json(path, *SCHEMA)["candidate"])
    supernet = get_supernet(SPACE)
    if setting.from_scratch:
        supernet = make_supernet(supernet.space, supernet.info, seed)
    schedule = SCRATCH if setting.from_scratch else TRAINED
    schedule = schedule if setting.steps is None else replace(schedule, steps=setting.steps)
    assert setting.splits.train is not None
    training = SupernetTraining(
        supernet, setting.space, setting.splits.train, setting.splits.validation, setting.costs, schedule
    )
    limits = {"latency_ms": (None, setting.limit())}
    problem = Problem(setting.space, {"accuracy": "max"}, limits, setting.costs, training=training)
    strategy = get_strategy(RULES[rule])(problem, ROUNDS, np.random.default_rng(seed))
    assert isinstance(strategy, Proxyless)
    for number in range(ROUNDS):
        strategy.ask(1)
        print(f"{rule} {seed}: {number + 1} of {ROUNDS}", flush=True)
    candidate = setting.space.candidate(strategy.derived())
    write_json(path, *SCHEMA, {"candidate": candidate.to_dict()})
    return candidate


def random_like(setting: Setting, candidate: Candidate, seed: int) -> Candidate:
    """Return a random network of the same cost."""
    cost = setting.costs(setting.space.genes(candidate)[None])["latency_ms"][0]
    rows = setting.space.sample(DRAWS, np.random.default_rng((2026, seed)))
    near = np.flatnonzero(np.abs(setting.costs(rows)["latency_ms"] / cost - 1) < NEAR)
    return setting.space.candidate(rows[near[0]])


def accuracy_alone(setting: Setting, candidate: Candidate, seed: int) -> float:
    """Return the test accuracy of a network trained alone by the plan of the full network's stage."""
    path = setting.out / f"alone-{candidate.id}-{seed}.json"
    if not path.exists():
        preset, table = read_preset(preset_path(SPACE))
        plan = read_plan(table, preset, SPACE).scaled(setting.epochs_scale)
        plan = replace(plan, stages=plan.stages[:1])
        plan = plan if setting.batch_size is None else plan.with_batch_size(setting.batch_size)
        out, splits = setting.out / f"alone-{candidate.id}-{seed}", setting.splits
        net = train(
            setting.space, splits, out, plan=plan, seed=seed, device=setting.train_device, only=candidate, report=_print
        )
        subnet = calibrated_subnet(net.cpu(), candidate, splits.calibration)
        images = prepare(splits.test.images, candidate.resolution, net.info)
        write_json(path, *SCHEMA, {"accuracy": evaluate_accuracy(subnet, images, splits.test.labels)})
    return float(read_json(path, *SCHEMA)["accuracy"])


def results(setting: Setting, seeds: int) -> list[dict[str, Any]]:
    """Return a row a network: how it was found, its cost and its accuracy."""
    rows = []
    for seed in range(seeds):
        found = {rule: find(setting, rule, seed) for rule in RULES}
        found[RANDOM] = random_like(setting, found["gradient"], seed)
        for how, candidate in found.items():
            cost = setting.costs(setting.space.genes(candidate)[None])["latency_ms"][0]
            accuracy = accuracy_alone(setting, candidate, seed)
            rows.append({"seed": seed, "found_by": how, "id": candidate.id, "cost": cost, "accuracy": accuracy})
    return rows


def report(rows: Sequence[dict[str, Any]], out: Path) -> None:
    """Write OUT/results.csv and print means and differences to the random networks."""
    write_csv(out / "results.csv", tuple(rows[0]), [tuple(map(str, row.values())) for row in rows])
    by = {how: np.array([row["accuracy"] for row in rows if row["found_by"] == how]) for how in (*RULES, RANDOM)}
    print("| found by | cost | test accuracy, % | points above random, each seed |\n|---|---|---|---|")
    for how, values in by.items():
        cost = np.mean([row["cost"] for row in rows if row["found_by"] == how])
        above = ", ".join(f"{100 * gain:+.2f}" for gain in values - by[RANDOM])
        print(f"| {how} | {cost:.3g} | {100 * values.mean():.2f} | {above} |")


def _print(line: dict[str, object]) -> None:
    if "epoch" in line:
        print(line, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and run what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--device", help="whose latency is the cost; without it, multiply-adds are")
    parser.add_argument("--share", type=float, default=0.2, help="quantile of random networks' costs that is wanted")
    parser.add_argument("--steps", type=int, help="of the search's training")
    parser.add_argument("--from-scratch", action="store_true")
    parser.add_argument("--epochs-scale", type=float, default=1.0)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--train-device", default="cpu")
    parser.add_argument("--data")
    options = vars(parser.parse_args(arguments))
    seeds, data = options.pop("seeds"), options.pop("data")
    space = get_space(SPACE, precisions=("fp32",))
    assert isinstance(space, MBConvSpace)
    splits = load_splits(data, size=max(space.resolutions), channels=space.preset.channels, need_train=True)
    options["out"].mkdir(parents=True, exist_ok=True)
    report(results(Setting(space=space, splits=splits, **options), seeds), options["out"])


if __name__ == "__main__":
    main()
