"""Quantising a full-size student with random weights: time of the step, memory, deviation from the original.

    python benchmarks/folding.py --work /tmp/folding --stage make
    python benchmarks/quantization.py --work /tmp/folding
    python benchmarks/quantization.py --work /tmp/folding --memory "folded int8"
    python benchmarks/quantization.py --work /tmp/folding --pictures

The second command holds all variants in memory, takes steps in turn and stores the latents. ``--memory`` loads one
variant and reports its peak memory. ``--pictures`` decodes the stored latents and compares the pictures (needs lpips).
With random weights these pictures are noise. The deviations show how errors grow through such a network, not what a
trained network would show.
"""

from __future__ import annotations

import argparse
import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch import Tensor

from folding import CPU, file_gb, in_turn, peak_gb, rms, step
from tsdsr.devices import choose_dtype
from tsdsr.models.latents import decode_latents
from tsdsr.optimize.quantize import quantize
from tsdsr.pipeline.diffusers_loading import load_diffusers_pipeline
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline
from tsdsr.pipeline.pixel_batches import from_batches

LATENTS = "latents.safetensors"
VARIANTS = ("folded int8", "folded int8-dynamic", "folded", "full")


def load(variant: str, work: Path, dtype: torch.dtype) -> OneStepSRPipeline:
    """Look up a variant by name: its folder and quantisation mode."""
    folder, _, mode = variant.partition(" ")
    pipe = load_diffusers_pipeline(work / folder, "cpu", dtype)
    if mode:
        quantize(pipe, mode)
    return pipe


def weights_gb(pipe: OneStepSRPipeline) -> float:
    """Return the size of the denoiser's weights, including the scales of quantised ones."""
    total = 0
    for parameter in pipe.denoiser.parameters():
        parts = [getattr(parameter, name) for name in getattr(parameter, "tensor_data_names", ())] or [parameter]
        total += sum(part.numel() * part.element_size() for part in parts)
    return round(total / 1e9, 2)


def compare_pictures(work: Path, dtype: torch.dtype) -> dict[str, dict[str, float]]:
    """Decode the latents, stretch all pictures to [0, 1] in the same way, and return PSNR and LPIPS to the first."""
    import lpips

    vae = AutoencoderKL.from_pretrained(work / "full" / "vae", dtype=dtype)
    latents = load_file(work / LATENTS)
    decoded = {}
    with torch.inference_mode():
        for name in ("full", *(name for name in latents if name != "full")):
            decoded[name] = decode_latents(vae, latents[name]) * 2 - 1
        low, high = (torch.quantile(decoded["full"].flatten()[::16], q) for q in (0.01, 0.99))
        pictures = {name: ((x - low) / (high - low)).clamp(0, 1) for name, x in decoded.items()}
        distance = lpips.LPIPS(net="alex", verbose=False)
        report = {}
        for name, x in pictures.items():
            from_batches([x.numpy()], "pil")[0].save(work / f"{name.replace(' ', '_')}.png")
            if name != "full":
                value = float(distance(x * 2 - 1, pictures["full"] * 2 - 1))
                report[name] = {"psnr": psnr(x, pictures["full"]), "lpips": round(value, 5)}
    return report


def psnr(x: Tensor, reference: Tensor) -> float:
    """Compute the PSNR of images in [0, 1]."""
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
        alone: list[Tensor] = []
        report |= in_turn({"step": lambda: alone.append(step(pipe, args.edge))}, 1)["step"]
        save_file({"z_hat": alone[-1].contiguous()}, args.work / f"{args.memory}.safetensors")
        print(json.dumps({"variant": args.memory, **report, "peak_gb_step": peak_gb()}))
        return
    if args.pictures:
        print(json.dumps(compare_pictures(args.work, dtype), indent=1))
        return
    pipes = {variant: load(variant, args.work, dtype) for variant in VARIANTS}
    latents: dict[str, Tensor] = {}

    def take(variant: str) -> Tensor:
        latents[variant] = step(pipes[variant], args.edge)
        return latents[variant]

    report = in_turn({variant: partial(take, variant) for variant in VARIANTS}, args.rounds)
    scale = rms(latents["full"])
    for variant, pipe in pipes.items():
        report[variant] |= {
            "weights_gb": weights_gb(pipe),
            "latent_error": round(rms(latents[variant] - latents["full"]) / scale, 5),
        }
    save_file({name: z.contiguous() for name, z in latents.items()}, args.work / LATENTS)
    print(json.dumps({"torch": torch.__version__, "file_gb": file_gb(args.work / "folded"), **report}, indent=1))


if __name__ == "__main__":
    main()
