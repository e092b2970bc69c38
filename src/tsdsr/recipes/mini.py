"""Recipes for `mini`, the small model shipped with the package."""

from __future__ import annotations

import dataclasses
from typing import Any

from tsdsr.data.datasets import CropSettings, PairSettings
from tsdsr.data.degradation_presets import PRESETS
from tsdsr.data.first_order import FirstOrderDegradation
from tsdsr.training.config import NetworkSettings, Phase, Schedule, StudentConfig, TeacherConfig, TSDSettings

TSD = TSDSettings(guidance=1.0)
"""TSD for `mini`: without guidance, because its teacher has only one prompt."""

DASM = dataclasses.replace(TSD, points=4, step_size=50, shift=25)
"""TSD for `mini` along a walk (DASM), with the paper's N and s."""

TEXTURE_LOSSES: dict[str, Any] = {
    "batch_size": 4,
    "l1_weight": 0.6,
    "perceptual_weight": 1.0,
    "perceptual_crop": 96,
    "perceptual": ("lpips", "dists"),
    "grid_weight": 4.0,
}
"""For a student that already restores: less L1, two perceptual distances, a loss on grid artefacts."""

_TINY: dict[str, Any] = {"channels": [8, 16, 16], "encoder_blocks": [1, 1, 1], "decoder_blocks": [1, 1]}


def mini_v0() -> StudentConfig:
    """`mini` v0, the start of all later versions: reconstruction losses only, first-order degradation.

    Two phases: L1 alone until the network can deblur and denoise, then L1 + LPIPS-VGG for texture. The model card gives
    the expected scores on RealSR (100 pairs, ×4) and the measured training time.
    """
    return StudentConfig(
        phases=(
            Phase(steps=1000, batch_size=16, lr=(6e-4, 5e-4), warmup=100, l1_weight=1.0),
            Phase(steps=4000, batch_size=8, lr=(5e-4, 1e-5), l1_weight=1.0, perceptual_weight=0.75, perceptual_crop=96),
        ),
        pairs=PairSettings(crops=CropSettings(size=128)),
    )


CAMERA = FirstOrderDegradation(
    blur_prob=1.0,
    blur_sigma=(0.6, 3.2),
    isotropic_prob=0.7,
    noise_prob=0.7,
    noise_sigma=(0.3, 4.0),
    sharpen_prob=0.5,
    jpeg_prob=0.4,
    jpeg_quality=(80, 98),
)
"""Degradation of camera images at full size: lens blur, little noise, some sharpening."""


def camera_pairs(camera: FirstOrderDegradation = CAMERA) -> PairSettings:
    """Mix pairs: 45 % with ``camera``, 40 % as in v0, 15 % with stronger degradation; some crops are softer."""
    return PairSettings(
        crops=CropSettings(size=128, shrink_prob=0.25, enlarge_prob=0.35),
        others=((0.45, camera), (0.15, PRESETS["osediff"])),
    )


def mini_camera() -> StudentConfig:
    """Second run of the shipped `mini`, from `mini_v0` (``--init``): camera degradation and a weak adversarial loss.

    Its students have more texture, but also bead artefacts along strong edges, which :func:`mini_v1` removes.
    """
    return StudentConfig(
        phases=(
            Phase(
                steps=2800,
                lr=(2e-4, 1e-5),
                warmup=50,
                adversarial_weight=(0.005, 0.02),
                adversary="latent",
                discriminator_lr=(2e-4, 5e-5),
                **TEXTURE_LOSSES,
            ),
        ),
        pairs=camera_pairs(),
    )


def mini_v1() -> StudentConfig:
    """Third run of the shipped `mini`, from `mini_camera` (``--init``): DASM, no adversarial loss, more DISTS."""
    losses = TEXTURE_LOSSES | {"perceptual": ("lpips", "dists", "dists")}
    return StudentConfig(
        phases=(
            Phase(
                steps=560,
                lr=(1e-4, 5e-6),
                warmup=20,
                fake_lr=(1e-4, 1e-4),
                gamma_reg=(10.0, 20.0),
                tsd=DASM,
                **losses,
            ),
        ),
        pairs=camera_pairs(),
        seed=1,
    )


DETAIL_LOSSES: dict[str, Any] = TEXTURE_LOSSES | {
    "perceptual": ("lpips", "dists", "dists"),
    "grid_weight": 0.4,
    "grid_relative": True,
}
"""More DISTS; grid loss relative to the local strength of the residual."""


def mini_v2() -> StudentConfig:
    """Fourth run of the shipped `mini`, from `mini_v1` (``--init``): a few steps to remove grids, without TSD.

    It is deliberately short: longer runs still improved on held-out photographs but got worse on RealSR.
    """
    losses = DETAIL_LOSSES | {"grid_weight": 1.0}
    return StudentConfig(
        phases=(Phase(steps=220, lr=(1e-4, 3e-6), warmup=10, **losses),),
        pairs=camera_pairs(),
        seed=9,
    )


def mini_teacher() -> TeacherConfig:
    """Teacher of `mini_v1` and `mini_student`: `mini`'s network with a learned skip, from scratch on sharp crops.

    5,000 steps of 8 crops. ``docs/tutorials/train-mini.md`` gives the validation loss to expect.
    """
    return TeacherConfig(
        phases=(Schedule(steps=5000, batch_size=8, lr=(5e-4, 1e-5), warmup=200),),
        networks=NetworkSettings(config={"learned_skip": True}),
        crops=CropSettings(size=128),
        validation_crop=128,
    )


def mini_student() -> StudentConfig:
    """`mini` with the paper's two phases of distillation, training all weights, after a phase of L1 alone.

    The first phase teaches restoration, so that the student can start from the teacher's own weights: a teacher expects
    noise where the student's input is a picture, and with TSD from the first step the losses grow. A student that
    restores already (``--init``) does not need it. TSD compares noise. In velocities, TSM pushes away from the ground
    truth at low noise; with this weight and a weak teacher, the student diverged.

    Differences from the paper: all weights are trained, so learning rates are higher. Pixel L1 replaces the latent MSE,
    which is also a pixel loss in a lossless latent space. There is no guidance, because the teacher has only one
    prompt. Residuals are small without guidance, so TSD has ten times the weight, which makes it about as strong as L1.
    """
    shared: dict[str, Any] = {
        "batch_size": 8,
        "perceptual_weight": 0.75,
        "perceptual_crop": 96,
        "fake_lr": (1e-4, 1e-4),
    }
    return StudentConfig(
        phases=(
            Phase(steps=1000, batch_size=16, lr=(6e-4, 3e-4), warmup=100, l1_weight=1.0),
            Phase(
                steps=3000,
                lr=(3e-4, 2e-4),
                l1_weight=1.0,
                gamma_reg=10.0,
                tsd=dataclasses.replace(TSD, space="eps"),
                **shared,
            ),
            Phase(
                steps=2000,
                lr=(2e-4, 1e-5),
                l1_weight=0.5,
                gamma_reg=(10.0, 20.0),
                tsd=dataclasses.replace(DASM, space="eps"),
                **shared,
            ),
        ),
        pairs=PairSettings(crops=CropSettings(size=128), degradation=PRESETS["osediff"]),
    )


def mini_smoke() -> StudentConfig:
    """Check an installation: two steps of a tiny network, in seconds. The result is not usable."""
    return StudentConfig(
        phases=(
            Phase(steps=1, batch_size=2, lr=(1e-3, 1e-3), l1_weight=1.0),
            Phase(steps=1, batch_size=2, lr=(1e-3, 1e-4), l1_weight=1.0),
        ),
        networks=NetworkSettings(config=_TINY),
        pairs=PairSettings(crops=CropSettings(size=32)),
        validation_crop=64,
        validate_every=1,
        log_every=1,
    )


def mini_smoke_teacher() -> TeacherConfig:
    """Check an installation: two steps of a tiny teacher. The result is not usable."""
    return TeacherConfig(
        phases=(Schedule(steps=2, batch_size=2, lr=(1e-3, 1e-3)),),
        networks=NetworkSettings(config=_TINY),
        crops=CropSettings(size=32),
        validation_crop=64,
        validate_every=2,
        log_every=1,
    )
