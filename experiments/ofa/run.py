"""Once-for-all's claims at the scale of Fashion-MNIST; see README.md.

    python experiments/ofa/run.py train METHOD SEED OUT [--device cuda] [--batch-size 1024] [--epochs-scale X]
    python experiments/ofa/run.py alone NUMBER OUT      [likewise]
    python experiments/ofa/run.py plans                 [likewise]    # prints what each method's training consists of
    python experiments/ofa/run.py report OUT            # keeps the results beside this file and prints the tables

``train`` and ``alone`` write OUT/<job>.json. What is there is not trained again, and a job that was killed goes on from
its checkpoint in OUT/<job> with the same command. Jobs of different names may run at once.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from plans import METHODS, alone_compute, alone_plan, compute, make_plans, subnet_images
from subnets import ALONE_PER_SIZE, SIZES, Chosen, Meter, choose, trained_alone
from tables import ALONE, SCHEMA, read_results, tables

from nas.files import write_bytes, write_json
from search_spaces import SearchSpace, get_space, preset_path, read_preset
from supernets.datasets import load_splits
from supernets.training import TrainingPlan, read_plan, train

SPACE = "fashion-mbv3"
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Setting:
    """What every job of the experiment has in common."""

    space_name: str
    data: str | None
    device: str
    batch_size: int | None
    epochs_scale: float
    cuda_graphs: bool

    @cached_property
    def space(self) -> SearchSpace:
        """The space, without precisions to choose."""
        return get_space(self.space_name, precisions=("fp32",))

    @cached_property
    def plan(self) -> TrainingPlan:
        """The preset's plan."""
        preset, table = read_preset(preset_path(self.space_name))
        plan = read_plan(table, preset, self.space_name).scaled(self.epochs_scale)
        return plan if self.batch_size is None else plan.with_batch_size(self.batch_size)


@dataclass(frozen=True)
class Job:
    """One training, and the subnets that are measured after it; by the method ``ALONE``, the one that is trained."""

    method: str
    seed: int
    plan: TrainingPlan
    compute: float
    subnets: Sequence[Chosen]

    @property
    def name(self) -> str:
        """``<method>-<seed>``."""
        return f"{self.method}-{self.seed}"

    def run(self, setting: Setting, out: Path) -> None:
        """Train, measure and write ``out``/<name>.json, unless it is there."""
        if (out / f"{self.name}.json").exists():
            return
        space, only = setting.space, self.subnets[0].candidate if self.method == ALONE else None
        splits = load_splits(setting.data, size=max(space.resolutions), channels=space.preset.channels, need_train=True)
        supernet = train(
            space, splits, out / self.name, plan=self.plan, seed=self.seed, device=setting.device, only=only,
            cuda_graphs=setting.cuda_graphs, report=_print,
        )  # fmt: skip
        content = {
            "method": self.method,
            "seed": self.seed,
            "data": splits.name,
            "plan": asdict(self.plan),
            "compute": self.compute,
            "subnets": Meter(splits, setting.device).measure(supernet, self.subnets),
        }
        write_json(out / f"{self.name}.json", *SCHEMA, content)


def supernet_job(setting: Setting, method: str, seed: int) -> Job:
    """Return the training of a supernet by a method."""
    plan = make_plans(setting.plan, setting.space)[method]
    return Job(method, seed, plan, compute(plan, setting.space), choose(setting.space))


def alone_job(setting: Setting, number: int) -> Job:
    """Return the training of one of the chosen subnets alone, from scratch."""
    one, plan = trained_alone(setting.space)[number], alone_plan(setting.plan)
    return Job(ALONE, number, plan, alone_compute(plan, setting.space, one.candidate), [one])


def report(out: Path) -> None:
    """Copy the results in ``out`` into ``RESULTS`` and print the tables of all that is there."""
    for path in sorted(out.glob("*.json")):
        if path.parent.resolve() != RESULTS.resolve():
            write_bytes(RESULTS / path.name, path.read_bytes())
    print(tables(read_results(RESULTS)))


def print_plans(setting: Setting) -> None:
    """Print a line a method: epochs of its stages, subnet-images and compute."""
    for method, plan in make_plans(setting.plan, setting.space).items():
        epochs = " + ".join(str(stage.epochs) for stage in plan.stages)
        figures = f"{subnet_images(plan)} subnet-images, {compute(plan, setting.space) / 1e6:.1f} M multiply-adds"
        print(f"{METHODS[method]}: epochs {epochs}; for each training image {figures}")


def _print(line: dict[str, object]) -> None:
    if "epoch" in line:
        print(line, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and do one job."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--space", default=SPACE)
    common.add_argument("--data")
    common.add_argument("--device", default="cpu")
    common.add_argument("--batch-size", type=int)
    common.add_argument("--epochs-scale", type=float, default=1.0)
    common.add_argument("--cuda-graphs", action="store_true")
    jobs = parser.add_subparsers(dest="job", required=True)
    training = jobs.add_parser("train", parents=[common])
    training.add_argument("method", choices=METHODS)
    training.add_argument("seed", type=int)
    training.add_argument("out", type=Path)
    alone = jobs.add_parser("alone", parents=[common])
    alone.add_argument("number", type=int, choices=range(len(SIZES) * ALONE_PER_SIZE))
    alone.add_argument("out", type=Path)
    jobs.add_parser("plans", parents=[common])
    jobs.add_parser("report").add_argument("out", type=Path)
    options = parser.parse_args(arguments)
    if options.job == "report":
        report(options.out)
        return
    setting = Setting(
        options.space, options.data, options.device, options.batch_size, options.epochs_scale, options.cuda_graphs
    )
    if options.job == "train":
        supernet_job(setting, options.method, options.seed).run(setting, options.out)
    elif options.job == "alone":
        alone_job(setting, options.number).run(setting, options.out)
    else:
        print_plans(setting)


if __name__ == "__main__":
    main()
