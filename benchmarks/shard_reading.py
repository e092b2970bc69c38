"""Reading photographs from shards: against files, in one run, and the memory of a large index.

::

    python benchmarks/shard_reading.py            # 400 synthetic photographs of 1 megapixel
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from tsdsr.data.photographs import Photo, load_photo
from tsdsr.data.shard_file import ShardEntry
from tsdsr.data.shard_index import open_shards, write_index
from tsdsr.data.shards import write_shards
from tsdsr.data.sources import list_photos


def write_photos(folder: Path, count: int) -> None:
    """Write JPEGs of smooth noise, whose size is about that of photographs."""
    folder.mkdir()
    for number in range(count):
        coarse = np.random.default_rng(number).integers(0, 256, (128, 128, 3), np.uint8)
        Image.fromarray(coarse).resize((1024, 1024), Image.Resampling.BICUBIC).save(folder / f"{number:06d}.jpg")


def photos_per_second(photos: list[Photo], order: list[int]) -> float:
    start = time.perf_counter()
    for number in order:
        load_photo(photos[number])
    return len(order) / (time.perf_counter() - start)


def compare(folder: Path, count: int, rounds: int) -> None:
    """Print photographs a second, decoded, from files and from shards in turn."""
    write_photos(folder / "photos", count)
    list(write_shards(list_photos(folder / "photos"), folder / "shards", folder / "photos"))
    kinds: dict[str, list[Photo]] = {
        "files": list(list_photos(folder / "photos")),
        "shards": list(open_shards(folder / "shards", folder).images),
    }
    speeds: dict[str, list[float]] = {name: [] for name in kinds}
    for number in range(rounds):
        order = np.random.default_rng(number).integers(count, size=count).tolist()
        for name, photos in kinds.items():
            speeds[name].append(photos_per_second(photos, order))
    for name, values in speeds.items():
        print(f"{name}: {statistics.median(values):.1f} photographs/s")


def measure_index(folder: Path, shards: int, samples: int) -> None:
    """Print size, time to open, and memory of the index of many synthetic shards."""
    folder.mkdir()
    places = np.full((samples, 4), 10**9, np.int64)
    entries = []
    for number in range(shards):
        name = f"{number:06d}.tar"
        (folder / name).touch()
        files = tuple(f"folder/photograph-{number:06d}-{sample:06d}.jpg" for sample in range(samples))
        entries.append(ShardEntry(name, "0" * 16, 0, "0" * 32, files, places))
    write_index(folder, entries)
    del entries
    process = psutil.Process()
    before, start = process.memory_info().rss, time.perf_counter()
    images = open_shards(folder, folder).images
    seconds, grown = time.perf_counter() - start, process.memory_info().rss - before
    held = sum(part.nbytes for part in (images._columns.places, images._columns.shard, images._columns.ends))
    facts = {
        "photographs": len(images),
        "index.json, MB": round((folder / "index.json").stat().st_size / 1e6, 1),
        "seconds to open": round(seconds, 1),
        "held, MB": round((held + len(images._columns.names) + images._rows.nbytes) / 1e6, 1),
        "resident memory, MB more": round(grown / 1e6, 1),
    }
    print(json.dumps(facts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=400, help="photographs to read")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shards", type=int, default=1000, help="shards of the large index, of 1,000 photographs each")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure_index(Path(folder) / "large", arguments.shards, 1000)
        compare(Path(folder), arguments.count, arguments.rounds)


if __name__ == "__main__":
    main()
