"""Fuzz test of the reader: each damaged file must give a picture or a TSDSRError, quickly and in little memory.

    python benchmarks/fuzz_reader.py --files 12000

Workers with limited memory and time read each file and write what they could read. If one crashes or exceeds the time
limit, the parent keeps the file and starts another. `docs/measurements/files.md` has the results.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import random
import resource
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import skimage.data
import tifffile
from PIL import Image, ImageCms

from tsdsr.errors import ImageError
from tsdsr.images.formats import FORMATS, codecs
from tsdsr.images.picture import Metadata, Picture
from tsdsr.images.reading import read_picture
from tsdsr.images.writing import write_picture

MAX_PIXELS = 4_000_000
SECONDS = 5.0
MEMORY = 1 << 30  # bytes of address space a worker may use beyond what it starts with


def seeds() -> dict[str, bytes]:
    """Make small valid files of every format, depth and layout, with all metadata: name → content."""
    rgb = np.asarray(Image.fromarray(skimage.data.astronaut()).resize((48, 40)))
    alpha = np.tile(np.linspace(0, 255, 48).astype(np.uint8), (40, 1))
    exif = Image.Exif()
    exif[0x010F], exif[0x0112], exif[0x829A] = "maker", 6, 0.01
    exif.get_ifd(0x8769)[0xA002] = 48
    exif.get_ifd(0x8825)[2] = (1.0, 2.0, 3.0)
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    metadata = Metadata(exif.tobytes()[6:], icc, b'<x tiff:Orientation="6"/>', (300.0, 300.0))
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for suffix in sorted({name: suffix for suffix, name in FORMATS.items() if name in codecs()}.values()):
            for kind, (pixels, a) in {
                "rgb": (rgb, None), "rgba": (rgb, alpha), "grey": (rgb[..., :1], None), "greya": (rgb[..., :1], alpha)
            }.items():  # fmt: skip
                for depth in (1, 257) if suffix in (".png", ".tiff") else (1,):
                    dtype = np.uint8 if depth == 1 else np.uint16
                    deep = None if a is None else a.astype(dtype) * dtype(depth)
                    path = Path(folder) / f"{kind}{8 if depth == 1 else 16}{suffix}"
                    write_picture(Picture(pixels.astype(dtype) * dtype(depth), deep, metadata), path)
                    found[path.name] = path.read_bytes()
    return found | _other_layouts(rgb)


def _other_layouts(rgb: np.ndarray) -> dict[str, bytes]:
    """Make files in formats that this package reads but does not write."""
    image, found = Image.fromarray(rgb), {}

    def save(name: str, picture: Image.Image, **options: object) -> None:
        stream = io.BytesIO()
        picture.save(stream, format=FORMATS[Path(name).suffix], **options)  # type: ignore[arg-type]
        found[name] = stream.getvalue()

    save("palette.png", image.quantize(16), transparency=3)
    save("bits.png", image.convert("1"))
    save("cmyk.jpg", image.convert("CMYK"))
    save("progressive.jpg", image, progressive=True)
    save("lzw.tif", image, compression="tiff_lzw")
    save("jpeg.tif", image, compression="jpeg")
    save("raw.tif", image, compression="raw")
    save("lab.tif", ImageCms.profileToProfile(image, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"),
                                              outputMode="LAB"))  # fmt: skip
    save("group4.tif", image.convert("1"), compression="group4")
    save("lossless.webp", image, lossless=True)
    save("animated.webp", image, save_all=True, append_images=[image.rotate(90)])
    save("animated.png", image, save_all=True, append_images=[image.rotate(90)])
    save("pages.tif", image, save_all=True, append_images=[image.rotate(90)])
    deep = rgb.astype(np.uint16) * 257
    layouts: dict[str, dict[str, object]] = {
        "tiles": {"tile": (16, 16)},
        "apart": {"planarconfig": "separate"},
        "big": {"byteorder": ">"},
    }
    for name, options in layouts.items():
        stream = io.BytesIO()
        data = np.moveaxis(deep, -1, 0) if name == "apart" else deep
        tifffile.imwrite(stream, data, photometric="rgb", compression="zlib", **options)  # type: ignore[arg-type]
        found[f"{name}.tif"] = stream.getvalue()
    return found


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def bombs() -> dict[str, bytes]:
    """Make files that declare or unpack to far more data than they contain."""
    zeros = zlib.compress(bytes(64 << 20), 9)
    signature = b"\x89PNG\r\n\x1a\n"

    def png(width: int, height: int, depth: int, colour: int, *chunks: bytes, data: bytes = zeros) -> bytes:
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
        return signature + header + b"".join(chunks) + chunk(b"IDAT", data) + chunk(b"IEND", b"")

    def tiff(**tags: tuple[int, int, int]) -> bytes:
        entries = sorted(tags.values())
        body = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
        return b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + bytes(4) + zeros[:4096]

    def bmp(size: int, bits: int, compression: int) -> bytes:
        numbers = (54, 0, 54, 40, size, size, 1, bits, compression, 0, 0, 0, 0, 0)
        return b"BM" + struct.pack("<IIIIiiHHIIIIII", *numbers)

    base = {
        "w": (256, 4, 1000), "h": (257, 4, 1000), "bits": (258, 3, 8), "compression": (259, 3, 8), "photo": (262, 3, 1),
        "offset": (273, 4, 140), "samples": (277, 3, 1), "rows": (278, 4, 1000), "count": (279, 4, 4096),
    }  # fmt: skip
    huge = 2**31 - 1
    return {
        "declared.png": png(huge, huge, 8, 2),
        "declared16.png": png(60000, 60000, 16, 6),
        "unpacks.png": png(10, 10, 8, 2),
        "limit.png": png(2000, 2000, 16, 6, data=zlib.compress(b"")),
        "text.png": png(10, 10, 8, 2, *[chunk(b"zTXt", b"a\0\0" + zeros)] * 20),
        "itxt.png": png(10, 10, 8, 2, *[chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zeros)] * 20),
        "icc.png": png(10, 10, 8, 2, chunk(b"iCCP", b"a\0\0" + zeros)),
        "exif.png": png(10, 10, 8, 2, chunk(b"eXIf", b"II*\0\x08\0\0\0" + b"\xff" * 70000)),
        "frames.png": png(10, 10, 8, 2, chunk(b"acTL", struct.pack(">II", huge, 0))),
        "strip.tif": tiff(**base | {"w": (256, 4, 60000), "h": (257, 4, 60000), "rows": (278, 4, huge)}),
        "rows.tif": tiff(**base | {"rows": (278, 4, huge), "count": (279, 4, huge)}),
        "thin.tif": tiff(**base | {"w": (256, 4, 1), "h": (257, 4, 4_000_000), "rows": (278, 4, 1)}),
        "deep.tif": tiff(**base | {"bits": (258, 3, 16), "w": (256, 4, 2000), "h": (257, 4, 2000)}),
        "samples.tif": tiff(**base | {"samples": (277, 3, 65535)}),
        "tile.tif": tiff(**base | {"offset": (324, 4, 140), "tw": (322, 4, huge), "tl": (323, 4, huge)}),
        "loop.tif": b"II*\0\x08\0\0\0" + struct.pack("<H", 0) + struct.pack("<I", 8),
        "size.bmp": bmp(60000, 24, 0),
        "rle.bmp": bmp(1900, 8, 1) + bytes(9999),
        "size.jpg": b"\xff\xd8\xff\xc0" + struct.pack(">HBHHB", 17, 8, 65500, 65500, 3) + b"\1\x11\0\2\x11\0\3\x11\0",
    }  # fmt: skip


Mutation = Callable[[bytearray, random.Random], None]


def flip_bits(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 2, 8, 64))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def flip_header(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 2, 4))):
        data[rng.randrange(min(len(data), 200))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))


def truncate(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data)) :]


def lie_about_a_size(data: bytearray, rng: random.Random) -> None:
    """Overwrite a random number, such as the length of a chunk, box, strip or segment."""
    kind = rng.choice(("<H", ">H", "<I", ">I"))
    size = struct.calcsize(kind)
    if len(data) > size:
        top = 2 ** (8 * size) - 1
        value = rng.choice((0, 1, top, top // 2, top // 2 + 1, rng.randrange(top), rng.randrange(5000)))
        struct.pack_into(kind, data, rng.randrange(len(data) - size), value)


def lie_in_a_png(data: bytearray, rng: random.Random) -> None:
    """Change the length or body of a PNG chunk and fix its checksum; in other formats, falsify a size."""
    if data[:4] != b"\x89PNG":
        return lie_about_a_size(data, rng)
    starts, at = [], 8
    while at + 12 <= len(data):
        starts.append(at)
        at += 12 + struct.unpack_from(">I", data, at)[0]
    at = rng.choice(starts)
    (length,) = struct.unpack_from(">I", data, at)
    if length and rng.random() < 0.7:
        for _ in range(rng.choice((1, 4))):
            data[at + 8 + rng.randrange(length)] = rng.randrange(256)
        data[at + 8 + length : at + 12 + length] = struct.pack(">I", zlib.crc32(data[at + 4 : at + 8 + length]))
    else:
        struct.pack_into(">I", data, at, rng.choice((0, length + 1, 2**31 - 1, 2**32 - 1)))
    return None


def remove_or_repeat(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    part = data[start : start + rng.randrange(1, 200)]
    if rng.random() < 0.5:
        del data[start : start + len(part)]
    else:
        data[start:start] = part * rng.choice((1, 2, 50))


MUTATIONS: dict[str, Mutation] = {
    f.__name__: f for f in (flip_bits, flip_header, truncate, lie_about_a_size, lie_in_a_png, remove_or_repeat)
}


@dataclass(frozen=True)
class Case:
    """Make a damaged file and return how it was made, its name and its content."""

    kind: str
    name: str
    content: bytes


def cases(count: int, seed: int) -> Iterator[Case]:
    """Yield bombs and intact files under every suffix, then mutations, reproducibly."""
    whole, suffixes, rng = seeds(), sorted(FORMATS), random.Random(seed)
    for name, content in bombs().items():
        yield Case("bomb", name, content)
    for name, content in whole.items():
        for suffix in rng.sample(suffixes, 2):
            yield Case("wrong suffix", Path(name).stem + suffix, content)
    names = sorted(whole)
    for _ in range(max(0, count - len(bombs()) - 2 * len(whole))):
        name, kind = rng.choice(names), rng.choice(sorted(MUTATIONS))
        data = bytearray(whole[name])
        MUTATIONS[kind](data, rng)
        if rng.random() < 0.1:  # join the beginning of one format to the rest of another
            other = whole[rng.choice(names)]
            cut = rng.randrange(4, 64)
            data, kind = bytearray(other[:cut]) + data[cut:], "format swap"
        yield Case(kind, name, bytes(data))


def outcome(path: Path, folder: Path) -> str:
    """Read a file and write what was read; return "read" or the name of the TSDSRError.

    Raises:
        Exception: any other error, or files left behind by a write; these are failures.
    """
    try:
        picture = read_picture(path, MAX_PIXELS)
    except ImageError as error:
        return type(error).__name__ if str(path) in str(error) else f"FAILED unnamed: {error}"
    assert picture.width * picture.height <= MAX_PIXELS
    for suffix in (".png", ".tif"):
        write_picture(picture, folder / f"again{suffix}")
        again = read_picture(folder / f"again{suffix}", MAX_PIXELS)
        assert np.array_equal(again.pixels, picture.pixels), "written and read pixels differ"
        (folder / f"again{suffix}").unlink()
    return "read"


def work(connection: Connection, folder: Path, memory: int) -> None:
    """Reply to each received path with (outcome, seconds, peak MB)."""
    read_picture(folder / "warm.png")
    with Path("/proc/self/statm").open(encoding="ascii") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + memory, used + memory))
    while True:
        path = connection.recv()
        started = time.perf_counter()
        try:
            result = outcome(path, folder)
        except Exception as error:
            result = f"FAILED {type(error).__name__}: {error}"
        leftovers = [p.name for p in folder.iterdir() if p.suffix == ".tmp"]
        if leftovers:
            result = f"FAILED half-written {leftovers}"
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        connection.send((result, time.perf_counter() - started, peak))


class Worker:
    """A process that reads files and is replaced when it dies or hangs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        Image.new("RGB", (8, 8)).save(folder / "warm.png")
        self.start()

    def start(self) -> None:
        self.connection, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=work, args=(theirs, self.folder, MEMORY), daemon=True)
        self.process.start()
        theirs.close()

    def read(self, path: Path) -> tuple[str, float, int]:
        self.connection.send(path)
        started = time.perf_counter()
        try:
            if self.connection.poll(SECONDS):
                return self.connection.recv()  # type: ignore[no-any-return]
            result = "FAILED hang"
        except EOFError:
            result = "FAILED crash"
        self.stop()
        self.start()
        return result, time.perf_counter() - started, 0

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=12000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="Folder for the files that fail.")
    arguments = parser.parse_args()
    results: Counter[tuple[str, str]] = Counter()
    slowest, largest, failures = 0.0, 0, []
    with tempfile.TemporaryDirectory() as name:
        worker = Worker(Path(name))
        for number, case in enumerate(cases(arguments.files, arguments.seed)):
            path = Path(name) / case.name
            path.write_bytes(case.content)
            result, seconds, megabytes = worker.read(path)
            path.unlink()
            for left in [*Path(name).glob(".*.tmp"), *Path(name).glob("again.*")]:
                left.unlink()
            results[case.kind, result.split(":")[0]] += 1
            slowest, largest = max(slowest, seconds), max(largest, megabytes)
            if result.startswith("FAILED"):
                failures.append(f"{number} {case.kind} {case.name}: {result}")
                print(failures[-1], file=sys.stderr)
                if arguments.keep:
                    arguments.keep.mkdir(parents=True, exist_ok=True)
                    (arguments.keep / f"{number}-{case.name}").write_bytes(case.content)
        worker.stop()
    table = {" / ".join(key): count for key, count in sorted(results.items())}
    summary = {"files": sum(results.values()), "slowest_s": round(slowest, 2), "peak_mb": largest}
    print(json.dumps(summary | {"failures": len(failures), "outcomes": table}, indent=1))
    raise SystemExit(bool(failures))


if __name__ == "__main__":
    main()
