"""FastDepth's network, the pictures that it is tried on, and the experiment at its smallest."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.fastdepth.run import SCALES, figures, run
from experiments.fastdepth.scenes import Box, Plane, Scene, Sphere, camera_rays, depth_set, random_scene, render
from latency_tables.simulated import CostModel, SimulatedDevice
from nas.compression.fastdepth import FastDepth, fastdepth
from nas.compression.pruning import find_groups
from nas.compression.widths import widths_of
from nas.errors import UsageError
from nas.files import write_json

WHITE = np.ones(3)
SIDE = 33  # odd: the middle pixel looks along the axis
WALL = Plane(np.array([0.0, 0.0, -1.0]), -9.0, WHITE)


def depths(*things: Plane | Sphere | Box, pitch: float = 0.0) -> np.ndarray:
    scene = Scene((WALL, *things), np.array([0.0, 1.5, 0.0]), pitch)
    return render(scene, SIDE, np.random.default_rng(0))[1]


def test_depth_is_exact_and_along_the_axis() -> None:
    middle = SIDE // 2
    assert np.allclose(depths(), 9)  # a wall across the axis is as deep everywhere
    ball = depths(Sphere(np.array([0, 1.5, 4.0]), 0.5, WHITE))
    assert ball[middle, middle] == pytest.approx(3.5) and ball[0, 0] == 9
    box = depths(Box(np.array([0, 1.5, 4.0]), np.array([0.5, 0.5, 0.5]), 0.0, WHITE))
    assert box[middle, middle] == pytest.approx(3.5)
    turned = depths(Box(np.array([0, 1.5, 4.0]), np.array([0.5, 0.5, 0.5]), math.pi / 4, WHITE))
    assert turned[middle, middle] == pytest.approx(4 - math.sqrt(0.5))


def test_the_floor_is_where_a_camera_that_looks_down_sees_it() -> None:
    pitch = 0.3
    floor = depths(Plane(np.array([0.0, 1.0, 0.0]), 0.0, WHITE), pitch=pitch)
    rays, ahead = camera_rays(pitch, SIDE)
    middle = SIDE * SIDE // 2
    assert rays[middle] == pytest.approx(ahead) and ahead == pytest.approx([0, -math.sin(pitch), math.cos(pitch)])
    assert floor[SIDE // 2, SIDE // 2] == pytest.approx(1.5 / math.sin(pitch))
    assert (np.diff(floor[SIDE // 2 :, 0]) < 0).all()  # lower in the picture is nearer


def test_rooms_are_closed_and_follow_from_the_seed() -> None:
    rng = np.random.default_rng(3)
    for _ in range(5):
        picture, depth = render(random_scene(rng), 16, rng)
        assert np.isfinite(depth).all() and depth.min() > 0.3 and depth.max() < 9.5
        assert picture.std() > 5
    one, two, other = (depth_set({"train": 2, "validation": 1, "test": 1}, 16, seed) for seed in (0, 0, 1))
    assert torch.equal(one.train.images, two.train.images) and torch.equal(one.test.depths, two.test.depths)
    assert not torch.equal(one.train.images, other.train.images)
    assert not torch.equal(one.train.images[0], one.train.images[1])


def test_the_network_is_fastdepths() -> None:
    network = fastdepth()
    widths = widths_of(network)
    assert [widths[f"decoder.{number}.3"].outputs for number in range(5)] == [512, 256, 128, 64, 32]
    assert widths["encoder.12.3"].outputs == 1024
    small = FastDepth(0.25).eval()
    assert small(torch.zeros(1, 3, 64, 96)).shape == (1, 1, 64, 96)
    groups = {group.root: group for group in find_groups(small, torch.zeros(1, 3, 32, 32))}
    assert groups["encoder.4.3"].outputs.keys() >= {"decoder.1.3"}  # an additive skip
    assert not any("head" in group.outputs for group in groups.values())
    with pytest.raises(UsageError, match=r"FastDepth of width 9; allowed: 0.1 to 2"):
        fastdepth(9)


def test_a_folder_is_of_one_scale_and_one_device(tmp_path: Path) -> None:
    device = SimulatedDevice()
    write_json(tmp_path / "asked.json", "fastdepth-asked", 1, {"scale": {}, "device": device.fingerprint, "seed": 0})
    with pytest.raises(UsageError, match=r"--out .*: it was begun with another scale; give the same, or another --out"):
        run(SCALES["tiny"], device, tmp_path)


@pytest.mark.slow
def test_the_experiment_runs_whole_and_its_second_run_does_nothing(tmp_path: Path) -> None:
    device = SimulatedDevice(costs=CostModel(noise=0.0, drift=0.0, node_ns=50.0))
    result = run(SCALES["tiny"], device, tmp_path)
    assert result["speedup"] >= 1.5
    assert (tmp_path / "examples.png").exists() and (tmp_path / "pruned/report.md").exists()
    assert run(SCALES["tiny"], device, tmp_path) == result
    assert "Relative RMSE" in figures(result)
