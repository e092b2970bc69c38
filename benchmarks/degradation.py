"""Throughput of the degradation recipe against a plain loop over images, and the time a trainer waits for its data.

    pip install opencv-python-headless
    python benchmarks/degradation.py --photos PHOTOS

The plain loop does what most training code does: it processes one image at a time with OpenCV and numpy, with every
parameter from the same published ranges. Both run on one core, alternating in one run, from 512×512 to 128×128.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader

from tsdsr.data.datasets import CropDataset, CropSettings, PairDataset, PairSettings
from tsdsr.data.degradation_presets import PRESETS
from tsdsr.data.second_order import KernelRecord, SampleRecord, SecondOrderDegradation, StageRecord, make_kernels
from tsdsr.data.sources import Source, list_photos

_MODES = {"area": cv2.INTER_AREA, "bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}


def plain_kernel(record: KernelRecord) -> np.ndarray | None:
    """Build one kernel at its own size."""
    if record.family == "none":
        return None
    half = record.size // 2
    return make_kernels([record])[0, 10 - half : 11 + half, 10 - half : 11 + half].numpy()


def plain_noise(x: np.ndarray, stage: StageRecord, rng: np.random.Generator) -> np.ndarray:
    """Add Gaussian or Poisson noise with numpy."""
    if stage.noise == "gaussian":
        shape = x.shape[:2] + ((1,) if stage.grey else (3,))
        return np.clip(x + rng.normal(0, stage.strength / 255, shape), 0, 1).astype(np.float32)
    source = cv2.cvtColor(x, cv2.COLOR_RGB2GRAY)[..., None] if stage.grey else x
    source = np.clip((source * 255).round(), 0, 255) / 255
    photons = 2 ** np.ceil(np.log2(len(np.unique(source))))
    noise = rng.poisson(source * photons) / photons - source
    return np.clip(x + noise * stage.strength, 0, 1).astype(np.float32)


def plain_jpeg(x: np.ndarray, quality: float) -> np.ndarray:
    """Compress and decompress with OpenCV's JPEG codec."""
    pixels = (np.clip(x, 0, 1) * 255).round().astype(np.uint8)
    _, data = cv2.imencode(".jpg", pixels, [int(cv2.IMWRITE_JPEG_QUALITY), round(quality)])
    return cv2.imdecode(data, cv2.IMREAD_COLOR).astype(np.float32) / 255


def plain_sharpen(x: np.ndarray) -> np.ndarray:
    """Apply an unsharp mask with a soft mask, as the published code does to its ground truth."""
    detail = x - cv2.GaussianBlur(x, (51, 51), 0)
    mask = cv2.GaussianBlur((np.abs(detail) * 255 > 10).astype(np.float32), (51, 51), 0)
    return mask * np.clip(x + 0.5 * detail, 0, 1) + (1 - mask) * x


def plain(x: np.ndarray, record: SampleRecord, sharpen: bool) -> np.ndarray:
    """Apply the whole recipe to one image (H, W, 3), float32 in [0, 1]."""
    x = plain_sharpen(x) if sharpen else x
    rng = np.random.default_rng(record.noise_seed)

    def blur(image: np.ndarray, kernel: KernelRecord) -> np.ndarray:
        values = plain_kernel(kernel)
        return image if values is None else cv2.filter2D(image, -1, values, borderType=cv2.BORDER_REFLECT_101)

    def resize(image: np.ndarray, size: tuple[int, int], mode: str) -> np.ndarray:
        return cv2.resize(image, (size[1], size[0]), interpolation=_MODES[mode])

    x = blur(x, record.first.kernel)
    x = plain_noise(resize(x, record.first.size, record.first.mode), record.first, rng)
    x = blur(plain_jpeg(x, record.first_quality), record.second.kernel)
    x = plain_noise(resize(x, record.second.size, record.second.mode), record.second, rng)
    if not record.jpeg_last:
        x = plain_jpeg(x, record.second_quality)
    x = blur(resize(x, record.size, record.final_mode), record.final_kernel)
    if record.jpeg_last:
        x = plain_jpeg(x, record.second_quality)
    return np.clip(x, 0, 1)


def rates(crops: torch.Tensor, rounds: int, preset: str) -> dict[str, Any]:
    """Measure the pairs per second of both implementations on the same records."""
    recipe, generator = SecondOrderDegradation(PRESETS[preset]), torch.Generator().manual_seed(0)
    arrays = [crop.permute(1, 2, 0).contiguous().numpy() for crop in crops]
    ours: list[float] = []
    theirs: list[float] = []
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    for _ in range(rounds):
        started = time.perf_counter()
        records = [recipe.draw((512, 512), generator) for _ in crops]
        recipe.apply(crops, records)
        between = time.perf_counter()
        for array, record in zip(arrays, records, strict=True):
            plain(array, record, PRESETS[preset].sharpen_target)
        theirs.append(time.perf_counter() - between)
        ours.append(between - started)
    count = len(crops)
    return {
        "preset": preset,
        "ours_pairs_per_second": round(count / statistics.median(ours), 1),
        "plain_pairs_per_second": round(count / statistics.median(theirs), 1),
        "ratio": round(statistics.median(t / o for o, t in zip(ours, theirs, strict=True)), 2),
    }


def loader_share(photos: Path, workers: int, steps: int, step_seconds: float) -> dict[str, Any]:
    """Measure how long a trainer with a step time of ``step_seconds`` waits for its data, with mini's settings."""
    pairs = PairSettings(crops=CropSettings(size=128), degradation=PRESETS["osediff"])
    dataset = PairDataset([Source("photos", tuple(list_photos(photos)))], 8 * (steps + 4), pairs)
    waits = []
    batches = iter(DataLoader(dataset, 8, num_workers=workers))
    for _ in range(steps):
        started = time.perf_counter()
        next(batches)
        waits.append(time.perf_counter() - started)
        time.sleep(step_seconds)
    wait = statistics.mean(waits[4:])
    return {"workers": workers, "step_seconds": step_seconds, "wait_share": round(wait / (wait + step_seconds), 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--step-seconds", type=float, default=0.3, help="computing time of a step to hide data behind")
    args = parser.parse_args()
    sources = [Source("photos", tuple(list_photos(args.photos)))]
    dataset = CropDataset(sources, args.batch, CropSettings(size=512, shrink_prob=0))
    crops = torch.stack([dataset[i] for i in range(args.batch)])
    report = {
        "machine": platform.machine(),
        "torch": torch.__version__,
        "opencv": version("opencv-python-headless"),
        "rates": [rates(crops, args.rounds, preset) for preset in ("osediff", "stablesr")],
        "loader": loader_share(args.photos, 1, 40, args.step_seconds),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
