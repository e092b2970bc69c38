"""pyiqa's metrics, made ready: the papers' variants, computed faster where the value stays the same."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tsdsr.errors import MissingDependencyError, TSDSRError
from tsdsr.evaluation.metrics import MetricSpec

Metric = Callable[[Tensor, "Tensor | None"], float]
"""Restored image and ground truth, both (1, 3, H, W) in [0, 1] → score. No-reference metrics ignore the latter."""


class MetricUnavailableError(TSDSRError):
    """A metric cannot be computed on this machine; the message says why."""


def make_metric(spec: MetricSpec, device: torch.device | str = "cpu", border: int = 0) -> Metric:
    """One of the papers' metrics, as pyiqa computes it.

    Args:
        spec (MetricSpec): which; not one of whole sets.
        device (torch.device | str): where to compute.
        border (int): pixels cropped on every side before PSNR and SSIM.

    Returns:
        callable: see :data:`Metric`.

    Raises:
        MissingDependencyError: pyiqa is not installed.
        MetricUnavailableError: its weights cannot be had.
    """
    options = {**spec.options, **({"crop_border": border} if spec.border else {})}
    network = create(spec, torch.device(device), **options)
    if spec.name == "ssim":
        _filter_separably()
    if spec.name == "dists":
        network.net.to(memory_format=torch.channels_last)
        remember_reference(network.net)

    def metric(x_hat: Tensor, x_hq: Tensor | None) -> float:
        inputs = (x_hat,) if spec.kind == "none" else (x_hat, x_hq)
        return float(network(*inputs))

    return metric


def create(spec: MetricSpec, device: torch.device, **options: Any) -> Any:
    """``pyiqa.create_metric`` with its many kinds of failure turned into one that carries the reason.

    Raises:
        MissingDependencyError: pyiqa is not installed.
        MetricUnavailableError: its weights cannot be had.
    """
    pyiqa = load_pyiqa()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the habits of the packages below
            return pyiqa.create_metric(spec.pyiqa_name, device=device, **options)
    except Exception as error:  # downloads fail in as many ways as there are hubs
        first_line = (str(error).strip() or repr(error)).splitlines()[0]
        raise MetricUnavailableError(
            f"pyiqa could not prepare {spec.pyiqa_name!r}: {type(error).__name__}: {first_line}"
        ) from error


def load_pyiqa() -> Any:
    """The package.

    Raises:
        MissingDependencyError: it, or what it stands on, is absent or does not fit.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pyiqa
    except (ImportError, RuntimeError) as error:  # torchvision of another build than torch raises the latter
        raise MissingDependencyError(
            f"scoring needs pyiqa and a torchvision that fits torch: pip install 'tsdsr[eval]' ({error})"
        ) from error
    return pyiqa


def remember_reference(network: Any) -> None:
    """Let DISTS keep the features of the last two images, so that a true image that several systems are compared with
    in turn is analysed once.

    Args:
        network: pyiqa's DISTS; its ``forward_once`` is called with the restored image, then with the true one.
    """
    features_of = network.forward_once
    kept: deque[tuple[Tensor, list[Tensor]]] = deque(maxlen=2)

    def forward_once(x: Tensor) -> list[Tensor]:
        features = next((known for image, known in kept if image is x), None)
        if features is None:
            features = features_of(x.contiguous(memory_format=torch.channels_last))
        kept.append((x, features))  # a truth that was met again stays
        return features

    network.forward_once = forward_once


def _filter_separably() -> None:
    """Let pyiqa's SSIM apply its Gaussian window along rows, then columns: 22 products a pixel instead of 121."""
    from pyiqa.archs import ssim_arch

    ssim_arch.filter2 = separable_filter


def separable_filter(x: Tensor, window: Tensor, shape: str = "valid") -> Tensor:
    """Correlation with a window of rank one, without padding.

    Args:
        x (Tensor): (B, C, H, W).
        window (Tensor): outer product of two vectors that sums to 1, (C, 1, k, k), the same for each channel.
        shape (str): only "valid".

    Returns:
        Tensor: (B, C, H - k + 1, W - k + 1), equal to the two-dimensional correlation up to rounding.
    """
    assert shape == "valid", shape
    column, row = window.sum(-1, keepdim=True), window.sum(-2, keepdim=True)
    return F.conv2d(F.conv2d(x, column, groups=x.shape[1]), row, groups=x.shape[1])
