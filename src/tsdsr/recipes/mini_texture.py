"""Recipes for `mini` v5: many more pairs with hard damage, and losses on the distributions of VGG features.

Each run starts from the result of the one before, the first from the shipped v4. All were made with two processes.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from tsdsr.data.camera import CameraDegradation
from tsdsr.data.datasets import PairSettings
from tsdsr.data.degradation_presets import PRESETS
from tsdsr.recipes.mini import CAMERA
from tsdsr.recipes.mini_crisp import CLEAN_LOSSES, MILD, harder_pairs
from tsdsr.training.config import Phase, StudentConfig


def hard_pairs(size: int, mild: float, second_order: float, blurred: float, blur: tuple[float, float]) -> PairSettings:
    """Shares of mild and full second-order damage and of strong blur, in crops of ``size`` pixels."""
    blurry = dataclasses.replace(CAMERA, blur_sigma=blur)
    others = ((mild, MILD), (second_order, PRESETS["osediff"]), (blurred, blurry), (0.05, CameraDegradation()))
    return _cropped(harder_pairs(*others), size)


def _cropped(pairs: PairSettings, size: int) -> PairSettings:
    """Cut crops of ``size`` pixels, flat ones among them."""
    return dataclasses.replace(pairs, crops=dataclasses.replace(pairs.crops, size=size, min_std=0.0))


def _run(*phases: Phase, pairs: PairSettings, seed: int, ema_decay: float) -> StudentConfig:
    return StudentConfig(
        phases=phases,
        pairs=pairs,
        seed=seed,
        ema_decay=ema_decay,
        monitor_every=0,
        validate_every=600,
        checkpoint_every=50,
    )


VGG_LOSSES: dict[str, Any] = CLEAN_LOSSES | {
    "sharpen_truth": 0.5,
    "adversary": "vgg",
    "adversarial_relative": True,
}
"""`mini_crisp`'s losses and a discriminator on VGG features."""


def _adversarial_run(weight: float, rate: float, warmup: int, pairs: PairSettings, seed: int) -> StudentConfig:
    losses: dict[str, Any] = VGG_LOSSES | {
        "batch_size": 8,
        "perceptual_weight": 0.045,
        "perceptual_crop": 112,
        "weave_weight": 6.0,
        "grid_weight": 2.5,
        "discriminator_lr": (2e-4, 1e-4),
    }
    return _run(
        Phase(steps=warmup, lr=(rate, rate), warmup=20, adversarial_weight=(1e-4, weight), **losses),
        Phase(steps=1400, lr=(rate, 1e-5), adversarial_weight=weight, **losses),
        pairs=pairs,
        seed=seed,
        ema_decay=0.997,
    )


def mini_vgg() -> StudentConfig:
    """First of nine runs from `mini` v4 (``--init``) to v5: a discriminator on VGG features; stopped at step 350.

    In this run and the two after it, the network also had a level at the image's resolution, which took no part and is
    gone.
    """
    return _adversarial_run(1.0, 1e-4, 150, hard_pairs(160, 0.15, 0.45, 0.25, (1.5, 4.5)), seed=60)


def mini_vgg_strong() -> StudentConfig:
    """Second of nine, from `mini_vgg`'s weights (not their average): three times the weight; stopped at step 343."""
    return _adversarial_run(3.0, 2e-4, 100, hard_pairs(160, 0.12, 0.5, 0.22, (1.5, 5.5)), seed=61)


_RESTORED_LOSSES: dict[str, Any] = CLEAN_LOSSES | {
    "batch_size": 16,
    "perceptual_weight": 0.045,
    "perceptual_crop": 64,
    "sharpen_truth": 0.7,
    "weave_weight": 4.0,
}


def mini_restored() -> StudentConfig:
    """Third of nine, from `mini_vgg_strong`'s weights: cheap samples without an adversary; stopped at step 1,043."""
    return _run(
        Phase(steps=2400, lr=(4e-4, 2e-4), warmup=50, **(_RESTORED_LOSSES | {"grid_weight": 1.5})),
        pairs=hard_pairs(128, 0.1, 0.5, 0.25, (1.5, 5.5)),
        seed=62,
        ema_decay=0.995,
    )


def mini_settled() -> StudentConfig:
    """Fourth of nine, from `mini_restored`: the same at a falling rate."""
    return _run(
        Phase(steps=480, lr=(2e-4, 5e-6), warmup=20, **(_RESTORED_LOSSES | {"grid_weight": 2.5})),
        pairs=mini_restored().pairs,
        seed=64,
        ema_decay=0.99,
    )


_TEXTURE_LOSSES: dict[str, Any] = CLEAN_LOSSES | {
    "batch_size": 16,
    "perceptual": ("texture",),
    "perceptual_weight": 0.5,
    "perceptual_crop": 80,
}


def _texture_run(
    steps: int, pairs: PairSettings, seed: int, rate: float = 3e-4, ema_decay: float = 0.995, **losses: Any
) -> StudentConfig:
    phase = Phase(steps=steps, lr=(rate, 5e-6), warmup=30, **(_TEXTURE_LOSSES | losses))
    return _run(phase, pairs=pairs, seed=seed, ema_decay=ema_decay)


def mini_texture() -> StudentConfig:
    """Fifth of nine, from `mini_settled`: distributions of VGG features; stopped at step 1,971.

    In the run itself, distributions had 1 to 2.5 times their weight and differences of equal positions 0.7 to 1 times.
    The first 400 steps had no distributions of the deepest layer, unsharpened ground truth, a rate from 2e-4 to 1e-4
    and a weight of 4 against weave.
    """
    pairs = hard_pairs(128, 0.15, 0.45, 0.25, (1.5, 5.0))
    return _texture_run(4000, pairs, 72, sharpen_truth=0.4, weave_weight=6.0, grid_weight=2.0)


def mini_texture_clean() -> StudentConfig:
    """Sixth of nine, from `mini_texture`: less grain, with unsharpened ground truth; stopped at step 734."""
    pairs = hard_pairs(128, 0.15, 0.5, 0.22, (1.5, 5.0))
    return _texture_run(3000, pairs, 73, l1_weight=4.0, weave_weight=20.0, grid_weight=3.0)


def mini_texture_sharp() -> StudentConfig:
    """Seventh of nine, from `mini_texture_clean`: sharpened ground truth, pixels and weave weighted in between."""
    losses = {"l1_weight": 2.0, "weave_weight": 12.0, "grid_weight": 3.0}
    pairs = hard_pairs(128, 0.15, 0.5, 0.22, (1.5, 5.0))
    return _texture_run(1500, pairs, 74, sharpen_truth=0.5, **losses)


def _varied_pairs(mild: float, second_order: float, blurred: float, camera: float, sensor: float) -> PairSettings:
    """Shares of five kinds of damage; the ground truth is sharpened for the second, in the input as well."""
    blurry = dataclasses.replace(CAMERA, blur_sigma=(1.5, 5.0))
    hard, sensed = (second_order, PRESETS["realesrgan"]), (sensor, CameraDegradation())
    return _cropped(harder_pairs((mild, MILD), hard, (blurred, blurry), (camera, CAMERA), sensed), 128)


def mini_texture_mild() -> StudentConfig:
    """Eighth of nine, from `mini_texture_sharp`: ground truth sharpened for hard damage only, half of the pairs mild.

    A ground truth that is sharper than its input teaches contrast that the scene does not have.
    """
    losses = {"l1_weight": 2.0, "weave_weight": 12.0, "grid_weight": 3.0}
    return _texture_run(700, _varied_pairs(0.2, 0.4, 0.1, 0.2, 0.1), 75, rate=2e-4, ema_decay=0.99, **losses)


def mini_texture_long() -> StudentConfig:
    """Last of nine, from `mini_texture_mild`: five times as many steps, slightly more weight on weave and grids."""
    losses = {"l1_weight": 2.0, "weave_weight": 14.0, "grid_weight": 4.0}
    return _texture_run(3600, _varied_pairs(0.15, 0.38, 0.12, 0.22, 0.13), 76, **losses)
