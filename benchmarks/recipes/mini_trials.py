"""Recipes of runs of `mini` that were tried and not shipped; what came of them stands in ``docs/measurements/mini.md``.

tsdsr train student --recipe benchmarks/recipes/mini_trials.py:mini_fine --init V1 --photos PHOTOS -o RUN
"""

from __future__ import annotations

import dataclasses
from typing import Any

from tsdsr.data.camera import CameraDegradation
from tsdsr.data.datasets import CropSettings, PairSettings
from tsdsr.data.degradation_presets import PRESETS
from tsdsr.data.first_order import FirstOrderDegradation
from tsdsr.recipes.mini import CAMERA, DASM, DETAIL_LOSSES, TEXTURE_LOSSES, TSD, camera_pairs
from tsdsr.recipes.mini_crisp import BLURRED, CLEAN_LOSSES, MILD, harder_pairs
from tsdsr.recipes.mini_large import LARGE_LOSSES, large_run
from tsdsr.recipes.mini_texture import VGG_LOSSES, hard_pairs, mini_texture_long
from tsdsr.training.config import NetworkSettings, Phase, StudentConfig

LONG_LENS = CameraDegradation(
    blur_sigma=(0.3, 0.7),
    defocus_prob=0.1,
    photons=(10_000.0, 100_000.0),
    gradient_prob=1.0,
    sharpen_amount=(0.1, 0.6),
    jpeg_prob=0.0,
)
"""A good camera's own pixels: what the truth is in benchmarks of real photographs."""

PHONE = CameraDegradation(
    blur_sigma=(0.8, 2.6),
    photons=(400.0, 20_000.0),
    read_noise=(0.0005, 0.005),
    smear_prob=0.7,
    sharpen_prob=0.8,
    sharpen_amount=(0.3, 1.3),
    jpeg_prob=0.8,
    jpeg_quality=(75, 95),
)
"""A small sensor, whose pictures are smeared by denoising and then sharpened."""

MESSENGER = FirstOrderDegradation(
    blur_sigma=(0.2, 1.0), noise_sigma=(0.2, 1.0), sharpen_prob=0.3, jpeg_prob=1.0, jpeg_quality=(20, 60)
)
"""A picture that a messenger has shrunk and compressed strongly."""

_FINE = NetworkSettings(config={"fine_channels": 32, "fine_blocks": 3})
"""One more level, at two pixels a position."""


def mini_adversarial() -> StudentConfig:
    """A trial that is not shipped: from `mini` v0 (``--init``), with DISTS, a term against grids and an adversary.

    Half of the pairs keep v0's first-order degradation, the rest have the full recipe in a milder and a harsher form.
    The first phase gets used to them; then the discriminator joins. It looks at latents, and so at the place of every
    pixel in the grid. What came of it stands in ``docs/measurements/mini.md``: better on photographs that are degraded
    as in training, grainy on RealSR.
    """
    shared = TEXTURE_LOSSES | {"l1_weight": 1.0, "perceptual_weight": 0.75}
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


def mini_camera_tsd() -> StudentConfig:
    """A trial that is not shipped: as :func:`mini_camera`, with TSD and then DASM in the place of the adversary.

    Clean, and less detailed than :func:`mini_v1`; the figures stand in ``docs/measurements/mini.md``.
    """
    shared = TEXTURE_LOSSES | {"fake_lr": (1e-4, 1e-4)}
    return StudentConfig(
        phases=(
            Phase(steps=500, lr=(2e-4, 2e-4), warmup=50, gamma_reg=10.0, tsd=TSD, **shared),
            Phase(steps=1000, lr=(2e-4, 1e-5), gamma_reg=(10.0, 20.0), tsd=DASM, **shared),
        ),
        pairs=camera_pairs(),
    )


def mini_fine() -> StudentConfig:
    """A trial that is not shipped: from :func:`mini_v1` (``--init``), a finer level, a lens that blurs more, no TSD.

    With lens, sensor and demosaicing a camera's pixel sees a Gaussian of 0.6 to 0.8 pixels, or 2.4 to 3.2 pixels of the
    enlargement: the centre of what is drawn here. What came of it stands in ``docs/measurements/mini.md``: better than
    v1 on held-out photographs, worse on RealSR.
    """
    return StudentConfig(
        phases=(Phase(steps=5600, lr=(3e-4, 1e-5), warmup=50, **DETAIL_LOSSES),),
        networks=_FINE,
        pairs=camera_pairs(dataclasses.replace(CAMERA, blur_sigma=(0.8, 4.0))),
        seed=2,
    )


def mini_sensor() -> StudentConfig:
    """Not run yet: from :func:`mini_v1` (``--init``), a finer level, every other pair as a simulated sensor sees it."""
    return StudentConfig(
        phases=(Phase(steps=5600, lr=(3e-4, 1e-5), warmup=50, **DETAIL_LOSSES),),
        networks=_FINE,
        pairs=PairSettings(
            crops=CropSettings(size=128, shrink_prob=0.25, enlarge_prob=0.35),
            others=((0.5, CameraDegradation()), (0.15, CAMERA), (0.15, PRESETS["osediff"])),
        ),
        seed=3,
    )


def mini_twin() -> StudentConfig:
    """A trial that is not shipped: pairs as two lenses take them, the truth, too, through a sensor and developed.

    For ``--init`` with a later `mini`. Better LPIPS and DISTS on held-out photographs, worse on RealSR; see
    ``docs/measurements/mini.md``.
    """
    return StudentConfig(
        phases=(Phase(steps=2000, lr=(2e-4, 1e-5), warmup=50, **DETAIL_LOSSES),),
        pairs=PairSettings(
            crops=CropSettings(size=128, shrink_prob=0.15, enlarge_prob=0.55, max_enlarge=1.7),
            others=((0.4, CAMERA), (0.25, CameraDegradation()), (0.15, PRESETS["osediff"])),
            truth=(0.5, LONG_LENS),
        ),
        seed=6,
    )


def mini_large_both() -> StudentConfig:
    """A trial that is not shipped, from :func:`mini_large`: DASM and a weak adversary together. Stopped at step 900."""
    losses = LARGE_LOSSES | {"batch_size": 32, "fake_lr": (1e-4, 1e-4), "discriminator_lr": (2e-4, 5e-5)}
    return large_run(
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


_PIXEL_LOSSES: dict[str, Any] = CLEAN_LOSSES | {
    "perceptual_weight": 0.05,
    "perceptual_crop": 112,
    "sharpen_truth": 0.5,
    "adversary": "pixel",
    "discriminator_lr": (2e-4, 1e-4),
}
"""Real-ESRGAN's losses, VGG features at a twentieth of its weight, and `mini`'s term against grids."""


def mini_pixel() -> StudentConfig:
    """A trial that is not shipped, from :func:`~tsdsr.recipes.mini_large.mini_v3` (``--init``): less weave.

    Half of the pairs have second-order degradation, most others wider blur; truths come from photographs as they are or
    shrunk. The adversary's weight grows while it learns; the term against weave joins last. In the run itself the first
    200 steps had crops of 160 pixels, and VGG saw whole crops until step 300.
    """
    return StudentConfig(
        phases=(
            Phase(steps=200, lr=(2e-4, 2e-4), warmup=20, adversarial_weight=(0.0, 0.08), **_PIXEL_LOSSES),
            Phase(steps=200, lr=(2e-4, 1.5e-4), adversarial_weight=0.1, **_PIXEL_LOSSES),
            Phase(steps=230, lr=(1.5e-4, 5e-6), adversarial_weight=0.1, weave_weight=8.0, **_PIXEL_LOSSES),
        ),
        pairs=harder_pairs((0.25, MILD), (0.25, PRESETS["osediff"]), (0.2, BLURRED), (0.1, CameraDegradation())),
        seed=30,
        monitor_every=0,
        validate_every=200,
        checkpoint_every=100,
        log_every=20,
    )


def mini_textured() -> StudentConfig:
    """A trial that is not shipped, from :func:`~tsdsr.recipes.mini_texture.mini_restored`.

    The discriminator on VGG features again.
    """
    losses = VGG_LOSSES | {
        "batch_size": 12,
        "perceptual_weight": 0.025,
        "perceptual_crop": 80,
        "weave_weight": 5.0,
        "grid_weight": 2.0,
        "discriminator_lr": (3e-4, 1e-4),
    }
    return StudentConfig(
        phases=(
            Phase(steps=80, lr=(2e-4, 2e-4), warmup=10, adversarial_weight=(1e-4, 3.0), **losses),
            Phase(steps=720, lr=(2e-4, 1e-5), adversarial_weight=3.0, **losses),
        ),
        pairs=hard_pairs(128, 0.12, 0.45, 0.25, (1.5, 5.5)),
        seed=63,
        ema_decay=0.99,
        monitor_every=0,
        validate_every=400,
        checkpoint_every=50,
    )


def mini_texture_denoised() -> StudentConfig:
    """A trial that is not shipped, from :func:`~tsdsr.recipes.mini_texture.mini_texture_long`; stopped at step 2,000.

    Photographs without their grain (``benchmarks/denoise_photos.py``), more blur, all ground truth slightly sharpened,
    more weight on grids.
    """
    base = mini_texture_long()
    shares = (0.12, 0.36, 0.2, 0.2, 0.12)
    others = tuple((share, kind) for share, (_, kind) in zip(shares, base.pairs.others, strict=True))
    phase = dataclasses.replace(base.phases[0], steps=2900, sharpen_truth=0.12, grid_weight=6.0)
    return dataclasses.replace(
        base, phases=(phase,), pairs=dataclasses.replace(base.pairs, others=others), seed=78, checkpoint_every=100
    )


def mini_texture_settled() -> StudentConfig:
    """A trial that is not shipped, from :func:`mini_texture_denoised`: the same at a falling rate."""
    return _continued(seed=80, steps=1300)


def mini_texture_even() -> StudentConfig:
    """A trial that is not shipped, from :func:`mini_texture_denoised`: half of the images are turned copies."""
    return _continued(seed=79, steps=1700, equivariance_weight=4.0, sharpen_truth=0.2)


def _continued(seed: int, **changes: Any) -> StudentConfig:
    base = mini_texture_denoised()
    phase = dataclasses.replace(base.phases[0], lr=(2.5e-4, 5e-6), warmup=20, **changes)
    return dataclasses.replace(base, phases=(phase,), seed=seed, ema_decay=0.99)


def mini_texture_phone() -> StudentConfig:
    """A trial that is not shipped, from `mini` v5: phones, messengers, all ground truth slightly sharpened."""
    phase = dataclasses.replace(mini_texture_long().phases[0], sharpen_truth=0.2, grid_weight=6.0)
    return _phone_run(phase, (0.08, 0.3, 0.12, 0.12, 0.26, 0.12), seed=81, ema_decay=0.995)


def mini_texture_phone_mild() -> StudentConfig:
    """A trial that is not shipped, from the mean of v5 and :func:`mini_texture_phone`: fewer phones, milder truth.

    The ground truth is sharpened for second-order damage only, as for v5.
    """
    phase = dataclasses.replace(
        mini_texture_long().phases[0], steps=1300, lr=(2.5e-4, 5e-6), warmup=20, grid_weight=6.0
    )
    return _phone_run(phase, (0.12, 0.32, 0.13, 0.18, 0.17, 0.08), seed=83, ema_decay=0.99)


def _phone_run(phase: Phase, shares: tuple[float, ...], seed: int, ema_decay: float) -> StudentConfig:
    base = mini_texture_long()
    kinds = (*(kind for _, kind in base.pairs.others[:4]), PHONE, MESSENGER)
    pairs = dataclasses.replace(base.pairs, others=tuple(zip(shares, kinds, strict=True)))
    return dataclasses.replace(base, phases=(phase,), pairs=pairs, seed=seed, ema_decay=ema_decay)
