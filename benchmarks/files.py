"""Memory and time of reading a 48-megapixel photograph and writing a 64-megapixel result, without a model.

    python benchmarks/files.py

Each step runs in its own process. Its memory is the peak of the process minus its memory after importing. It includes
the picture itself.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

from tsdsr.images.formats import codecs
from tsdsr.images.picture import Picture
from tsdsr.images.reading import read_picture
from tsdsr.images.writing import WriteOptions, write_picture

IN, OUT = (8000, 6000), (9240, 6930)


def photograph(size: tuple[int, int], bits: int) -> np.ndarray:
    """Make a photograph with grain, (height, width, 3)."""
    large = np.array(Image.fromarray(skimage.data.astronaut()).resize(size, Image.Resampling.BICUBIC))
    rng = np.random.default_rng(0)
    for top in range(0, size[1], 100):
        part = large[top : top + 100]
        large[top : top + 100] = (part + rng.integers(-3, 4, part.shape, dtype=np.int16)).clip(0, 255)
    return large if bits == 8 else large.astype(np.uint16) * 257


def step(action: str, path: Path, bits: int) -> None:
    """Read ``path``, or write the raw pixels stored beside it to it, and print the cost."""
    codecs()

    def peak() -> float:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 1024

    before = peak()
    if action == "write":
        pixels = np.fromfile(path.with_suffix(".raw"), np.uint8 if bits == 8 else np.uint16)
        picture = Picture(pixels.reshape(OUT[1], OUT[0], 3))
        started = time.perf_counter()
        write_picture(picture, path)
    else:
        started = time.perf_counter()
        picture = read_picture(path)
    seconds = time.perf_counter() - started
    canvas = picture.pixels.nbytes / 2**20
    print(json.dumps({"seconds": round(seconds, 2), "peak_mb": round(peak() - before), "picture_mb": round(canvas)}))


def measured(action: str, path: Path, bits: int) -> dict[str, float]:
    """Run a step in its own process."""
    command = [sys.executable, __file__, "--step", action, str(path), str(bits)]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(result.stdout)
    return found | {"file_mb": round(path.stat().st_size / 2**20)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--step", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        action, path, bits = arguments.step
        return step(action, Path(path), int(bits))
    with tempfile.TemporaryDirectory() as folder:
        for suffix, bits in ((".jpg", 8), (".png", 8), (".png", 16), (".tif", 16)):
            path = Path(folder) / f"in{suffix}"
            write_picture(Picture(photograph(IN, bits)), path, WriteOptions(compression=1))
            print("read ", suffix, bits, measured("read", path, bits), flush=True)
        for suffix, bits in ((".jpg", 8), (".png", 8), (".tif", 8), (".webp", 8), (".png", 16), (".tif", 16)):
            path = Path(folder) / f"out{suffix}"
            photograph(OUT, bits).tofile(path.with_suffix(".raw"))
            print("write", suffix, bits, measured("write", path, bits), flush=True)
    return None


if __name__ == "__main__":
    main()
