"""Fits the modelled accelerator to APQ's table, and judges it on layers held out and on HAQ's table. See README.md.

python experiments/bitfusion/run.py DATA            # the folder with APQ's and HAQ's tables
python experiments/bitfusion/run.py DATA --write    # and keeps the parameters and README.md's tables
"""

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from latency_tables.regression import robust_weights
from latency_tables.systolic import PARAMETERS, SCHEMA, SCHEMA_VERSION, Accelerator, Layer, Work, work
from nas.files import read_arrays, write_json
from nasbench.columns import find, unzipped
from predictors.ranks import spearman

TABLE, HAQ = "apq_bitfusion_b1.json.gz", "haq_qmobilenetv2_bitfusion.npz"
SOURCE = "it comes from github.com/mit-han-lab/{}"
README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- figures: begin. Made by run.py. -->", "<!-- figures: end -->"
KEY = re.compile(r"\((\d+), (\d+), (\d+), (\d+), (\d+), (\d+), (\d+)\)-W(\d)A(\d)")
# The configuration that the simulator's authors published for edge devices (github.com/hsharma35/bitfusion,
# bf_e_conf.ini); energies are fitted, and the depthwise corner follows from the table: no layer computes faster.
PUBLISHED = Accelerator(16, 32, 8, 500.0, 192, 65536, 32768, 16384, 1.0, 1.0, 1.0)
TRIED = {
    "memory_bits": (128, 160, 192, 224, 256),
    "weight_bytes": (32768, 65536, 131072),
    "input_bytes": (8192, 16384, 32768, 65536),
    "output_bytes": (8192, 16384, 32768, 65536),
}
FITTED_LAYERS = 120  # of about 780; energies and sizes are fitted to half of the layers, sizes to this many of them


@dataclass(frozen=True)
class Row:
    """One entry of APQ's table."""

    layer: Layer
    bits: tuple[int, int]
    milliseconds: float
    millijoules: float

    def work(self, accelerator: Accelerator) -> Work:
        """Return what the model says."""
        return work(self.layer, *self.bits, accelerator)


def read_table(data: Path) -> list[Row]:
    """Return the table's entries that are one convolution."""
    content = json.loads(unzipped(find(data, (TABLE,), SOURCE.format("apq, lut"))))
    rows = []
    for key, figures in content.items():
        if match := KEY.fullmatch(key):
            width_in, width_out, side, kernel, stride, pad, groups, *bits = map(int, match.groups())
            layer = Layer(kernel, stride, (side + 2 * pad - kernel) // stride + 1, width_in, width_out, groups)
            rows.append(Row(layer, (bits[0], bits[1]), figures["latency"], figures["energy"]))
    return rows


def halves(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Split by layer: a layer that is fitted to is held out at no precision."""
    layers = list(dict.fromkeys(row.layer for row in rows))
    chosen = {layers[place] for place in np.random.default_rng(0).permutation(len(layers))[: len(layers) // 2]}
    return [row for row in rows if row.layer in chosen], [row for row in rows if row.layer not in chosen]


def fit(rows: Sequence[Row]) -> Accelerator:
    """Fit sizes, one after the other until none changes, then energies."""
    layers = list(dict.fromkeys(row.layer for row in rows))[:FITTED_LAYERS]
    some, best = [row for row in rows if row.layer in layers], PUBLISHED
    while True:
        before = best
        for name, values in TRIED.items():
            best = min((replace(best, **{name: value}) for value in values), key=lambda one: latency_error(some, one))
        if best == before:
            break
    amounts = np.array([[one.computing, one.memory_bits, one.buffer_bits] for one in (row.work(best) for row in rows)])
    costs = robust_weights(amounts * 1e-9, np.array([row.millijoules for row in rows]))
    cycle, memory, buffer = (float(f"{cost:.4g}") for cost in costs)
    return replace(best, cycle_picojoules=cycle, memory_picojoules=memory, buffer_picojoules=buffer)


def latency_error(rows: Sequence[Row], accelerator: Accelerator) -> float:
    """Return the mean absolute relative error."""
    return float(np.mean([abs(row.work(accelerator).milliseconds(accelerator) / row.milliseconds - 1) for row in rows]))


def judged(rows: Sequence[Row], accelerator: Accelerator) -> Iterator[str]:
    """Yield a row of Markdown for each kind of layer: errors of latency and of energy."""
    yield "| layers | entries | latency: MAPE | median | exact | Spearman | energy: MAPE | median | Spearman |"
    yield "|" + "---|" * 9
    groups = {"pointwise": [row for row in rows if row.layer.groups == 1]}
    groups["depthwise"] = [row for row in rows if row.layer.groups > 1]
    for bits in ((4, 4), (6, 6), (8, 8)):
        groups[f"w{bits[0]}a{bits[1]}"] = [row for row in rows if row.bits == bits]
    for name, some in {**groups, "all": list(rows)}.items():
        found = [row.work(accelerator) for row in some]
        cells = [str(len(some))]
        pairs = (
            ([one.milliseconds(accelerator) for one in found], [row.milliseconds for row in some]),
            ([one.millijoules(accelerator) for one in found], [row.millijoules for row in some]),
        )
        for number, (ours, theirs) in enumerate(pairs):
            error = np.abs(np.array(ours) / np.array(theirs) - 1)
            cells += [f"{error.mean():.1%}", f"{np.median(error):.1%}"]
            cells += [f"{(error < 1e-9).mean():.0%}"] if number == 0 else []
            cells.append(f"{spearman(np.array(ours), np.array(theirs)):.3f}")
        yield f"| {name} | " + " | ".join(cells) + " |"


def mobilenet_v2() -> list[Layer]:
    """Return MobileNetV2's 53 layers at 224 pixels, in HAQ's order."""
    layers, width, side = [Layer(3, 2, 112, 3, 32)], 32, 112
    for expand, out, count, stride in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)
    ):  # fmt: skip
        for number in range(count):
            step, middle = stride if number == 0 else 1, width * expand
            layers += [Layer(1, 1, side, width, middle)] if expand > 1 else []
            side //= step
            layers += [Layer(3, step, side, middle, middle, middle), Layer(1, 1, side, middle, out)]
            width = out
    return [*layers, Layer(1, 1, side, width, 1280), Layer(1, 1, 1, 1280, 1000)]


def haq_rows(data: Path, accelerator: Accelerator) -> Iterator[str]:
    """Yield, for bits that both accelerators have, how alike they rank MobileNetV2's layers."""
    path = find(data, (HAQ,), SOURCE.format("haq"))
    table = read_arrays(path, ["table"])["table"]
    yield "| bits of weights and activations | Spearman over 53 layers | ours over HAQ's, median | middle half |"
    yield "|" + "---|" * 4
    for weights, activations in ((4, 4), (4, 8), (8, 4), (8, 8)):
        theirs = table[:, weights - 1, activations - 1] / 16  # of a batch of 16
        ours = np.array([work(layer, weights, activations, accelerator).cycles for layer in mobilenet_v2()])
        low, middle, high = np.quantile(ours / theirs, [0.25, 0.5, 0.75])
        yield f"| {weights}, {activations} | {spearman(ours, theirs):.3f} | {middle:.2f} | {low:.2f} to {high:.2f} |"


def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder of the published tables")
    parser.add_argument("--write", action="store_true", help="write the parameters and README.md's tables")
    options = parser.parse_args()
    fitted, held_out = halves(read_table(options.data))
    accelerator = fit(fitted)
    tables = ["\n".join(judged(held_out, accelerator)), "\n".join(haq_rows(options.data, accelerator))]
    values = "\n".join(f"| {name} | {value:g} |" for name, value in asdict(accelerator).items())
    text = "\n\n".join([f"| parameter | fitted |\n|---|---|\n{values}", *tables])
    print(text)
    if options.write:
        source = "python experiments/bitfusion/run.py DATA --write, from APQ's simulated table; modelled, not measured"
        write_json(PARAMETERS, SCHEMA, SCHEMA_VERSION, {"source": source, **asdict(accelerator)})
        head, _, rest = README.read_text().partition(BEGIN)
        README.write_text(f"{head}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
