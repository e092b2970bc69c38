"""Create the pictures of docs/explanation/limits.md and detail.md: where `mini` fails, and what ``--detail`` changes.

    python examples/make_limits_pictures.py

Photographs of scikit-image (CC0 and public domain) are blurred, reduced four times, and compressed, then restored by
the packaged `mini`. Every row shows the input enlarged with bicubic interpolation, the result, and the photograph.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from panels import grid, panel, photograph, save
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from tsdsr import SRPipeline, load_pipeline
from tsdsr.data.first_order import FirstOrderDegradation
from tsdsr.pixels import to_tensor, to_uint8
from tsdsr.resize import upsample_bicubic

SCALE = 4


@dataclass(frozen=True)
class Case:
    """A failure: a window (left, top, width, height) of a photograph and the damage done to it."""

    name: str
    photograph: str
    window: tuple[int, int, int, int]
    blur: float = 1.0
    noise: float = 1.0
    jpeg: int = 92


CASES = (
    Case("limits-blur", "chelsea", (100, 40, 192, 192), blur=4.5),
    Case("limits-foliage", "grass", (96, 64, 256, 256), blur=1.2),
    Case("limits-hair", "astronaut", (140, 16, 144, 144), blur=1.2),
    Case("limits-jpeg", "astronaut", (96, 256, 256, 256), jpeg=12),
    Case("limits-faces", "astronaut", (176, 64, 96, 96), blur=1.2, noise=3, jpeg=70),
)


def main() -> None:
    pipe = load_pipeline("mini", "cpu", "fp32")
    for case in CASES:
        truth = photograph(case.photograph, *case.window)
        lq = degraded(truth, case)
        columns = [enlarged(lq), restored(pipe, lq), truth]
        row = [panel(x, 240) for x in columns]
        save(grid([row], ["input, enlarged", "mini", "photograph"]), case.name)
    save(text_strip(pipe), "limits-text")
    save(detail_strip(pipe), "detail")


def degraded(truth: Tensor, case: Case) -> Tensor:
    """Blur, reduce, add noise and compress, always in the same way."""
    degradation = FirstOrderDegradation(
        blur_prob=1,
        blur_sigma=(case.blur, case.blur),
        noise_prob=1,
        noise_sigma=(case.noise, case.noise),
        jpeg_prob=1,
        jpeg_quality=(case.jpeg, case.jpeg),
        resize_modes=("area",),
    )
    height, width = truth.shape[-2:]
    return degradation(truth, (height // SCALE, width // SCALE), np.random.default_rng(0))


def enlarged(lq: Tensor) -> Tensor:
    height, width = lq.shape[-2:]
    return upsample_bicubic(lq[None], (height * SCALE, width * SCALE))[0]


def restored(pipe: SRPipeline, lq: Tensor, detail: float = 1.0) -> Tensor:
    return to_tensor(pipe.upscale_pixels(to_uint8(lq), SCALE, detail=detail))


def text_strip(pipe: SRPipeline) -> Image.Image:
    """Draw lines of text of three sizes: 10, 16 and 26 pixels in the page, a quarter in the input."""
    page = Image.new("RGB", (240, 96), "white")
    draw, top = ImageDraw.Draw(page), 6
    for size in (10, 16, 26):
        draw.text((6, top), "Letters that can be read", "black", ImageFont.load_default(size))
        top += round(size * 1.5)
    truth = to_tensor(np.asarray(page))
    lq = degraded(truth, Case("limits-text", "", (0, 0, 0, 0)))
    return grid(
        [[panel(x, 240) for x in (enlarged(lq), restored(pipe, lq), truth)]], ["input, enlarged", "mini", "page"]
    )


def detail_strip(pipe: SRPipeline) -> Image.Image:
    """Draw a cat's eye at three values of ``--detail``."""
    truth = photograph("chelsea", 90, 50, 192, 192)
    lq = degraded(truth, Case("detail", "", (0, 0, 0, 0), blur=1.2, noise=4, jpeg=80))
    pictures = [enlarged(lq), *(restored(pipe, lq, detail) for detail in (0, 0.5, 1)), truth]
    labels = ["bicubic", "--detail 0", "--detail 0.5", "--detail 1", "photograph"]
    return grid([[panel(x[:, 16:112, 24:120], 192) for x in pictures]], labels)


if __name__ == "__main__":
    main()
