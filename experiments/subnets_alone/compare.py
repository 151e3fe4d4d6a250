"""Sets subnets trained alone beside the same subnets of the shipped supernet, on the test split.

python experiments/subnets_alone/compare.py OUT      # OUT as train_alone.py wrote it
"""

import json
import sys
from pathlib import Path

import numpy as np

from search_spaces import Candidate
from supernets import Supernet, calibrated_subnet, evaluate_accuracy, get_supernet, prepare
from supernets.datasets import Splits, load_splits


def test_accuracy(supernet: Supernet, candidate: Candidate, splits: Splits) -> float:
    """Return the test accuracy of a candidate cut out of the supernet, batch norms recalibrated."""
    subnet = calibrated_subnet(supernet, candidate, splits.calibration)
    images = prepare(splits.test.images, candidate.resolution, supernet.info)
    return evaluate_accuracy(subnet, images, splits.test.labels, batch_size=100)


def main() -> None:
    """Print a Markdown table."""
    supernet = get_supernet("fashion-mbv3")
    space = supernet.space
    splits = load_splits(size=max(space.resolutions), channels=supernet.channels)
    print("| subnet | pixels | alone, epochs | alone | in the supernet |\n|---|---|---|---|---|")
    pairs = []
    for path in sorted(Path(sys.argv[1]).glob("*.json")):
        alone = json.loads(path.read_text())
        candidate = Candidate.from_dict(alone["candidate"])
        pairs.append((alone["test"], test_accuracy(supernet, candidate, splits)))
        figures = " | ".join(f"{100 * accuracy:.2f} %" for accuracy in pairs[-1])
        print(f"| `{candidate.id}` | {candidate.resolution} | {alone['epochs']} | {figures} |")
    print("| mean | | | " + " | ".join(f"{100 * accuracy:.2f} %" for accuracy in np.mean(pairs, axis=0)) + " |")
    for name, row in (("largest", space.largest()), ("smallest", space.smallest())):
        candidate = space.candidate(row)
        print(f"| {name} | {candidate.resolution} | | | {100 * test_accuracy(supernet, candidate, splits):.2f} % |")


if __name__ == "__main__":
    main()
