"""Metric registry: the pyiqa metric and options for each metric of the papers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tsdsr.errors import InvalidInputError

_LUMA = {"test_y_channel": True, "color_space": "ycbcr"}


@dataclass(frozen=True)
class MetricSpec:
    """One metric.

    Attributes:
        name (str): name on the command line.
        label (str): name in tables.
        pyiqa_name (str): name in pyiqa's registry.
        kind ("full" | "none" | "set"): full-reference, no-reference, or computed over whole folders.
        higher_is_better (bool): whether higher values are better.
        digits (int): decimals in tables, as in the paper.
        variant (str): description of the exact variant, for the reader.
        options (mapping): arguments of ``pyiqa.create_metric``.
        border (bool): whether a border can be cropped.
        min_side (int): smallest width and height, as far as it is known.
    """

    name: str
    label: str
    pyiqa_name: str
    kind: Literal["full", "none", "set"]
    higher_is_better: bool
    digits: int
    variant: str
    options: Mapping[str, Any] = field(default_factory=dict)
    border: bool = False
    min_side: int = 1


_SPECS = (
    MetricSpec("psnr", "PSNR", "psnr", "full", True, 2, "Y of YCbCr (BT.601), dB", _LUMA, border=True),
    MetricSpec(
        "ssim",
        "SSIM",
        "ssim",
        "full",
        True,
        4,
        "Y of YCbCr (BT.601), Gaussian window of 11 pixels",
        _LUMA,
        border=True,
        min_side=11,
    ),
    MetricSpec("lpips", "LPIPS", "lpips", "full", False, 4, "AlexNet, version 0.1, RGB", min_side=31),
    MetricSpec("dists", "DISTS", "dists", "full", False, 4, "VGG16, RGB"),
    MetricSpec("fid", "FID", "fid", "set", False, 2, "Inception v3, results against ground truth, clean mode"),
    MetricSpec("niqe", "NIQE", "niqe", "none", False, 4, "Y of YIQ, blocks of 96 pixels", min_side=96),
    MetricSpec("musiq", "MUSIQ", "musiq", "none", True, 2, "trained on KonIQ-10k"),
    MetricSpec("maniqa", "MANIQA", "maniqa-pipal", "none", True, 4, "trained on PIPAL"),
    MetricSpec("clipiqa", "CLIPIQA", "clipiqa", "none", True, 4, "CLIP RN50, fixed prompts"),
)

METRICS: Mapping[str, MetricSpec] = {spec.name: spec for spec in _SPECS}
"""All metrics of the paper's tables, in the paper's order. Variants reproduce OSEDiff's published log; where this could
not be checked, they are those named by the baselines' public scoring scripts."""


def select_metrics(names: Sequence[str] | None = None) -> tuple[MetricSpec, ...]:
    """Look up metrics by name, in any case; None selects all.

    Raises:
        InvalidInputError: A name is unknown, or there is none.
    """
    if names is None:
        return _SPECS
    if isinstance(names, str):
        raise InvalidInputError(f"metrics must be a list of names, not a string; got {names!r}")
    names = [str(name).strip().lower() for name in names]
    if not any(names):
        raise InvalidInputError(f"no metrics were given; choose from {', '.join(METRICS)}")
    unknown = [name or "''" for name in names if name not in METRICS]
    if unknown:
        raise InvalidInputError(f"unknown metrics {', '.join(unknown)}; choose from {', '.join(METRICS)}")
    return tuple(METRICS[name] for name in dict.fromkeys(names))
