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


_SPECS = (
    MetricSpec("psnr", "PSNR", "psnr", "full", True, 2, "Y of YCbCr (BT.601), dB", _LUMA, border=True),
    MetricSpec(
        "ssim", "SSIM", "ssim", "full", True, 4, "Y of YCbCr (BT.601), Gaussian window of 11 pixels", _LUMA, border=True
    ),
    MetricSpec("lpips", "LPIPS", "lpips", "full", False, 4, "AlexNet, version 0.1, RGB"),
    MetricSpec("dists", "DISTS", "dists", "full", False, 4, "VGG16, RGB"),
    MetricSpec("fid", "FID", "fid", "set", False, 2, "Inception v3, restored against true images, clean mode"),
    MetricSpec("niqe", "NIQE", "niqe", "none", False, 4, "Y of YIQ, blocks of 96 pixels"),
    MetricSpec("musiq", "MUSIQ", "musiq", "none", True, 2, "trained on KonIQ-10k"),
    MetricSpec("maniqa", "MANIQA", "maniqa-pipal", "none", True, 4, "trained on PIPAL"),
    MetricSpec("clipiqa", "CLIPIQA", "clipiqa", "none", True, 4, "CLIP RN50, fixed prompts"),
)

METRICS: Mapping[str, MetricSpec] = {spec.name: spec for spec in _SPECS}
"""All metrics of the paper's tables, in the paper's order. Variants reproduce OSEDiff's published log; where this could
not be checked, they are those named by the baselines' public scoring scripts."""


def select_metrics(names: Sequence[str] | None = None) -> tuple[MetricSpec, ...]:
    """Look up metrics by name; None selects all.

    Raises:
        InvalidInputError: A name is unknown.
    """
    if names is None:
        return _SPECS
    unknown = [name for name in names if name not in METRICS]
    if unknown:
        raise InvalidInputError(f"unknown metrics {', '.join(unknown)}; choose from {', '.join(METRICS)}")
    return tuple(METRICS[name] for name in dict.fromkeys(names))
