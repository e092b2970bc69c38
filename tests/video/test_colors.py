"""Known colours through the matrices and ranges of video, in both directions."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.video.clips import av
from tsdsr.video.colors import to_frame, to_pixels
from tsdsr.video.encoding import Encoding
from tsdsr.video.source import VideoSource

KR_KB = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}
"""Matrix → weights of red and blue: ITU-R BT.709, BT.601 (625 and 525 lines), BT.2020."""

COLORS = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1), (0, 0, 0), (0.5, 0.5, 0.5), (0.2, 0.7, 0.4), (0.9, 0.1, 0.6)]


def yuv(color: tuple[float, ...], matrix: int, full: bool, bits: int) -> list[int]:
    """Return the code values of a colour by the standards' own formulas."""
    kr, kb = KR_KB[matrix]
    red, green, blue = color
    y = kr * red + (1 - kr - kb) * green + kb * blue
    u, v, unit = (blue - y) / (2 * (1 - kb)), (red - y) / (2 * (1 - kr)), 2 ** (bits - 8)
    if full:
        top = 2**bits - 1
        return [min(top, round(code)) for code in (y * top, u * top + 128 * unit, v * top + 128 * unit)]
    return [round(code * unit) for code in (16 + 219 * y, 128 + 224 * u, 128 + 224 * v)]


@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", sorted(KR_KB))
def test_known_colors(matrix: int, full: bool, bits: int) -> None:
    name = "yuv420p" if bits == 8 else "yuv420p10le"
    kind = np.uint8 if bits == 8 else np.uint16
    color_range = 2 if full else 1
    source = VideoSource(
        Path(), 0, 32, 16, "420", bits, matrix, color_range, 1, 1, Fraction(1, 25), Fraction(25), 0.0, 1, 0.04,
        Fraction(1), None, (),
    )  # fmt: skip
    encoding = Encoding(
        "h264", None, None, name, 32, 16, Fraction(1), matrix, color_range, 1, 1, Fraction(1, 25), Fraction(25), ()
    )
    for color in COLORS:
        codes = yuv(color, matrix, full, bits)
        frame = av.VideoFrame(32, 16, name)
        for plane, code in zip(frame.planes, codes, strict=True):
            plane.update(np.full(plane.buffer_size // kind().itemsize, code, kind).tobytes())
        pixels = to_pixels(frame, source)
        assert pixels.dtype == kind
        wrong = np.abs(pixels[8, 16] / np.iinfo(kind).max - color).max() * (2**bits - 1)
        assert wrong <= (1.01 if bits == 8 else 1.5), (color, wrong)
        back = to_frame(pixels, encoding)
        found = [int(np.frombuffer(plane, kind)[0]) for plane in back.planes]
        assert np.abs(np.subtract(found, codes)).max() <= (bits == 10) + 1, (color, found, codes)
        assert (back.colorspace, back.color_range) == (matrix, color_range)
