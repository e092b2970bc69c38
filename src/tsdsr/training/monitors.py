"""Measurements during distillation: directions (figure 3), score gaps by time (figure 5), grids."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tsdsr.diffusion.losses import WalkPoint
from tsdsr.diffusion.process import NoiseProcess
from tsdsr.errors import InvalidInputError


def true_direction(process: NoiseProcess, z_t: Tensor, z_hq: Tensor, t: Tensor) -> Tensor:
    """Compute the native prediction at ``z_t`` that leads to ``z_hq`` in one step.

    Args:
        process (NoiseProcess): relates latents, noise and predictions.
        z_t (Tensor): any noisy latent, (B, C, h, w).
        z_hq (Tensor): target latent, same shape.
        t (Tensor): times above 0, shape (B,).
    """
    times = t.to(z_t.device, torch.promote_types(z_t.dtype, torch.float32))
    alpha, sigma = (c.reshape(-1, *(1,) * (z_t.ndim - 1)) for c in process.coefficients(times))
    return process.to_native(z_hq, (z_t - alpha * z_hq) / sigma, t)


def direction_cosines(process: NoiseProcess, point: WalkPoint, z_hq: Tensor) -> tuple[Tensor, Tensor]:
    """Figure 3: cosine between the teacher's direction and the true one, from ``z_hat_t`` and from ``z_hq_t``.

    Args:
        process (NoiseProcess): see :func:`true_direction`.
        point (WalkPoint): the first point of a walk, where both latents have the same noise.
        z_hq (Tensor): high-quality latents (B, C, h, w).

    Returns:
        tuple of Tensor: cosines per sample, shape (B,), for ``z_hat`` and ``z_hq``.
    """

    def cosine(prediction: Tensor, z_t: Tensor) -> Tensor:
        wanted = true_direction(process, z_t, z_hq, point.t)
        return F.cosine_similarity(prediction.flatten(1).float(), wanted.flatten(1).float())

    p = point.predictions
    return cosine(p.teacher_hat, point.z_hat_t), cosine(p.teacher_hq, point.z_hq_t)


def score_gap(point: WalkPoint) -> Tensor:
    """Figure 5: mean absolute difference between teacher and fake at ``z_hat_t``, per sample, shape (B,)."""
    return (point.predictions.teacher_hat - point.predictions.fake_hat).abs().flatten(1).float().mean(1)


class ScoreGapByTime:
    """Running mean of the score gap in equal bins of time.

    Args:
        bins (int): number of bins between 0 and 1000.
        momentum (float): weight of the past in each bin's mean.
    """

    def __init__(self, bins: int = 10, momentum: float = 0.9) -> None:
        self.bins, self.momentum = bins, momentum
        self.means: dict[int, float] = {}
        self._new: list[tuple[Tensor, Tensor]] = []

    def add(self, t: Tensor, gap: Tensor) -> None:
        """Add one value per sample, both of shape (B,), without waiting for the device."""
        self._new.append((t.detach(), gap.detach()))

    def figures(self) -> dict[str, float]:
        """Return ``vsd_gap/<lower end of the bin>`` → mean for all non-empty bins. Non-finite gaps are ignored."""
        for t, gap in self._new:
            numbers = (t / 1000 * self.bins).long().clamp(0, self.bins - 1).tolist()
            for number, value in zip(numbers, gap.tolist(), strict=True):
                if math.isfinite(value):
                    old = self.means.get(number, value)
                    self.means[number] = self.momentum * old + (1 - self.momentum) * value
        self._new.clear()
        width = 1000 // self.bins
        return {f"vsd_gap/{number * width:04d}": self.means[number] for number in sorted(self.means)}


def grid_excess(images: Iterable[Tensor], periods: Sequence[int]) -> dict[int, float]:
    """Measure the excess of the spectrum at the harmonics of a period, in dB, which indicates a grid.

    A grid keeps its phase from row to row; image content does not. The complex spectra of all rows (and columns) of an
    image are averaged, each normalised by its own strength so that flat regions count as much as textured ones. The
    remaining power at each multiple of ``1 / period`` is compared with the median of its neighbourhood; the largest
    excess counts. Photographs are near 0 dB. Subtract the value of the ground truth to be independent of content.

    Args:
        images (iterable of Tensor): (3, H, W) or (B, 3, H, W) in [0, 1], sides at least 16 periods.
        periods (sequence of int): in pixels, such as the autoencoder's factor and the network's patch.

    Returns:
        dict: period → excess in dB.

    Raises:
        InvalidInputError: no image is large enough for the longest period.
    """
    greys = [grey for image in images for grey in (image[None] if image.ndim == 3 else image).double().mean(1).cpu()]
    result = {}
    for period in periods:
        edge = 16 * period  # fixed, so that images of different sizes have the same frequency bins
        power = torch.zeros(edge // 2 + 1, dtype=torch.float64)
        for grey in greys:
            for along in (grey, grey.T):
                if along.shape[-1] >= edge:
                    power += _phase_locked_power(along, edge)
        if not power.any():
            raise InvalidInputError(f"no image is {edge} pixels wide or high, as a period of {period} needs")
        result[period] = _largest_excess(power, edge // period)
    return result


def _phase_locked_power(lines: Tensor, edge: int) -> Tensor:
    """Power of the mean spectrum over all segments of ``edge`` pixels of lines (rows, length): (edge // 2 + 1,)."""
    stretches = lines.unfold(-1, edge, edge).flatten(0, 1)
    window = torch.hann_window(edge, periodic=False, dtype=torch.float64)
    spectra = torch.fft.rfft((stretches - stretches.mean(-1, keepdim=True)) * window)
    strength = spectra[:, 8:].abs().square().mean(-1, keepdim=True).sqrt()
    power: Tensor = (spectra / (strength + 1e-3 * edge**0.5)).mean(0).abs().square()
    return power


def _largest_excess(power: Tensor, harmonic: int) -> float:
    """Excess in dB at the multiples of ``harmonic`` over the median of the bins 3 to 6 away on either side."""
    excesses = []
    for k in range(harmonic, len(power), harmonic):
        around = [i for i in range(k - 6, k + 7) if abs(i - k) >= 3 and 1 <= i < len(power)]
        excesses.append(10 * torch.log10(power[k] / power[around].median().clamp(min=1e-30)))
    return float(torch.stack(excesses).max())
