"""Time and peak memory by size of the result, each size in its own process.

    python benchmarks/memory.py --sizes 512 1024 2048 4096 8192
    python benchmarks/memory.py --cli --sizes 4096        # `tsdsr upscale` as a whole, PNG read and written

The input is the example photograph, mirrored until it is large enough and enlarged four times. Peak memory is the
largest resident set of the process. `base` is the resident set after loading the model and using it once. Processor
seconds on one thread (`--threads 1`) are valid on a busy machine too. `--parts` adds processor seconds by part.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

PHOTO = Path(__file__).resolve().parents[1] / "examples" / "astronaut_lq.png"


def photograph(edge: int) -> Any:
    """Make the input image, uint8 (edge, edge, 3)."""
    import numpy as np

    from tsdsr.images.reading import read_rgb

    tile = read_rgb(PHOTO)
    missing = max(0, edge - len(tile))
    return np.pad(tile, ((0, missing), (0, missing), (0, 0)), mode="symmetric")[:edge, :edge]


def measure(args: argparse.Namespace, edge: int) -> dict[str, Any]:
    """Measure one size in this process."""
    import torch

    from tsdsr import load_pipeline
    from tsdsr.arrays import HostDevice
    from tsdsr.measuring import Stopwatch

    if args.threads:
        torch.set_num_threads(args.threads)
    pipe = load_pipeline(args.model, "cpu", args.dtype)
    tile: Any = int(args.tile) if args.tile.isdecimal() else args.tile
    pipe.upscale_pixels(photograph(64))
    watch = Stopwatch(HostDevice(), time.process_time)
    pixels = photograph(edge // 4)
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started, cpu = time.perf_counter(), time.process_time()
    with watch.listening() if args.parts else nullcontext():
        pipe.upscale_pixels(pixels, 4, tile=tile, tile_overlap=args.overlap, color_fix=args.color_fix)
    return {
        "seconds": round(time.perf_counter() - started, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "base_mb": round(base / 1e3),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3),
        "canvas_mb": round(edge * edge * 3 / 1e6),
        **({"parts": {part: round(value, 2) for part, value in watch.seconds.items()}} if args.parts else {}),
    }


def measure_cli(args: argparse.Namespace, edge: int) -> dict[str, Any]:
    """Measure `tsdsr upscale` on a PNG, from start to end."""
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in.png"
        Image.fromarray(photograph(edge // 4)).save(source)
        command = [sys.executable, "-m", "tsdsr", "upscale", str(source), "-o", str(Path(folder) / "out.png")]
        options = ["--model", args.model, "--dtype", args.dtype, "--tile", args.tile, "--color-fix", args.color_fix]
        environment = os.environ | ({"OMP_NUM_THREADS": str(args.threads)} if args.threads else {})
        started = time.perf_counter()
        subprocess.run(command + options, check=True, stdout=subprocess.DEVNULL, env=environment)
        seconds = time.perf_counter() - started
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 2),
        "peak_mb": round(used.ru_maxrss / 1e3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024, 2048, 4096, 8192], help="edges of results")
    parser.add_argument("--tile", default="auto")
    parser.add_argument("--overlap", type=int)
    parser.add_argument("--color-fix", default="wavelet")
    parser.add_argument("--threads", type=int, default=0, help="threads; default torch's own choice")
    parser.add_argument("--cli", action="store_true", help="measure the whole command")
    parser.add_argument("--parts", action="store_true", help="seconds of each part")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)  # a size, in this process
    args = parser.parse_args()
    if args.one is None:
        for edge in args.sizes:
            subprocess.run([sys.executable, __file__, *sys.argv[1:], "--one", str(edge)], check=True)
        return
    result = measure_cli(args, args.one) if args.cli else measure(args, args.one)
    per_mp = {f"{key}_per_mp": round(result[key] / args.one**2 * 1e6, 3) for key in ("seconds", "cpu_seconds")}
    print(json.dumps({"size": args.one, **result, **per_mp}))


if __name__ == "__main__":
    main()
