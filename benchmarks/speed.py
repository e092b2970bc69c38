"""Time `mini` against Real-ESRGAN x4plus at 128 → 512, in turn in one run.

    pip install spandrel torchvision
    python benchmarks/speed.py --runs 7

Real-ESRGAN's RRDBNet comes from spandrel with random weights: time does not depend on them. Both run in eager PyTorch;
`mini` is timed as its network alone and as the whole pipeline from PIL image to PIL image.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from spandrel.architectures import ESRGAN

from tsdsr import load_pipeline
from tsdsr.models.denoiser import as_denoiser, restore


def rrdbnet() -> torch.nn.Module:
    """Real-ESRGAN x4plus: 23 blocks, 64 features."""
    module = __import__(f"{ESRGAN.__name__}.__arch.RRDB", fromlist=["RRDBNet"])
    network: torch.nn.Module = module.RRDBNet(in_nc=3, out_nc=3, num_filters=64, num_blocks=23, scale=4)
    return network.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--dtype", default="fp32")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--runs", type=int, default=7)
    args = parser.parse_args()
    peer = rrdbnet()
    pipe = load_pipeline(args.model, "cpu", args.dtype)
    x = torch.rand(1, 3, args.size, args.size)
    image = Image.new("RGB", (args.size, args.size), "teal")
    z = torch.randn(1, pipe.denoiser.config["in_channels"], args.size, args.size)
    denoiser, prompt = as_denoiser(pipe.denoiser), pipe.prompt.conditioning()
    contestants: dict[str, Callable[[], Any]] = {
        "realesrgan_fp32": lambda: peer(x),
        "mini_network": lambda: restore(denoiser, pipe.spec.process, z, pipe.spec.timestep, prompt),
        "mini_pipeline": lambda: pipe(image),
    }
    times: dict[str, list[float]] = {name: [] for name in contestants}
    with torch.inference_mode():
        for run in range(args.runs + 1):  # the first warms up
            for name, call in contestants.items():
                started = time.perf_counter()
                call()
                if run:
                    times[name].append(time.perf_counter() - started)
    medians = {name: round(statistics.median(values), 4) for name, values in times.items()}
    report = {
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "mini_dtype": args.dtype,
        "input": args.size,
        "median_seconds": medians,
        "ratio_network": round(medians["realesrgan_fp32"] / medians["mini_network"], 1),
        "ratio_pipeline": round(medians["realesrgan_fp32"] / medians["mini_pipeline"], 1),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
