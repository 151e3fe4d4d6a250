"""What training teaches, and to whom: stages draw only what they open, the teacher is followed, sorting is lossless."""

import csv
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_space import tiny_space
from tiny_training import ELASTIC, FULL, PLAN, bright_images, tiny_splits

from search_spaces import Candidate, MBConvSpace
from supernets import Supernet, calibrated_subnet, prepare
from supernets.datasets import ImageSet, Splits
from supernets.mbconv import MBConvSupernet
from supernets.training import TrainingPlan, TrainingStage, train
from supernets.training.steps import draw

SPACE = tiny_space(("fp32",))
PRESET = SPACE.preset
OPEN = replace(FULL, open=dict.fromkeys(ELASTIC, 2), subnets=4)


def drawn(stage: TrainingStage, steps: int = 60) -> list[Candidate]:
    rng = np.random.default_rng(0)
    return [candidate for _ in range(steps) for candidate in draw(stage.space(SPACE), stage, 16, rng)]


@pytest.mark.parametrize("opened", [(), ("kernels",), ("depths",), ("expands",), ("keeps",), ("kernels", "depths")])
def test_a_stage_draws_all_of_what_it_opens_and_the_largest_of_the_rest(opened: tuple[str, ...]) -> None:
    candidates = drawn(replace(FULL, open=dict.fromkeys(opened, 2)))
    blocks = [block for candidate in candidates for block in candidate.active_blocks()]
    found = {
        "kernels": {block.kernel for block in blocks},
        "depths": {len([b for b in stage if b]) for candidate in candidates for stage in candidate.blocks},
        "expands": {block.expand for block in blocks},
        "keeps": {block.keep for block in blocks},
    }
    whole = {"kernels": {3, 5}, "depths": {1, 2}, "expands": {2, 3}, "keeps": {0.5, 1.0}}
    assert found == {name: menu if name in opened else {max(menu)} for name, menu in whole.items()}
    assert {candidate.resolution for candidate in candidates} == {16}


def test_as_many_subnets_are_drawn_as_the_stage_says() -> None:
    assert len(drawn(OPEN, steps=1)) == 4


def test_extremes_are_a_share_of_the_draws() -> None:
    ends = {SPACE.candidate(row) for row in (SPACE.largest(), SPACE.smallest())}
    ends = {replace(end, resolution=16) for end in ends}
    only, half, none = (Counter(c in ends for c in drawn(replace(OPEN, extremes=share))) for share in (1.0, 0.5, 0.0))
    assert only[False] == 0 and set(drawn(replace(OPEN, extremes=1.0))) == ends
    assert 0.4 * 240 < half[True] < 0.6 * 240 and none[True] < 0.1 * 240


def run(out: Path, plan: TrainingPlan, splits: Splits | None = None, seed: int = 0) -> Supernet:
    return train(SPACE, splits or tiny_splits(), out, plan=plan, seed=seed)


def test_easy_images_are_learnt_by_the_largest_and_the_smallest_network(tmp_path: Path) -> None:
    lines: list[dict] = []
    stages = (replace(FULL, epochs=4), replace(OPEN, epochs=4, subnets=2, distillation=1.0, extremes=0.3))
    train(SPACE, tiny_splits(240), tmp_path, plan=replace(PLAN, stages=stages), report=lines.append)
    assert lines[-1]["largest"] > 0.9 and lines[-1]["smallest"] > 0.9


def noise_like(part: ImageSet) -> ImageSet:
    generator = torch.Generator().manual_seed(9)
    images = torch.randint(0, 256, part.images.shape, generator=generator, dtype=torch.uint8)
    return ImageSet(images, part.labels.flip(0), part.classes)


def test_validation_and_test_images_move_no_weight(tmp_path: Path) -> None:
    splits = tiny_splits()
    noise = replace(splits, validation=noise_like(splits.validation), test=noise_like(splits.test))
    one = run(tmp_path / "images", PLAN, splits).state_dict()
    other = run(tmp_path / "noise", PLAN, noise).state_dict()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_training_images_move_weights(tmp_path: Path) -> None:
    splits = tiny_splits()
    plan = replace(PLAN, stages=PLAN.stages[:1])
    one = run(tmp_path / "images", plan, splits).state_dict()
    assert splits.train is not None
    other = run(tmp_path / "noise", plan, replace(splits, train=noise_like(splits.train))).state_dict()
    assert not torch.equal(one["head.classifier.weight"], other["head.classifier.weight"])


def test_distillation_draws_subnets_towards_the_teacher(tmp_path: Path) -> None:
    splits, (largest, smallest) = tiny_splits(), (SPACE.candidate(row) for row in (SPACE.largest(), SPACE.smallest()))

    def answers(stages: tuple[TrainingStage, ...], candidate: Candidate) -> torch.Tensor:
        supernet = run(tmp_path / str(len(list(tmp_path.iterdir()))), replace(PLAN, stages=stages), splits)
        images = prepare(bright_images(60, 7).images, candidate.resolution, supernet.info)
        return calibrated_subnet(supernet, candidate, splits.calibration)(images).log_softmax(1).detach()

    teacher = answers((FULL,), largest).exp()
    stage = replace(OPEN, epochs=4, subnets=1, extremes=1.0)
    far, near = (
        F.kl_div(answers((FULL, replace(stage, distillation=weight)), smallest), teacher, reduction="batchmean")
        for weight in (0.0, 5.0)
    )
    assert near < 0.8 * far


def test_channels_are_sorted_once_wherever_widths_open_within_the_widths_trained_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = {
        "kernel": (2, 1, 1, 1),
        "depth": (2, 2, 1, 1),
        "keep": (2, 2, 1, 2),
        "expand": (2, 2, 2, 2),
        "more": (2, 2, 2, 2),
    }
    opened = tuple(
        replace(FULL, name=name, open=dict(zip(ELASTIC, values, strict=True))) for name, values in counts.items()
    )
    stages = tuple(replace(stage, epochs=1) for stage in (FULL, *opened))
    sort, log, calls = MBConvSupernet.sort_channels, tmp_path / "run" / "train_log.csv", []

    def sort_and_compare(self: MBConvSupernet, trained: MBConvSpace) -> None:
        networks = [SPACE.candidate(SPACE.largest()), *(trained.candidate(row) for row in (trained.smallest(),))]
        before, weights = logits(self, networks), self.state_dict()["blocks.block_1_1.expand.conv.weight"].clone()
        sort(self, trained)
        torch.testing.assert_close(logits(self, networks), before, rtol=1e-3, atol=1e-3)
        done = list(csv.DictReader(log.open()))[-1]["stage"]
        moved = not torch.equal(weights, self.state_dict()["blocks.block_1_1.expand.conv.weight"])
        calls.append((done, trained.preset.expands, trained.preset.keeps, moved))

    monkeypatch.setattr(MBConvSupernet, "sort_channels", sort_and_compare)
    run(tmp_path / "run", replace(PLAN, stages=stages))
    assert calls == [("depth", (3,), (1.0,), True), ("keep", (3,), (0.5, 1.0), True)]


def logits(supernet: Supernet, candidates: list[Candidate]) -> torch.Tensor:
    """Return what each answers to images, batch norms recalibrated."""
    splits = tiny_splits()
    images = prepare(splits.validation.images, 16, supernet.info)
    return torch.stack([calibrated_subnet(supernet, c, splits.calibration)(images).detach() for c in candidates])
