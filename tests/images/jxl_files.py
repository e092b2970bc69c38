"""JPEG XL files whose header says what no encoder at hand writes."""

from __future__ import annotations

from typing import Any

import pytest

from tsdsr.images.jpeg_xl import _Bits, _size
from tsdsr.images.picture import Pixels

pyjpegxl: Any = pytest.importorskip("pyjpegxl", reason="JPEG XL needs the extra jxl")

SRGB, DISPLAY_P3, PQ, HLG = (1, 13), (11, 13), (9, 16), (9, 18)
"""Primaries and transfer characteristics (ITU-T H.273)."""


class BitWriter:
    """Numbers, the least significant bit first."""

    def __init__(self) -> None:
        self.value = self.count = 0

    def put(self, *numbers: tuple[int, int]) -> None:
        """Append numbers of some bits each."""
        for number, bits in numbers:
            self.value |= number << self.count
            self.count += bits

    def choice(self, number: int) -> None:
        """Append one of an enumeration."""
        if number < 2:
            self.put((number, 2))
        else:
            self.put((2, 2), (number - 2, 4)) if number < 18 else self.put((3, 2), (number - 18, 6))

    def content(self) -> bytes:
        """Return whole bytes."""
        return self.value.to_bytes((self.count + 7) // 8, "little")


def declaring(
    pixels: Pixels,
    *,
    orientation: int = 1,
    colour: tuple[int, int] | None = None,
    size: tuple[int, int] | None = None,
    animated: bool = False,
    floating: bool = False,
) -> bytes:
    """A lossless codestream of 8-bit RGB with another header, see 18181-1, annex D."""
    encoded = pyjpegxl.encode_from_numpy(pixels, lossless=True)
    start = _Bits(encoded[2:])
    before = start._left
    _size(start)
    frame = encoded[2 + (before - start._left + 12 + 7) // 8 :]  # 12 bits say that it is 8-bit sRGB
    width, height = size or (pixels.shape[1], pixels.shape[0])
    bits = BitWriter()
    bits.put((0, 1), (3, 2), (height - 1, 30), (0, 3), (3, 2), (width - 1, 30))
    bits.put((0, 1), (1, 1), (orientation - 1, 3), (0, 2), (animated, 1))
    bits.put((floating, 1), (0, 2), (1, 1), (0, 2), (0, 1))  # 8 bits, no extra channels, no XYB
    bits.put((colour is None, 1))
    if colour is not None:
        bits.put((0, 1))
        for number in (0, 1, colour[0]):  # RGB, D65
            bits.choice(number)
        bits.put((0, 1))
        bits.choice(colour[1])
        bits.choice(1)  # relative colorimetric
    bits.put((1, 1), (0, 2), (1, 1))
    return encoded[:2] + bits.content() + bytes(frame)
