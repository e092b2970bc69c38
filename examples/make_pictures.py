"""Create the small example photograph and the sheet of degradations from photographs of scikit-image.

    python examples/make_pictures.py

NASA's portrait of Eileen Collins (public domain) is degraded by the project's own recipe with a fixed seed. For each
preset of the second-order recipe, the sheet shows the target and four degraded versions of the portrait and of two CC0
photographs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import skimage.data
import torch
from PIL import Image

from tsdsr.data.degradation_presets import PRESETS
from tsdsr.data.first_order import FirstOrderDegradation
from tsdsr.data.second_order import SecondOrderDegradation
from tsdsr.pixels import to_tensor, to_uint8

HERE = Path(__file__).parent
DEGRADATION = FirstOrderDegradation(
    blur_prob=1, blur_sigma=(1.2, 1.8), noise_prob=1, noise_sigma=(2, 4), jpeg_prob=1, jpeg_quality=(75, 85)
)


def main() -> None:
    lq = DEGRADATION(to_tensor(skimage.data.astronaut()), (128, 128), np.random.default_rng(0))
    to_image(lq).save(HERE / "astronaut_lq.png", optimize=True)
    degradation_sheet().save(HERE.parent / "docs" / "images" / "degradations.webp", quality=80, method=6)


def degradation_sheet(edge: int = 192, draws: int = 4) -> Image.Image:
    """Draw a row per preset and photograph: the target, then ``draws`` degraded versions enlarged to its size."""
    crops = [skimage.data.astronaut()[:edge, 128:320], skimage.data.chelsea()[60:252, 100:292]]
    crops.append(skimage.data.coffee()[60:252, 180:372])
    rows = []
    for preset in PRESETS.values():
        recipe, generator = SecondOrderDegradation(preset), torch.Generator().manual_seed(1)
        for crop in crops:
            x_lq, x_hq, _ = recipe(to_tensor(crop).repeat(draws, 1, 1, 1), generator)
            enlarged = torch.nn.functional.interpolate(x_lq, size=(edge, edge), mode="nearest")
            rows.append(torch.cat([x_hq[0], *enlarged], dim=-1))
    return to_image(torch.cat(rows, dim=-2))


def to_image(x: torch.Tensor) -> Image.Image:
    """Convert an image (3, H, W) in [0, 1]."""
    return Image.fromarray(to_uint8(x))


if __name__ == "__main__":
    main()
