"""Folding a full-size student with random weights: size, load time, memory and time of the step.

    python benchmarks/folding.py --model sd3 --dtype bf16 --work /tmp/folding

Each stage runs in its own process, so its peak memory can be measured. ``make`` builds and stores the full pipeline and
folds it as ``tsdsr fold`` does. ``run`` loads one of the two and takes steps. ``pair`` holds both in memory and takes
steps in turn. ``--stage`` runs a single stage. Needs 8 GB of disk and, in bf16, 8 GB of memory.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tsdsr.devices import choose_dtype
from tsdsr.models.conditioning import Conditioning, default_conditioning
from tsdsr.models.fixed_prompt import FixedPrompt
from tsdsr.models.zoo import get_spec
from tsdsr.optimize.fold import Footprint, fold
from tsdsr.pipeline.convert import save_pipeline
from tsdsr.pipeline.diffusers_loading import load_diffusers_pipeline
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline

CPU = torch.device("cpu")


@torch.no_grad()
def enliven(pipe: OneStepSRPipeline) -> None:
    """Set weights that preserve the variance of activations, modulations of about 0.3 and a non-zero prompt.

    With torch's own initialisation the gates are near zero, and only the input and output layers would have an effect.
    """
    generator = torch.Generator().manual_seed(0)
    for name, module in pipe.denoiser.named_modules():
        if isinstance(module, nn.Linear):
            module.weight.mul_(math.sqrt(3))
            if name.endswith(".linear"):
                module.bias.copy_(0.3 * torch.randn(module.bias.shape, generator=generator))
    prompt = {
        name: torch.randn(tensor.shape, generator=generator) if tensor.is_floating_point() else tensor
        for name, tensor in pipe.prompt.conditioning().tensors().items()
    }
    pipe.register_modules(prompt=FixedPrompt.from_conditioning(Conditioning(**prompt)))


def build(model: str, dtype: torch.dtype, layers: int | None) -> OneStepSRPipeline:
    """Build the full-size architecture with random weights, or its first ``layers`` blocks."""
    spec = get_spec(model)
    config = dict(spec.denoiser_config) if layers is None else {**spec.denoiser_config, "num_layers": layers}
    torch.manual_seed(0)
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        denoiser, vae = spec.denoiser_class(**config).eval(), spec.make_autoencoder().eval()
    finally:
        torch.set_default_dtype(default)
    return OneStepSRPipeline(denoiser, vae, FixedPrompt.from_conditioning(default_conditioning(spec)), model=model)


def make(model: str, dtype: torch.dtype, work: Path, layers: int | None) -> dict[str, Any]:
    """Build and store the full pipeline, then fold and store it."""
    pipe = build(model, dtype, layers)
    enliven(pipe)
    save_pipeline(pipe, work / "full", dtype)
    before = peak_gb()
    started = time.perf_counter()
    report = fold(pipe)
    seconds = time.perf_counter() - started
    after = peak_gb()
    save_pipeline(pipe, work / "folded", dtype)
    return {
        "values": [report.before.values, report.after.values],
        "fold_seconds": round(seconds, 2),
        "peak_gb_before_folding": before,
        "peak_gb_after_folding": after,
        "file_gb": [file_gb(work / name) for name in ("full", "folded")],
    }


def run(folder: Path, dtype: torch.dtype, edge: int, rounds: int) -> dict[str, Any]:
    """Load a pipeline and take steps; the first one warms up."""
    imported = peak_gb()
    started = time.perf_counter()
    pipe = load_diffusers_pipeline(folder, "cpu", dtype)
    loaded = time.perf_counter() - started
    report: dict[str, Any] = {
        "load_seconds": round(loaded, 2),
        "weights_gb": round(Footprint.of(pipe.denoiser).bytes / 1e9, 2),
        "peak_gb_imports": imported,
        "peak_gb_loaded": peak_gb(),
    }
    latents: list[Tensor] = []
    report |= in_turn({"step": lambda: latents.append(step(pipe, edge))}, rounds)["step"]
    save_file({"z_hat": latents[-1].contiguous()}, folder.parent / f"{folder.name}.safetensors")
    return {**report, "peak_gb_step": peak_gb()}


def pair(work: Path, dtype: torch.dtype, edge: int, rounds: int) -> dict[str, Any]:
    """Hold both pipelines in memory and take steps in turn."""
    pipes = {name: load_diffusers_pipeline(work / name, "cpu", dtype) for name in ("full", "folded")}
    latents: dict[str, Tensor] = {}

    def take(name: str) -> Tensor:
        latents[name] = step(pipes[name], edge)
        return latents[name]

    report: dict[str, Any] = in_turn({name: partial(take, name) for name in pipes}, rounds)
    moved = latents["full"] - latent(latents["full"].shape[1], edge)
    report["difference"] = {"rms": rms(latents["folded"] - latents["full"]), "rms_of_prediction": rms(moved)}
    return {**report, "peak_gb": peak_gb()}


def latent(channels: int, edge: int) -> Tensor:
    """Make a smooth random latent."""
    noise = torch.randn(1, channels, edge // 4, edge // 4, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.interpolate(noise, size=(edge, edge), mode="bicubic")


@torch.inference_mode()
def step(pipe: OneStepSRPipeline, edge: int) -> Tensor:
    """Run one step on :func:`latent`."""
    return pipe.denoise(latent(pipe.vae.config.latent_channels, edge))


def in_turn(steps: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, dict[str, Any]]:
    """Warm up, then run each step ``rounds`` times, in turn. CPU seconds are independent of other processes."""
    first = {name: clocks(take)[0] for name, take in steps.items()}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, take in steps.items():
            times[name].append(clocks(take))
    return {
        name: {
            "first_seconds": round(first[name], 2),
            "median_seconds": round(statistics.median(wall for wall, _ in values), 2),
            "median_cpu_seconds": round(statistics.median(cpu for _, cpu in values), 2),
            "seconds": [round(wall, 2) for wall, _ in values],
        }
        for name, values in times.items()
    }


def clocks(take: Callable[[], object]) -> tuple[float, float]:
    """Return the wall and CPU seconds of a call."""
    wall, cpu = time.perf_counter(), time.process_time()
    take()
    return time.perf_counter() - wall, time.process_time() - cpu


def rms(x: Tensor) -> float:
    """Root mean square."""
    return float(x.square().mean().sqrt())


def peak_gb() -> float:
    """Return the peak resident memory of this process so far."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)


def file_gb(folder: Path) -> float:
    """Return the size of the denoiser's weight files."""
    return round(sum(f.stat().st_size for f in (folder / "denoiser").glob("*.safetensors")) / 1e9, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="sd3")
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--work", type=Path, required=True, help="folder for the two pipelines")
    parser.add_argument("--edge", type=int, default=64, help="edge of the latent; 64 is a 512 pixel picture")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layers", type=int, help="so many blocks of SD3's transformer instead of all")
    parser.add_argument("--stage", choices=["make", "full", "folded", "pair"])
    args = parser.parse_args()
    dtype = choose_dtype(args.dtype, CPU)
    if args.stage is None:
        for stage in ("make", "full", "folded", "pair"):
            subprocess.run([sys.executable, *sys.argv, "--stage", stage], check=True)
        return
    if args.stage == "make":
        report = make(args.model, dtype, args.work, args.layers)
    elif args.stage == "pair":
        report = pair(args.work, dtype, args.edge, args.rounds)
    else:
        report = run(args.work / args.stage, dtype, args.edge, args.rounds)
    print(json.dumps({"stage": args.stage, "torch": torch.__version__, **report}), flush=True)


if __name__ == "__main__":
    main()
