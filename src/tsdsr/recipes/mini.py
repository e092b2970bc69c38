"""Recipes for `mini`, the small model that comes with the package."""

from __future__ import annotations

from tsdsr.data.datasets import CropSettings, PairSettings
from tsdsr.training.config import Phase, StudentConfig


def mini_v0() -> StudentConfig:
    """The first shipped `mini`: reconstruction losses only, a first-order degradation.

    Two phases: L1 alone until the network has learned to deblur and denoise, then L1 + LPIPS-VGG for texture. The
    scores to expect on RealSR (100 pairs, ×4) and the measured training time stand in the model card.
    """
    return StudentConfig(
        phases=(
            Phase(steps=1000, batch_size=16, lr=(6e-4, 5e-4), warmup=100),
            Phase(steps=4000, batch_size=8, lr=(5e-4, 1e-5), perceptual_weight=0.75, perceptual_crop=96),
        ),
        pairs=PairSettings(crops=CropSettings(size=128)),
        ema_decay=0.999,
    )


def mini_smoke() -> StudentConfig:
    """Two steps of everything on a tiny network, to check an installation; not for use."""
    return StudentConfig(
        phases=(
            Phase(steps=1, batch_size=2, lr=(1e-3, 1e-3)),
            Phase(steps=1, batch_size=2, lr=(1e-3, 1e-4)),
        ),
        network={"channels": [8, 16, 16], "encoder_blocks": [1, 1, 1], "decoder_blocks": [1, 1]},
        pairs=PairSettings(crops=CropSettings(size=32)),
        validation_crop=32,
        validate_every=1,
        log_every=1,
    )
