"""Folding a full-size student with random weights: size, load time, memory and time of the step.

    python benchmarks/folding.py --model sd3 --dtype bf16 --work /tmp/folding
    python benchmarks/folding.py --model flux2-klein --stage count

Each stage runs in its own process, so its peak memory can be measured. ``count`` needs neither weights nor memory: it
counts values and floating point operations. ``make`` builds and stores the full pipeline and folds it as ``tsdsr fold``
does. ``full`` and ``folded`` load one of the two and take steps. ``pair`` holds both in memory and takes steps in turn.
``--stage`` runs a single stage. In bf16, SD3 needs 8 GB of disk and of memory, FLUX.2 klein 16 GB of both.
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
from torch._subclasses.fake_tensor import FakeTensorMode

from tsdsr.devices import choose_dtype
from tsdsr.models.conditioning import Conditioning, default_conditioning
from tsdsr.models.denoiser import FoldedDenoiser, as_denoiser
from tsdsr.models.fixed_prompt import FixedPrompt
from tsdsr.models.parts_check import network_config
from tsdsr.models.zoo import ModelSpec, get_spec
from tsdsr.optimize.fold import Footprint, fold, fold_network
from tsdsr.pipeline.convert import save_pipeline
from tsdsr.pipeline.diffusers_loading import load_diffusers_pipeline
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline
from tsdsr.training.tensor_counter import TensorCounter, give_fake_tensors

CPU = torch.device("cpu")
STAGES = ("count", "make", "full", "folded", "pair")


@torch.no_grad()
def enliven(pipe: OneStepSRPipeline) -> None:
    """Set weights that preserve the variance of activations, modulations of about 0.3 and a non-zero prompt.

    With torch's own initialisation the gates are near zero, and only the input and output layers would have an effect.
    """
    generator = torch.Generator().manual_seed(0)
    for name, module in pipe.denoiser.named_modules():
        if isinstance(module, nn.Linear):
            module.weight.mul_(math.sqrt(3))
            if name.endswith(".linear") and module.bias is not None:
                module.bias.copy_(0.3 * torch.randn(module.bias.shape, generator=generator))
    prompt = {
        name: torch.randn(tensor.shape, generator=generator) if tensor.is_floating_point() else tensor
        for name, tensor in pipe.prompt.conditioning().tensors().items()
    }
    pipe.register_modules(prompt=FixedPrompt.from_conditioning(Conditioning(**prompt)))


def build(model: str, dtype: torch.dtype, layers: int | None) -> OneStepSRPipeline:
    """Build the full-size architecture with random weights, or its first ``layers`` blocks."""
    spec = get_spec(model)
    kinds = [name for name in ("num_layers", "num_single_layers") if name in spec.denoiser_config]
    config = {**spec.denoiser_config, **({} if layers is None else dict.fromkeys(kinds, layers))}
    torch.manual_seed(0)
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        denoiser, vae = spec.denoiser_class(**config).eval(), spec.make_autoencoder().eval()
    finally:
        torch.set_default_dtype(default)
    return OneStepSRPipeline(denoiser, vae, FixedPrompt.from_conditioning(default_conditioning(spec)), model=model)


def count(spec: ModelSpec, edge: int) -> dict[str, Any]:
    """Count values and floating point operations of a step, full and folded, without memory for either."""
    prompt = default_conditioning(spec)
    with torch.device("meta"):
        full, spare = spec.make_denoiser(), spec.make_denoiser()
    sizes, flops = [Footprint.of(full).values], [operations(spare, spec, edge)]
    folded = fold_network(full, spec.timestep, prompt)
    sizes.append(Footprint.of(folded).values)
    flops.append(operations(folded, spec, edge))
    return {"values": sizes, "flops": flops}


@torch.no_grad()
def operations(network: nn.Module, spec: ModelSpec, edge: int) -> int:
    """Count the floating point operations of a step. The network loses its tensors."""
    denoiser = as_denoiser(network)
    predict = denoiser.unchecked if isinstance(denoiser, FoldedDenoiser) else denoiser
    with FakeTensorMode():
        held = give_fake_tensors(network)
        z = torch.empty(1, network_config(network)["in_channels"], edge, edge)
        with TensorCounter(held) as counter:
            predict(z, torch.full((1,), spec.timestep), default_conditioning(spec))
    return counter.flops


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
    return pipe.denoise(latent(network_config(pipe.denoiser)["in_channels"], edge))


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
    parser.add_argument("--work", type=Path, help="folder for the two pipelines")
    parser.add_argument("--edge", type=int, default=512, help="edge of the picture in pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layers", type=int, help="so many blocks of a transformer, of each kind, instead of all")
    parser.add_argument("--stage", choices=STAGES)
    args = parser.parse_args()
    if args.work is None and args.stage != "count":
        parser.error("--work is needed, except for --stage count")
    if args.stage is None:
        for stage in STAGES:
            subprocess.run([sys.executable, *sys.argv, "--stage", stage], check=True)
        return
    spec, dtype = get_spec(args.model), choose_dtype(args.dtype, CPU)
    edge = args.edge // spec.vae_scale_factor
    if args.stage == "count":
        report = count(spec, edge)
    elif args.stage == "make":
        report = make(args.model, dtype, args.work, args.layers)
    elif args.stage == "pair":
        report = pair(args.work, dtype, edge, args.rounds)
    else:
        report = run(args.work / args.stage, dtype, edge, args.rounds)
    print(json.dumps({"stage": args.stage, "torch": torch.__version__, **report}), flush=True)


if __name__ == "__main__":
    main()
