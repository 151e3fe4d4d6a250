"""One search task, posed twice: to the `ofa` package in its own form, and to us as a `Problem`.

Both score a candidate by the same perceptron (the package's own class: one-hot features, three layers of 400) and by
the same table of latencies (one entry for each block position, resolution, kernel and expansion). The table's entries
are multiply-adds, unevenly scaled; the perceptron is fitted to a made-up accuracy that grows with them ever more slowly
and depends on neighbouring blocks. Nothing here is measured on a device: how fast and how well is searched is the
question, and both searches get the same answers.
"""

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ofa.nas.accuracy_predictor import AccuracyPredictor, MobileNetArchEncoder

from search_spaces import Genes, MBConvSpace, get_space

Architecture = dict[str, Any]  # once-for-all's: {"ks": [...], "e": [...], "d": [...], "image_size": ...}

CHUNK = 2048  # rows a pass of the perceptron
FIT_ROWS, FIT_STEPS = 8_000, 400


class SameTask:
    """The table, the perceptron, and both views of them. ``seed`` makes the numbers."""

    def __init__(self, seed: int = 0) -> None:
        self.space: MBConvSpace = get_space(str(Path(__file__).with_name("ofa_mbv3.toml")))  # type: ignore[assignment]
        preset = self.space.preset
        self.encoder = MobileNetArchEncoder(list(preset.resolutions), list(preset.kernels), list(preset.expands))
        rng = np.random.default_rng(seed)
        self.base, self.table = self._latencies(rng)
        self.ofa_base = dict(zip(preset.resolutions, self.base.tolist(), strict=True))
        self.ofa_table = {
            (block, resolution, kernel, expand): float(self.table[block][r, 1 + 3 * k + e])
            for block in range(self.space.num_blocks)
            for (r, resolution), (k, kernel), (e, expand) in product(
                enumerate(preset.resolutions), enumerate(preset.kernels), enumerate(preset.expands)
            )
        }
        self.perceptron = self._fit(rng)
        self._layers = self._for_our_features()

    def _latencies(self, rng: np.random.Generator) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
        """Return milliseconds: outside the blocks ``(resolutions,)``, and of each block ``(resolutions, codes)``."""
        space = self.space
        table = []
        for block, position in enumerate(space.block_positions):
            milliseconds = np.zeros((len(space.resolutions), len(space.block_choices(block)) + 1))
            for (r, resolution), (c, choice) in product(
                enumerate(space.resolutions), enumerate(space.block_choices(block), start=1)
            ):
                side = space.feature_size(resolution, block)
                after = side // position.stride
                madds = side**2 * position.in_width * choice.middle
                madds += after**2 * choice.middle * (choice.kernel**2 + position.out_width)
                milliseconds[r, c] = madds * 5e-8
            table.append(milliseconds * np.r_[1.0, rng.uniform(0.6, 1.4, milliseconds.shape[1] - 1)])
        return 2.0 * (np.array(space.resolutions) / 224) ** 2, table

    def latency(self, genes: Genes) -> NDArray[np.float64]:
        """Return milliseconds ``(n,)``, looked up block by block."""
        codes, resolution = self.space.part_codes(genes)[:, 1:-1], self.space.resolution_index(genes)
        total = self.base[resolution]
        for block, milliseconds in enumerate(self.table):
            total = total + milliseconds[resolution, codes[:, block]]
        return total

    def _fit(self, rng: np.random.Generator) -> AccuracyPredictor:
        """Fit the package's perceptron to the made-up accuracy."""
        space = self.space
        worth = [rng.uniform(0.3, 1.0, 10) * np.r_[0, np.linspace(0.6, 1.6, 9)] for _ in range(space.num_blocks)]
        pairs = rng.normal(0, 0.15, (space.num_blocks - 1, 10, 10))
        genes = space.sample(FIT_ROWS, rng)
        codes = space.part_codes(genes)[:, 1:-1]
        total = np.array([0.0, 1.5, 2.5, 3.0])[space.resolution_index(genes)]
        total += sum(worth[block][codes[:, block]] for block in range(space.num_blocks))
        total += sum(pairs[block][codes[:, block], codes[:, block + 1]] for block in range(space.num_blocks - 1))
        accuracy = 0.8 - 0.15 * np.exp(-total / 8)
        features = torch.tensor(np.array([self.encoder.arch2feature(self.architecture(row)) for row in genes])).float()
        targets = torch.tensor(accuracy).float()
        with torch.random.fork_rng():
            torch.manual_seed(int(rng.integers(2**31)))
            perceptron = AccuracyPredictor(self.encoder, device="cpu")
            perceptron.base_acc.data.fill_(float(accuracy.mean()))
            optimizer = torch.optim.Adam(perceptron.layers.parameters(), 1e-3, weight_decay=1e-4)
            for _ in range(FIT_STEPS):
                rows = torch.randint(FIT_ROWS, (512,))
                loss = torch.nn.functional.mse_loss(10 * perceptron(features[rows]), 10 * targets[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return perceptron.eval()

    def _for_our_features(self) -> torch.nn.Sequential:
        """Return the same perceptron for our order of features; precisions weigh nothing."""
        encoder, first = self.encoder, self.perceptron.layers[0][0]
        columns: list[int | None] = [*range(encoder.r_info["L"][0], encoder.r_info["R"][0]), None, None]
        for block in range(self.space.num_blocks):
            for info in (encoder.k_info, encoder.e_info):
                columns += list(range(info["L"][block], info["R"][block]))
            columns.append(None)
        weight = torch.zeros(first.out_features, len(columns))
        known = [at for at, column in enumerate(columns) if column is not None]
        weight[:, known] = first.weight.data[:, [column for column in columns if column is not None]]
        ours = torch.nn.Linear(len(columns), first.out_features)
        ours.weight.data, ours.bias.data = weight, first.bias.data
        return torch.nn.Sequential(ours, torch.nn.ReLU(), *self.perceptron.layers[1:])

    def accuracy(self, genes: Genes) -> NDArray[np.float64]:
        """Return the perceptron's accuracies ``(n,)``."""
        answers = np.empty(len(genes))
        with torch.inference_mode():
            for start in range(0, len(genes), CHUNK):
                features = torch.from_numpy(self.space.encode(genes[start : start + CHUNK]))
                part = self._layers(features).squeeze(1) + self.perceptron.base_acc
                answers[start : start + CHUNK] = part.numpy()
        return answers

    def evaluate(self, genes: Genes) -> Mapping[str, NDArray[np.float64]]:
        """Score candidates, as our search asks for it."""
        return {"accuracy": self.accuracy(genes), "latency_ms": self.latency(genes)}

    def get_efficiency(self, architecture: Architecture) -> float:
        """Return milliseconds, as the package's search asks for it: one lookup for each block that is there."""
        kernels, expands, resolution = architecture["ks"], architecture["e"], architecture["image_size"]
        total = self.ofa_base[resolution]
        table = self.ofa_table
        for stage, depth in enumerate(architecture["d"]):
            for block in range(4 * stage, 4 * stage + depth):
                total += table[block, resolution, kernels[block], expands[block]]
        return total

    def architecture(self, row: Genes) -> Architecture:
        """Spell a row ``(num_genes,)`` as the package does; blocks left out get the first choices."""
        candidate = self.space.candidate(row)
        blocks = [block for stage in candidate.blocks for block in stage]
        return {
            "ks": [3 if block is None else block.kernel for block in blocks],
            "e": [3 if block is None else int(block.expand) for block in blocks],
            "d": [sum(block is not None for block in stage) for stage in candidate.blocks],
            "image_size": candidate.resolution,
        }
