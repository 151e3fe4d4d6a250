"""Whether entropy ranks networks as training does: Spearman's correlation on published and on our own. See README.md.

    python experiments/search/entropy/run.py DATA [--train 30] [--epochs 5] [--images 10000] [--write]

DATA has the folders ``nasbench201``, ``naslib_zc``, ``ofa`` and, to train, ``cifar10``. ``--train`` trains so many
networks of ``cifar10-tinynas`` alone; each is a line of ``trained.csv``, and what is there is not trained again.
``--write`` puts the tables into README.md.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from alone import read_trained, train_alone
from cells import cell_entropy, read_proxies
from numpy.typing import NDArray
from scipy.stats import rankdata

from latency_tables.costs import Images
from latency_tables.network_costs import NetworkCosts
from nasbench import get_benchmark
from predictors.entropy import Entropy
from predictors.ofa_measured import read_measured
from predictors.pairs import read_pairs
from search_spaces import Genes, SearchSpace, get_space
from supernets import supernet_folder

HERE = Path(__file__).parent
BEGIN, END = "<!-- figures: begin. Made by run.py. -->", "<!-- figures: end -->"
MEASURED = "dynast_ofa_mbv3_w10_imagenet.csv.gz"
TRAINED_SPACE = "cifar10-tinynas"
RESAMPLES = 1000  # of the networks, for the intervals
FEWEST = 30  # networks trained alone that are worth a line

Floats = NDArray[np.float64]
Block = tuple[str, int, Mapping[str, Floats], Floats]
"""What the networks are, how many, the scores of each by name, and their accuracies."""


def spearman(scores: Floats, accuracies: Floats) -> float:
    """Return the rank correlation, equal values at their mean rank."""
    return float(np.corrcoef(rankdata(scores), rankdata(accuracies))[0, 1])


def interval(scores: Floats, accuracies: Floats) -> str:
    """Return the correlation and the middle 95 % of it over resampled networks."""
    rng, count = np.random.default_rng(0), len(scores)
    drawn = [rng.integers(count, size=count) for _ in range(RESAMPLES)]
    low, high = np.quantile([spearman(scores[rows], accuracies[rows]) for rows in drawn], (0.025, 0.975))
    return f"{spearman(scores, accuracies):.2f} [{low:.2f}, {high:.2f}]"


def counted(space: SearchSpace, genes: Genes) -> dict[str, Floats]:
    """Return the scores of networks of a space: their entropy, and what it is to be better than."""
    costs = NetworkCosts(space, Images(space.preset.channels, space.preset.classes))
    amounts = {name: costs.predict(genes, figure) for name, figure in (("MACs", "macs_m"), ("size", "size_mb"))}
    return {"entropy": Entropy(space).score(genes), **amounts}


def published_blocks(data: Path) -> Iterator[Block]:
    """Yield cells of NAS-Bench-201, trained alone, and once-for-all's subnets, with the supernet's weights."""
    benchmark = get_benchmark("nasbench201", data)
    proxies = read_proxies(data)
    place = {cell: number for number, cell in enumerate(benchmark.networks)}
    rows = np.array([place[cell] for cell in proxies.cells])
    entropy = cell_entropy(proxies.cells)
    for name, title in (("cifar10", "CIFAR-10"), ("cifar100", "CIFAR-100"), ("in16", "ImageNet-16-120")):
        accuracy = benchmark.accuracy[f"{name}_test_200ep"][rows]
        yield f"NAS-Bench-201, {title}", len(rows), {"entropy": entropy, **proxies.scores[name]}, accuracy
    space = get_space("ofa-mbv3", precisions=("fp32",))
    genes, accuracy = read_measured(data / "ofa" / MEASURED, space)
    yield "once-for-all, ImageNet", len(genes), counted(space, genes), accuracy


def own_blocks(data: Path) -> Iterator[Block]:
    """Yield subnets of the shipped supernet by resolution, then what was trained alone."""
    space = get_space("fashion-mbv3")
    pairs = read_pairs(supernet_folder("fashion-mbv3") / "pairs.csv", space, "fp32")
    for number, pixels in enumerate(space.resolutions):
        there = space.resolution_index(pairs.genes) == number
        genes, accuracy = pairs.genes[there], np.asarray(pairs.accuracy, np.float64)[there]
        yield f"fashion-mbv3 at {pixels} px", len(genes), counted(space, genes), accuracy
    space = get_space(TRAINED_SPACE, precisions=("fp32",))
    genes, accuracy = read_trained(HERE / "trained.csv", space)
    if len(genes) >= FEWEST:
        yield f"{TRAINED_SPACE}, trained alone", len(genes), counted(space, genes), accuracy


def tables(data: Path) -> str:
    """Return both tables as Markdown: NAS-Bench-201 beside other scores, and networks of our spaces."""
    cells, ours = [], []
    for block in (*published_blocks(data), *own_blocks(data)):
        (cells if block[0].startswith("NAS-Bench-201") else ours).append(block)
    return "\n\n".join([_transposed(cells), _table(ours)])


def _table(blocks: Sequence[Block]) -> str:
    names = list(blocks[0][2])
    lines = [f"| networks | how many | {' | '.join(names)} |", "|---" * (2 + len(names)) + "|"]
    for title, count, scores, accuracy in blocks:
        lines.append(f"| {title} | {count:,} | {' | '.join(interval(scores[name], accuracy) for name in names)} |")
    return "\n".join(lines)


def _transposed(blocks: Sequence[Block]) -> str:
    """Return a line a score, as there are many, the best of the mean first."""
    titles = [f"{title.partition(', ')[2]}" for title, *_ in blocks]
    lines = {
        name: [
            (spearman(scores[name], accuracy), interval(scores[name], accuracy)) for _, _, scores, accuracy in blocks
        ]
        for name in blocks[0][2]
    }
    order = sorted(lines, key=lambda name: -sum(value for value, _ in lines[name]))
    body = [f"| {name} | {' | '.join(text for _, text in lines[name])} |" for name in order]
    return "\n".join([f"| score | {' | '.join(titles)} |", "|---" * (1 + len(titles)) + "|", *body])


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is asked for, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--train", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--write", action="store_true")
    chosen = parser.parse_args(arguments)
    if chosen.train:
        space = get_space(TRAINED_SPACE, precisions=("fp32",))
        train_alone(
            space, HERE / "trained.csv", chosen.data / "cifar10",
            count=chosen.train, epochs=chosen.epochs, images=chosen.images,
        )  # fmt: skip
    text = tables(chosen.data)
    print(text)
    if chosen.write:
        readme = HERE / "README.md"
        head, _, rest = readme.read_text().partition(BEGIN)
        readme.write_text(f"{head}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
