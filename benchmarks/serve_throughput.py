"""What could make ``tsdsr serve`` faster on this CPU: two workers, or tiles of several pictures in one batch.

::

    python benchmarks/serve_throughput.py [--edge 128] [--scale 4] [--rounds 5]

Every way restores two pictures with mini in ONNX Runtime. The ways take turns; the best round of each counts.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tsdsr import load_pipeline
from tsdsr.pipeline.sr_pipeline import SRPipeline


def in_turn(pipe: SRPipeline, pictures: list[np.ndarray], scale: float) -> None:
    """Restore one picture after the other, as the server does."""
    for picture in pictures:
        pipe.upscale_pixels(picture, scale)


def at_once(pipes: list[SRPipeline], pictures: list[np.ndarray], scale: float) -> None:
    """Restore each picture in a thread and with a model of its own."""
    with ThreadPoolExecutor(len(pipes)) as pool:
        list(pool.map(lambda pipe, picture: pipe.upscale_pixels(picture, scale), pipes, pictures))


def windows(pipe: SRPipeline, pictures: list[np.ndarray], scale: float, batch: int) -> None:
    """Run the model alone on tiles of the pictures, some of them together."""
    edge = round(pictures[0].shape[0] * scale)
    tiles = np.random.default_rng(0).random((len(pictures), 3, edge, edge), np.float32)
    for start in range(0, len(tiles), batch):
        pipe.decode(pipe.denoise(pipe.encode(tiles[start : start + batch])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--edge", type=int, default=128, help="edge of a picture in pixels")
    parser.add_argument("--scale", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    pictures = list(np.random.default_rng(0).integers(0, 256, (2, given.edge, given.edge, 3), np.uint8))
    whole = load_pipeline("mini", engine="onnx", threads=cores)
    halves = [load_pipeline("mini", engine="onnx", threads=max(1, cores // 2)) for _ in range(2)]
    ways: dict[str, Callable[[], None]] = {
        f"one worker, {cores} threads": lambda: in_turn(whole, pictures, given.scale),
        f"two workers, {max(1, cores // 2)} thread(s) each": lambda: at_once(halves, pictures, given.scale),
        f"two workers, one model of {cores} threads": lambda: at_once([whole, whole], pictures, given.scale),
        "the model alone, a tile at a time": lambda: windows(whole, pictures, given.scale, 1),
        "the model alone, two tiles together": lambda: windows(whole, pictures, given.scale, 2),
    }
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(given.rounds + 1):  # the first one warms up
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            best[name] = min(best[name], time.perf_counter() - began)
    names = list(ways)
    for name in names:
        base = best[names[3]] if name in names[3:] else best[names[0]]
        print(f"{name:40} {2 / best[name]:6.2f} pictures/s  {base / best[name]:5.2f} x")


if __name__ == "__main__":
    main()
