"""What to watch while a student is distilled: directions (figure 3), gaps by time (figure 5), grids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tsdsr.diffusion.losses import WalkPoint
from tsdsr.diffusion.process import NoiseProcess
from tsdsr.errors import InvalidInputError


def true_direction(process: NoiseProcess, z_t: Tensor, z_hq: Tensor, t: Tensor) -> Tensor:
    """The native prediction at ``z_t`` that would lead to ``z_hq`` in one step.

    Args:
        process (NoiseProcess): relates latents, noise and predictions.
        z_t (Tensor): noisy latent, of any origin, (B, C, h, w).
        z_hq (Tensor): where to arrive, same shape.
        t (Tensor): times above 0, shape (B,).
    """
    alpha, sigma = (c.reshape(-1, *(1,) * (z_t.ndim - 1)).to(z_t) for c in process.coefficients(t))
    return process.to_native(z_hq, (z_t - alpha * z_hq) / sigma, t)


def direction_cosines(process: NoiseProcess, point: WalkPoint, z_hq: Tensor) -> tuple[Tensor, Tensor]:
    """Figure 3: cosine between the teacher's direction and the true one, from ``z_hat_t`` and from ``z_hq_t``.

    Args:
        process (NoiseProcess): see :func:`true_direction`.
        point (WalkPoint): the first point of a walk, where both latents carry the same noise.
        z_hq (Tensor): high-quality latents (B, C, h, w).

    Returns:
        tuple of Tensor: cosines of each sample, shape (B,), for ``z_hat`` and ``z_hq``.
    """

    def cosine(prediction: Tensor, z_t: Tensor) -> Tensor:
        wanted = true_direction(process, z_t, z_hq, point.t)
        return F.cosine_similarity(prediction.flatten(1).float(), wanted.flatten(1).float())

    p = point.predictions
    return cosine(p.teacher_hat, point.z_hat_t), cosine(p.teacher_hq, point.z_hq_t)


def score_gap(point: WalkPoint) -> Tensor:
    """Figure 5: mean absolute difference between teacher and fake at ``z_hat_t``, one value a sample, shape (B,)."""
    return (point.predictions.teacher_hat - point.predictions.fake_hat).abs().flatten(1).float().mean(1)


class GapByTime:
    """Running mean of the score gap in equal bins of time.

    Args:
        bins (int): how many between 0 and 1000.
        momentum (float): weight of the past in each bin's mean.
    """

    def __init__(self, bins: int = 10, momentum: float = 0.9) -> None:
        self.bins, self.momentum = bins, momentum
        self.means: dict[int, float] = {}

    def add(self, t: Tensor, gap: Tensor) -> None:
        """Take in one value a sample, both of shape (B,)."""
        numbers = (t / 1000 * self.bins).long().clamp(0, self.bins - 1).tolist()
        for number, value in zip(numbers, gap.tolist(), strict=True):
            old = self.means.get(number, value)
            self.means[number] = self.momentum * old + (1 - self.momentum) * value

    def figures(self) -> dict[str, float]:
        """``vsd_gap/<lower end of the bin>`` → mean, for the bins met so far."""
        width = 1000 // self.bins
        return {f"vsd_gap/{number * width:04d}": self.means[number] for number in sorted(self.means)}


def grid_excess(images: Iterable[Tensor], periods: Sequence[int]) -> dict[int, float]:
    """How much the spectrum sticks out at the harmonics of a period, in dB: the mark of a grid.

    The mean power along rows and along columns is taken over all images; at each multiple of ``1 / period`` it is
    compared with the median of its neighbourhood, and the largest excess counts. Photographs lie near 0 dB; subtract
    the value of the ground truth to be independent of what is shown.

    Args:
        images (iterable of Tensor): (3, H, W) or (B, 3, H, W) in [0, 1], sides at least eight periods.
        periods (sequence of int): in pixels, such as the autoencoder's factor and the network's patch.

    Returns:
        dict: period → excess in dB.

    Raises:
        InvalidInputError: no image is large enough for the longest period.
    """
    images = [image[None] if image.ndim == 3 else image for image in images]
    result = {}
    for period in periods:
        edge = 16 * period  # fixed, so that images of different sizes share their frequencies
        power = torch.zeros(edge // 2 + 1, dtype=torch.float64)
        for image in images:
            for lines in _lines(image, edge):
                power += lines
        if not power.any():
            raise InvalidInputError(f"no image is {edge} pixels wide or high, as a period of {period} needs")
        result[period] = _largest_excess(power, edge // period)
    return result


def _lines(image: Tensor, edge: int) -> Iterable[Tensor]:
    """Summed power of windowed stretches of ``edge`` pixels along rows and along columns."""
    grey = image.double().mean(1).cpu()
    window = torch.hann_window(edge, periodic=False, dtype=torch.float64)
    for along in (grey, grey.transpose(-1, -2)):
        if along.shape[-1] < edge:
            continue
        stretches = along.unfold(-1, edge, edge // 2)
        stretches = (stretches - stretches.mean(-1, keepdim=True)) * window
        yield torch.fft.rfft(stretches).abs().square().flatten(0, -2).sum(0)


def _largest_excess(power: Tensor, harmonic: int) -> float:
    """Excess in dB at the multiples of ``harmonic`` over the median of the bins 3 to 6 away on either side."""
    excesses = []
    for k in range(harmonic, len(power), harmonic):
        around = [i for i in range(k - 6, k + 7) if 3 <= abs(i - k) and 1 <= i < len(power)]
        excesses.append(10 * torch.log10(power[k] / power[around].median().clamp(min=1e-30)))
    return float(torch.stack(excesses).max())
