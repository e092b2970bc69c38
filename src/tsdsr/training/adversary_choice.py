"""Which discriminator a run uses."""

from __future__ import annotations

from tsdsr.models.zoo import get_spec
from tsdsr.training.adversarial import Adversary, FeatureAdversary, LatentAdversary
from tsdsr.training.config import StudentConfig
from tsdsr.training.networks import Networks
from tsdsr.training.pixel_adversary import PixelAdversary


def make_adversary(config: StudentConfig, networks: Networks) -> Adversary:
    """Create the discriminator that the phases of a run use; there is one kind per run.

    Args:
        config (StudentConfig): settings with an adversarial weight.
        networks (Networks): the run's, on its device.
    """
    if "latent" in config.adversaries:
        return LatentAdversary(networks.student.denoiser.config["in_channels"], config.seed)
    if "pixel" in config.adversaries:
        return PixelAdversary(networks.vae, config.seed)
    assert networks.scores is not None
    return FeatureAdversary(networks.scores, get_spec(config.networks.model).process, config.seed)
