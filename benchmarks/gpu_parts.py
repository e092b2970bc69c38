"""What benchmarks/gpu.py measures: one function for each part, called in a process of its own.

A part calls ``found`` with its figures whenever there are new ones, so that a run that is cut off keeps them.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any
from xml.etree import ElementTree

import numpy as np
import torch
from torch import Tensor, nn

from training_step import ZeroPrompts, sample, tiny_sd3, trainer
from tsdsr.benchmark.entries import Entry, open_entry
from tsdsr.benchmark.random_weights import random_pipeline
from tsdsr.devices import TorchDevice
from tsdsr.errors import InvalidInputError
from tsdsr.measuring import peak_memory, seconds_of
from tsdsr.models import zoo
from tsdsr.models.zoo import ModelSpec, get_spec
from tsdsr.optimize.compile import compile_pipeline
from tsdsr.optimize.fold import fold
from tsdsr.optimize.quantize import quantize
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline
from tsdsr.recipes import student_recipe
from tsdsr.runtimes.providers import available_providers
from tsdsr.training.config import StudentConfig
from tsdsr.training.device_memory import step_cost
from tsdsr.training.networks import Parts, build_networks
from tsdsr.training.tensor_counter import TensorCounter
from tsdsr.training.weight_memory import networks_without_storage, weight_memory

Found = Callable[..., None]
ROOT = Path(__file__).resolve().parents[1]

PEAKS = {
    r"H100 80GB HBM3|G?H200( \d+GB)?": (989e12, 1979e12), r"A100[ -](SXM|PCIE|80GB).*": (312e12, None),
    r"L40S": (362e12, 733e12), r"GeForce RTX 4090": (165e12, 330e12),
}  # fmt: skip
"""A GPU's name → its peak, dense, in FLOP/s with 16 and with 8 bits and fp32 sums (vendor's tables)."""

MICRO_BATCH = {"sd3_paper": 8}
"""Images at a time of a recipe that is meant for several GPUs; other recipes say it themselves."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """Where the parts run. A rehearsal takes tiny networks of the same classes, small images and few runs."""

    rehearse: bool = False

    @property
    def device(self) -> torch.device:
        return torch.device("cpu" if self.rehearse else "cuda")

    @property
    def edge(self) -> int:
        return 64 if self.rehearse else 512

    @property
    def runs(self) -> int:
        return 2 if self.rehearse else 30


def tiny_specs() -> Mapping[str, ModelSpec]:
    """The table of base models with tiny networks of the real classes."""
    sd3, _ = tiny_sd3()
    blocks = {"block_out_channels": (8, 8, 8, 8), "norm_num_groups": 4}

    def shrunk(name: str, prompt: Mapping[str, tuple[int, ...]], **changes: Any) -> ModelSpec:
        spec = get_spec(name)
        return dataclasses.replace(
            spec, denoiser_config={**spec.denoiser_config, **changes}, vae_config={**spec.vae_config, **blocks},
            prompt_shapes=prompt,
        )  # fmt: skip

    sd21 = shrunk(
        "sd21-base", {"prompt_embeds": (7, 32)}, block_out_channels=(8, 16, 16, 16), norm_num_groups=4,
        layers_per_block=1, attention_head_dim=4, cross_attention_dim=32,
    )  # fmt: skip
    flux2 = shrunk(
        "flux2-klein", {"prompt_embeds": (5, 24)}, num_layers=2, num_single_layers=2, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=24, timestep_guidance_channels=16, axes_dims_rope=(4, 4, 4, 4),
    )  # fmt: skip
    return MappingProxyType({**zoo.SPECS, **{spec.name: spec for spec in (sd3, sd21, flux2)}})


def run_tests(setting: Setting, found: Found, chosen: str) -> None:
    """Run the tests that are marked `cuda` and whose names match ``chosen``."""
    files = sorted(
        path for path in (ROOT / "tests").rglob("test_*.py") if "mark.cuda" in path.read_text(encoding="utf-8")
    )
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "junit.xml"
        options = ["-v", "-m", "cuda", "-k", chosen, "-p", "no:cacheprovider", f"--junitxml={report}"]
        code = subprocess.run([sys.executable, "-m", "pytest", *options, *map(str, files)], cwd=ROOT).returncode
        if not report.exists():
            raise RuntimeError(f"pytest ended with status {code} before any test; the log says why")
        suite = next(ElementTree.parse(report).getroot().iter("testsuite"))
        counts = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
        bad = [f"{case.get('classname')}.{case.get('name')}" for case in suite.iter("testcase")
               if case.find("failure") is not None or case.find("error") is not None]  # fmt: skip
    found(**counts, failed=bad, exit_code=code, files=[str(path.relative_to(ROOT)) for path in files])


def time_model(setting: Setting, found: Found, model: str, way: str) -> None:
    """Time one result of 512² part by part: the released way, or ours eager, compiled, or compiled with fp8."""
    device = setting.device
    if way == "released":
        pipe: Any = open_entry(Entry(f"released:{model}", device=str(device))).pipe
    else:
        pipe = random_pipeline(model, device, torch.bfloat16)
        try:
            fold(pipe)
            found(folded=True)
        except InvalidInputError as error:
            found(folded=False, why=str(error))
    x = torch.rand(1, 3, setting.edge, setting.edge, generator=torch.Generator().manual_seed(0)).to(device)
    operations = count_operations(pipe, x)
    found(parameters=sum(p.numel() for p in pipe.denoiser.parameters()), operations=operations)
    peaks = peak_speeds(device)
    if peaks is not None:
        eight = peaks[1] if way == "fp8" and peaks[1] else peaks[0]
        found(floor_ms=1e3 * sum(n / (eight if part == "denoise" else peaks[0]) for part, n in operations.items()))
    if way == "ours":
        found(tile_memory=tile_memory(pipe, (setting.edge // 2, setting.edge)))
    if way != "fp8":
        found(eager=time_parts(pipe, x, setting.runs))
    if way == "released":
        return
    if way == "fp8":
        quantize(pipe, "int8" if setting.rehearse else "fp8")
    compile_pipeline(pipe)
    found(compiled=time_parts(pipe, x, setting.runs))
    small = x[..., : setting.edge // 4, : setting.edge // 4]
    found(whole_ms=1e3 * seconds_of(lambda: pipe.upscale(small, 4.0), pipe.array_device, setting.runs))


def measure_tiles(setting: Setting, found: Found, model: str) -> None:
    """Measure the memory of two tile sizes of a model."""
    if model == "mini":
        pipe = open_entry(Entry("mini", str(setting.device), "bf16", engine="torch")).pipe
        edges = (setting.edge, 2 * setting.edge)
    else:
        pipe = random_pipeline(model, setting.device, torch.bfloat16)
        edges = (setting.edge // 2, setting.edge)
    found(tile_memory=tile_memory(pipe, edges))


def tile_memory(pipe: Any, edges: tuple[int, int]) -> dict[str, Any]:
    """Peak memory beyond the weights of results of two sizes, as bytes a pixel and a fixed part, and the table's."""
    spec, peaks = pipe.spec, []
    held = torch.cuda.memory_allocated() if pipe.device.type == "cuda" else 0
    for edge in (edges[0], *edges):  # the first call is for workspaces of libraries, which stay
        pipe.array_device.release()
        with peak_memory(pipe.array_device) as peak:
            pipe.upscale(torch.rand(1, 3, edge // 4, edge // 4), 4.0, tile=None)
        peaks.append(peak[0] - held)
    peaks = peaks[1:]
    pixel = (peaks[1] - peaks[0]) / (edges[1] ** 2 - edges[0] ** 2)
    return {
        "edges": list(edges), "peaks": peaks, "bytes_per_pixel": pixel, "fixed_bytes": peaks[0] - pixel * edges[0] ** 2,
        "table_bytes_per_pixel": spec.tile_bytes * pipe.dtype_bytes / 4, "table_fixed_bytes": spec.fixed_tile_bytes,
    }  # fmt: skip


def count_operations(pipe: OneStepSRPipeline, x: Tensor) -> dict[str, int]:
    """Floating point operations of encoder, denoiser and decoder."""
    counts, value = {}, x
    for part in ("encode", "denoise", "decode"):
        with TensorCounter() as counter:
            value = getattr(pipe, part)(value)
        counts[part] = counter.flops
    return counts


def time_parts(pipe: OneStepSRPipeline, x: Tensor, runs: int) -> dict[str, Any]:
    """Median milliseconds of each part, by CUDA events on a GPU, and seconds of the first call."""
    device = pipe.array_device
    started = time.perf_counter()
    pipe.decode(pipe.denoise(pipe.encode(x)))
    device.wait()
    first = time.perf_counter() - started
    for _ in range(2):
        pipe.decode(pipe.denoise(pipe.encode(x)))
    times = []
    with peak_memory(device) as peak:
        for _ in range(runs):
            marks, value = [_mark(x.device)], x
            for part in (pipe.encode, pipe.denoise, pipe.decode):
                value = part(value)
                marks.append(_mark(x.device))
            device.wait()
            times.append([_between(a, b) for a, b in itertools.pairwise(marks)])
    assert bool(torch.isfinite(value).all())
    parts = dict(zip(("encode", "denoise", "decode"), map(statistics.median, zip(*times, strict=True)), strict=True))
    totals = sorted(map(sum, times))
    return {
        **parts, "together": statistics.median(totals), "least": totals[0], "most": totals[-1], "runs": runs,
        "first_call_s": first, "peak_memory": peak[0] if peak else None,
    }  # fmt: skip


def _mark(device: torch.device) -> Any:
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _between(a: Any, b: Any) -> float:
    return 1e3 * (b - a) if isinstance(a, float) else a.elapsed_time(b)


def peak_speeds(device: torch.device) -> tuple[float, float | None] | None:
    """Peak FLOP/s in 16 and in 8 bits; None for an unknown device."""
    return peaks_of(torch.cuda.get_device_name(device)) if device.type == "cuda" else None


def peaks_of(name: str) -> tuple[float, float | None] | None:
    """The same by the GPU's name. A slice of a GPU (MIG), and variants with fewer or slower cores, are unknown."""
    name = name.removeprefix("NVIDIA ")
    return next((peaks for known, peaks in PEAKS.items() if "MIG" not in name and re.fullmatch(known, name)), None)


def as_configured(recipe: str) -> StudentConfig:
    """A recipe's last phase for one GPU, with as many micro-batches as the batch needs."""
    config = student_recipe(recipe)
    phase = config.phases[-1]
    images = MICRO_BATCH.get(recipe, phase.batch_size // config.accumulation)
    return dataclasses.replace(config, phases=(phase,), accumulation=phase.batch_size // images)


def predict_training(setting: Setting, found: Found, recipe: str) -> None:
    """Count what a step needs, as `tsdsr train student --dry-run --gpus 1` does. Needs no GPU."""
    config = as_configured(recipe)
    modules, roles = networks_without_storage(config)
    weights = weight_memory(modules, roles)
    phase = config.phases[-1]
    if _distance(torch.device("cpu")) is None:
        phase = dataclasses.replace(phase, perceptual_weight=0.0)
    cost = step_cost(config, modules, phase, phase.batch_size // config.accumulation, torch.bfloat16)
    points = phase.tsd.points if phase.tsd else 1  # type: ignore[union-attr]
    found(predicted_bytes=weights.whole + cost.activations, predicted_flops=cost.operations(points))


def train_step(setting: Setting, found: Found, recipe: str) -> None:
    """Time a step of a recipe's last phase, with random weights, after one micro-batch that does not count."""
    config, device = as_configured(recipe), setting.device
    phase = config.phases[-1]
    images, spec = phase.batch_size // config.accumulation, get_spec(config.networks.model)
    distance = _distance(device)
    if distance is None:
        phase = dataclasses.replace(phase, perceptual_weight=0.0)
    phase = dataclasses.replace(phase, steps=10**6)
    config = dataclasses.replace(config, phases=(phase,), monitor_every=0)
    pipe = random_pipeline(config.networks.model, device, torch.bfloat16)
    denoiser, vae = nn.Module.to(pipe.denoiser, torch.bfloat16), nn.Module.float(pipe.vae)
    networks = build_networks(Parts(denoiser, vae), spec, config.networks, 0, scores=True)
    del pipe, denoiser, vae
    run = trainer(config, networks, ZeroPrompts(dict(spec.prompt_shapes)), device.type, torch.bfloat16, distance)
    pair = sample(images, setting.edge)
    pair = pair._replace(x_lq=pair.x_lq.to(run.device), x_hq=pair.x_hq.to(run.device))
    found(images_at_once=images, micro_batches=config.accumulation, perceptual=distance is not None)
    where = TorchDevice(run.device)
    for name, count in (("first_micro_batch_s", 1), ("step_s", 2 if setting.rehearse else config.accumulation)):
        with peak_memory(where) as peak:
            started = time.perf_counter()
            run.train_step([pair] * count)
            where.wait()
            found(**{name: time.perf_counter() - started, "images": images * count})
        found(peak_memory=peak[0] if peak else None)


def _distance(device: torch.device) -> Any:
    """LPIPS with random weights, which costs the same; None if it is not installed."""
    try:
        import lpips
    except ImportError:
        return None
    network = lpips.LPIPS(net="vgg", pretrained=False, pnet_rand=True, verbose=False).to(device).requires_grad_(False)

    def distance(x_hat: Tensor, x_hq: Tensor) -> Tensor:
        value: Tensor = network(x_hat, x_hq, normalize=True).mean()
        return value

    return distance


def time_mini(setting: Setting, found: Found, way: str) -> None:
    """Pictures a second of `mini`, from pixels to pixels, for results of 512² and of 2048²."""
    entry = Entry("mini", engine="onnx")
    if way != "onnx":
        entry = Entry("mini", str(setting.device), way, engine="torch")
    else:
        provider = available_providers()[0]
        found(provider=provider)
        if provider not in ("cuda", "tensorrt") and not setting.rehearse:
            found(skipped="ONNX Runtime has no provider for this GPU here")
            return
    for compiled in (False, True) if way != "onnx" else (False,):
        pipe: Any = open_entry(dataclasses.replace(entry, compile=compiled)).pipe
        for edge in (setting.edge,) if setting.rehearse else (512, 2048):
            pixels = np.random.default_rng(0).integers(0, 256, (edge // 4, edge // 4, 3), dtype=np.uint8)
            started = time.perf_counter()
            call = partial(pipe.upscale_pixels, pixels, 4.0)
            call()
            first = time.perf_counter() - started
            seconds = seconds_of(call, pipe.array_device, setting.runs)
            name = f"{edge}{' compiled' if compiled else ''}"
            found(**{name: {"pictures_per_second": 1 / seconds, "first_call_s": first}})
        del pipe, call


@contextmanager
def rehearsed(setting: Setting) -> Iterator[None]:
    """Within the block of a rehearsal, base models are tiny, and ``torch.compile`` does nothing."""
    before, stance = zoo.SPECS, torch.compiler.set_stance
    if not setting.rehearse:
        yield
        return
    zoo.SPECS = tiny_specs()
    try:
        with stance("force_eager"):
            yield
    finally:
        zoo.SPECS = before
