"""The colour space and the ICC profile in the headers of BMP versions 4 and 5, which Pillow does not read."""

from __future__ import annotations

import struct

import numpy as np

from tsdsr.images.color_spaces import ColorSpace, Primaries, gamma_space
from tsdsr.images.encoded import EncodedImage

_HEADER = 14
"""Length of the file header, which precedes the bitmap header."""

_CALIBRATED, _EMBEDDED = 0, int.from_bytes(b"MBED", "big")
_MOST_PROFILE = 1 << 24


def bmp_space(head: bytes) -> ColorSpace | None:
    """Return the space that a header declares with end points and gamma; None if it is sRGB or another one.

    Args:
        head (bytes): the first 138 bytes of the file.

    Raises:
        ValueError: The values are not credible.
    """
    if _version(head) < 4 or struct.unpack_from("<I", head, _HEADER + 56)[0] != _CALIBRATED:
        return None
    ends = np.array(struct.unpack_from("<9i", head, _HEADER + 60)).reshape(3, 3) / 2**30
    gamma = np.array(struct.unpack_from("<3I", head, _HEADER + 96)) / 65536
    if not ends.any() or not gamma.all():
        return None
    exponent = float(gamma.mean())
    return gamma_space(1 / exponent if exponent < 1 else exponent, _chromaticities(ends))


def _chromaticities(ends: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> Primaries:
    """Return the primaries of end points (3, 3), which are X, Y, Z of red, green and blue or their chromaticities."""
    sums = ends.sum(1, keepdims=True)
    if (sums <= 0).any():
        raise ValueError("end points that are no colours")
    white = ends.sum(0) / ends.sum()
    if np.abs(sums - 1).max() < 0.01:  # chromaticities x, y, z: white is not told
        white = np.array([0.3127, 0.329, 0.3583])
    x = np.concatenate([white[:2], (ends / sums)[:, :2].ravel()])
    return x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]


def bmp_profile(file: EncodedImage) -> bytes | None:
    """Return the ICC profile embedded in a BMP of version 5."""
    head = file.head(_HEADER + 124)
    if _version(head) < 5 or struct.unpack_from("<I", head, _HEADER + 56)[0] != _EMBEDDED:
        return None
    at, length = struct.unpack_from("<2I", head, _HEADER + 112)
    if length > _MOST_PROFILE:
        return None
    with file.stream() as stream:
        stream.seek(_HEADER + at)
        return stream.read(length)


def _version(head: bytes) -> int:
    """Return 5, 4, or 0 for older ones and for what is no BMP."""
    if len(head) < _HEADER + 4 or head[:2] != b"BM":
        return 0
    size = struct.unpack_from("<I", head, _HEADER)[0]
    return 0 if len(head) < _HEADER + min(size, 124) else {108: 4, 124: 5}.get(size, 0)
