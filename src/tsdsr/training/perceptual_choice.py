"""The perceptual distances of a run, and the one of a step: which, and on which square of the crop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from tsdsr.errors import MissingDependencyError, ModelError
from tsdsr.training.config import PerceptualName, Phase, StudentConfig
from tsdsr.training.image_losses import dists_distance, lpips_distance
from tsdsr.training.networks import channels_last
from tsdsr.training.texture_distance import TextureDistance
from tsdsr.training.vgg_features import FeatureDistance, vgg_layers

Perceptual = Callable[[Tensor, Tensor], Tensor]
"""Two batches of images (B, 3, H, W) in [0, 1] → their mean distance, a scalar."""

_CROP = 7  # random stream of the square


def perceptual_names(config: StudentConfig) -> list[PerceptualName]:
    """Names of all perceptual distances that a run computes, sorted."""
    return sorted({name for phase in config.phases if phase.perceptual_weight for name in phase.perceptual})


def perceptual_distance(name: PerceptualName, device: torch.device | str = "cpu") -> Perceptual:
    """Load the distance named "lpips" (with VGG16), "dists", "vgg" or "texture".

    Raises:
        MissingDependencyError: its package is not installed.
        ModelError: its weights cannot be downloaded or read.
    """
    with downloads_explained(f"the loss {name!r}"):
        if name in ("vgg", "texture"):
            layers = vgg_layers()
            distance: Perceptual = channels_last(
                (FeatureDistance(layers) if name == "vgg" else TextureDistance(layers)).to(device)
            )
            return distance
        return dists_distance(device) if name == "dists" else lpips_distance("vgg", device)


@contextmanager
def downloads_explained(what: str) -> Iterator[None]:
    """Convert failures to load published weights within the block to errors that say what helps.

    Args:
        what (str): what needs the weights, for the message.

    Raises:
        ModelError: there is no connection or no space, or a download was cut.
        MissingDependencyError: from the block, unchanged.
    """
    try:
        yield
    except MissingDependencyError:
        raise
    except (OSError, ImportError, RuntimeError) as error:
        raise ModelError(
            f"{what} cannot be loaded ({' '.join(str(error).split())[:200]}); its weights are downloaded on first use, "
            f"so connect to the internet once"
        ) from error


def perceptual_of_step(
    config: StudentConfig, phase: Phase, step: int, distances: Mapping[str, Perceptual]
) -> Perceptual | None:
    """Return a step's perceptual loss: none, on whole crops, or on a random square given by (seed, step).

    Args:
        config (StudentConfig): the run's settings.
        phase (Phase): the phase of ``step``.
        step (int): 0-based number of the step in the run; the phase's distances take turns.
        distances (mapping): name → distance, with all of :func:`perceptual_names`.
    """
    if not phase.perceptual_weight:
        return None
    perceptual, edge = distances[phase.perceptual[step % len(phase.perceptual)]], phase.perceptual_crop
    size = config.pairs.crops.size
    if edge is None or edge >= size:
        return perceptual
    rng = np.random.default_rng((config.seed, _CROP, step))
    y, x = (int(v) for v in rng.integers(size - edge + 1, size=2))

    def cropped(x_hat: Tensor, x_hq: Tensor) -> Tensor:
        return perceptual(x_hat[..., y : y + edge, x : x + edge], x_hq[..., y : y + edge, x : x + edge])

    return cropped
