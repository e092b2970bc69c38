"""Recipes for `mini` v3: a larger network, trained on a GPU."""

from __future__ import annotations

from typing import Any

from tsdsr.data.camera import CameraDegradation
from tsdsr.data.datasets import CropSettings, PairSettings
from tsdsr.data.degradation_presets import PRESETS
from tsdsr.recipes.mini import CAMERA, DASM
from tsdsr.training.config import NetworkSettings, Phase, Schedule, StudentConfig, TeacherConfig

_LARGE = NetworkSettings(
    config={"encoder_blocks": [3, 3, 7], "decoder_blocks": [5, 3], "fine_channels": 32, "fine_blocks": 2}
)
"""Half as many weights again, most of them in the coarsest level, and a finer level at two pixels per position."""

_SOFT_CROPS = CropSettings(size=128, shrink_prob=0.2, enlarge_prob=0.45)

LARGE_LOSSES: dict[str, Any] = {
    "batch_size": 48,
    "l1_weight": 0.6,
    "perceptual_weight": 1.0,
    "perceptual": ("lpips", "dists", "dists"),
    "grid_weight": 0.7,
    "grid_relative": True,
}


def large_run(*phases: Phase, seed: int) -> StudentConfig:
    """Run of the larger network on four kinds of pairs: first-order, camera, simulated sensor, second-order."""
    return StudentConfig(
        phases=phases,
        networks=_LARGE,
        pairs=PairSettings(
            crops=_SOFT_CROPS,
            others=((0.4, CAMERA), (0.15, CameraDegradation()), (0.2, PRESETS["osediff"])),
        ),
        seed=seed,
        monitor_every=0,
        validate_every=2000,
        checkpoint_every=1000,
        log_every=100,
    )


def mini_large() -> StudentConfig:
    """Fifth run of the shipped `mini`, from `mini_v2` (``--init``): a larger network, many pairs, no teacher."""
    return large_run(Phase(steps=1800, lr=(4e-4, 2e-4), warmup=100, **LARGE_LOSSES), seed=20)


def mini_v3() -> StudentConfig:
    """Sixth run of the shipped `mini`, from `mini_large` (``--init``): adversarial loss on latents, then DASM.

    v3 has the weights of step 1,500 of 1,530. v4's training starts from them.
    """
    losses = LARGE_LOSSES | {"batch_size": 32, "fake_lr": (1e-4, 1e-4), "discriminator_lr": (2e-4, 1e-4)}
    return large_run(
        Phase(steps=1050, lr=(2e-4, 1e-4), warmup=50, adversarial_weight=(0.02, 0.04), adversary="latent", **losses),
        Phase(steps=480, lr=(1e-4, 2e-6), gamma_reg=(3.0, 5.0), tsd=DASM, **losses),
        seed=22,
    )


def mini_wide_teacher() -> TeacherConfig:
    """Teacher of `mini_v3`: a quarter wider than `mini_teacher`, on crops as soft as the student's targets."""
    return TeacherConfig(
        phases=(Schedule(steps=2900, batch_size=64, lr=(6e-4, 1e-5), warmup=200),),
        networks=NetworkSettings(config={"channels": [80, 160, 240], "learned_skip": True}),
        crops=_SOFT_CROPS,
        validation_crop=128,
        validate_every=2000,
        checkpoint_every=1000,
        log_every=100,
    )
