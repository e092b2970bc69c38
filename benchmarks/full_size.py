"""Run a full-size pipeline with random weights once and report time per part and peak memory.

    python benchmarks/full_size.py --model sd3 --dtype bf16 --size 128 --scale 4

Random weights cost what real ones cost; the picture is noise. Needs about 9 GB of memory in bf16 and 13 GB in fp32.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import time
from collections.abc import Callable
from typing import Any

import diffusers
import torch
from torch import Tensor

from tsdsr.models.conditioning import FixedPrompt
from tsdsr.models.zoo import default_conditioning, get_spec
from tsdsr.pipeline.color import wavelet_color_fix
from tsdsr.pipeline.loading import choose_device, choose_dtype
from tsdsr.pipeline.pipeline import OneStepSRPipeline
from tsdsr.pipeline.plan import plan_tiles
from tsdsr.resize import upsample_bicubic


def build(model: str, device: torch.device, dtype: torch.dtype) -> OneStepSRPipeline:
    """The full-size architecture with random weights, made directly in the wanted precision."""
    spec = get_spec(model)
    torch.manual_seed(0)
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        denoiser, vae = spec.make_denoiser().eval(), spec.make_autoencoder().eval()
    finally:
        torch.set_default_dtype(default)
    prompt = FixedPrompt.from_conditioning(default_conditioning(spec).to("cpu", dtype))
    pipe = OneStepSRPipeline(denoiser, vae, prompt, model=model)
    return pipe.to(device)


def measure(pipe: OneStepSRPipeline, size: int, scale: float) -> dict[str, float]:
    """Seconds of each part of one run."""
    seconds: dict[str, float] = {}

    def timed(name: str, part: Callable[[], Tensor]) -> Tensor:
        started = time.perf_counter()
        result = part()
        if pipe.device.type == "cuda":
            torch.cuda.synchronize()
        seconds[name] = round(time.perf_counter() - started, 3)
        return result

    edge = round(size * scale)
    plan = plan_tiles(pipe.spec, (edge, edge), "auto")
    x = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)).to(pipe.device)
    with torch.inference_mode():
        x_lq = timed("enlarge", lambda: upsample_bicubic(x, (edge, edge)))
        z_lq = timed("encode", lambda: pipe.encode(x_lq, plan))
        z_hat = timed("denoise", lambda: pipe.denoise(z_lq, plan))
        x_hat = timed("decode", lambda: pipe.decode(z_hat, plan))
        timed("colour", lambda: wavelet_color_fix(x_hat, x_lq))
    seconds["total"] = round(sum(seconds.values()), 3)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="sd3")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--size", type=int, default=128, help="edge of the input in pixels")
    parser.add_argument("--scale", type=float, default=4)
    parser.add_argument("--runs", type=int, default=2, help="runs; the first warms up")
    args = parser.parse_args()
    device = choose_device(args.device)
    dtype = choose_dtype(args.dtype, device)
    started = time.perf_counter()
    pipe = build(args.model, device, dtype)
    report: dict[str, Any] = {
        "model": args.model,
        "input": args.size,
        "scale": args.scale,
        "dtype": str(dtype).removeprefix("torch."),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "parameters": {name: sum(p.numel() for p in getattr(pipe, name).parameters()) for name in ("denoiser", "vae")},
        "build_seconds": round(time.perf_counter() - started, 1),
        "runs": [measure(pipe, args.size, args.scale) for _ in range(args.runs)],
        "peak_rss_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
    }
    if device.type == "cuda":
        report["peak_cuda_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
