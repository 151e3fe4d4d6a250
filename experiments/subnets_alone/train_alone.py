"""Random subnets trained alone from scratch for the full network's epochs, to compare with the supernet's.

    python experiments/subnets_alone/train_alone.py OUT [--device cuda] [--batch-size 1024] [--subnet 3]

Writes OUT/<number>.json a subnet; those that are there are not trained again, and one whose training was killed goes on
from its checkpoint in OUT/<number>. ``--subnet`` trains one only, so that several can run at once.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from nas.files import write_bytes
from search_spaces import get_space, preset_path, read_preset
from supernets import calibrated_subnet, evaluate_accuracy, prepare
from supernets.datasets import load_splits
from supernets.training import read_plan, train

SPACE, SUBNETS, SEED = "fashion-mbv3", 8, 2026


def main() -> None:
    """Train the subnets one after another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--subnet", type=int, choices=range(SUBNETS))
    options = parser.parse_args()
    preset, table = read_preset(preset_path(SPACE))
    plan = read_plan(table, preset, SPACE).with_batch_size(options.batch_size)
    plan = replace(plan, stages=plan.stages[:1])
    space = get_space(SPACE, precisions=("fp32",))
    splits = load_splits(size=max(preset.resolutions), channels=preset.channels, need_train=True)
    for number, row in enumerate(space.sample(SUBNETS, np.random.default_rng(SEED))):
        path = options.out / f"{number}.json"
        if path.exists() or options.subnet not in (None, number):
            continue
        candidate = space.candidate(row)
        run = options.out / str(number)
        supernet = train(space, splits, run, plan=plan, seed=number, device=options.device, only=candidate)
        subnet = calibrated_subnet(supernet, candidate, splits.calibration)
        device = next(subnet.parameters()).device
        scores = {
            name: evaluate_accuracy(
                subnet, prepare(part.images.to(device), candidate.resolution, supernet.info), part.labels
            )
            for name, part in (("validation", splits.validation), ("test", splits.test))
        }
        result = {"id": candidate.id, "candidate": candidate.to_dict(), "epochs": plan.stages[0].epochs, **scores}
        write_bytes(path, json.dumps(result).encode())
        print(candidate.id, scores, flush=True)


if __name__ == "__main__":
    main()
