"""The 8-bit graph of the packaged `mini`: made from scikit-image's photographs, compared with float32.

    python benchmarks/int8.py make            # writes src/tsdsr/weights/mini/denoiser/model.int8.onnx
    python benchmarks/int8.py compare FOLDER  # seconds and difference on crops of the photographs in FOLDER

The photographs on which ranges are measured are reduced to a quarter, as the model's inputs are; two are also cut out
unreduced, so that sharp inputs are covered, and a page of text, for large contrasts.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import skimage.data
from numpy.typing import NDArray
from PIL import Image

from tsdsr.images.listing import list_images
from tsdsr.images.reading import read_rgb
from tsdsr.pipeline.model_files import resolve_model
from tsdsr.runtimes.mini_int8 import write_int8_graph
from tsdsr.runtimes.onnx_mini import load_onnx_mini

Pixels = NDArray[np.uint8]


def pictures() -> list[Pixels]:
    """Low-quality pictures with varied content, at most 160 pixels high."""
    photographs = [skimage.data.astronaut(), skimage.data.chelsea(), skimage.data.coffee(), skimage.data.rocket()]
    greys = [skimage.data.camera()[..., None].repeat(3, 2), skimage.data.page()[..., None].repeat(3, 2)]
    cuts = [photographs[0][100:228, 150:278], photographs[1][60:188, 100:228]]
    return [reduced(picture) for picture in (*photographs, *greys)] + cuts


def reduced(picture: Pixels) -> Pixels:
    image = Image.fromarray(np.ascontiguousarray(picture))
    return np.asarray(image.resize((image.width // 4, image.height // 4), Image.Resampling.BICUBIC))


def centre(picture: Pixels, edge: int = 128) -> Pixels:
    top, left = ((length - edge) // 2 for length in picture.shape[:2])
    return np.ascontiguousarray(picture[top : top + edge, left : left + edge])


def compare(folder: Path, count: int = 24) -> None:
    """Print the PSNR of 8 bits to float32, and processor seconds on one thread."""
    paths = [folder / path for path in list_images(folder).images]
    crops = [centre(read_rgb(path)) for path in paths[:: max(1, len(paths) // count)][:count]]
    exact, fast = (load_onnx_mini(resolve_model("mini"), "cpu", 1, fast=fast) for fast in (False, True))
    found, seconds = [], {"float32": [], "8 bits": []}
    for crop in crops:
        results = []
        for name, pipe in (("float32", exact), ("8 bits", fast)):
            started = time.process_time()
            results.append(pipe.upscale_pixels(crop).astype(float))
            seconds[name].append(time.process_time() - started)
        error = results[0] - results[1]
        found.append((10 * np.log10(255**2 / np.mean(error**2)), np.abs(error).max()))
    psnr, largest = np.array(found).T
    print(f"{len(crops)} crops: PSNR to float32 {psnr.mean():.1f} dB, worst {psnr.min():.1f} dB")
    print(f"largest difference {np.median(largest):.0f} grey levels (median), {largest.max():.0f} (worst)")
    print("seconds, whole pipeline:", {name: round(min(values), 3) for name, values in seconds.items()})


if __name__ == "__main__":
    if sys.argv[1] == "make":
        print(write_int8_graph(resolve_model("mini"), pictures(), overwrite=True))
    else:
        compare(Path(sys.argv[2]))
