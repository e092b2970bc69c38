"""The latent space of `mini`: blocks of pixels as channels, on arrays of numpy and torch alike."""

from __future__ import annotations

from tsdsr.arrays import Array, namespace
from tsdsr.errors import InvalidInputError


def space_to_depth(x: Array, patch: int) -> Array:
    """Map images (B, C, H, W) to (B, C patch², H/patch, W/patch), as ``torch.nn.functional.pixel_unshuffle``.

    Raises:
        InvalidInputError: H or W is not a multiple of ``patch``.
    """
    batch, channels, height, width = x.shape
    if height % patch or width % patch:
        raise InvalidInputError(f"image sides must be multiples of {patch}, got {width}x{height}")
    xp = namespace(x)
    blocks = xp.reshape(x, (batch, channels, height // patch, patch, width // patch, patch))
    blocks = xp.permute_dims(blocks, (0, 1, 3, 5, 2, 4))
    return xp.reshape(blocks, (batch, channels * patch**2, height // patch, width // patch))


def depth_to_space(z: Array, patch: int) -> Array:
    """Map (B, C patch², h, w) to images (B, C, h patch, w patch), as ``torch.nn.functional.pixel_shuffle``."""
    batch, channels, height, width = z.shape
    xp = namespace(z)
    blocks = xp.reshape(z, (batch, channels // patch**2, patch, patch, height, width))
    blocks = xp.permute_dims(blocks, (0, 1, 4, 2, 5, 3))
    return xp.reshape(blocks, (batch, channels // patch**2, height * patch, width * patch))
