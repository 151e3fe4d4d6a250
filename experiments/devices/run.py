"""Searched for A, run on B: what a network costs on a device that it was not searched for. See README.md.

    python experiments/devices/run.py OUT --write     # four runtimes of this machine; about an hour
    python experiments/devices/run.py OUT --devices cpu,openvino --rounds 2 --budget 20000

What is in OUT is neither searched nor measured again: the same command goes on where it was stopped. Writes
OUT/result.json, OUT/matrix.md and OUT/matrix.png; --write copies them beside this file. Devices are calibrated, or
known from the cache, as by `nas search`.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from devices_report import SCHEMA, SCHEMA_VERSION, write_report

from latency_tables import FULL, Device, MeasuringPlan, get_device
from nas.defaults import BUDGET, SPACE
from nas.errors import UsageError, VerificationError
from nas.export import Progress, SearchJob
from nas.export.accuracy import count_correct
from nas.export.finalists import build_all
from nas.export.one_for_all import FleetScorer
from nas.export.pipeline import Clock, Setting, common_space, find_front, load_scorer, read_images
from nas.export.scoring import open_supernet
from nas.files import read_bytes, read_json, write_bytes, write_json
from nas.search import Problem, Scored, search
from search_spaces import Candidate, SearchSpace
from supernets import Supernet

DEVICES = ("cpu", "openvino", "browser", "torch")
SHARES = (0.5, 0.75, 0.95)  # of the way from the least accurate to the most accurate network of all fronts
FILES = ("result.json", "matrix.md", "matrix.png")
SHARED = "one for all"
Chosen = dict[str, dict[str, Candidate]]  # by level, then by the device searched for


class Experiment:
    """Devices, a supernet, and a folder in which every finished step leaves a file.

    Args:
        out: The folder.
        devices: The devices.
        supernet: A shipped supernet's name or a path.
        data: Its images, as of ``nas search``.
        budget: Candidates that each search scores.
        plan: The measuring protocol's numbers.
    """

    def __init__(
        self,
        out: Path,
        devices: Sequence[Device],
        *,
        supernet: str,
        data: str | None = None,
        budget: int = BUDGET,
        plan: MeasuringPlan = FULL,
    ) -> None:
        self.out, self.devices, self.plan = out, {device.name: device for device in devices}, plan
        self.supernet: Supernet = open_supernet(supernet)
        self.progress = Progress(note=lambda line: print(line, file=sys.stderr, flush=True))
        job = SearchJob(devices[0], out, supernet=supernet, data=data, budget=budget)
        self.jobs = {name: replace(job, device=device) for name, device in self.devices.items()}
        self.splits = read_images(job, self.supernet, self.progress)
        devices_now = {name: device.fingerprint for name, device in self.devices.items()}
        self.asked = {"devices": devices_now, "supernet": supernet, "data": data, "budget": budget}

    def chosen(self) -> dict[str, Chosen]:
        """Return, by the device run on, for each level of accuracy, the fastest network of each device's front.

        What is searched for one device and run on another is of the precisions that both execute; the one for all, of
        those that every device does.
        """
        path = self.out / "chosen.json"
        if not path.exists():
            content = {"asked": self.asked, "networks": self._searched()}
            write_json(path, SCHEMA, SCHEMA_VERSION, content)
        content = read_json(path, SCHEMA, SCHEMA_VERSION)
        if content["asked"] != self.asked:
            raise UsageError(f"{path}: of {content['asked']}, not of {self.asked}; name another folder")
        return {
            run_on: {
                level: {name: Candidate.from_dict(one) for name, one in found.items()}
                for level, found in levels.items()
            }
            for run_on, levels in content["networks"].items()
        }

    def _searched(self) -> dict[str, Any]:
        """Search every device in its own menu and in those that it shares, and return what ``chosen`` keeps."""
        menus = {
            (a, b): common_space(self.supernet, [self.devices[a], self.devices[b]])
            for a in self.jobs
            for b in self.jobs
        }
        fronts: dict[tuple[str, tuple[str, ...]], tuple[SearchSpace, Scored]] = {}
        for (name, _), space in menus.items():
            key = (name, tuple(sorted(space.precisions)))
            if key not in fronts:
                fronts[key] = space, self._front(self._setting(self.jobs[name], space))
        low = max(front.scores["accuracy"].min() for _, front in fronts.values())
        top = min(front.scores["accuracy"].max() for _, front in fronts.values())
        whole = common_space(self.supernet, list(self.devices.values()))
        shared = {name: self._setting(job, whole) for name, job in self.jobs.items()}
        found: dict[str, Any] = {name: {} for name in self.jobs}
        for level in (low + share * (top - low) for share in SHARES):
            fastest = {key: (space, _fastest(front, level)) for key, (space, front) in fronts.items()}
            chosen = {pair: fastest[pair[0], tuple(sorted(space.precisions))] for pair, space in menus.items()}
            own_ms = {name: float(chosen[name, name][1].scores["latency_ms"][0]) for name in self.jobs}
            for_all = one_for_all(shared, own_ms, level).to_dict()
            for run_on, levels in found.items():
                own = {name: chosen[name, run_on] for name in self.jobs}
                networks = {name: space.candidate(one.genes[0]).to_dict() for name, (space, one) in own.items()}
                levels[f"{100 * level:.2f}"] = {**networks, SHARED: for_all}
        return found

    def _setting(self, job: SearchJob, space: SearchSpace) -> Setting:
        scorer = load_scorer(job, space, self.supernet, self.progress)
        return Setting(job, self.supernet, self.splits, space, scorer, Clock())

    def _front(self, setting: Setting) -> Scored:
        problem = replace(setting.job.goal.problem(setting.space), evaluate=setting.scores)
        return find_front(setting.job, problem, self.progress).front

    def built(self, name: str, candidates: Sequence[Candidate]) -> dict[str, dict[str, Any]]:
        """Return the accuracy of every network as exported for a device, by id; the files lie beside it."""
        folder = self.out / "models" / name
        if not (folder / "built.json").exists():
            device = self.devices[name]
            made, failed = build_all(
                candidates, supernet=self.supernet, splits=self.splits, device=device, progress=self.progress
            )
            if failed:
                key, reason = next(iter(failed.items()))
                raise VerificationError(f"network {key} on {name}: {reason}")
            files = {key: one.model.SerializeToString() for key, one in made.items()}
            pixels = {one.id: one.resolution for one in candidates}
            jobs = {key: (device.session(model), pixels[key]) for key, model in files.items()}
            correct = count_correct(jobs, self.splits.validation, self.supernet.info, self.progress.part("validate"))
            folder.mkdir(parents=True, exist_ok=True)
            for key, model in files.items():
                write_bytes(folder / f"{key}.onnx", model)
            found = {key: {"accuracy": float(right.mean())} for key, right in correct.items()}
            self._write(folder / "built.json", name, found)
        return self._read(folder / "built.json", name)

    def _write(self, path: Path, name: str, networks: Mapping[str, Any]) -> None:
        """Write what was found of networks on a device, with its fingerprint."""
        content = {"fingerprint": self.devices[name].fingerprint, "networks": networks}
        write_json(path, SCHEMA, SCHEMA_VERSION, content)

    def _read(self, path: Path, name: str) -> dict[str, Any]:
        """Read that, unless it is of another machine or runtime."""
        content = read_json(path, SCHEMA, SCHEMA_VERSION)
        self.devices[name].must_be(content["fingerprint"], path)
        return dict(content["networks"])

    def measured(self, name: str, number: int, keys: Sequence[str]) -> dict[str, Any]:
        """Return one round of a device: the measurements of its networks, interleaved, by id."""
        path = self.out / "rounds" / f"{number}-{name}.json"
        if not path.exists():
            models = {key: read_bytes(self.out / "models" / name / f"{key}.onnx") for key in keys}
            found = self.devices[name].measure_many(models, plan=self.plan, seed=number)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._write(path, name, {key: one.to_dict() for key, one in found.items()})
            self.progress.note(f"round {number} on {name} measured")
        return self._read(path, name)

    def run(self, rounds: int) -> None:
        """Search, build, measure round by round with the devices taking turns, and report."""
        chosen = self.chosen()
        built = {
            name: self.built(name, list({one.id: one for found in own.values() for one in found.values()}.values()))
            for name, own in chosen.items()
        }
        measured: dict[str, list[dict[str, Any]]] = {name: [] for name in self.devices}
        for number in range(rounds):
            for name in self.devices:
                measured[name].append(self.measured(name, number, list(built[name])))
        ids = {
            name: {level: {a: one.id for a, one in found.items()} for level, found in own.items()}
            for name, own in chosen.items()
        }
        described = {name: device.describe() for name, device in self.devices.items()}
        write_report(self.out, described, ids, built, measured)


def _fastest(front: Scored, level: float) -> Scored:
    """Return the fastest network of a front that reaches a level; one row."""
    latency = np.where(front.scores["accuracy"] >= level, front.scores["latency_ms"], np.inf)
    return front.take(np.array([int(latency.argmin())]))


def one_for_all(settings: Mapping[str, Setting], own_ms: Mapping[str, float], level: float) -> Candidate:
    """Return the network of a level whose largest ratio, over devices, to the device's ``own_ms`` is least.

    Args:
        settings: By device, all of one space.
        own_ms: Predicted milliseconds of the network of that level that was searched for the device itself.
        level: Predicted accuracy, a fraction.
    """
    first = next(iter(settings.values()))
    latencies = {name: setting.scorer.latency for name, setting in settings.items()}
    scorer = FleetScorer(first.scorer.accuracy, latencies, own_ms)
    objectives = {"latency_ratio": "min", "accuracy": "max"}
    problem = Problem(first.space, objectives, {"accuracy": (level, None)}, scorer.score)
    return first.space.candidate(search(problem, budget=first.job.budget, seed=first.job.seed).best().genes)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and do it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="where everything is kept")
    parser.add_argument("--devices", type=lambda text: text.split(","), default=DEVICES)
    parser.add_argument("--supernet", default=SPACE)
    parser.add_argument("--data")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--budget", type=int, default=BUDGET, help="candidates that each search scores")
    parser.add_argument("--write", action="store_true", help="keep the report beside this file")
    options = parser.parse_args(arguments)
    devices = [get_device(name) for name in options.devices]
    options.out.mkdir(parents=True, exist_ok=True)
    experiment = Experiment(options.out, devices, supernet=options.supernet, data=options.data, budget=options.budget)
    experiment.run(options.rounds)
    for name in FILES if options.write else ():
        write_bytes(Path(__file__).with_name(name), (options.out / name).read_bytes())


if __name__ == "__main__":
    main()
