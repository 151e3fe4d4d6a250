"""FastDepth's network: depth a pixel, from a MobileNet encoder and a decoder of depthwise separable convolutions.

Wofk et al., "FastDepth: Fast Monocular Depth Estimation on Embedded Systems", ICRA 2019: five 5 x 5 blocks, each
followed by nearest upsampling by 2, with additive skips from the encoder. Departure: the last layer is a plain
convolution with a bias, without batch norm and ReLU, which stop the gradient where a depth comes out below 0.

``nas prune nas.compression.fastdepth:fastdepth --data DEPTHS.npz …`` prunes it.
"""

from torch import Tensor, nn
from torch.nn import functional

from nas.errors import UsageError

ENCODER = (  # output channels and stride of MobileNet's depthwise separable blocks, after a stem of 32 channels
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1),
)  # fmt: skip
DECODER = (512, 256, 128, 64, 32)
SKIPS = {1: 4, 2: 2, 3: 0}  # from which block of the encoder a block of the decoder is added to
STRIDE = 32
"""Images have to be a multiple of it on each side."""


class FastDepth(nn.Module):
    """Images ``(n, 3, h, w)`` to depths ``(n, 1, h, w)`` in metres.

    Args:
        width: Factor on all channels, which are multiples of 8.
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        if not 0.1 <= width <= 2:
            raise UsageError(f"FastDepth of width {width}; allowed: 0.1 to 2")

        def scaled(channels: int) -> int:
            return max(8, round(channels * width / 8) * 8)

        now = scaled(32)
        self.stem = nn.Sequential(*_convolution(3, now, 3, stride=2))
        encoder, decoder = [], []
        for channels, stride in ENCODER:
            encoder.append(_separable(now, scaled(channels), 3, stride))
            now = scaled(channels)
        for channels in DECODER:
            decoder.append(_separable(now, scaled(channels), 5, 1))
            now = scaled(channels)
        self.encoder, self.decoder = nn.ModuleList(encoder), nn.ModuleList(decoder)
        self.head = nn.Conv2d(now, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return depths at the size of the images."""
        x, kept = self.stem(x), []
        for block in self.encoder:
            x = block(x)
            kept.append(x)
        for number, block in enumerate(self.decoder):
            x = functional.interpolate(block(x), scale_factor=2.0, mode="nearest")
            if number in SKIPS:
                x = x + kept[SKIPS[number]]
        return self.head(x)


def fastdepth(width: float = 1.0) -> FastDepth:
    """Return FastDepth's network as it is initialised."""
    return FastDepth(width)


def _convolution(inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


def _separable(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    depthwise = _convolution(inputs, inputs, kernel, stride=stride, groups=inputs)
    return nn.Sequential(*depthwise, *_convolution(inputs, outputs, 1))
