"""What metaformers are made of: blocks on feature maps, then blocks with attention on tokens (Li et al., 2022).

Tokens are the rows of one matrix ``(n * tokens, width)``: every linear layer is then one matrix product with its bias,
which onnxruntime runs in one kernel, in integers too.

Departures from EfficientFormer: convolutions have no biases, which the batch norms after them make redundant; there is
one classifier, which the mean of its two (one for distillation) amounts to.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from search_spaces import MetaformerPreset
from supernets.subnet import ACTIVATIONS, ConvBN


class PoolMixer(nn.Module):
    """Moves every pixel towards the mean of the 3x3 pixels around it: the mean less the pixel is added, scaled."""

    def __init__(self, width: int, scale: float):
        super().__init__()
        self.pool = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
        self.pool_scale = nn.Parameter(torch.full((width,), scale))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, width, h, w)`` to the same shape."""
        scale = self.pool_scale.view(-1, 1, 1)
        return (1 - scale) * x + scale * self.pool(x)  # as products and a sum: a difference has no integer kernel


class ConvMixer(nn.Module):
    """Adds a depthwise 3x3 convolution, scaled."""

    def __init__(self, width: int, scale: float):
        super().__init__()
        self.layer = ConvBN(width, width, 3, groups=width, activation=None)
        self.conv_scale = nn.Parameter(torch.full((width,), scale))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, width, h, w)`` to the same shape."""
        return x + self.conv_scale.view(-1, 1, 1) * self.layer(x)


class ConvMLP(nn.Module):
    """Adds two 1x1 convolutions with an activation between them, scaled."""

    def __init__(self, width: int, hidden: int, *, activation: str, scale: float):
        super().__init__()
        self.expand = ConvBN(width, hidden, 1, activation=activation)
        self.project = ConvBN(hidden, width, 1, activation=None)
        self.scale = nn.Parameter(torch.full((width,), scale))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, width, h, w)`` to the same shape."""
        return x + self.scale.view(-1, 1, 1) * self.project(self.expand(x))


class Attention(nn.Module):
    """Adds self-attention with a bias for every offset between two pixels, scaled (Graham et al., LeViT, 2021).

    Args:
        width: Channels of a token.
        side: Height and width of the feature map that the tokens were. Biases are by offset in pixels, so those of a
            smaller map are the leading part of a larger one's.
        preset: Says the heads, their widths and the scale.
    """

    offsets: Tensor

    def __init__(self, width: int, side: int, preset: MetaformerPreset):
        super().__init__()
        self.tokens, self.heads = side * side, preset.heads
        self.parts = [preset.key_width, preset.key_width, preset.value_width]
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, self.heads * sum(self.parts))
        self.biases = nn.Parameter(torch.zeros(self.heads, side, side))
        self.register_buffer("offsets", _offsets(side), persistent=False)
        self.project = nn.Linear(self.heads * preset.value_width, width)
        self.scale = nn.Parameter(torch.full((width,), preset.layer_scale))

    def forward(self, x: Tensor) -> Tensor:
        """Map rows of tokens ``(n * tokens, width)`` to the same shape."""
        heads = self.qkv(self.norm(x)).view(-1, self.tokens, self.heads, sum(self.parts))
        query, key, value = heads.split(self.parts, dim=3)
        scores = (query * self.parts[0] ** -0.5).permute(0, 2, 1, 3) @ key.permute(0, 2, 3, 1)
        weights = (scores + self.biases.flatten(1)[:, self.offsets]).softmax(dim=-1)
        mixed = (weights @ value.permute(0, 2, 1, 3)).permute(0, 2, 1, 3)
        return x + self.scale * self.project(mixed.reshape(-1, self.heads * self.parts[2]))


class TokenMLP(nn.Module):
    """Adds two linear layers with an activation between them, scaled."""

    def __init__(self, width: int, hidden: int, *, activation: str, scale: float):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, hidden)
        self.act = ACTIVATIONS[activation]()
        self.project = nn.Linear(hidden, width)
        self.scale = nn.Parameter(torch.full((width,), scale))

    def forward(self, x: Tensor) -> Tensor:
        """Map rows of tokens ``(n * tokens, width)`` to the same shape."""
        return x + self.scale * self.project(self.act(self.expand(self.norm(x))))


class Rows(nn.Module):
    """Turns a feature map ``(n, width, h, w)`` into rows of tokens ``(n * h * w, width)``."""

    def __init__(self, width: int):
        super().__init__()
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, width, h, w)`` to ``(n * h * w, width)``."""
        return x.flatten(2).permute(0, 2, 1).reshape(-1, self.width)


class MeanToken(nn.Module):
    """Averages each image's tokens."""

    def __init__(self, tokens: int, width: int):
        super().__init__()
        self.tokens, self.width = tokens, width

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n * tokens, width)`` to ``(n, width)``."""
        return x.view(-1, self.tokens, self.width).mean(1)


def make_stem(channels: int, width: int, preset: MetaformerPreset) -> nn.Sequential:
    """Return the two 3x3 convolutions that images enter by."""
    return nn.Sequential(
        OrderedDict(
            first=ConvBN(channels, width // 2, 3, stride=2, activation="relu"),
            second=ConvBN(width // 2, width, 3, stride=preset.stem_stride // 2, activation="relu"),
        )
    )


def make_local_block(width: int, hidden: int, mixer: str, preset: MetaformerPreset) -> OrderedDict[str, nn.Module]:
    """Return the modules of a block that mixes pixels by pooling or a convolution."""
    mix = {"pool": PoolMixer, "conv": ConvMixer}[mixer](width, preset.layer_scale)
    mlp = ConvMLP(width, hidden, activation=preset.activation, scale=preset.layer_scale)
    return OrderedDict(mix=mix, mlp=mlp)


def make_attention_block(width: int, hidden: int, side: int, preset: MetaformerPreset) -> OrderedDict[str, nn.Module]:
    """Return the modules of a block that mixes tokens by attention."""
    mlp = TokenMLP(width, hidden, activation=preset.activation, scale=preset.layer_scale)
    return OrderedDict(attention=Attention(width, side, preset), token_mlp=mlp)


def make_embedding(in_width: int, width: int, stride: int) -> ConvBN:
    """Return the convolution that a stage but the first begins with."""
    return ConvBN(in_width, width, 3, stride=stride, activation=None)


def make_head(width: int, tokens: int, classes: int, dropout: float) -> OrderedDict[str, nn.Module]:
    """Return the modules that map rows of tokens to logits."""
    return OrderedDict(
        norm=nn.LayerNorm(width),
        mean=MeanToken(tokens, width),
        dropout=nn.Dropout(dropout),
        classifier=nn.Linear(width, classes),
    )


def _offsets(side: int) -> Tensor:
    """Return for each pair of pixels the number of their offset, ``(side ** 2, side ** 2)``."""
    rows, columns = (grid.flatten() for grid in torch.meshgrid(*[torch.arange(side, device="cpu")] * 2, indexing="ij"))
    down, right = ((at[:, None] - at).abs() for at in (rows, columns))
    return down * side + right
