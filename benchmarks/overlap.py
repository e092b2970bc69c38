"""Visibility of tiles: tiled against untiled results of one model, for several overlaps.

    python benchmarks/overlap.py --model mini --dtype fp32      # pip install scikit-image

Enlarges three photographs of scikit-image to 1280×1024 in tiles of 512 pixels. Enter the smallest overlap without
visible tiles as ``tile_overlap`` in the model's row of ``tsdsr/models/zoo.py``.
"""

from __future__ import annotations

import argparse

import numpy as np
import skimage.data
from PIL import Image
from rich.console import Console
from rich.table import Table

from tsdsr.pipeline.diffusers_loading import load_diffusers_pipeline

SIZE, BLOCK = (1024, 1280), 64
PHOTOS = {"astronaut": skimage.data.astronaut, "chelsea": skimage.data.chelsea, "coffee": skimage.data.coffee}


def decibel(power: np.ndarray | float) -> float:
    return float(10 * np.log10(255**2 / np.maximum(power, 1e-12)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--dtype", default="fp32")
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--overlaps", type=int, nargs="+", default=[16, 32, 48, 64, 96])
    args = parser.parse_args()
    pipe = load_diffusers_pipeline(args.model, "cpu", args.dtype)
    errors: dict[int, list[np.ndarray]] = {overlap: [] for overlap in args.overlaps}
    for load in PHOTOS.values():
        photo = Image.fromarray(load()).resize((SIZE[1] // 4, SIZE[0] // 4), Image.Resampling.BICUBIC)
        pixels = np.asarray(photo, np.float32) / 255
        whole = pipe.upscale_pixels(pixels, target_size=SIZE, fit="stretch", tile=None)
        for overlap in args.overlaps:
            tiled = pipe.upscale_pixels(pixels, target_size=SIZE, fit="stretch", tile=args.tile, tile_overlap=overlap)
            errors[overlap].append((tiled - whole) * 255)
    table = Table("overlap", "PSNR, dB", "worst block of 64 pixels, dB", "largest difference, grey levels")
    for overlap, found in errors.items():
        psnrs = [decibel(np.mean(e**2)) for e in found]
        blocks = [(e**2).reshape(SIZE[0] // BLOCK, BLOCK, SIZE[1] // BLOCK, BLOCK, -1).mean((1, 3, 4)) for e in found]
        worst, largest = min(decibel(b.max()) for b in blocks), max(np.abs(e).max() for e in found)
        table.add_row(f"{overlap}", f"{min(psnrs):.1f} to {max(psnrs):.1f}", f"{worst:.1f}", f"{largest:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
