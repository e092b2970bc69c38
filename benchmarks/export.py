"""Time a model in PyTorch, ONNX Runtime and OpenVINO, alternating in one run, and compare the pictures.

    python benchmarks/export.py --model mini --runs 15
    python benchmarks/export.py --model sd3 --layers 4 --runs 3

The name of a base model builds its architecture with random weights, which take as long as trained ones. ``--layers``
keeps only the first blocks of a transformer. Times are for one step and for the whole pipeline, PIL image to PIL image.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from tsdsr import load_pipeline
from tsdsr.images.reading import read_rgb
from tsdsr.models.conditioning import Conditioning
from tsdsr.models.fixed_prompt import FixedPrompt
from tsdsr.models.zoo import SPECS, get_spec
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline
from tsdsr.pipeline.model_files import PACKAGED_MODELS
from tsdsr.runtimes.export import export_pipeline
from tsdsr.runtimes.exported_pipeline import load_exported


def load(model: str, layers: int | None, dtype: torch.dtype) -> OneStepSRPipeline:
    """Load a stored pipeline, or build the architecture of a base model with random weights."""
    if model in PACKAGED_MODELS or model not in SPECS:
        return load_pipeline(model, "cpu", dtype)
    spec = get_spec(model)
    torch.manual_seed(0)
    config = {**spec.denoiser_config, **({"num_layers": layers} if layers else {})}
    denoiser, vae = spec.denoiser_class(**config).eval(), spec.make_autoencoder().eval()
    shapes = spec.prompt_shapes.items()
    prompt = FixedPrompt.from_conditioning(Conditioning(**{n: torch.randn(1, *s) for n, s in shapes}))
    pipe = OneStepSRPipeline(denoiser, vae, prompt, model=model)
    for component in pipe.components.values():
        torch.nn.Module.to(component, dtype=dtype)
    return pipe


def in_turn(contestants: dict[str, Callable[[], Any]], runs: int) -> dict[str, float]:
    """Return the median seconds of each model; each round calls every model once, and the first round warms up."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for run in range(runs + 1):
        for name, call in contestants.items():
            started = time.perf_counter()
            call()
            if run:
                times[name].append(time.perf_counter() - started)
    return {name: round(statistics.median(values), 4) for name, values in times.items()}


def folder_size(folder: Path) -> float:
    return round(sum(path.stat().st_size for path in folder.iterdir()) / 1e6, 1)


def peak_rss() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--layers", type=int, help="blocks of the transformer to keep; default all")
    parser.add_argument("--image", type=Path, default=Path("examples/astronaut_lq.png"))
    parser.add_argument("--size", type=int, default=128, help="edge of the input in pixels")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--folder", type=Path, help="keep or find the exports here")
    parser.add_argument(
        "--only", default="fp32,bf16,onnx,openvino-fp32,openvino-bf16", help="contestants, separated by commas"
    )
    args = parser.parse_args()
    names = args.only.split(",")
    folder = args.folder or Path(tempfile.mkdtemp())
    report: dict[str, Any] = {"export": {}}
    pipes: dict[str, OneStepSRPipeline] = {}
    base = load(args.model, args.layers, torch.float32)
    report["loaded_peak_rss_gb"] = peak_rss()
    for backend in ("onnx", "openvino"):
        if any(name.startswith(backend) for name in names) and not (folder / backend).exists():
            started = time.perf_counter()
            infos = export_pipeline(base, folder / backend, backend)
            report["export"][backend] = {
                "seconds": round(time.perf_counter() - started, 1),
                "megabytes": folder_size(folder / backend),
                "peak_rss_gb": peak_rss(),
                "graphs": [vars(info) for info in infos],
            }
    if "fp32" in names:
        pipes["fp32"] = base
    del base
    if "bf16" in names:
        pipes["bf16"] = load(args.model, args.layers, torch.bfloat16)
    for name in names:
        if name.startswith(("onnx", "openvino")):
            backend, _, dtype = name.partition("-")
            pipes[name] = load_exported(folder / backend, "cpu", dtype or "auto")
    image = Image.fromarray(read_rgb(args.image)).resize((args.size, args.size), Image.Resampling.BICUBIC)
    spec = next(iter(pipes.values())).spec
    edge = 4 * args.size // spec.vae_scale_factor
    channels = 3 * spec.vae_scale_factor**2 if spec.name == "mini" else spec.vae_config["latent_channels"]
    z_lq = torch.randn(1, channels, edge, edge, generator=torch.Generator().manual_seed(0))
    report["step_seconds"] = in_turn({name: lambda p=p: p.denoise(z_lq) for name, p in pipes.items()}, args.runs)
    report["pipeline_seconds"] = in_turn({name: lambda p=p: p(image) for name, p in pipes.items()}, args.runs)
    pictures = {name: np.asarray(pipe(image).images[0], dtype=int) for name, pipe in pipes.items()}
    if "fp32" in pictures:
        gaps = {name: np.abs(picture - pictures["fp32"]) for name, picture in pictures.items()}
        report["grey_levels"] = {n: {"max": int(g.max()), "mean": round(float(g.mean()), 5)} for n, g in gaps.items()}
    report |= {
        "peak_rss_gb": peak_rss(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        "versions": {n: version(n) for n in ("torch", "diffusers", "onnx", "onnxscript", "onnxruntime", "openvino")},
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
