"""Recipes for `mini` v4: clean before detailed, on a CPU.

v4's weights are the mean of v3's and those of the last run here (``tsdsr train average``).
"""

from __future__ import annotations

import dataclasses
from typing import Any

from tsdsr.data.camera import CameraDegradation
from tsdsr.data.datasets import AnyDegradation, CropSettings, PairSettings
from tsdsr.data.degradation_presets import PRESETS
from tsdsr.data.first_order import FirstOrderDegradation
from tsdsr.recipes.mini import CAMERA
from tsdsr.training.config import Phase, StudentConfig

CLEAN_LOSSES: dict[str, Any] = {
    "batch_size": 4,
    "l1_weight": 1.0,
    "perceptual": ("vgg",),
    "grid_weight": 0.7,
    "grid_relative": True,
}
"""L1 and VGG features as in Real-ESRGAN (Wang et al. 2021), and `mini`'s term against grids.

VGG sees a square at any pixel, so that no pattern stays aligned with its poolings. Its weights are fiftieths of
Real-ESRGAN's: on torchvision's VGG16 its gradient would be 130 times that of L1 otherwise.
"""

BLURRED = dataclasses.replace(CAMERA, blur_sigma=(0.8, 4.0))
"""Camera images with lenses out of focus as well."""

MILD = dataclasses.replace(PRESETS["stablesr"], sharpen_target=False)

_CROPS = CropSettings(size=128, shrink_prob=0.6, min_shrink=0.5, enlarge_prob=0.1, max_enlarge=1.3)


def harder_pairs(*others: tuple[float, AnyDegradation]) -> PairSettings:
    """Pairs with more blur and JPEG than v3's. The ground truth is cut from original or shrunk photographs."""
    return PairSettings(
        crops=_CROPS,
        degradation=FirstOrderDegradation(blur_sigma=(0.2, 4.0), jpeg_quality=(30, 95)),
        others=others,
    )


def _crisp_run(*phases: Phase, pairs: PairSettings, size: int, seed: int, validate_every: int) -> StudentConfig:
    """Run on crops of ``size`` pixels, flat ones among them."""
    return StudentConfig(
        phases=phases,
        pairs=dataclasses.replace(pairs, crops=dataclasses.replace(_CROPS, size=size, min_std=0.0)),
        seed=seed,
        monitor_every=0,
        validate_every=validate_every,
        checkpoint_every=50,
        log_every=20,
    )


def mini_crisp() -> StudentConfig:
    """Seventh run of the shipped `mini`, from `mini_v3` (``--init``): sharpened ground truth, no adversary, no weave.

    The losses are L1 against sharpened ground truth, VGG features with a small weight, and the loss on weave.
    """
    losses = CLEAN_LOSSES | {"perceptual_weight": 0.02, "perceptual_crop": 96, "sharpen_truth": 1.0}
    return _crisp_run(
        Phase(steps=1000, lr=(2e-4, 1e-5), warmup=20, weave_weight=8.0, **losses),
        pairs=harder_pairs((0.25, MILD), (0.25, PRESETS["osediff"]), (0.2, BLURRED), (0.1, CameraDegradation())),
        size=128,
        seed=40,
        validate_every=250,
    )


def _damaged_pairs() -> PairSettings:
    """Pairs of which 55 % have the full second-order degradation."""
    return harder_pairs((0.15, MILD), (0.55, PRESETS["osediff"]), (0.15, BLURRED), (0.05, CameraDegradation()))


def mini_crisp_second_order() -> StudentConfig:
    """Eighth run of the shipped `mini`, from `mini_crisp` (``--init``): more damage, then a weak adversary.

    55 % of the pairs have the full second-order degradation. The adversary starts at step 2,000. The next run removes
    the dots that it draws.
    """
    losses = CLEAN_LOSSES | {
        "perceptual_weight": 0.03,
        "perceptual_crop": 112,
        "sharpen_truth": 1.0,
        "weave_weight": 8.0,
    }
    adversary: dict[str, Any] = {
        "adversary": "pixel",
        "discriminator_lr": (2e-4, 1e-4),
        "adversarial_weight": (0.0, 0.05),
    }
    return _crisp_run(
        Phase(steps=2000, lr=(2e-4, 1.5e-4), warmup=20, **losses),
        Phase(steps=600, lr=(1.5e-4, 1e-5), **losses, **adversary),
        pairs=_damaged_pairs(),
        size=160,
        seed=41,
        validate_every=400,
    )


def mini_crisp_halved_sharpening() -> StudentConfig:
    """Ninth run of the shipped `mini`, from `mini_crisp_second_order` (``--init``): fewer halos, dots and grids.

    The ground truth is sharpened half as much, the loss on grids has twice the weight, and there is no adversary.
    """
    losses = CLEAN_LOSSES | {
        "perceptual_weight": 0.04,
        "perceptual_crop": 112,
        "sharpen_truth": 0.5,
        "weave_weight": 8.0,
        "grid_weight": 1.5,
    }
    return _crisp_run(
        Phase(steps=3000, lr=(2e-4, 1e-5), warmup=20, **losses),
        pairs=_damaged_pairs(),
        size=160,
        seed=43,
        validate_every=500,
    )


def mini_crisp_strong_blur() -> StudentConfig:
    """Tenth run of the shipped `mini`, from `mini_crisp_halved_sharpening` (``--init``): twice as much strong blur.

    The loss on grids gets more weight again, and VGG features slightly more. v4's weights, from which the next run
    starts, are the equal mean of its result and `mini_v3`'s.
    """
    losses = CLEAN_LOSSES | {
        "perceptual_weight": 0.045,
        "perceptual_crop": 112,
        "sharpen_truth": 0.5,
        "weave_weight": 8.0,
        "grid_weight": 2.5,
    }
    blurred = dataclasses.replace(CAMERA, blur_sigma=(1.5, 4.5))
    return _crisp_run(
        Phase(steps=3000, lr=(2e-4, 1e-5), warmup=20, **losses),
        pairs=harder_pairs((0.15, MILD), (0.4, PRESETS["osediff"]), (0.35, blurred), (0.05, CameraDegradation())),
        size=160,
        seed=44,
        validate_every=500,
    )
