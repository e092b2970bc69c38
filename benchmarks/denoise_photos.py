"""Write copies of photographs without their grain, for trials of training on clean ground truth.

    python benchmarks/denoise_photos.py PHOTOS -o DENOISED

The noise of each channel is measured where the photograph is smoothest, and removed with non-local means (Buades et al.
2005). Channels with less than half a grey level of noise, or .4 for colours, stay as they are. Copies of JPEG files
keep their names, on which the split into training and held-out photographs depends, and have quality 97. Other files
are left out.
"""

from __future__ import annotations

import argparse
from multiprocessing import Pool
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

_BLOCK = 16
_SMOOTHEST = 0.15  # share of blocks that are taken to be smooth
_LEAST_NOISE = {"brightness": 0.5, "colour": 0.4}
_MOST_NOISE = 9.0


def noise(channel: Pixels) -> float:
    """Estimate the standard deviation of noise, in grey levels, of a channel (H, W).

    Second differences in both directions keep noise and remove what changes evenly. Clipped blocks do not count.
    """
    kernel = np.outer((1, -2, 1), (1, -2, 1)).astype(np.float32) / 6
    difference = cv2.filter2D(channel.astype(np.float32), -1, kernel)
    found, mean = _blocks(difference).std(1), _blocks(channel).mean(1)
    usable = found[(mean > 12) & (mean < 243)]
    return float(np.quantile(usable, _SMOOTHEST)) if len(usable) > 20 else 0.0


def _blocks(plane: NDArray[np.float32] | Pixels) -> NDArray[np.float32]:
    """Cut a plane (H, W) into blocks (N, 256), without its border."""
    inner = plane[2:-2, 2:-2]
    rows, columns = (side // _BLOCK for side in inner.shape)
    cut = inner[: rows * _BLOCK, : columns * _BLOCK].reshape(rows, _BLOCK, columns, _BLOCK)
    return cut.transpose(0, 2, 1, 3).reshape(-1, _BLOCK**2).astype(np.float32)


def denoised(picture: Pixels) -> Pixels:
    """Return a BGR picture (H, W, 3) without its noise."""
    channels = cv2.split(cv2.cvtColor(picture, cv2.COLOR_BGR2YCrCb))
    clean = []
    for number, channel in enumerate(channels):
        kind, factor, search = ("colour", 1.5, 11) if number else ("brightness", 1.1, 13)
        level = noise(channel)
        if level > _LEAST_NOISE[kind]:
            channel = cv2.fastNlMeansDenoising(channel, None, min(factor * level + 0.3, _MOST_NOISE), 5, search)
        clean.append(channel)
    return np.asarray(cv2.cvtColor(cv2.merge(clean), cv2.COLOR_YCrCb2BGR), np.uint8)


def _write(job: tuple[Path, Path]) -> None:
    source, target = job
    cv2.setNumThreads(1)
    picture = cv2.imread(str(source))
    if picture is None:
        raise SystemExit(f"{source}: cannot be read")
    sampling = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
    cv2.imwrite(str(target), denoised(np.asarray(picture, np.uint8)), [cv2.IMWRITE_JPEG_QUALITY, 97, *sampling])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, help="new folder")
    args = parser.parse_args()
    if not args.photos.is_dir() or args.output.exists():
        parser.error("PHOTOS must be a folder, and OUTPUT must not exist")
    jobs = [(path, args.output / path.name) for path in sorted(args.photos.iterdir()) if path.suffix.lower() == ".jpg"]
    if not jobs:
        parser.error(f"{args.photos}: contains no .jpg files")
    args.output.mkdir(parents=True)
    with Pool() as pool:
        for _ in pool.imap_unordered(_write, jobs, chunksize=4):
            pass
    print(f"{len(jobs)} photographs in {args.output}")


if __name__ == "__main__":
    main()
