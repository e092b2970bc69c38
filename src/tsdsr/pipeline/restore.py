"""One picture through a model: colour and transparency."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tsdsr.pipeline.alpha import carried_on, enlarged_alpha
from tsdsr.pipeline.picture import Picture, Pixels

Enlarge = Callable[[Pixels], Pixels]


def restore_picture(picture: Picture, enlarge: Enlarge) -> Picture:
    """Restore and enlarge a picture; the model sees colours only.

    Where there is transparency, the visible colours are carried on below it first, so that no colour that nobody sees
    gets into an edge; alpha is enlarged by itself. Metadata stays the input's.

    Args:
        picture (Picture): what to enlarge.
        enlarge (callable): pixels (h, w, C) to pixels (H, W, C) of the same dtype and number of channels, such as a
            pipeline's ``upscale_pixels``.
    """
    pixels, alpha = picture.pixels, picture.alpha
    if alpha is None:
        return replace(picture, pixels=enlarge(pixels))
    transparent = int(alpha.min()) < picture.full
    pixels = enlarge(carried_on(pixels, alpha) if transparent else pixels)
    return replace(picture, pixels=pixels, alpha=enlarged_alpha(alpha, pixels.shape[:2]))
