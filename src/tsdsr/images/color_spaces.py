"""Colour spaces that files declare without an ICC profile: primaries, white, and the curve of the stored values.

Code points are those of ITU-T H.273 (CICP), which PNG, AVIF and HEIC share.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Primaries = tuple[float, float, float, float, float, float, float, float]
"""Chromaticities x, y of white, red, green and blue."""

_D65, _C = (0.3127, 0.329), (0.31, 0.316)
SRGB_PRIMARIES: Primaries = (*_D65, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
ADOBE_PRIMARIES: Primaries = (*_D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
_SMPTE_C: Primaries = (*_D65, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07)

_PRIMARIES: dict[int, tuple[str, Primaries]] = {
    1: ("BT.709", SRGB_PRIMARIES),
    2: ("unspecified primaries", SRGB_PRIMARIES),
    4: ("BT.470 M", (*_C, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08)),
    5: ("BT.601 with 625 lines", (*_D65, 0.64, 0.33, 0.29, 0.6, 0.15, 0.06)),
    6: ("BT.601 with 525 lines", _SMPTE_C),
    7: ("SMPTE 240M", _SMPTE_C),
    8: ("generic film", (*_C, 0.681, 0.319, 0.243, 0.692, 0.145, 0.049)),
    9: ("BT.2020", (*_D65, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046)),
    10: ("CIE XYZ", (1 / 3, 1 / 3, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0)),
    11: ("DCI-P3", (0.314, 0.351, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)),
    12: ("Display P3", (*_D65, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)),
    22: ("EBU 3213", (*_D65, 0.63, 0.34, 0.295, 0.605, 0.155, 0.077)),
}

_TRANSFERS: dict[int, Literal["srgb", "pq", "hlg"] | float] = {
    **dict.fromkeys((1, 2, 6, 7, 11, 12, 13, 14, 15), "srgb"),
    4: 2.2, 5: 2.8, 8: 1.0, 16: "pq", 17: 2.6, 18: "hlg",
}  # fmt: skip
"""The camera curves of video (BT.709, BT.601, BT.2020) count as sRGB's: still pictures that carry these codes were
graded on displays of about that curve, and viewers show them so."""

_TOLERANCE = 0.003
"""Chromaticities that differ by less are the same: writers round them."""

_NEAR_SRGB = (2.1, 2.3)
"""A pure power with an exponent in this range looks like the curve of sRGB."""


@dataclass(frozen=True, eq=False)
class ColorSpace:
    """A colour space of RGB or grey values.

    Attributes:
        name (str): name for messages.
        primaries (tuple): chromaticities of white, red, green and blue.
        transfer: "srgb"; the exponent of a pure power; "pq" or "hlg" for HDR (ITU-R BT.2100); or tables (1 or 3, n)
            that map evenly spaced values to linear ones in [0, 1].
        full_range (bool): whether black and white are the ends of the scale; otherwise they are 16 and 235 of 255.
    """

    name: str
    primaries: Primaries = SRGB_PRIMARIES
    transfer: Literal["srgb", "pq", "hlg"] | float | Floats = "srgb"
    full_range: bool = True

    @classmethod
    def of_cicp(cls, primaries: int, transfer: int, full_range: bool = True) -> ColorSpace:
        """Return the space of two code points of ITU-T H.273.

        Raises:
            ValueError: A code point is reserved or has no use in still pictures.
        """
        if primaries not in _PRIMARIES or transfer not in _TRANSFERS:
            raise ValueError(f"colour primaries {primaries} with transfer characteristics {transfer}")
        name, chromaticities = _PRIMARIES[primaries]
        curve = _TRANSFERS[transfer]
        if isinstance(curve, float):
            name += f" with {_gamma_name(curve)}"
        return cls(name, chromaticities, curve, full_range)

    @property
    def hdr(self) -> str:
        """Name of the HDR curve, or an empty string."""
        names = {"pq": "PQ", "hlg": "HLG"}
        return names[self.transfer] if isinstance(self.transfer, str) and self.transfer in names else ""

    @property
    def has_srgb_primaries(self) -> bool:
        """Whether the primaries are those of sRGB."""
        return _same(self.primaries, SRGB_PRIMARIES)

    @property
    def near_srgb(self) -> bool:
        """Whether values may stay as they are: the curve is that of sRGB or a power close to it."""
        if not self.full_range:
            return False
        if isinstance(self.transfer, float):
            return _NEAR_SRGB[0] <= self.transfer <= _NEAR_SRGB[1]
        return isinstance(self.transfer, str) and not self.hdr

    def signal(self, max_value: int) -> Floats:
        """Return the signal in [0, 1] of each stored value from 0 to ``max_value``."""
        levels = np.linspace(0, 1, max_value + 1)
        return levels if self.full_range else ((levels * 255 - 16) / 219).clip(0, 1)

    def srgb_values(self, max_value: int) -> Floats:
        """Return the value, on the curve of sRGB and in [0, 1], of each stored value (1 or 3, max_value + 1)."""
        signal = self.signal(max_value)[None]
        if isinstance(self.transfer, float):
            return srgb_encoded(signal**self.transfer)
        if isinstance(self.transfer, np.ndarray):
            at = np.linspace(0, 1, self.transfer.shape[1])
            return srgb_encoded(np.stack([np.interp(signal[0], at, table) for table in self.transfer]))
        return signal

    def profile(self) -> bytes:
        """Build an ICC profile for RGB with these primaries and the curve of sRGB, or the power close to it."""
        near = self.near_srgb and isinstance(self.transfer, float)
        return _matrix_profile(self.name, self.primaries, float(self.transfer) if near else None)


ADOBE_RGB = ColorSpace("Adobe RGB", ADOBE_PRIMARIES, 563 / 256)


def gamma_space(exponent: float, primaries: Primaries | None) -> ColorSpace:
    """Return the space of values that a display raises to ``exponent``.

    Raises:
        ValueError: The exponent is not credible, or the primaries do not span a triangle.
    """
    if not 0.1 <= exponent <= 10:
        raise ValueError(f"a gamma of {exponent:.3g}")
    primaries = primaries or SRGB_PRIMARIES
    name = primaries_name(primaries)
    curve = _gamma_name(exponent)
    return ColorSpace(curve if name == "BT.709" else f"{name} with {curve}", primaries, float(exponent))


def primaries_name(primaries: Primaries) -> str:
    """Return the name of primaries, or say that they have none.

    Raises:
        ValueError: The primaries do not span a triangle.
    """
    to_xyz(primaries)
    for name, known in (*_PRIMARIES.values(), ("Adobe RGB", ADOBE_PRIMARIES)):
        if _same(primaries, known):
            return name
    return "primaries without a name"


def _same(primaries: Primaries, others: Primaries) -> bool:
    return bool(np.abs(np.subtract(primaries, others)).max() < _TOLERANCE)


def _gamma_name(exponent: float) -> str:
    return "linear values" if abs(exponent - 1) < 0.005 else f"gamma {exponent:.2g}"


def srgb_encoded(linear: Floats) -> Floats:
    """Apply the curve of sRGB (IEC 61966-2-1) to linear values in [0, 1]."""
    y: Floats = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 0) ** (1 / 2.4) - 0.055)
    return y


def to_xyz(primaries: Primaries) -> Floats:
    """Return the matrix (3, 3) from linear RGB to CIE XYZ, where white has Y = 1 (SMPTE RP 177).

    Raises:
        ValueError: The chromaticities do not span a triangle.
    """
    xy = np.reshape(primaries, (4, 2))
    if not np.isfinite(xy).all() or xy[0, 1] <= 0:
        raise ValueError("primaries that are no colours")
    columns = np.stack([xy[:, 0], xy[:, 1], 1 - xy.sum(1)])
    white, corners = columns[:, 0] / xy[0, 1], columns[:, 1:]
    if abs(np.linalg.det(corners)) < 1e-3:
        raise ValueError("primaries that span no triangle")
    matrix: Floats = corners * np.linalg.solve(corners, white)
    return matrix


_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_D50 = np.array([0.9642, 1.0, 0.8249])


def adapted(primaries: Primaries) -> tuple[Floats, Floats]:
    """Return the matrix (3, 3) from linear RGB to XYZ under D50, and the Bradford adaptation (3, 3) it contains."""
    matrix = to_xyz(primaries)
    cone = _BRADFORD @ _D50 / (_BRADFORD @ matrix.sum(1))
    adaptation: Floats = np.linalg.inv(_BRADFORD) @ np.diag(cone) @ _BRADFORD
    return adaptation @ matrix, adaptation


def to_linear_srgb(primaries: Primaries) -> Floats:
    """Return the matrix (3, 3) from linear RGB with these primaries to linear sRGB. White stays white."""
    matrix: Floats = np.linalg.inv(adapted(SRGB_PRIMARIES)[0]) @ adapted(primaries)[0]
    return matrix


def _matrix_profile(name: str, primaries: Primaries, exponent: float | None) -> bytes:
    """Build an ICC profile of version 4 (ICC.1:2010, 8.3.3) with the curve of sRGB or a power."""
    matrix, adaptation = adapted(primaries)
    curve = (3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045) if exponent is None else (0, exponent)
    tone = struct.pack(">4s4xHxx", b"para", int(curve[0])) + _fixed(curve[1:])
    tags = {
        b"desc": _text(name),
        b"cprt": _text("No copyright"),
        b"wtpt": b"XYZ \0\0\0\0" + _fixed(_D50),
        b"chad": b"sf32\0\0\0\0" + _fixed(adaptation.ravel()),
        **{kind: b"XYZ \0\0\0\0" + _fixed(matrix[:, i]) for i, kind in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))},
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), tone),
    }
    start = 132 + 12 * len(tags)
    placed: dict[bytes, int] = {}
    table, data = struct.pack(">I", len(tags)), b""
    for kind, body in tags.items():
        if body not in placed:
            placed[body] = start + len(data)
            data += body + bytes(-len(body) % 4)
        table += kind + struct.pack(">II", placed[body], len(body))
    head = struct.pack(">I4xI4s4s4s6H4s", start + len(data), 0x04300000, b"mntr", b"RGB ", b"XYZ ",
                       2020, 1, 1, 0, 0, 0, b"acsp").ljust(68, b"\0") + _fixed(_D50)  # fmt: skip
    return head.ljust(128, b"\0") + table + data


def _fixed(values: Floats | tuple[float, ...]) -> bytes:
    """Encode numbers as s15Fixed16."""
    return struct.pack(f">{len(values)}i", *(round(float(v) * 65536) for v in values))


def _text(text: str) -> bytes:
    encoded = text.encode("utf-16-be")
    return struct.pack(">4s4xII2s2sII", b"mluc", 1, 12, b"en", b"US", len(encoded), 28) + encoded
