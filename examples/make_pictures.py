"""Make the example input and the README's before/after picture from a public-domain photograph of scikit-image.

    python examples/make_pictures.py

The photograph (NASA's portrait of Eileen Collins, public domain) is degraded by the project's own recipe with a fixed
seed, then restored by the packaged `mini`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import skimage.data
import torch
from PIL import Image

from tsdsr import load_pipeline
from tsdsr.data.simple import SimpleDegradation
from tsdsr.pipeline.tensors import to_pil, to_tensors
from tsdsr.resize import upsample_bicubic

HERE = Path(__file__).parent
DEGRADATION = SimpleDegradation(
    blur_prob=1, blur_sigma=(1.2, 1.8), noise_prob=1, noise_sigma=(2, 4), jpeg_prob=1, jpeg_quality=(75, 85)
)


def main() -> None:
    (x_hq,), _ = to_tensors(Image.fromarray(skimage.data.astronaut()))
    lq = DEGRADATION(x_hq[0], (128, 128), np.random.default_rng(0))
    to_pil(lq).save(HERE / "astronaut_lq.png", optimize=True)
    restored = load_pipeline("mini", "cpu", "fp32")(lq).images
    bicubic = upsample_bicubic(lq[None], (512, 512))
    separator = torch.ones(1, 3, 512, 8)
    to_pil(torch.cat([bicubic, separator, restored], dim=-1)[0]).save(
        HERE / "before_after.jpg", quality=92, subsampling=0, optimize=True
    )


if __name__ == "__main__":
    main()
