"""Once-for-all's released accuracy predictors, as ours (Cai et al., 2020).

A perceptron from a one-hot encoding (``ofa_encoding``) to the accuracy on held-out *training* images, in fp32: some
points above that on ImageNet's validation images, in nearly the same order. ``calibrate`` brings it to measured
accuracies; before that, its interval is everything from 0 to 1, because nothing is known of its errors.

The one of the MobileNetV3 networks has inputs for eight resolutions and was trained at five of them, 160 to 224 pixels
in steps of 16; what it answers below is noise (more at 128 than at 160). So it predicts that part of a space alone; the
one of the ResNet50, in order at all of its own, predicts from 128 on. Departure: between two of its resolutions, the
first layer, which is linear in the one-hot resolution, is interpolated.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.errors import FileFormatError, UsageError
from nas.files import read_tensors, write_tensors
from predictors.accuracy import SCHEMA, SCHEMA_VERSION
from predictors.conformal import conformal_radius
from predictors.ofa_encoding import encoding_of
from predictors.ofa_layers import Layer, read_layers
from predictors.prediction import Prediction
from search_spaces import FLOATS, Genes, SearchSpace, get_space, make_space, preset_from_dict

KIND = "once-for-all"  # what the file says it is, under the schema of every accuracy predictor
PREDICTED = ("ofa-mbv3", "ofa-resnet50")  # the spaces of the two released ones
PRECISIONS = ("fp32",)
CHUNK = 1024  # rows predicted at a time


@dataclass(frozen=True)
class AccuracyScale:
    """From what the perceptron answers to measured accuracy: ``slope * answer + offset``, within ``radius``."""

    slope: float = 1.0
    offset: float = 0.0
    radius: float = 1.0


class OFAAccuracyPredictor:
    """Predicts ImageNet accuracies of once-for-all's subnets, as fractions.

    Args:
        space: What it predicts, such as ``known_part`` returns.
        layers: Weights ``(out, in)`` and biases ``(out,)``; the first reads the space's features.
        scale: Of the answers.
    """

    def __init__(self, space: SearchSpace, layers: Sequence[Layer], scale: AccuracyScale | None = None) -> None:
        self.space = space
        self.layers = tuple(layers)
        self.scale = scale or AccuracyScale()

    def predict(self, genes: Genes) -> Prediction:
        """Predict ``n`` networks from canonical rows ``(n, num_genes)`` of its own space."""
        answers = self.scale.slope * self._answers(genes) + self.scale.offset
        low, high = (np.clip(answers + sign * self.scale.radius, 0, 1) for sign in (-1, 1))
        return Prediction(answers.astype(np.float32), low.astype(np.float32), high.astype(np.float32))

    def calibrate(self, genes: Genes, accuracy: ArrayLike) -> Self:
        """Return the predictor brought to measured accuracies, by a line and the 90 % quantile of what is left.

        Args:
            genes: Canonical rows of its space ``(n, num_genes)``, 20 or more of them distinct; of equal ones the mean
                counts, so that none is both fitted to and judged.
            accuracy: Their measured accuracies, fractions ``(n,)``.

        Raises:
            UsageError: Too few accuracies, or ones that are no fractions.
        """
        measured = np.asarray(accuracy, np.float64)
        if measured.shape != (len(genes),) or len(genes) < 20:
            raise UsageError(f"{len(genes)} rows with accuracies {measured.shape}; allowed: 20 or more of each")
        if not ((measured >= 0) & (measured <= 1)).all():
            raise UsageError("accuracies outside 0 to 1; allowed: fractions")
        genes, measured = distinct_means(genes, measured)
        if len(genes) < 20:
            raise UsageError(f"{len(genes)} distinct rows; allowed: 20 or more")
        answers = self._answers(genes)
        fitted = np.arange(len(genes)) % 2 == 0  # the others set the interval
        slope, offset = np.polyfit(answers[fitted], measured[fitted], 1)
        errors = slope * answers[~fitted] + offset - measured[~fitted]
        scale = AccuracyScale(float(slope), float(offset), conformal_radius(errors))
        return type(self)(self.space, self.layers, scale)

    def _answers(self, genes: Genes) -> NDArray[np.float64]:
        parts = [self._forward(self.space.encode(genes[at : at + CHUNK])) for at in range(0, len(genes), CHUNK)]
        return np.concatenate([*parts, np.empty(0)])

    def _forward(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        for weight, bias in self.layers[:-1]:
            x = np.maximum(x @ weight.T + bias, 0)
        weight, bias = self.layers[-1]
        return (x @ weight[0] + bias[0]).astype(np.float64)

    def save(self, path: Path) -> None:
        """Write the predictor as safetensors, atomically."""
        import torch

        tensors = {
            f"{number}.{name}": torch.from_numpy(array)
            for number, layer in enumerate(self.layers)
            for name, array in zip(("weight", "bias"), layer, strict=True)
        }
        info = {
            "kind": KIND,
            "preset": self.space.preset.to_dict(),
            "scale": asdict(self.scale),
            "layers": len(self.layers),
        }
        write_tensors(path, tensors, SCHEMA, SCHEMA_VERSION, info)

    @classmethod
    def load(cls, path: Path, space: SearchSpace | None = None) -> Self:
        """Read what ``save`` wrote.

        Args:
            path: The file.
            space: The space it must be of, or of a part of it.

        Raises:
            FileFormatError: The file is damaged, or of another space.
        """
        tensors, info = read_tensors(path, SCHEMA, SCHEMA_VERSION)
        try:
            if info["kind"] != KIND:
                raise TypeError(f"its kind is {info['kind']!r}")
            own = make_space(preset_from_dict(info["preset"], str(path)), PRECISIONS)
            scale = AccuracyScale(**info["scale"])
            layers = [
                (tensors[f"{number}.weight"].numpy(), tensors[f"{number}.bias"].numpy())
                for number in range(info["layers"])
            ]
        except (KeyError, TypeError) as error:
            raise FileFormatError(f"{path}: does not describe once-for-all's accuracy predictor ({error})") from error
        part = own if space is None else known_part(space)
        if part.preset.digest != own.preset.digest:
            raise FileFormatError(f"{path}: predicts space {own.name!r} or another version of it, not {part.name!r}")
        return cls(part, layers, scale)


def distinct_means(genes: Genes, values: NDArray[np.float64]) -> tuple[Genes, NDArray[np.float64]]:
    """Return each distinct row once, in the order of their first, with the mean of its values ``(n,)``."""
    rows, first, place, counts = np.unique(genes, axis=0, return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(first)
    return rows[order], (np.bincount(place.ravel(), values) / counts)[order]


def import_ofa_predictor(checkpoint: str | Path, space: SearchSpace | None = None) -> OFAAccuracyPredictor:
    """Read an accuracy predictor that once-for-all released: for its MobileNetV3 networks, or for its ResNet50.

    Args:
        checkpoint: Its torch file, or an ``.npz`` with the same arrays.
        space: A space with the blocks and choices that it reads; without one, that of the two that fits.

    Raises:
        FileFormatError: The file is no such perceptron, or its inputs do not fit the space.
    """
    path = Path(checkpoint)
    (weight, bias), *rest = read_layers(path)
    wanted = [get_space(name) for name in PREDICTED] if space is None else [space]
    found = {_ofa_columns(part).shape[1]: part for part in map(known_part, wanted)}
    if weight.shape[1] not in found:
        encoded = " or ".join(f"space {part.name!r} has {count}" for count, part in found.items())
        raise FileFormatError(
            f"{path}: its first layer reads {weight.shape[1]} features; {encoded} as once-for-all encodes them"
        )
    known = found[weight.shape[1]]
    first = (weight.astype(np.float64) @ _ofa_columns(known).T).astype(np.float32)
    return OFAAccuracyPredictor(known, [(first, bias), *rest])


def known_part(space: SearchSpace) -> SearchSpace:
    """Return the part of a space that the predictor of its family was trained on: floats, within some resolutions.

    They are the widest floats of the space's menu, fp32 where it has none.

    Raises:
        UsageError: There is none.
    """
    low, high = encoding_of(space).trained
    resolutions = tuple(pixels for pixels in space.resolutions if low <= pixels <= high)
    if not resolutions:
        raise UsageError(f"space {space.name!r} has no resolution from {low} to {high} px, which the predictor knows")
    floats = tuple(precision for precision in space.precisions if precision in FLOATS) or PRECISIONS
    return make_space(replace(space.preset, resolutions=resolutions), floats[:1])


def _ofa_columns(space: SearchSpace) -> NDArray[np.float64]:
    """Return each of our features as a sum of OFA's, ``(num_features, theirs)``."""
    encoding = encoding_of(space)
    places = encoding.places(space)
    first, count = encoding.first_resolution(space), len(encoding.inputs)
    columns = np.zeros((space.num_features, 1 + max(max(places.values()), first + count - 1)))
    for name, column in zip(space.feature_names, columns, strict=True):
        what, _, value = name.partition("=")
        if what == "resolution":
            place = np.interp(int(value), encoding.inputs, np.arange(count))
            column[first : first + count] = np.maximum(0, 1 - np.abs(place - np.arange(count)))
        elif name in places:
            column[places[name]] = 1
    return columns
