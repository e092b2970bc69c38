"""Metrics computed by pyiqa, in the papers' variants, with faster implementations that give the same values."""

from __future__ import annotations

import sys
import warnings
from collections import deque
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from typing import Any

import torch
import torch.nn.functional as F
from huggingface_hub.errors import LocalEntryNotFoundError
from torch import Tensor

from tsdsr.errors import MissingDependencyError, TSDSRError, install_extra
from tsdsr.evaluation.hub import hub_offline, require_hub
from tsdsr.evaluation.metrics import MetricSpec
from tsdsr.unpickling import tensors_only
from tsdsr.wording import first_line

Metric = Callable[[Tensor, "Tensor | None"], float]
"""(restored image, ground truth) → score; both (1, 3, H, W) in [0, 1]. No-reference metrics ignore the ground truth."""


class MetricUnavailableError(TSDSRError):
    """The metric cannot be computed on this machine; the message gives the reason."""


def make_metric(spec: MetricSpec, device: torch.device | str = "cpu", border: int = 0) -> Metric:
    """Create a metric of single images.

    Args:
        spec (MetricSpec): the metric; its kind must not be "set".
        device (torch.device | str): device to compute on.
        border (int): pixels cropped on every side before PSNR and SSIM.

    Returns:
        callable: see :data:`Metric`.

    Raises:
        MissingDependencyError: pyiqa is not installed.
        MetricUnavailableError: The weights of the metric are not available.
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
    """Call ``pyiqa.create_metric`` and convert all of its failures to one exception with the reason and the remedy.

    A metric that failed once is not tried again in this process, and weights are opened as tensors only.

    Raises:
        MissingDependencyError: pyiqa is not installed.
        MetricUnavailableError: The weights of the metric, or a package that it needs, are not available.
    """
    pyiqa = load_pyiqa()
    if spec.pyiqa_name in _failed:
        raise MetricUnavailableError(_failed[spec.pyiqa_name])
    try:
        with warnings.catch_warnings(), tensors_only(), redirect_stdout(sys.stderr):
            warnings.simplefilter("ignore")  # from pyiqa's dependencies
            with suppress(LocalEntryNotFoundError), hub_offline():
                return pyiqa.create_metric(spec.pyiqa_name, device=device, **options)
            require_hub()
            return pyiqa.create_metric(spec.pyiqa_name, device=device, **options)
    except Exception as error:  # a failed download can raise any exception
        _failed[spec.pyiqa_name] = _reason(spec, error)
        raise MetricUnavailableError(_failed[spec.pyiqa_name]) from error


_failed: dict[str, str] = {}  # pyiqa's name of a metric → why it could not be created


def _reason(spec: MetricSpec, error: Exception) -> str:
    """One sentence: what failed and the remedy."""
    what = f"pyiqa could not prepare {spec.pyiqa_name!r}"
    reason = f"{type(error).__name__}: {first_line(error)}"
    if isinstance(error, ModuleNotFoundError):
        return f"{what}: the Python module {error.name} is missing; {install_extra('eval')}"
    if isinstance(error, OSError):  # of urllib, requests and the hub
        return (
            f"{what}: its weights are not on this machine and could not be downloaded ({reason}); connect to the "
            f"internet once, or copy the files of {torch.hub.get_dir()} from a machine that has them"
        )
    return f"{what}: {reason}; if its weight file is damaged, delete it from {torch.hub.get_dir()}"


def load_pyiqa() -> Any:
    """Import pyiqa.

    Raises:
        MissingDependencyError: pyiqa or one of its dependencies is missing or incompatible.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pyiqa
    except (ImportError, RuntimeError) as error:  # a torchvision that does not match torch raises RuntimeError
        raise MissingDependencyError(
            f"scoring needs pyiqa and a torchvision that fits torch: {install_extra('eval')} ({error})"
        ) from error
    warnings.filterwarnings("ignore", category=UserWarning, module=r"pyiqa\.")  # of torch, about flat pictures
    return pyiqa


def remember_reference(network: Any) -> None:
    """Let DISTS cache the features of the last two images, so that each ground truth is analysed only once.

    Args:
        network: pyiqa's DISTS; its ``forward_once`` is called with the restored image, then with the ground truth.
    """
    features_of = network.forward_once
    kept: deque[tuple[Tensor, list[Tensor]]] = deque(maxlen=2)

    def forward_once(x: Tensor) -> list[Tensor]:
        features = next((known for image, known in kept if image is x), None)
        if features is None:
            features = features_of(x.contiguous(memory_format=torch.channels_last))
        kept.append((x, features))  # a ground truth that is used again stays cached
        return features

    network.forward_once = forward_once


def _filter_separably() -> None:
    """Let pyiqa's SSIM apply its Gaussian window separably: 22 products per pixel instead of 121."""
    from pyiqa.archs import ssim_arch

    ssim_arch.filter2 = separable_filter


def separable_filter(x: Tensor, window: Tensor, shape: str = "valid") -> Tensor:
    """Correlate images with a rank-one window, without padding.

    Args:
        x (Tensor): images (B, C, H, W).
        window (Tensor): outer product of two vectors that sums to 1, (C, 1, k, k), equal for all channels.
        shape (str): only "valid".

    Returns:
        Tensor: (B, C, H - k + 1, W - k + 1), equal to the two-dimensional correlation up to rounding.
    """
    assert shape == "valid", shape
    column, row = window.sum(-1, keepdim=True), window.sum(-2, keepdim=True)
    return F.conv2d(F.conv2d(x, column, groups=x.shape[1]), row, groups=x.shape[1])
