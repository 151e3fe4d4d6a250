"""APQ's two claims, tried on the shipped supernet: transfer, and joint against sequential search. See README.md.

python experiments/apq/run.py transfer                  # minutes; from the pairs that ship, no device needed
python experiments/apq/run.py transfer --write          # and puts the figures into README.md
python experiments/apq/run.py joint --device cpu        # calibrates the device if it is not yet known
"""

import argparse
import re
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from experiments.apq.stages import SPLITS, Evaluate, Front, front_figures, search_split
from experiments.apq.transfer import METHODS, SIZES, Judged, judge_transfer, mean_of, pairs_digest, pairs_needed
from latency_tables import Device, get_device
from nas.files import read_csv, write_bytes, write_csv, write_json
from predictors.pairs import read_pairs
from search_spaces import Genes, SearchSpace, get_space
from supernets.weights import PRETRAINED

HERE = Path(__file__).parent
SPACE = "fashion-mbv3"
README = HERE / "README.md"
BEGIN, END = "<!-- transfer: begin. Made by run.py. -->", "<!-- transfer: end -->"
COLUMNS = tuple(field.name for field in fields(Judged))
LIMITS = 5  # latencies at which accuracies are compared
COLOURS = {"transfer": "#0b6e99", "scratch": "#d1495b", "both": "#7d868c", "fp32": "#e0a030"}
NAMES = {
    "transfer": "fp32 pairs, then transfer", "scratch": "quantized pairs alone", "both": "both kinds at once",
    "fp32": "fp32 pairs alone",
}  # fmt: skip


def transfer(out: Path, pairs: Path, seeds: Sequence[int], sizes: Sequence[int] = SIZES) -> list[Judged]:
    """Judge transfer and write ``transfer.csv``, ``.png`` and ``.md``; what is in the file of these pairs is kept."""
    space = get_space(SPACE)
    path = out / "transfer.csv"
    results = read_results(path) if path.exists() else []
    plain, quantized = (read_pairs(pairs, space, mode) for mode in ("fp32", "quantized"))
    for seed in seeds:
        results += list(judge_transfer(space, plain, quantized, sizes, [seed], {one.key for one in results}))
        write_csv(path, COLUMNS, [list(asdict(one).values()) for one in results])
        print(f"transfer: seed {seed} judged", flush=True)
    results = [one for one in results if one.data == pairs_digest(plain, quantized)]
    FigureCanvasAgg(draw_transfer(results)).print_png(str(out / "transfer.png"))
    write_bytes(out / "transfer.md", ("\n".join(transfer_lines(results)) + "\n").encode())
    return results


def read_results(path: Path) -> list[Judged]:
    """Read ``transfer.csv``."""
    return [
        Judged(
            row["method"], int(row["seed"]), int(row["pairs"]),
            *(float(row[name]) for name in ("pairwise", "kendall", "mean_error")),
            row["data"],
        )
        for row in read_csv(path, COLUMNS)
    ]  # fmt: skip


def transfer_lines(results: Sequence[Judged]) -> list[str]:
    """Return the results as Markdown: means over the seeds, and how many pairs transfer saves."""
    sizes = sorted({one.pairs for one in results})
    lines = []
    for measure, name in (("pairwise", "Pairwise accuracy, %"), ("kendall", "Kendall's τ, %")):
        lines += [f"| {name}, by quantized pairs | {' | '.join(map(str, sizes))} |", "|---|" + "---|" * len(sizes)]
        for method in METHODS:
            found = (mean_of(results, method, size, measure) for size in sizes)
            cells = (f"{100 * mean:.1f} ± {100 * spread:.1f}" for mean, spread in found)
            lines.append(f"| {NAMES[method]} | {' | '.join(cells)} |")
        needed = pairs_needed(results, "transfer", measure)
        said = "with none of these" if needed is None else f"with {needed} ({100 * needed / sizes[-1]:.0f} %)"
        lines += ["", f"Transfer is as good as {sizes[-1]} pairs from scratch {said}.", ""]
    return lines


def draw_transfer(results: Sequence[Judged]) -> Figure:
    """Return the picture: both measures against the quantized pairs, bands of one deviation over the seeds."""
    figure = Figure(figsize=(9, 3.8), dpi=160, layout="constrained")
    sizes = sorted({one.pairs for one in results})
    for axes, measure, name in zip(
        figure.subplots(1, 2), ("pairwise", "kendall"), ("pairwise accuracy", "Kendall's τ"), strict=True
    ):
        for method in METHODS:
            mean, spread = np.array([mean_of(results, method, size, measure) for size in sizes]).T
            axes.plot(sizes, mean, "o-", color=COLOURS[method], markersize=4, label=NAMES[method])
            axes.fill_between(sizes, mean - spread, mean + spread, color=COLOURS[method], alpha=0.15, linewidth=0)
        axes.set_xlabel("quantized pairs")
        axes.set_ylabel(f"{name}, held-out quantized networks")
        axes.legend(frameon=False, fontsize=8)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    return figure


def joint(
    out: Path, space: SearchSpace, evaluate: Evaluate, device: dict[str, Any], budget: int, seeds: Sequence[int]
) -> dict[str, Any]:
    """Search jointly and in stages and write ``joint.json`` and ``joint.md``; all figures are predicted."""
    found = {seed: _fronts(space, evaluate, budget, seed) for seed in seeds}
    ends = evaluate(np.stack([space.smallest(), space.largest()]))
    reference = np.array([ends[:, 0].max(), ends[:, 1].max()])
    limits = np.exp(np.linspace(ends[0, 1], ends[1, 1], LIMITS + 2)[1:-1])
    figures = [front_figures(found[seed], limits, reference) for seed in seeds]
    wins = {
        split: sum(one["joint"]["hypervolume"] > one[split]["hypervolume"] for one in figures)  # type: ignore[operator]
        for split in SPLITS
        if split != "joint"
    }
    result = {
        "device": device, "budget": budget, "seeds": list(seeds), "limits_ms": limits.tolist(), "figures": figures,
        "joint_has_more_hypervolume_in_seeds": wins,
    }  # fmt: skip
    write_json(out / "joint.json", "apq-joint", 1, result)
    write_bytes(out / "joint.md", ("\n".join(joint_lines(result)) + "\n").encode())
    return result


def _fronts(space: SearchSpace, evaluate: Evaluate, budget: int, seed: int) -> dict[str, Front]:
    fronts = {split: search_split(space, split, evaluate, budget, seed) for split in SPLITS}
    print(f"joint: seed {seed} searched", flush=True)
    return fronts


def joint_lines(result: dict[str, Any]) -> list[str]:
    """Return the result as Markdown: medians over the seeds."""
    limits = result["limits_ms"]
    heads = [f"% within {limit:.3g} ms" for limit in limits]
    lines = [
        f"| searched | hypervolume | {' | '.join(heads)} | joint is ahead |",
        "|---|---|" + "---|" * len(limits) + "---|",
    ]
    for split in SPLITS:
        rows = [one[split] for one in result["figures"]]
        volume = np.median([one["hypervolume"] for one in rows])
        best = [[one["accuracy"][place] for one in rows] for place in range(len(limits))]
        cells = ["" if None in values else f"{100 * float(np.median(values)):.2f}" for values in best]
        wins = result["joint_has_more_hypervolume_in_seeds"].get(split)
        ahead = "" if wins is None else f"in {wins} of {len(rows)} seeds"
        lines.append(f"| {split} | {volume:.4f} | " + " | ".join(cells) + f" | {ahead} |")
    return lines


def predicted(device: Device, space: SearchSpace) -> Evaluate:
    """Return what predicts both losses: the shipped accuracy predictor and the device's calibration."""
    from nas.export.progress import NO_PROGRESS
    from nas.export.scoring import calibrated
    from predictors import AccuracyPredictor
    from supernets import get_supernet

    accuracy = AccuracyPredictor.load(PRETRAINED / SPACE / "accuracy_predictor.safetensors", space)
    latency = calibrated(device, space, get_supernet(SPACE), fresh=False, progress=NO_PROGRESS).predictor

    def evaluate(genes: Genes) -> NDArray[np.float64]:
        return np.stack([1 - accuracy.predict(genes).mean, np.log(latency.predict(genes).mean)], axis=1)

    return evaluate


def main() -> None:
    """Run one of the two from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("transfer", "joint"))
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--pairs", type=Path, default=PRETRAINED / SPACE / "pairs.csv")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--budget", type=int, default=12_000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="of transfer: put the figures into README.md")
    options = parser.parse_args()
    seeds = range(options.seeds)
    if options.what == "transfer":
        text = "\n".join(transfer_lines(transfer(options.out, options.pairs, seeds)))
        print(text)
        if options.write:
            made = f"{BEGIN}\n![Both measures against quantized pairs](transfer.png)\n\n{text}\n{END}"
            README.write_text(re.sub(f"{BEGIN}.*{END}", lambda found: made, README.read_text(), flags=re.DOTALL))
        return
    on = get_device(options.device)
    preset = get_space(SPACE)
    space = get_space(SPACE, [name for name in preset.precisions if name in on.precisions])
    about = {"name": on.name, "runtime": on.runtime, "fingerprint": on.fingerprint, "simulated": on.simulated}
    print("\n".join(joint_lines(joint(options.out, space, predicted(on, space), about, options.budget, seeds))))


if __name__ == "__main__":
    main()
