"""Perceptual distances as losses: LPIPS and DISTS through their packages."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from tsdsr.errors import MissingDependencyError


def lpips_distance(net: str = "vgg", device: torch.device | str = "cpu") -> Callable[[Tensor, Tensor], Tensor]:
    """LPIPS (Zhang et al. 2018) with a frozen backbone, as a differentiable scalar.

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
        raise MissingDependencyError("training needs lpips: pip install 'tsdsr[train]'") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision's deprecated `pretrained` argument, inside lpips
        network = lpips.LPIPS(net=net, verbose=False).to(device).eval().requires_grad_(False)
    network = network.to(memory_format=torch.channels_last)

    def distance(x_hat: Tensor, x_hq: Tensor) -> Tensor:
        value: Tensor = network(x_hat, x_hq, normalize=True).mean()
        return value

    return distance


def dists_distance(device: torch.device | str = "cpu") -> Callable[[Tensor, Tensor], Tensor]:
    """DISTS (Ding et al. 2020) on frozen VGG16 features, as a differentiable scalar.

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
        raise MissingDependencyError("DISTS as a loss needs pyiqa: pip install 'tsdsr[train,eval]'") from error
    network = create_metric("dists", device=device, as_loss=True).requires_grad_(False)
    network = network.to(memory_format=torch.channels_last)

    def distance(x_hat: Tensor, x_hq: Tensor) -> Tensor:
        value: Tensor = network(x_hat, x_hq)
        return value

    return distance


def perceptual_distance(name: str, device: torch.device | str = "cpu") -> Callable[[Tensor, Tensor], Tensor]:
    """The distance called "lpips" (with VGG16) or "dists"."""
    return dists_distance(device) if name == "dists" else lpips_distance("vgg", device)
