"""A full-size student with random weights, quantised: seconds of the one step, memory, deviation from the original.

    python benchmarks/folding.py --work /tmp/folding --stage make
    python benchmarks/quantization.py --work /tmp/folding

All variants are in memory together and take steps in turn. With ``--pictures`` each result is also decoded and stored
as a PNG; random weights make noise of it, so that deviations say how errors grow through such a network, not what a
trained one would show. ``--memory VARIANT`` loads a single variant instead and reports its peak.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from folding import CPU, UNTILED, file_gb, in_turn, peak_gb, rms, step
from tsdsr.optimize.quantize import quantize
from tsdsr.pipeline.loading import choose_dtype, load_pipeline
from tsdsr.pipeline.pipeline import OneStepSRPipeline
from tsdsr.pipeline.tensors import from_tensors

VARIANTS = ("folded int8", "folded int8-dynamic", "folded", "full")


def load(variant: str, work: Path, dtype: torch.dtype) -> OneStepSRPipeline:
    """A variant by name: folder, and how to quantise it."""
    folder, _, mode = variant.partition(" ")
    pipe = load_pipeline(work / folder, "cpu", dtype)
    if mode:
        quantize(pipe, mode)
    return pipe


def weights_gb(pipe: OneStepSRPipeline) -> float:
    """What the denoiser's weights take, scales of quantised ones included."""
    total = 0
    for parameter in pipe.denoiser.parameters():
        parts = [getattr(parameter, name) for name in getattr(parameter, "tensor_data_names", ())] or [parameter]
        total += sum(part.numel() * part.element_size() for part in parts)
    return round(total / 1e9, 2)


def psnr(x: Tensor, reference: Tensor) -> float:
    """Of images in [0, 1]."""
    return round(-10 * math.log10(float((x - reference).square().mean())), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--work", type=Path, required=True, help="folder made by folding.py")
    parser.add_argument("--edge", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pictures", action="store_true")
    parser.add_argument("--memory", choices=VARIANTS)
    args = parser.parse_args()
    dtype = choose_dtype(args.dtype, CPU)
    if args.memory:
        pipe = load(args.memory, args.work, dtype)
        report: dict[str, Any] = {"weights_gb": weights_gb(pipe), "peak_gb_loaded": peak_gb()}
        step(pipe, args.edge)
        print(json.dumps({"variant": args.memory, **report, "peak_gb_step": peak_gb()}))
        return
    pipes = {variant: load(variant, args.work, dtype) for variant in VARIANTS}
    steps = {variant: (lambda pipe=pipe: step(pipe, args.edge)) for variant, pipe in pipes.items()}
    report = in_turn(steps, args.rounds)
    latents = {variant: take() for variant, take in steps.items()}
    vae, scale = pipes["full"], rms(latents["full"])
    for variant, pipe in pipes.items():
        report[variant] |= {
            "weights_gb": weights_gb(pipe),
            "latent_error": round(rms(latents[variant] - latents["full"]) / scale, 5),
        }
    if args.pictures:
        with torch.inference_mode():
            decoded = {variant: vae.decode(z, UNTILED) for variant, z in latents.items()}
        low, high = decoded["full"].aminmax()
        pictures = {variant: ((x - low) / (high - low)).clamp(0, 1) for variant, x in decoded.items()}
        for variant, x in pictures.items():
            report[variant]["psnr"] = psnr(x, pictures["full"]) if variant != "full" else math.inf
            from_tensors([x], "pil")[0].save(args.work / f"{variant.replace(' ', '_')}.png")
    print(json.dumps({"torch": torch.__version__, "file_gb": file_gb(args.work / "folded"), **report}, indent=1))


if __name__ == "__main__":
    main()
