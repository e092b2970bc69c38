"""What makes ``tsdsr serve`` faster on this CPU: workers, threads, or tiles of several pictures in one batch.

::

    python benchmarks/serve_throughput.py [--edge 128] [--scale 4] [--pictures 4] [--rounds 5]

Servers with mini in ONNX Runtime restore the same pictures, sent all at once. Then the model alone runs on their tiles.
The ways take turns, and each is compared with the first one of its round; the median counts. Memory is the most that a
server had resident.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from statistics import median

import httpx
import numpy as np
import psutil
from PIL import Image

from tsdsr import load_pipeline
from tsdsr.pipeline.sr_pipeline import SRPipeline
from tsdsr.processor import core_count


class Server:
    """A server in a process of its own, and the most memory that it had.

    Args:
        options (list of str): of ``tsdsr serve``.
    """

    def __init__(self, options: list[str]) -> None:
        command = [sys.executable, "-m", "tsdsr", "serve", "--port", "0", "--engine", "onnx", "--keep", "1", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url, self.megabytes = self.process.stdout.readline().split()[1], 0.0

    def restore(self, pictures: list[bytes], scale: float) -> None:
        """Send pictures at once, and wait for all."""
        with httpx.Client(base_url=self.url, timeout=600) as http, ThreadPoolExecutor(len(pictures)) as pool:
            sent = [pool.submit(http.post, f"/v1/upscale?scale={scale}", content=picture,
                                headers={"Content-Type": "image/png"}) for picture in pictures]  # fmt: skip
            while not all(one.done() for one in sent):
                self.megabytes = max(self.megabytes, psutil.Process(self.process.pid).memory_info().rss / 1e6)
                time.sleep(0.02)
        for one in sent:
            one.result().raise_for_status()

    def processor_seconds(self) -> float:
        """Return the processor time that the process took so far."""
        return sum(psutil.Process(self.process.pid).cpu_times()[:2])

    def close(self) -> None:
        """End the process."""
        self.process.terminate()
        self.process.wait(60)


def windows(pipe: SRPipeline, tiles: np.ndarray, batch: int) -> None:
    """Run the model on tiles, some of them together."""
    for start in range(0, len(tiles), batch):
        pipe.decode(pipe.denoise(pipe.encode(tiles[start : start + batch])))


def encoded(pixels: np.ndarray) -> bytes:
    """Return a picture as a PNG."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def take_turns(ways: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each way in each round; the first round warms up and is left out."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - began)
    return {name: measured[1:] for name, measured in seconds.items()}


def report(seconds: dict[str, list[float]], pictures: int, more: dict[str, str]) -> None:
    """Print pictures a second, and how much faster a way is than the first one of the same round."""
    base = next(iter(seconds.values()))
    for name, measured in seconds.items():
        ratios = [first / own for first, own in zip(base, measured, strict=True)]
        print(
            f"{name:36} {pictures / min(measured):5.2f} pictures/s at best; {median(ratios):4.2f} x "
            f"({min(ratios):4.2f} to {max(ratios):4.2f}) {more.get(name, '')}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--edge", type=int, default=96, help="edge of a picture in pixels")
    parser.add_argument("--scale", type=float, default=4.0)
    parser.add_argument("--pictures", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=6)
    given = parser.parse_args()
    cores, edge = core_count(), round(given.edge * given.scale)
    random = np.random.default_rng(0)
    pictures = [encoded(p) for p in random.integers(0, 256, (given.pictures, given.edge, given.edge, 3), np.uint8)]
    with ExitStack() as stack:
        servers = {}
        for workers, threads in ((1, cores), (2, cores), (2, max(1, cores // 2)), (1, max(1, cores // 2))):
            server = Server(["--workers", str(workers), "--threads", str(threads)])
            stack.callback(server.close)
            servers[f"{workers} worker(s), {threads} thread(s)"] = server
        before = {name: server.processor_seconds() for name, server in servers.items()}
        seconds = take_turns({n: partial(s.restore, pictures, given.scale) for n, s in servers.items()}, given.rounds)
        sent = given.pictures * (given.rounds + 1)
        used = {name: (server.processor_seconds() - before[name]) / sent for name, server in servers.items()}
        more = {name: f"{used[name]:.2f} s of CPU each, {server.megabytes:.0f} MB" for name, server in servers.items()}
        report(seconds, given.pictures, more)
    pipe = load_pipeline("mini", engine="onnx", threads=cores)
    tiles = random.random((2, 3, edge, edge), np.float32)
    together = {f"the model alone, {n} tile(s) together": partial(windows, pipe, tiles, n) for n in (1, 2)}
    report(take_turns(together, given.rounds), len(tiles), {})


if __name__ == "__main__":
    main()
