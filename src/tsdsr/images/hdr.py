"""Tone mapping of pictures with high dynamic range (PQ and HLG, ITU-R BT.2100) to sRGB."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tsdsr.images.color_spaces import ColorSpace, Floats, srgb_encoded, to_linear_srgb
from tsdsr.images.picture import Picture, strips

REFERENCE_WHITE = 203.0
"""Luminance in cd/m² of diffuse white (ITU-R BT.2408). It becomes white in sRGB unless brighter values need room."""

_HLG_PEAK, _HLG_GAMMA = 1000.0, 1.2
_LUMA = np.array([0.2627, 0.6780, 0.0593])
_OUTLIERS = 1e-4
"""Share of the pixels that may be brighter than the peak for which room is made."""


def tone_mapped(picture: Picture) -> Picture:
    """Convert a picture in PQ or HLG to sRGB.

    Values become luminances on a display of 1000 cd/m² (HLG) or those coded (PQ). The knee of ITU-R BT.2390, section
    5.4.1, reduces the brightest of the three sRGB channels to :data:`REFERENCE_WHITE`, and the others in proportion,
    so that hues stay. If nothing is brighter than diffuse white, nothing is reduced. Colours more saturated than sRGB
    holds are clipped.

    Args:
        picture (Picture): with ``metadata.hdr``.
    """
    space = picture.metadata.hdr
    assert space is not None
    linear = _luminances(space, picture.max_value)
    peak = _HLG_PEAK if space.transfer == "hlg" else _peak(picture, linear)
    at, reduced = _knee(peak)
    to_srgb = np.eye(1) if picture.grey else to_linear_srgb(space.primaries)
    pixels = np.empty_like(picture.pixels)
    for rows in strips(picture.height, picture.pixels[:1].nbytes):
        light = linear[picture.pixels[rows]]
        if space.transfer == "hlg":
            light *= _HLG_PEAK * (light[..., :1] if picture.grey else light @ _LUMA[:, None]) ** (_HLG_GAMMA - 1)
        light = (light @ to_srgb.T).clip(0)
        brightest = light.max(-1, keepdims=True)
        light *= np.interp(brightest, at, reduced) / np.maximum(brightest, 1e-9) / REFERENCE_WHITE
        pixels[rows] = np.rint(srgb_encoded(light.clip(0, 1)) * picture.max_value)
    notice = f"{space.hdr} is tone-mapped to sRGB"
    return replace(picture, pixels=pixels, metadata=replace(picture.metadata, hdr=None),
                   notices=(*picture.notices, notice))  # fmt: skip


_M1, _M2, _C1, _C2, _C3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128


def pq_luminance(signal: Floats) -> Floats:
    """Return the luminance in cd/m² of a PQ signal in [0, 1] (SMPTE ST 2084)."""
    root = signal ** (1 / _M2)
    luminance: Floats = 10_000 * (np.maximum(root - _C1, 0) / (_C2 - _C3 * root)) ** (1 / _M1)
    return luminance


def pq_signal(luminance: Floats) -> Floats:
    """Return the PQ signal in [0, 1] of a luminance in cd/m²."""
    power = (luminance / 10_000) ** _M1
    signal: Floats = ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2
    return signal


def hlg_scene(signal: Floats) -> Floats:
    """Return the linear scene light in [0, 1] of an HLG signal in [0, 1] (ITU-R BT.2100, table 5)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene: Floats = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    return scene


def _luminances(space: ColorSpace, max_value: int) -> Floats:
    """Return the luminance (PQ) or the scene light (HLG) of each stored value."""
    signal = space.signal(max_value)
    return pq_luminance(signal) if space.transfer == "pq" else hlg_scene(signal)


def _peak(picture: Picture, luminances: Floats) -> float:
    """Return the luminance of the brightest channels, but for :data:`_OUTLIERS`."""
    counts = np.zeros(len(luminances), np.int64)
    for rows in strips(picture.height, picture.pixels[:1].nbytes):
        counts += np.bincount(picture.pixels[rows].max(-1).ravel(), minlength=len(counts))
    brightest = len(counts) - 1 - int(np.searchsorted(np.cumsum(counts[::-1]), _OUTLIERS * counts.sum(), "right"))
    return max(float(luminances[brightest]), REFERENCE_WHITE)


def _knee(peak: float) -> tuple[Floats, Floats]:
    """Return luminances, and what they become on a display of :data:`REFERENCE_WHITE` if the picture has ``peak``.

    With E the PQ signal relative to that of the peak, m that of the display and k = 1.5 m - 0.5, values up to k stay.
    Above, with t = (E - k) / (1 - k): E' = (2t³ - 3t² + 1) k + (t³ - 2t² + t)(1 - k) + (3t² - 2t³) m.
    """
    top = pq_signal(np.array(peak))
    m = float(pq_signal(np.array(REFERENCE_WHITE)) / top)
    k = 1.5 * m - 0.5
    e = np.linspace(0, 1, 4096)
    t = ((e - k) / max(1 - k, 1e-9)).clip(0, 1)
    bent = (2 * t**3 - 3 * t**2 + 1) * k + (t**3 - 2 * t**2 + t) * (1 - k) + (3 * t**2 - 2 * t**3) * m
    return pq_luminance(e * top), pq_luminance(np.where(e <= k, e, bent) * top)
