"""Triton kernels of the depthwise convolution: compiled once a kernel side, stride and dtype, whatever the other sizes.

Images are in channels_last order and taps in order ``(k * k, c)``, so that the channels of a thread lie side by side. A
program computes ``GROUP`` strips, ``STRIP`` pixels of a row each, for ``BLOCK`` channels: it loads a pixel once for all
outputs of the strip that the pixel reaches. Sums are in float32. Triton's language is no Python to mypy.
"""

import triton
import triton.language as tl

STRIP = tl.constexpr(4)  # even, for stride 2
GROUP = tl.constexpr(32)
BLOCK = tl.constexpr(32)
CHANNELS = tl.constexpr(8)  # the channel count is a multiple of it: a thread loads as many at once
SIZES = ("count", "eighths", "height", "width")  # of the input; they change from step to step


@triton.jit
def _strips(group, count, rows, width):
    """Return image, row, first column and whether it exists, of every strip of a group."""
    index = group * GROUP + tl.arange(0, GROUP)
    across = tl.cdiv(width, STRIP)
    row = index // across
    image = row // rows
    return image, row - image * rows, (index - row * across) * STRIP, image < count


@triton.jit
def _pointers(images, image, row, column, channel, channels, height, width):
    """Return where the channels of a pixel of each strip's image are, ``(GROUP, BLOCK)``; a batch may exceed int32."""
    pixel = (image.to(tl.int64) * height + row) * width + column
    return images + (pixel * channels)[:, None] + channel[None, :]


@triton.jit
def _load_row(images, image, row, column, channel, channels, height, width, mask, LENGTH: tl.constexpr):
    """Return ``LENGTH`` pixels of each strip's image from a column on, zero outside of it."""
    pointers = _pointers(images, image, row, column, channel, channels, height, width)
    inside = (row >= 0) & (row < height)
    pixels = ()
    for i in tl.static_range(LENGTH):
        there = inside & (column + i >= 0) & (column + i < width)
        pixel = tl.load(pointers + i * channels, mask=mask & there[:, None], other=0.0)
        pixels += (pixel.to(tl.float32),)
    return pixels


@triton.jit
def _load_taps(taps, ky, channel, channels, KERNEL: tl.constexpr):
    """Return the taps of a row of the kernel, each ``(1, BLOCK)``."""
    row = ()
    for kx in tl.static_range(KERNEL):
        tap = tl.load(taps + (ky * KERNEL + kx) * channels + channel, mask=channel < channels, other=0.0)
        row += (tap.to(tl.float32)[None, :],)
    return row


@triton.jit
def _store_row(images, sums, image, row, column, channel, channels, height, width, mask):
    """Write a strip of each image, but for what is outside of it."""
    pointers = _pointers(images, image, row, column, channel, channels, height, width)
    for i in tl.static_range(STRIP):
        there = (row < height) & (column + i < width)
        tl.store(pointers + i * channels, sums[i].to(images.dtype.element_ty), mask=mask & there[:, None])


@triton.jit(do_not_specialize=SIZES)
def forward(x, taps, y, count, eighths, height, width, KERNEL: tl.constexpr, STRIDE: tl.constexpr):
    """Write ``y[oy, ox] = sum of x[oy * STRIDE + ky - pad, ox * STRIDE + kx - pad] * taps[ky, kx]``."""
    channels = eighths * CHANNELS
    blocks = tl.cdiv(channels, BLOCK)
    channel = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    out_height, out_width = tl.cdiv(height, STRIDE), tl.cdiv(width, STRIDE)
    image, row, column, exists = _strips(tl.program_id(0) // blocks, count, out_height, out_width)
    mask = exists[:, None] & (channel < channels)[None, :]
    top, left = row * STRIDE - KERNEL // 2, column * STRIDE - KERNEL // 2
    sums = (tl.zeros((GROUP, BLOCK), tl.float32),) * STRIP
    LENGTH: tl.constexpr = (STRIP - 1) * STRIDE + KERNEL
    for ky in range(KERNEL):
        pixels = _load_row(x, image, top + ky, left, channel, channels, height, width, mask, LENGTH)
        tap = _load_taps(taps, ky, channel, channels, KERNEL)
        more = ()
        for i in tl.static_range(STRIP):
            total = sums[i]
            for kx in tl.static_range(KERNEL):
                total += pixels[i * STRIDE + kx] * tap[kx]
            more += (total,)
        sums = more
    _store_row(y, sums, image, row, column, channel, channels, out_height, out_width, mask)


@triton.jit(do_not_specialize=SIZES)
def input_gradient(dy, taps, dx, count, eighths, height, width, KERNEL: tl.constexpr, STRIDE: tl.constexpr):
    """Write ``dx[iy, ix] = sum of dy[(iy + pad - ky) / STRIDE, (ix + pad - kx) / STRIDE] * taps[ky, kx]``.

    The rows of a program are equal modulo the stride, so that only taps that reach an output are read.
    """
    channels = eighths * CHANNELS
    blocks = tl.cdiv(channels, BLOCK)
    channel = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    phase = tl.program_id(0) // blocks % STRIDE  # of the rows
    out_height, out_width = tl.cdiv(height, STRIDE), tl.cdiv(width, STRIDE)
    image, row, column, exists = _strips(tl.program_id(0) // (blocks * STRIDE), count, out_height, width)
    mask = exists[:, None] & (channel < channels)[None, :]
    PAD: tl.constexpr = KERNEL // 2
    FIRST: tl.constexpr = -(PAD // STRIDE)  # output that a strip's first pixel reaches, after its column / STRIDE
    LENGTH: tl.constexpr = (STRIP - 1 + PAD) // STRIDE - FIRST + 1
    sums = (tl.zeros((GROUP, BLOCK), tl.float32),) * STRIP
    for ky in range((phase + PAD) % STRIDE, KERNEL, STRIDE):
        out_row = row + (phase + PAD - ky) // STRIDE
        left = column // STRIDE + FIRST
        pixels = _load_row(dy, image, out_row, left, channel, channels, out_height, out_width, mask, LENGTH)
        tap = _load_taps(taps, ky, channel, channels, KERNEL)
        more = ()
        for i in tl.static_range(STRIP):
            total = sums[i]
            for kx in tl.static_range((i + PAD) % STRIDE, KERNEL, STRIDE):
                total += pixels[(i + PAD - kx) // STRIDE - FIRST] * tap[kx]
            more += (total,)
        sums = more
    _store_row(dx, sums, image, row * STRIDE + phase, column, channel, channels, height, width, mask)


@triton.jit(do_not_specialize=(*SIZES, "chunks"))
def weight_gradient(x, dy, parts, count, eighths, height, width, chunks, KERNEL: tl.constexpr, STRIDE: tl.constexpr):
    """Write ``parts[chunk, ky, kx] = sum of x[oy * STRIDE + ky - pad, ox * STRIDE + kx - pad] * dy[oy, ox]``."""
    channels = eighths * CHANNELS
    blocks = tl.cdiv(channels, BLOCK)
    ky = tl.program_id(0) % KERNEL
    channel = tl.program_id(0) // KERNEL % blocks * BLOCK + tl.arange(0, BLOCK)
    chunk = tl.program_id(0) // (KERNEL * blocks)
    out_height, out_width = tl.cdiv(height, STRIDE), tl.cdiv(width, STRIDE)
    groups = tl.cdiv(count * out_height * tl.cdiv(out_width, STRIP), GROUP)
    LENGTH: tl.constexpr = (STRIP - 1) * STRIDE + KERNEL
    sums = (tl.zeros((GROUP, BLOCK), tl.float32),) * KERNEL
    for group in range(chunk, groups, chunks):
        image, row, column, exists = _strips(group, count, out_height, out_width)
        mask = exists[:, None] & (channel < channels)[None, :]
        top, left = row * STRIDE + ky - KERNEL // 2, column * STRIDE - KERNEL // 2
        pixels = _load_row(x, image, top, left, channel, channels, height, width, mask, LENGTH)
        slopes = _load_row(dy, image, row, column, channel, channels, out_height, out_width, mask, STRIP)
        more = ()
        for kx in tl.static_range(KERNEL):
            total = sums[kx]
            for i in tl.static_range(STRIP):
                total += pixels[i * STRIDE + kx] * slopes[i]
            more += (total,)
        sums = more
    first = (chunk * KERNEL + ky) * KERNEL
    for kx in tl.static_range(KERNEL):
        tl.store(parts + (first + kx) * channels + channel, tl.sum(sums[kx], axis=0), mask=channel < channels)
