"""Recipes for `mini`, the small model that comes with the package."""

from __future__ import annotations

import dataclasses
from typing import Any

from tsdsr.data.camera import CameraDegradation
from tsdsr.data.datasets import CropSettings, PairSettings
from tsdsr.data.first_order import SimpleDegradation
from tsdsr.data.settings import PRESETS
from tsdsr.training.config import NetworkSettings, Phase, Schedule, StudentConfig, TeacherConfig, TSDSettings

_TSD = TSDSettings(guidance=1.0)
"""TSD for `mini`: without guidance, because its teacher has but one prompt."""

DASM = dataclasses.replace(_TSD, points=4, step_size=50, shift=25)
"""The same along a walk, with the paper's N and s."""

_TEXTURE_LOSSES: dict[str, Any] = {
    "batch_size": 4,
    "l1_weight": 0.6,
    "perceptual_weight": 1.0,
    "perceptual_crop": 96,
    "perceptual": ("lpips", "dists"),
    "grid_weight": 4.0,
}
"""For a student that can restore already: less of L1, two perceptual distances, a term against grids."""

_TINY: dict[str, Any] = {"channels": [8, 16, 16], "encoder_blocks": [1, 1, 1], "decoder_blocks": [1, 1]}


def mini_v0() -> StudentConfig:
    """`mini` v0, where every later one starts: reconstruction losses only, a first-order degradation.

    Two phases: L1 alone until the network has learned to deblur and denoise, then L1 + LPIPS-VGG for texture. The
    scores to expect on RealSR (100 pairs, ×4) and the measured training time stand in the model card.
    """
    return StudentConfig(
        phases=(
            Phase(steps=1000, batch_size=16, lr=(6e-4, 5e-4), warmup=100, l1_weight=1.0),
            Phase(steps=4000, batch_size=8, lr=(5e-4, 1e-5), l1_weight=1.0, perceptual_weight=0.75, perceptual_crop=96),
        ),
        pairs=PairSettings(crops=CropSettings(size=128)),
    )


def mini_adversarial() -> StudentConfig:
    """A trial that is not shipped: from `mini` v0 (``--init``), with DISTS, a term against grids and an adversary.

    Half of the pairs keep v0's first-order degradation, the rest have the full recipe in a milder and a harsher form.
    The first phase gets used to them; then the discriminator joins. It looks at latents, and so at the place of every
    pixel in the grid. What came of it stands in ``benchmarks/mini.md``: better on photographs that are degraded as in
    training, grainy on RealSR.
    """
    shared = _TEXTURE_LOSSES | {"l1_weight": 1.0, "perceptual_weight": 0.75}
    return StudentConfig(
        phases=(
            Phase(steps=400, lr=(2e-4, 2e-4), warmup=50, **shared),
            Phase(
                steps=2800,
                lr=(2e-4, 1e-5),
                adversarial_weight=(0.03, 0.08),
                adversary="latent",
                discriminator_lr=(2e-4, 5e-5),
                **shared,
            ),
        ),
        pairs=PairSettings(
            crops=CropSettings(size=128),
            others=((0.25, dataclasses.replace(PRESETS["stablesr"], sharpen_target=False)), (0.25, PRESETS["osediff"])),
        ),
    )


CAMERA = SimpleDegradation(
    blur_prob=1.0,
    blur_sigma=(0.6, 3.2),
    isotropic_prob=0.7,
    noise_prob=0.7,
    noise_sigma=(0.3, 4.0),
    sharpen_prob=0.5,
    jpeg_prob=0.4,
    jpeg_quality=(80, 98),
)
"""What a camera does to a picture that is then looked at pixel by pixel: lens blur, little noise, some sharpening."""


LONG_LENS = CameraDegradation(
    blur_sigma=(0.3, 0.7),
    defocus_prob=0.1,
    photons=(10_000.0, 100_000.0),
    gradient_prob=1.0,
    sharpen_amount=(0.1, 0.6),
    jpeg_prob=0.0,
)
"""A good camera's own pixels: what the truth is in benchmarks of real photographs."""


def _camera_pairs(camera: SimpleDegradation = CAMERA) -> PairSettings:
    """45 % as cameras make them, 40 % as v0's, 15 % with heavier damage; crops partly as soft as cameras' pixels."""
    return PairSettings(
        crops=CropSettings(size=128, shrink_prob=0.25, enlarge_prob=0.35),
        others=((0.45, camera), (0.15, PRESETS["osediff"])),
    )


def mini_camera() -> StudentConfig:
    """From v0 (``--init``): pairs as cameras make them, and a weak adversary.

    Its students have more texture, and beads along strong edges; :func:`mini_v1` takes these away.
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
                **_TEXTURE_LOSSES,
            ),
        ),
        pairs=_camera_pairs(),
    )


def mini_camera_tsd() -> StudentConfig:
    """A trial that is not shipped: as :func:`mini_camera`, with TSD and then DASM in the place of the adversary.

    Clean, and less detailed than :func:`mini_v1`; the figures stand in ``benchmarks/mini.md``.
    """
    shared = _TEXTURE_LOSSES | {"fake_lr": (1e-4, 1e-4)}
    return StudentConfig(
        phases=(
            Phase(steps=500, lr=(2e-4, 2e-4), warmup=50, gamma_reg=10.0, tsd=_TSD, **shared),
            Phase(steps=1000, lr=(2e-4, 1e-5), gamma_reg=(10.0, 20.0), tsd=DASM, **shared),
        ),
        pairs=_camera_pairs(),
    )


def mini_v1() -> StudentConfig:
    """The distillation of the shipped `mini`, from :func:`mini_camera` (``--init``): DASM, no adversary, more DISTS."""
    losses = _TEXTURE_LOSSES | {"perceptual": ("lpips", "dists", "dists")}
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
        pairs=_camera_pairs(),
        seed=1,
    )


_DETAIL_LOSSES: dict[str, Any] = _TEXTURE_LOSSES | {
    "perceptual": ("lpips", "dists", "dists"),
    "grid_weight": 0.4,
    "grid_relative": True,
}
"""More of DISTS; grids measured against the residual around them."""

_FINE = NetworkSettings(config={"fine_channels": 32, "fine_blocks": 3})
"""One more level, at two pixels a position."""


def mini_fine() -> StudentConfig:
    """A trial that is not shipped: from :func:`mini_v1` (``--init``), a finer level, a lens that blurs more, no TSD.

    With lens, sensor and demosaicing a camera's pixel sees a Gaussian of 0.6 to 0.8 pixels, or 2.4 to 3.2 pixels of the
    enlargement: the centre of what is drawn here. What came of it stands in ``benchmarks/mini.md``: better than v1 on
    held-out photographs, worse on RealSR.
    """
    return StudentConfig(
        phases=(Phase(steps=5600, lr=(3e-4, 1e-5), warmup=50, **_DETAIL_LOSSES),),
        networks=_FINE,
        pairs=_camera_pairs(dataclasses.replace(CAMERA, blur_sigma=(0.8, 4.0))),
        seed=2,
    )


def mini_sensor() -> StudentConfig:
    """Not run yet: from :func:`mini_v1` (``--init``), a finer level, every other pair as a simulated sensor sees it."""
    return StudentConfig(
        phases=(Phase(steps=5600, lr=(3e-4, 1e-5), warmup=50, **_DETAIL_LOSSES),),
        networks=_FINE,
        pairs=PairSettings(
            crops=CropSettings(size=128, shrink_prob=0.25, enlarge_prob=0.35),
            others=((0.5, CameraDegradation()), (0.15, CAMERA), (0.15, PRESETS["osediff"])),
        ),
        seed=3,
    )


def mini_v2() -> StudentConfig:
    """What `mini` v2 was, after :func:`mini_v1` (``--init``): a few steps against grids, without TSD.

    Short on purpose: longer runs of the kind went on gaining on held-out photographs and lost on RealSR.
    """
    losses = _DETAIL_LOSSES | {"grid_weight": 1.0}
    return StudentConfig(
        phases=(Phase(steps=220, lr=(1e-4, 3e-6), warmup=10, **losses),),
        pairs=_camera_pairs(),
        seed=9,
    )


def mini_twin() -> StudentConfig:
    """A trial that is not shipped: pairs as two lenses take them, the truth, too, through a sensor and developed.

    For ``--init`` with a later `mini`. Better LPIPS and DISTS on held-out photographs, worse on RealSR; see
    ``benchmarks/mini.md``.
    """
    return StudentConfig(
        phases=(Phase(steps=2000, lr=(2e-4, 1e-5), warmup=50, **_DETAIL_LOSSES),),
        pairs=PairSettings(
            crops=CropSettings(size=128, shrink_prob=0.15, enlarge_prob=0.55, max_enlarge=1.7),
            others=((0.4, CAMERA), (0.25, CameraDegradation()), (0.15, PRESETS["osediff"])),
            truth=(0.5, LONG_LENS),
        ),
        seed=6,
    )


def mini_teacher() -> TeacherConfig:
    """`mini`'s teacher: its network with a learned skip, from scratch, on sharp crops with the diffusion loss.

    5,000 steps of 8 crops; how good a teacher gets in that time stands in `benchmarks/training.md`.
    """
    return TeacherConfig(
        phases=(Schedule(steps=5000, batch_size=8, lr=(5e-4, 1e-5), warmup=200),),
        networks=NetworkSettings(config={"learned_skip": True}),
        crops=CropSettings(size=128),
        validation_crop=128,
    )


def mini_student() -> StudentConfig:
    """`mini` distilled: the paper's two phases, for a network that is trained whole and in pixel space.

    Compared with the paper: all weights are trained, hence higher learning rates; pixel L1 stands in for the latent
    MSE, which for a lossless latent space is a pixel loss as well; the teacher is asked without guidance, because it
    has but one prompt. Its residuals are small then: TSD weighs ten times as much, about as strong as L1.
    """
    shared: dict[str, Any] = {
        "batch_size": 8,
        "perceptual_weight": 0.75,
        "perceptual_crop": 96,
        "fake_lr": (1e-4, 1e-4),
    }
    return StudentConfig(
        phases=(
            Phase(
                steps=3000,
                lr=(3e-4, 2e-4),
                warmup=100,
                l1_weight=1.0,
                gamma_reg=10.0,
                tsd=_TSD,
                **shared,
            ),
            Phase(steps=2000, lr=(2e-4, 1e-5), l1_weight=0.5, gamma_reg=(10.0, 20.0), tsd=DASM, **shared),
        ),
        pairs=PairSettings(crops=CropSettings(size=128), degradation=PRESETS["osediff"]),
    )


def mini_smoke() -> StudentConfig:
    """Two steps of everything but distillation on a tiny network, to check an installation; not for use."""
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
    """Two steps of a tiny teacher, to check an installation; not for use."""
    return TeacherConfig(
        phases=(Schedule(steps=2, batch_size=2, lr=(1e-3, 1e-3)),),
        networks=NetworkSettings(config=_TINY),
        crops=CropSettings(size=32),
        validate_every=2,
        log_every=1,
    )
