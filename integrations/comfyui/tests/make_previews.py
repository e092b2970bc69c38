"""Make the preview pictures of the example workflows from scikit-image's photographs (public domain and CC0).

    python integrations/comfyui/tests/make_previews.py

The left half of each is the input, enlarged with bicubic interpolation; the right half is what the workflow makes.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

from tsdsr import load_pipeline
from tsdsr.images.picture import Picture
from tsdsr.pipeline.options import RestoreOptions
from tsdsr.pipeline.picture_restorer import picture_restorer

FOLDER = Path(__file__).resolve().parents[1] / "example_workflows"
EDGE = 400


def main() -> None:
    restore = picture_restorer(load_pipeline("mini", engine="onnx"), RestoreOptions(4))
    portrait, cup = skimage.data.astronaut()[0:EDGE, 60 : 60 + EDGE], skimage.data.coffee()[:, 150 : 150 + EDGE]
    cat = np.asarray(Image.fromarray(skimage.data.chelsea()[0:300, 90:390]).resize((EDGE, EDGE)))
    for name, photograph, hole in (
        ("Enlarge a photograph", portrait, False),
        ("Enlarge a picture with transparency", cat, True),
        ("Enlarge with the stock nodes", cup, False),
    ):
        small = degraded(Image.fromarray(photograph))
        alpha = disc(EDGE // 4) if hole else None
        result = restore(Picture(small, alpha))
        before = shown(resized(small), None if alpha is None else resized(alpha))
        after = shown(result.pixels, result.alpha)
        half = EDGE // 2
        picture = np.concatenate([before[:, :half], np.full((EDGE, 3, 3), 255, np.uint8), after[:, half:]], axis=1)
        Image.fromarray(picture).save(FOLDER / f"{name}.jpg", quality=88, optimize=True)


def degraded(photograph: Image.Image) -> np.ndarray:
    """Reduce a photograph to a quarter and compress it as JPEG."""
    stored = BytesIO()
    photograph.resize((EDGE // 4, EDGE // 4), Image.Resampling.BOX).save(stored, "JPEG", quality=80)
    return np.array(Image.open(stored))


def disc(edge: int) -> np.ndarray:
    """Return the alpha of a round picture."""
    rows, columns = np.mgrid[:edge, :edge] - (edge - 1) / 2
    return np.clip(255 * (0.47 * edge + 0.5 - np.hypot(rows, columns)), 0, 255).astype(np.uint8)


def resized(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize((EDGE, EDGE), Image.Resampling.BICUBIC))


def shown(pixels: np.ndarray, alpha: np.ndarray | None) -> np.ndarray:
    """Lay a picture on a chequered ground."""
    if alpha is None:
        return pixels
    rows, columns = np.mgrid[:EDGE, :EDGE] // 20
    ground = np.where((rows + columns) % 2, 150, 190)[..., None]
    share = alpha[..., None] / 255
    return np.rint(pixels * share + ground * (1 - share)).astype(np.uint8)


if __name__ == "__main__":
    main()
