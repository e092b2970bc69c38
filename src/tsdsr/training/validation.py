"""Validation of a student on held-out photographs: metrics and a contact sheet."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tsdsr.data.datasets import PairDataset, PairSettings
from tsdsr.data.photographs import OnePhoto, Photo
from tsdsr.files import atomic_path
from tsdsr.pixels import to_uint8
from tsdsr.training.monitors import grid_excess


def validation_pairs(photos: Sequence[Photo], settings: PairSettings, edge: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield ``(x_lq, x_hq)``, each (1, 3, edge, edge) in [0, 1]: one fixed crop per photograph, at the main scale.

    Args:
        photos (sequence of Photo): held-out photographs.
        settings (PairSettings): training settings, for the degradation.
        edge (int): edge of the crops in pixels.
    """
    crops = dataclasses.replace(settings.crops, size=edge, shrink_prob=0.0, fixed=0)
    fixed = dataclasses.replace(settings, crops=crops, other_scale_prob=0.0)
    for index, photo in enumerate(photos):
        x_lq, x_hq = PairDataset([OnePhoto(photo)], 1, fixed, seed=1_000_003 + index)[0]
        yield x_lq[None], x_hq[None]


def validation_figures(
    results: Iterable[tuple[Tensor, Tensor, Tensor]],
    distances: Mapping[str, Callable[[Tensor, Tensor], Tensor]],
    periods: Sequence[int],
    sheet: Path,
) -> dict[str, float]:
    """Compute mean PSNR (dB, RGB), L1, perceptual distances and grid excess over the truth's (dB); store a sheet.

    Args:
        results (iterable): ``(x_lq, x_hat, x_hq)``, each (1, 3, H, W) in [0, 1].
        distances (mapping): distance functions of two batches, by name.
        periods (sequence of int): grid periods to measure, in pixels; those too long for the images are skipped.
        sheet (Path): PNG with input, result and truth side by side, eight rows at most.

    Returns:
        dict: empty without results.
    """
    rows: list[Tensor] = []
    pairs: list[tuple[Tensor, Tensor]] = []
    scores: dict[str, list[float]] = {"psnr": [], "l1": [], **{name: [] for name in distances}}
    for x_lq, x_hat, x_hq in results:
        mse = torch.mean((x_hat - x_hq) ** 2)
        scores["psnr"].append(-10 * mse.clamp(min=1e-10).log10().item())  # clamp keeps NaN
        scores["l1"].append((x_hat - x_hq).abs().mean().item())
        for name, distance in distances.items():
            scores[name].append(distance(x_hat, x_hq).item())
        pairs.append((x_hat.cpu(), x_hq.cpu()))
        rows.append(torch.cat([x_lq, x_hat, x_hq], dim=-1)[0].cpu())
    if not rows:
        return {}
    save_sheet(rows[:8], sheet)
    figures = {name: float(np.mean(values)) for name, values in scores.items() if values}
    periods = [p for p in periods if 16 * p <= pairs[0][0].shape[-1]]
    hat, hq = (grid_excess((pair[i] for pair in pairs), periods) for i in (0, 1))
    return figures | {f"grid_{period}": hat[period] - hq[period] for period in periods}


def save_sheet(rows: Sequence[Tensor], path: Path) -> None:
    """Stack rows (3, H, W) in [0, 1] vertically and store them as PNG."""
    with atomic_path(path) as temporary:
        Image.fromarray(to_uint8(torch.cat(list(rows), dim=-2))).save(temporary, format="PNG")
