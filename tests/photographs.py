"""An image folder as a newcomer has one: pieces of photographs that scikit-image ships, a class a photograph."""

import importlib.util
from pathlib import Path

import pytest
from PIL import Image

PHOTOGRAPHS = {
    "astronaut": "astronaut.png",
    "cat": "chelsea.png",
    "coffee": "coffee.png",
    "motorcycle": "motorcycle_left.png",
    "rocket": "rocket.jpg",
}
TILE = 48  # pixels; tiles do not overlap, so that no test image shows a pixel of a training image
MOST = 64  # tiles a photograph


def photograph_folder(folder: Path) -> Path:
    """Write some 250 colour images of 48 pixels, one subfolder a class; skip the test without scikit-image."""
    found = importlib.util.find_spec("skimage")
    if found is None or found.origin is None:
        pytest.skip("scikit-image, whose photographs these are, is not installed; pip install 'hwnas[dev]'")
    for name, file in PHOTOGRAPHS.items():
        (folder / name).mkdir(parents=True)
        with Image.open(Path(found.origin).parent / "data" / file) as opened:
            photo = opened.convert("RGB")
        corners = [
            (left, top)
            for top in range(0, photo.height - TILE + 1, TILE)
            for left in range(0, photo.width - TILE + 1, TILE)
        ]
        for left, top in corners[:: -(-len(corners) // MOST)]:
            photo.crop((left, top, left + TILE, top + TILE)).save(folder / name / f"{left}-{top}.png")
    return folder
