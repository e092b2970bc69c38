"""Create the old photograph of the tutorial docs/tutorials/restore-a-photograph.md, and the tutorial's pictures.

    python examples/make_tutorial_pictures.py

scikit-image's photographer (CC0, by Lav Varshney) is toned and degraded to a small scan with a fixed seed. The packaged
`mini` restores it as a reader of the tutorial does.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import skimage.data
from numpy.typing import NDArray
from PIL import Image

from tsdsr import load_pipeline
from tsdsr.data.first_order import FirstOrderDegradation
from tsdsr.pixels import to_tensor, to_uint8

ROOT = Path(__file__).resolve().parents[1]
SCAN = ROOT / "examples" / "old_photo.jpg"
IMAGES = ROOT / "docs" / "images"
DEGRADATION = FirstOrderDegradation(
    blur_prob=1, blur_sigma=(1.2, 1.8), noise_prob=1, noise_sigma=(3, 5), jpeg_prob=1, jpeg_quality=(75, 85)
)
PERSON = (0, 60, 600, 620)
"""What the tutorial shows of the restored photograph, in its pixels; and below, where detail is most visible."""
FACE = (190, 90, 510, 330)


def main() -> None:
    scan = DEGRADATION(to_tensor(toned(skimage.data.camera())), (192, 192), np.random.default_rng(0))
    Image.fromarray(to_uint8(scan)).save(SCAN, quality=92, subsampling=0, optimize=True)
    pipe = load_pipeline("mini", engine="onnx")
    with Image.open(SCAN) as photo:
        before = photo.resize((768, 768), Image.Resampling.BICUBIC)
        restored, calm = (pipe(photo, scale=4, detail=detail).images[0] for detail in (1.0, 0.3))
    side_by_side(before.crop(PERSON), restored.crop(PERSON)).save(IMAGES / "old-photo.webp", quality=82, method=6)
    pair = side_by_side(restored.crop(FACE), calm.crop(FACE))
    pair.save(IMAGES / "old-photo-detail.webp", quality=82, method=6)


def toned(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a grey photograph (H, W) in the brown of old prints, (H, W, 3)."""
    light = grey[..., None] / 255
    brown = light ** np.array([0.85, 1.0, 1.25]) * [245, 232, 205] + [8, 6, 10]
    return brown.clip(0, 255).astype(np.uint8)


def side_by_side(left: Image.Image, right: Image.Image) -> Image.Image:
    """Return two pictures of equal size beside each other on white."""
    sheet = Image.new("RGB", (left.width + 8 + right.width, left.height), "white")
    sheet.paste(left, (0, 0))
    sheet.paste(right, (left.width + 8, 0))
    return sheet


if __name__ == "__main__":
    main()
