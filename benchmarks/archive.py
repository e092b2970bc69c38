"""Speed of archives on Ray against the plain command, and the memory of the driver.

    python benchmarks/archive.py                      # 2,000 pictures: plain, 1 actor, 2 actors, one thread each
    python benchmarks/archive.py --memory 1000000     # a driver with so many rows of metadata, no pictures

Start and work are told apart by the times of the result files: the work lasts from the first result to the last.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from tsdsr.machine import describe_machine, versions

SCANS, NODES, SCAN_PIXELS = 10_000_000, 100, 12_000_000


@dataclass
class Run:
    """A run of the command: seconds from its start to the first result, and from there to the last."""

    name: str
    start: float
    work: float
    count: int

    @property
    def rate(self) -> float:
        return (self.count - 1) / self.work


def write_pictures(folder: Path, count: int, edge: int) -> None:
    folder.mkdir()
    for number in range(count):
        coarse = np.random.default_rng(number).integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((edge, edge), Image.Resampling.BICUBIC).save(folder / f"{number:05d}.png")


def run(name: str, source: Path, output: Path, *options: str) -> Run:
    """Run the command with one thread, as a process of its own."""
    command = [sys.executable, "-m", "tsdsr", "upscale", str(source), "-o", str(output), "--engine", "onnx", *options]
    began = time.time()
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
    ends = sorted(path.stat().st_mtime for path in output.glob("*.png"))
    return Run(name, ends[0] - began, ends[-1] - ends[0], len(ends))


def compare(count: int, edge: int, rounds: int) -> None:
    print(f"{count} pictures of {edge}x{edge} pixels, 4x, PNG; rounds one after the other\n")
    print("| round | run | start, s | work, s | pictures/s | of plain |\n|---|---|---|---|---|---|")
    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in"
        write_pictures(source, count, edge)
        for turn in range(rounds):
            runs = [
                run("plain", source, Path(folder) / f"plain{turn}"),
                *(
                    run(f"{n} actor{'s' * (n > 1)}", source, Path(folder) / f"ray{n}-{turn}", "--on", "ray=local",
                        "--actors", str(n))
                    for n in (1, 2)
                ),
            ]  # fmt: skip
            for each in runs:
                rates.setdefault(each.name, []).append(each.rate)
                ratio = each.rate / runs[0].rate
                print(
                    f"| {turn + 1} | {each.name} | {each.start:.1f} | {each.work:.1f} | {each.rate:.1f} | {ratio:.2f} |"
                )
    plain, one, two = (float(np.median(values)) for values in rates.values())
    print(f"\noverhead of one actor: {100 * (plain / one - 1):.1f} %; two actors: {two / one:.2f} x one (medians)")
    on_paper(one * edge * edge / 1e6)


def on_paper(megapixels: float) -> None:
    """Print how long an archive takes at the measured speed of an actor, in megapixels of input a second."""
    for cores in (8, 32):
        hours = SCANS * SCAN_PIXELS / 1e6 / (megapixels * NODES * cores) / 3600
        print(
            f"on paper: {SCANS:,} scans of {SCAN_PIXELS / 1e6:g} megapixels, {NODES} nodes of {cores} cores, an actor "
            f"on each core at {megapixels:.3f} megapixels/s: {hours:,.0f} hours"
        )


def memory(rows: int) -> None:
    """Run an archive whose files are all missing: only rows travel, and each gets a status."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tsdsr.distributed.archive import ArchiveListener, upscale_archive
    from tsdsr.distributed.cluster import ActorPool
    from tsdsr.images.writing import WriteOptions
    from tsdsr.pipeline.made_from import BatchSettings
    from tsdsr.pipeline.options import RestoreOptions

    process, samples, began = psutil.Process(), list[tuple[int, float, float]](), time.time()

    class Sampled(ArchiveListener):
        def progress(self, what: str, done: int, total: int) -> None:
            if what == "images" and done >= len(samples) * rows // 20:
                samples.append((done, process.memory_info().rss / 1e6, time.time() - began))
                print("| {:,} | {:.0f} | {:.0f} |".format(*samples[-1]), flush=True)

    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "scans.parquet"
        schema = pa.schema([("uri", pa.string()), ("bytes", pa.int64()), ("stamp", pa.string())])
        with pq.ParquetWriter(table, schema) as writer:
            for first in range(0, rows, 10_000):
                numbers = range(first, min(first + 10_000, rows))
                columns = [
                    [f"memory://scans/{n // 1000}/page-{n:09d}.tif" for n in numbers],
                    [2_000_000] * len(numbers),
                ]
                writer.write_table(pa.table([*columns, [f"{n:032x}" for n in numbers]], schema=schema))
        print("| rows with a status | memory of the driver, MB | seconds |\n|---|---|---|")
        settings = BatchSettings(None, RestoreOptions(), WriteOptions(), engine="onnx")
        summary = upscale_archive(
            str(table), f"{folder}/out", settings, address="local", pool=ActorPool(2, 2), listener=Sampled()
        )
    (first_rows, _, first_time), (last_rows, _, last_time) = samples[1], samples[-1]
    print(f"\n{summary.failed:,} statuses, {(last_rows - first_rows) / (last_time - first_time):,.0f} rows/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000, help="pictures")
    parser.add_argument("--edge", type=int, default=48, help="their side in pixels")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--memory", type=int, metavar="ROWS", help="measure the driver's memory instead")
    arguments = parser.parse_args()
    if arguments.memory:
        memory(arguments.memory)
    else:
        compare(arguments.count, arguments.edge, arguments.rounds)
    # At the end: it asks torch, which takes hundreds of megabytes that the driver does not need.
    print(describe_machine(), versions("tsdsr", "ray", "pyarrow", "onnxruntime"), sep="\n")


if __name__ == "__main__":
    main()
