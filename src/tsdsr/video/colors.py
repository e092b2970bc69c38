"""Frames of a video ↔ pixels that the model takes: the right YUV matrix and range in both directions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tsdsr.images.picture import Pixels
from tsdsr.video.source import FULL, LIMITED, MATRICES, VideoSource

if TYPE_CHECKING:
    from tsdsr.video.encoding import Encoding

_WHITE = {LIMITED: 255 << 8, FULL: 1023 << 6}
"""What swscale makes of white in 10 bits of each range when it converts to 16-bit RGB; its black is 0."""


def to_pixels(frame: Any, source: VideoSource) -> Pixels:
    """Convert a decoded frame to pixels (h, w, 3), or (h, w, 1) if it is grey; uint8, or uint16 above 8 bits.

    Args:
        frame (av.VideoFrame): a frame of the source. Transparency is ignored.
        source (VideoSource): its matrix and range.
    """
    deep = source.bits > 8
    grey = source.chroma == "gray"
    name = ("gray16le" if deep else "gray") if grey else ("rgb48le" if deep else "rgb24")
    is_rgb = source.chroma == "rgb"
    converted = frame.reformat(
        format=name,
        src_colorspace=None if is_rgb else MATRICES[source.matrix],
        src_color_range=FULL if is_rgb else source.range,
        dst_color_range=FULL,
        interpolation=_accurate(),
    )
    pixels: Pixels = converted.to_ndarray()
    if deep and not is_rgb:
        stretched = pixels.astype(np.float32)
        stretched *= 65535 / _WHITE[source.range]
        pixels = np.rint(stretched, out=stretched).clip(0, 65535).astype(np.uint16)
    return pixels[..., None] if grey else pixels


def to_frame(pixels: Pixels, encoding: Encoding) -> Any:
    """Convert pixels (H, W, 1 or 3), uint8 or uint16, to a frame in the pixel format, matrix and range of a result.

    Returns:
        av.VideoFrame: without a time stamp; it carries the colour codes of the result.
    """
    import av

    deep, grey = pixels.dtype == np.uint16, pixels.shape[2] == 1
    is_rgb = encoding.pixel_format.startswith("gbr")
    if deep and not is_rgb:
        squeezed = pixels.astype(np.float32)
        squeezed *= _WHITE[encoding.range] / 65535
        pixels = np.rint(squeezed, out=squeezed).astype(np.uint16)
    name = ("gray16le" if deep else "gray") if grey else ("rgb48le" if deep else "rgb24")
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels[..., 0] if grey else pixels), format=name)
    frame.color_range = FULL
    frame = frame.reformat(
        format=encoding.pixel_format,
        dst_colorspace=None if is_rgb else MATRICES[encoding.matrix],
        src_color_range=FULL,
        dst_color_range=FULL if is_rgb else encoding.range,
        interpolation=_accurate(),
    )
    frame.color_primaries, frame.color_trc = encoding.primaries, encoding.transfer
    frame.colorspace = 0 if is_rgb else encoding.matrix
    frame.color_range = FULL if is_rgb else encoding.range
    return frame


def _accurate() -> int:
    """Return the flags of swscale for the best conversion: its default rounds coarsely and halves colours' width."""
    from av.video.reformatter import Interpolation

    flags = Interpolation.BICUBIC | Interpolation.ACCURATE_RND
    return int(flags | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP)
