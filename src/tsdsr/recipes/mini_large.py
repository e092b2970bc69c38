"""Recipes for `mini` v3: a larger network, trained on a GPU."""

from __future__ import annotations

from typing import Any

from tsdsr.data.camera import CameraDegradation
from tsdsr.data.datasets import CropSettings, PairSettings
from tsdsr.data.settings import PRESETS
from tsdsr.recipes.mini import CAMERA, DASM
from tsdsr.training.config import NetworkSettings, Phase, Schedule, StudentConfig, TeacherConfig

_LARGE = NetworkSettings(
    config={"encoder_blocks": [3, 3, 7], "decoder_blocks": [5, 3], "fine_channels": 32, "fine_blocks": 2}
)
"""Half as many weights again, most of them in the coarsest level, and one more level at two pixels a position."""

_SOFT_CROPS = CropSettings(size=128, shrink_prob=0.2, enlarge_prob=0.45)

_LARGE_LOSSES: dict[str, Any] = {
    "batch_size": 48,
    "l1_weight": 0.6,
    "perceptual_weight": 1.0,
    "perceptual": ("lpips", "dists", "dists"),
    "grid_weight": 0.7,
    "grid_relative": True,
}


def _large(*phases: Phase, seed: int) -> StudentConfig:
    """A run of the larger network, on pairs of every kind: first-order, cameras', behind a sensor, second-order."""
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
    """The first run of `mini` v3, from `mini_v2` (``--init``): the network grows, many pairs, no teacher."""
    return _large(Phase(steps=1800, lr=(4e-4, 2e-4), warmup=100, **_LARGE_LOSSES), seed=20)


def mini_v3() -> StudentConfig:
    """The last run of the shipped `mini`, from :func:`mini_large` (``--init``): an adversary on latents, then DASM.

    The shipped weights are those of step 1,500 of 1,530, where the time ended.
    """
    losses = _LARGE_LOSSES | {"batch_size": 32, "fake_lr": (1e-4, 1e-4), "discriminator_lr": (2e-4, 1e-4)}
    return _large(
        Phase(steps=1050, lr=(2e-4, 1e-4), warmup=50, adversarial_weight=(0.02, 0.04), adversary="latent", **losses),
        Phase(steps=480, lr=(1e-4, 2e-6), gamma_reg=(3.0, 5.0), tsd=DASM, **losses),
        seed=22,
    )


def mini_large_both() -> StudentConfig:
    """A trial that is not shipped, from :func:`mini_large`: DASM and a weak adversary together. Stopped at step 900."""
    losses = _LARGE_LOSSES | {"batch_size": 32, "fake_lr": (1e-4, 1e-4), "discriminator_lr": (2e-4, 5e-5)}
    return _large(
        Phase(
            steps=1200,
            lr=(2e-4, 2e-6),
            warmup=50,
            gamma_reg=5.0,
            tsd=DASM,
            adversarial_weight=(0.01, 0.03),
            adversary="latent",
            **losses,
        ),
        seed=23,
    )


def mini_wide_teacher() -> TeacherConfig:
    """A teacher a quarter wider than `mini_teacher`, on crops as soft as its students' truths."""
    return TeacherConfig(
        phases=(Schedule(steps=2900, batch_size=64, lr=(6e-4, 1e-5), warmup=200),),
        networks=NetworkSettings(config={"channels": [80, 160, 240], "learned_skip": True}),
        crops=_SOFT_CROPS,
        validation_crop=128,
        validate_every=2000,
        checkpoint_every=1000,
        log_every=100,
    )
