"""Pictures of rooms with their exact depth, cast ray by ray: spheres, boxes and planes, lit, with texture.

A room has a floor, a ceiling and walls of tiles of a fixed size, and stands full of spheres and boxes on the floor; a
lamp at the camera fades with distance. So a picture tells how far things are as pictures do: by perspective, by where
things touch the floor, by the size of their texture and by their brightness. Metres; x right, y up, z ahead; the depth
is along the camera's axis.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from supernets.datasets.depth import PARTS, DepthSet, DepthSplits

Floats = NDArray[np.float64]
FAR = np.inf
FIELD_OF_VIEW = 65.0  # degrees, across
NOISE = 2.0  # standard deviation of a pixel, of 255
TILE = 0.5  # metres


@dataclass(frozen=True, eq=False)
class Hits:
    """Where rays, ``(n, 3)``, meet a thing: distance ``(n,)``, infinite where they do not; normal and place there."""

    distance: Floats
    normal: Floats
    place: Floats


@dataclass(frozen=True, eq=False)
class Plane:
    """All points ``p`` with ``normal . p = offset``; the normal has length 1 and points to the camera's side."""

    normal: Floats
    offset: float
    colour: Floats

    def meet(self, origin: Floats, rays: Floats) -> Hits:
        """Return where rays from ``origin`` meet it."""
        along = rays @ self.normal
        with np.errstate(divide="ignore", invalid="ignore"):
            distance = (self.offset - origin @ self.normal) / along
        distance = np.where((along < 0) & (distance > 0), distance, FAR)
        return _hits(distance, np.broadcast_to(self.normal, rays.shape), origin, rays)


@dataclass(frozen=True, eq=False)
class Sphere:
    """A ball."""

    centre: Floats
    radius: float
    colour: Floats

    def meet(self, origin: Floats, rays: Floats) -> Hits:
        """Return where rays from ``origin``, outside, meet it."""
        offset = origin - self.centre
        half = rays @ offset
        inside = half**2 - (offset @ offset - self.radius**2)
        distance = np.where(inside > 0, -half - np.sqrt(np.maximum(inside, 0)), FAR)
        distance = np.where(distance > 0, distance, FAR)
        hits = _hits(distance, rays, origin, rays)
        return Hits(distance, (hits.place - self.centre) / self.radius, hits.place)


@dataclass(frozen=True, eq=False)
class Box:
    """A cuboid, ``half`` its sides, turned by ``yaw`` about the vertical."""

    centre: Floats
    half: Floats
    yaw: float
    colour: Floats

    def meet(self, origin: Floats, rays: Floats) -> Hits:
        """Return where rays from ``origin``, outside, meet it: at the last entry into its slabs."""
        turn = np.array(
            [[math.cos(self.yaw), 0, math.sin(self.yaw)], [0, 1, 0], [-math.sin(self.yaw), 0, math.cos(self.yaw)]]
        )
        start, ways = (origin - self.centre) @ turn, rays @ turn
        with np.errstate(divide="ignore", invalid="ignore"):
            sides = np.stack([(sign * self.half - start) / ways for sign in (-1, 1)])
        entries, exits = sides.min(0), sides.max(0)
        axis = entries.argmax(1)
        enter, leave = entries.max(1), exits.min(1)
        distance = np.where((enter < leave) & (enter > 0), enter, FAR)
        rows = np.arange(len(rays))
        normal = np.zeros_like(rays)
        normal[rows, axis] = -np.sign(ways[rows, axis])
        return _hits(distance, normal @ turn.T, origin, rays)


Thing = Plane | Sphere | Box


def _hits(distance: Floats, normal: Floats, origin: Floats, rays: Floats) -> Hits:
    reached = np.where(np.isfinite(distance), distance, 0.0)
    return Hits(distance, normal, origin + reached[:, None] * rays)


@dataclass(frozen=True, eq=False)
class Scene:
    """Things, and the camera that looks at them: where it is, and by how many radians it looks down."""

    things: tuple[Thing, ...]
    camera: Floats
    pitch: float


def render(scene: Scene, side: int, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return a picture uint8 ``(side, side, 3)`` of a scene closed all round, and its depths ``(side, side)``."""
    rays, ahead = camera_rays(scene.pitch, side)
    nearest = np.full(len(rays), FAR)
    shade = np.zeros((len(rays), 3))
    for thing in scene.things:
        hits = thing.meet(scene.camera, rays)
        closer = hits.distance < nearest
        nearest = np.where(closer, hits.distance, nearest)
        shade[closer] = _shade(thing, hits, rays)[closer]
    noisy = 255 * shade + rng.normal(0, NOISE, shade.shape)
    picture = np.clip(np.rint(noisy), 0, 255).astype(np.uint8).reshape(side, side, 3)
    return picture, (nearest * (rays @ ahead)).astype(np.float32).reshape(side, side)


def camera_rays(pitch: float, side: int) -> tuple[Floats, Floats]:
    """Return the unit rays ``(side * side, 3)`` of a camera that looks down by ``pitch``, and its axis ``(3,)``."""
    reach = math.tan(math.radians(FIELD_OF_VIEW) / 2)
    steps = ((np.arange(side) + 0.5) / side * 2 - 1) * reach
    right, down = np.meshgrid(steps, steps)
    flat = np.stack([right, -down, np.ones_like(right)], -1).reshape(-1, 3)
    cosine, sine = math.cos(pitch), math.sin(pitch)
    turn = np.array([[1, 0, 0], [0, cosine, sine], [0, -sine, cosine]])  # applied from the right
    rays = flat @ turn
    return rays / np.linalg.norm(rays, axis=1, keepdims=True), np.array([0.0, 0.0, 1.0]) @ turn


def _shade(thing: Thing, hits: Hits, rays: Floats) -> Floats:
    """Return colours ``(n, 3)``: a lamp at the camera, fading, a little light from above, and tiles."""
    reached = np.where(np.isfinite(hits.distance), hits.distance, 0.0)
    facing = np.clip(-(rays * hits.normal).sum(1), 0, 1)
    light = 0.15 + 0.15 * np.clip(hits.normal[:, 1], 0, 1) + 0.9 * facing / (1 + 0.08 * reached**2)
    tiles = np.floor(hits.place / TILE + 1e-6)
    across = np.abs(hits.normal) < 0.7  # the two axes along a wall; of a sphere whatever lies across
    parity = (tiles * across).sum(1) % 2
    return np.clip(thing.colour * (light * (0.75 + 0.25 * parity))[:, None], 0, 1)


def random_scene(rng: np.random.Generator) -> Scene:
    """Return a room with things in it, seen from a standing person's height."""
    wide, high, deep = rng.uniform(2, 4), rng.uniform(2.4, 3.5), rng.uniform(5, 9)
    walls = [((0, 1, 0), 0.0), ((0, -1, 0), -high), ((1, 0, 0), -wide), ((-1, 0, 0), -wide), ((0, 0, -1), -deep)]
    things: list[Thing] = [Plane(np.array(normal, float), offset, rng.uniform(0.4, 1, 3)) for normal, offset in walls]
    things.append(Plane(np.array([0.0, 0.0, 1.0]), -1.0, rng.uniform(0.4, 1, 3)))  # behind the camera
    for _ in range(int(rng.integers(3, 9))):
        x, z = rng.uniform(-wide, wide) * 0.8, rng.uniform(1.8, deep - 0.5)
        colour = rng.uniform(0.2, 1, 3)
        if rng.random() < 0.5:
            radius = rng.uniform(0.2, 0.6)
            things.append(Sphere(np.array([x, radius, z]), radius, colour))
        else:
            half = rng.uniform(0.15, 0.6, 3)
            things.append(Box(np.array([x, half[1], z]), half, rng.uniform(0, math.pi), colour))
    return Scene(tuple(things), np.array([0.0, rng.uniform(1.2, 1.8), 0.0]), rng.uniform(0.05, 0.35))


def depth_set(counts: dict[str, int], side: int, seed: int) -> DepthSplits:
    """Render the parts of a depth set, each picture of a room of its own."""
    rng, parts = np.random.default_rng(seed), {}
    for part in PARTS:
        pairs = [render(random_scene(rng), side, rng) for _ in range(counts[part])]
        images = np.stack([picture for picture, _ in pairs]).transpose(0, 3, 1, 2).copy()
        depths = np.stack([depth for _, depth in pairs])
        parts[part] = DepthSet(torch.from_numpy(images), torch.from_numpy(depths))
    return DepthSplits("rooms", **parts)
