"""The layers of factorised networks, as plain torch: what a stage repeats, by kind."""

from collections import OrderedDict

from torch import Tensor, nn

from search_spaces import BlockPosition, FactorisedPreset
from search_spaces.factorised_preset import CSP, INVERTED
from supernets.mbconv_layers import InvertedResidual
from supernets.subnet import ACTIVATIONS, ConvBN


class ResidualLayer(nn.Module):
    """Two convolutions, then the sum with their input: DAMO-YOLO's ``k1kx`` and ``kxkx`` (Xu et al., 2022).

    Args:
        in_width: Channels of its input.
        middle: Between the two.
        out_width: Of its output.
        kernels: Sides of their kernels.
        stride: Of the second.
        residual: Whether there is the sum.
        activation: After the first and after the sum.
    """

    def __init__(
        self,
        in_width: int,
        middle: int,
        out_width: int,
        kernels: tuple[int, int],
        *,
        stride: int = 1,
        residual: bool = True,
        activation: str,
    ):
        super().__init__()
        self.residual = residual
        self.reduce = ConvBN(in_width, middle, kernels[0], activation=activation)
        self.spatial = ConvBN(middle, out_width, kernels[1], stride=stride, activation=None)
        self.act = ACTIVATIONS[activation]()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, in_width, h, w)`` to ``(n, out_width, h / stride, w / stride)``, rounded up."""
        y: Tensor = self.spatial(self.reduce(x))
        y = self.act(x + y if self.residual else y)
        return y


class CrossStage(nn.Module):
    """A CSP stage (Wang et al., 2020) as DAMO-YOLO has it: half of the channels go through layers, half beside them.

    Departure: the halves are joined by the sum of a 1x1 convolution of each, which is one of both concatenated.
    """

    def __init__(
        self, in_width: int, middle: int, out_width: int, kernel: int, layers: int, *, stride: int, activation: str
    ):
        super().__init__()
        half = out_width // 2
        self.down = ConvBN(in_width, out_width, 3, stride=stride, activation=activation)
        self.aside = ConvBN(out_width, half, 1, activation=activation)
        self.main = ConvBN(out_width, half, 1, activation=activation)
        kernels = (1, kernel)
        self.layers = nn.Sequential(
            *(ResidualLayer(half, middle, half, kernels, activation=activation) for _ in range(layers))
        )
        self.join = ConvBN(half, out_width, 1, activation=None)
        self.join_aside = ConvBN(half, out_width, 1, activation=None)
        self.act = ACTIVATIONS[activation]()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, in_width, h, w)`` to ``(n, out_width, h / stride, w / stride)``, rounded up."""
        x = self.down(x)
        aside = self.aside(x)
        y: Tensor = self.act(self.join(self.layers(self.main(x))) + self.join_aside(aside))
        return y


Layer = InvertedResidual | ResidualLayer | CrossStage


def make_stage(
    preset: FactorisedPreset,
    stage: int,
    *,
    kind: str,
    kernel: int,
    in_width: int,
    middle: int,
    out_width: int,
    layers: int,
) -> "OrderedDict[str, nn.Module]":
    """Return the layers of a stage by name; kinds and kernels have names, and so weights, of their own.

    Args:
        preset: Says the stride and the activation.
        stage: Its number.
        kind: Of its layers.
        kernel: Side of their kernel.
        in_width: Channels of its input.
        middle: Inside each layer.
        out_width: Of its output.
        layers: How many.
    """
    stride, activation = preset.stages[stage].stride, preset.activation
    name = f"{kind}{kernel}"
    if kind == CSP:
        crossed = CrossStage(in_width, middle, out_width, kernel, layers, stride=stride, activation=activation)
        return OrderedDict[str, nn.Module]({name: crossed})
    found: OrderedDict[str, nn.Module] = OrderedDict()
    for index in range(layers):
        enters, step = (out_width, 1) if index else (in_width, stride)
        if kind in INVERTED:
            position = BlockPosition(stage, index, enters, out_width, step, activation)
            squeezed = preset.squeezed(middle) if kind == "mbconv_se" else None
            inverted = InvertedResidual(position, kernel=kernel, middle=middle, squeezed=squeezed)
            inverted.residual = index > 0
            found[f"{name}_{index}"] = inverted
        else:
            kernels = (1 if kind == "k1kx" else kernel, kernel)
            found[f"{name}_{index}"] = ResidualLayer(
                enters, middle, out_width, kernels, stride=step, residual=index > 0, activation=activation
            )
    return found
