"""Losses on decoded images: LPIPS, DISTS, and a penalty on grid artefacts.

The losses on latents, the equations of the paper, are in :mod:`tsdsr.diffusion.losses`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from tsdsr.errors import MissingDependencyError, install_extra
from tsdsr.unpickling import tensors_only


def lpips_distance(net: str = "vgg", device: torch.device | str = "cpu") -> Callable[[Tensor, Tensor], Tensor]:
    """Load LPIPS (Zhang et al. 2018) with a frozen backbone, as a differentiable scalar.

    Args:
        net (str): "vgg" (for training) or "alex" (the papers' metric).
        device (torch.device | str): where to run.

    Returns:
        callable: two batches (B, 3, H, W) in [0, 1] → mean distance, a scalar.

    Raises:
        MissingDependencyError: the package is absent.
    """
    try:
        import lpips
    except ImportError as error:
        raise MissingDependencyError(f"training needs lpips: {install_extra('train')}") from error
    with warnings.catch_warnings(), tensors_only():
        warnings.simplefilter("ignore")  # torchvision's deprecated `pretrained` argument, inside lpips
        network = lpips.LPIPS(net=net, verbose=False).to(device).eval().requires_grad_(False)
    network = network.to(memory_format=torch.channels_last)

    def distance(x_hat: Tensor, x_hq: Tensor) -> Tensor:
        value: Tensor = network(x_hat, x_hq, normalize=True).mean()
        return value

    return distance


def dists_distance(device: torch.device | str = "cpu") -> Callable[[Tensor, Tensor], Tensor]:
    """Load DISTS (Ding et al. 2020) on frozen VGG16 features, as a differentiable scalar.

    Args:
        device (torch.device | str): where to run.

    Returns:
        callable: two batches (B, 3, H, W) in [0, 1] → mean distance, a scalar.

    Raises:
        MissingDependencyError: the package is absent.
    """
    try:
        from pyiqa import create_metric
    except ImportError as error:
        raise MissingDependencyError(f"DISTS as a loss needs pyiqa: {install_extra('train', 'eval')}") from error
    with tensors_only():
        network = create_metric("dists", device=device, as_loss=True).requires_grad_(False)
    network = network.to(memory_format=torch.channels_last)

    def distance(x_hat: Tensor, x_hq: Tensor) -> Tensor:
        value: Tensor = network(x_hat, x_hq)
        return value

    return distance


def grid_loss(x_hat: Tensor, x_hq: Tensor, period: int, relative: bool = False) -> Tensor:
    """Measure the part of the residual that repeats with a period.

    The residual is cut into blocks, averaged over all blocks and made zero-mean; the loss is its mean absolute value.
    Content is not aligned with a grid and averages out.

    Args:
        x_hat (Tensor): restored images (B, C, H, W), sides multiples of ``period``.
        x_hq (Tensor): true images, same shape.
        period (int): edge of a block in pixels, a multiple of 4; its divisors are covered too.
        relative (bool): average over each image separately, because grids differ between images and cancel in their
            mean. Use only residual detail finer than about half a period, which contains least content. Divide it by
            its local strength, so that flat regions, where a grid is most visible, count as much as textured ones.

    Returns:
        Tensor: scalar.
    """
    residual = x_hat - x_hq
    if relative:
        around = F.avg_pool2d(residual, period // 2 + 1, stride=1, padding=period // 4, count_include_pad=False)
        residual = residual - around
        residual = residual / local_strength(residual.detach(), 2 * period + 1)
    batch, channels, height, width = residual.shape
    blocks = residual.reshape(batch, channels, height // period, period, width // period, period)
    pattern = blocks.mean((2, 4)) if relative else blocks.mean((0, 2, 4))
    return (pattern - pattern.mean((-2, -1), keepdim=True)).abs().mean()


def local_strength(residual: Tensor, window: int) -> Tensor:
    """Root mean square over channels and a square window of odd edge ``window``, (B, 1, H, W).

    At least a quarter of an 8-bit step, because less is not visible.
    """
    power = residual.square().mean(1, keepdim=True)
    power = F.avg_pool2d(power, window, stride=1, padding=window // 2, count_include_pad=False)
    return power.sqrt().clamp(min=0.25 / 255)
