"""What the folder of a `mini` pipeline says besides the network's weights. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tsdsr.arrays import Array
from tsdsr.errors import ModelNotFoundError, WeightsError
from tsdsr.hashing import hash_file, hash_text
from tsdsr.models.network_config import CONFIG, WEIGHTS, read_config
from tsdsr.models.space_to_depth import depth_to_space, space_to_depth
from tsdsr.safetensors_header import read_array, read_header

MADE_FROM = "made_from"
"""Name of a graph's note of what it was made for, see :func:`hash_of_weights`."""


@dataclass(frozen=True)
class MiniLatents:
    """Images ↔ scaled latents of `mini`.

    Attributes:
        patch (int): edge in pixels of the block that becomes one latent position.
        scaling (float): latents of images in [-1, 1] are multiplied by it.
    """

    patch: int = 4
    scaling: float = 1.72

    def encode(self, x: Array) -> Array:
        """Map images (B, 3, H, W) in [0, 1] to scaled latents (B, 3 patch², H/patch, W/patch)."""
        return space_to_depth(x * (2 * self.scaling) - self.scaling, self.patch)

    def decode(self, z: Array) -> Array:
        """Map scaled latents (B, 3 patch², h, w) to images (B, 3, h patch, w patch), nominally in [0, 1]."""
        return depth_to_space(z * (0.5 / self.scaling) + 0.5, self.patch)

    @classmethod
    def read(cls, folder: Path) -> MiniLatents:
        """Read the latent space of a pipeline folder.

        Raises:
            ModelNotFoundError, WeightsError: the configuration is missing or wrong.
        """
        config, path = read_config(folder / "vae"), folder / "vae" / CONFIG
        patch, scaling = config.get("patch_size", cls.patch), config.get("scaling_factor", cls.scaling)
        if patch != cls.patch:
            raise WeightsError(f"{path}: patch_size is {patch!r}, not {cls.patch} as in mini")
        if not isinstance(scaling, int | float) or scaling <= 0:
            raise WeightsError(f"{path}: scaling_factor is {scaling!r}, not a positive number")
        return cls(patch, float(scaling))


def prompt_label(folder: Path, prompts: int) -> int:
    """Return the index of the fixed prompt of a pipeline folder.

    Args:
        folder (Path): the pipeline.
        prompts (int): number of prompts that the network has learned.

    Raises:
        ModelNotFoundError, WeightsError: it is missing, or the network has no such prompt.
    """
    path = folder / "prompt" / WEIGHTS
    stored = read_header(path).get("labels")
    labels = np.zeros(0) if stored is None else read_array(path, stored)
    if labels.size != 1 or not 0 <= labels.item() < prompts:
        raise WeightsError(f"{path}: does not contain the index of one of the {prompts} prompts")
    return int(labels.item())


def hash_of_weights(folder: Path) -> str:
    """Return a hash of what a graph of a pipeline folder depends on: the weights and the prompt.

    Raises:
        ModelNotFoundError: a file is missing.
        WeightsError: a file cannot be read.
    """
    hashes = []
    for path in (folder / part / WEIGHTS for part in ("denoiser", "prompt")):
        try:
            hashes.append(hash_file(path))
        except FileNotFoundError:
            raise ModelNotFoundError(f"{path}: is missing; copy or convert the model again") from None
        except OSError as error:
            raise WeightsError(f"{path}: cannot be read ({error.strerror or error})") from error
    return hash_text(" ".join(hashes))
