"""Which discriminator a run uses."""

from __future__ import annotations

import torch

from tsdsr.models.zoo import get_spec
from tsdsr.training.adversarial import Adversary, FeatureAdversary, LatentAdversary
from tsdsr.training.config import StudentConfig
from tsdsr.training.networks import Networks, channels_last
from tsdsr.training.perceptual_choice import downloads_explained
from tsdsr.training.pixel_adversary import PixelAdversary
from tsdsr.training.vgg_adversary import VGGAdversary
from tsdsr.training.vgg_features import ADVERSARY_LAYERS, VGGMaps, vgg_layers


def make_adversary(config: StudentConfig, networks: Networks, device: torch.device | str = "cpu") -> Adversary:
    """Create the discriminator that the phases of a run use; there is one kind per run.

    Args:
        config (StudentConfig): settings with an adversarial weight.
        networks (Networks): the run's, on its device.
        device (torch.device | str): the run's device.

    Raises:
        MissingDependencyError: a discriminator on VGG features needs torchvision.
        ModelError: VGG16's weights cannot be downloaded or read.
    """
    if "latent" in config.adversaries:
        return LatentAdversary(networks.student.denoiser.config["in_channels"], config.seed)
    if "pixel" in config.adversaries:
        return PixelAdversary(networks.vae, config.seed)
    if "vgg" in config.adversaries:
        with downloads_explained("the discriminator on VGG features"):
            maps = channels_last(VGGMaps(vgg_layers()).to(device))
        return VGGAdversary(networks.vae, maps, [channels for channels, _ in ADVERSARY_LAYERS.values()], config.seed)
    assert networks.scores is not None
    return FeatureAdversary(networks.scores, get_spec(config.networks.model).process, config.seed)
