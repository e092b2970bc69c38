"""Time and memory of a training step: batched against separate network passes on `mini`, and full-size SD3.

    python benchmarks/training_step.py mini [--steps 10]      # both ways in turn, on `mini`'s network
    python benchmarks/training_step.py sd3 [--points 1]       # SD3-medium with random weights, one step, every role

LPIPS is omitted from both, because it is the same in both. For the distillation of one step with N = 4, the released
code makes 24 passes: six (teacher at both latents, fake at one, each with and without prompt) at each of four points.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from tsdsr.devices import TorchDevice
from tsdsr.measuring import peak_memory_so_far
from tsdsr.models.conditioning import Conditioning
from tsdsr.models.zoo import MINI, get_spec
from tsdsr.recipes import student_recipe
from tsdsr.training.config import Phase, StudentConfig, TSDSettings
from tsdsr.training.networks import Networks, Parts, build_networks
from tsdsr.training.run_log import make_accelerator
from tsdsr.training.samples import TrainingData, TrainingSample
from tsdsr.training.student import StudentTrainer


class ZeroPrompts:
    """Make embeddings of the right shape; their values do not affect the cost."""

    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        self._one = Conditioning(**{name: torch.zeros(1, *shape) for name, shape in shapes.items()})

    def fixed(self) -> Conditioning:
        return self._one

    def null(self) -> Conditioning:
        return self._one

    def of(self, texts: list[str]) -> Conditioning:
        return self._one.expand(len(texts))


def gigabytes(device: torch.device) -> float:
    """Peak memory so far."""
    return peak_memory_so_far(TorchDevice(device)) / 1e9


@contextmanager
def counted(module: nn.Module, calls: list[int]) -> Iterator[None]:
    handle = module.register_forward_hook(lambda *_: calls.append(1))
    try:
        yield
    finally:
        handle.remove()


def sample(batch: int, edge: int) -> TrainingSample:
    generator = torch.Generator().manual_seed(0)
    x_lq, x_hq = (torch.rand(batch, 3, edge, edge, generator=generator) for _ in range(2))
    return TrainingSample(torch.arange(batch), x_lq, x_hq, [""] * batch)


def trainer(
    config: StudentConfig, networks: Networks, prompts: ZeroPrompts | None, device: str, dtype: torch.dtype
) -> StudentTrainer:
    out = Path(tempfile.mkdtemp())
    accelerator = make_accelerator(out, device)
    return StudentTrainer(config, networks, TrainingData(()), out, prompts, accelerator, dtype)


def mini(steps: int, batch: int, edge: int) -> dict[str, object]:
    """Time the recipe's second phase with guidance, batched and separate passes in turn in one run."""
    runs: dict[str, StudentTrainer] = {}
    for name, batched in (("batched", True), ("one pass an answer", False)):
        recipe = student_recipe("mini_student")
        tsd = TSDSettings(guidance=7.5, points=4, batched=batched)
        phase = dataclasses.replace(recipe.phases[-1], batch_size=batch, perceptual_weight=0.0, tsd=tsd, steps=10**6)
        config = dataclasses.replace(recipe, phases=(phase,))
        torch.manual_seed(0)
        parts = Parts(MINI.make_denoiser(), MINI.make_autoencoder(), MINI.make_denoiser())
        networks = build_networks(parts, MINI, config.networks, 0, scores=True)
        runs[name] = trainer(config, networks, None, "cpu", torch.float32)
    times: dict[str, list[float]] = {name: [] for name in runs}
    data = sample(batch, edge)
    for step in range(steps + 2):
        for name, run in runs.items():
            started = time.perf_counter()
            run.train_step([data])
            run.step += 1
            if step >= 2:
                times[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {"seconds a step": medians, "batch": batch, "edge": edge, "steps": steps,
            "ratio": medians["one pass an answer"] / medians["batched"]}  # fmt: skip


def sd3(points: int, edge: int, device: str, precision: str) -> dict[str, object]:
    """Time the parts of one step of `sd3_paper` with batch size 1."""
    spec = get_spec("sd3")
    recipe = student_recipe("sd3_paper")
    tsd = TSDSettings(points=points, batched=False)
    phase = Phase(steps=10**6, batch_size=1, lr=(5e-6, 5e-6), latent_mse_weight=1.0, l1_weight=1.0, tsd=tsd)
    settings = dataclasses.replace(recipe.networks, base_precision=precision)
    config = dataclasses.replace(recipe, phases=(phase,), networks=settings)
    started = time.perf_counter()
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    torch.set_default_dtype(dtype)
    denoiser = spec.make_denoiser()
    torch.set_default_dtype(torch.float32)
    networks = build_networks(Parts(denoiser, spec.make_autoencoder()), spec, settings, 0, scores=True)
    run = trainer(config, networks, ZeroPrompts(dict(spec.prompt_shapes)), device, dtype)
    result: dict[str, object] = {
        "build": time.perf_counter() - started,
        "memory after build": gigabytes(run.device),
    }
    data = sample(1, edge)
    data = data._replace(x_lq=data.x_lq.to(run.device), x_hq=data.x_hq.to(run.device))
    z = torch.randn(1, 16, edge // 8, edge // 8, device=run.device)
    t = torch.tensor([500.0], device=run.device)
    assert run.scores is not None
    prompt = run.prompts.fixed().to(run.device, torch.float32)

    def timed(name: str, call: object) -> None:
        begun = time.perf_counter()
        call()  # type: ignore[operator]
        if run.device.type == "cuda":
            torch.cuda.synchronize()
        result[name] = time.perf_counter() - begun
        print(name, f"{result[name]:.1f} s", f"{gigabytes(run.device):.1f} GB", flush=True)

    with torch.no_grad():
        timed("forward student", lambda: run.networks.student(data.x_lq, prompt))
        for role in ("teacher", "fake"):
            timed(f"forward {role}", lambda role=role: run.scores(z, t, prompt, role))  # type: ignore[misc]
    calls: list[int] = []
    with counted(run.scores.fake, calls):
        timed("step", lambda: run.train_step([data]))
    return result | {
        "passes of teacher and fake in the step": len(calls),
        "peak memory": gigabytes(run.device),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("mini", "sd3"))
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--edge", type=int, default=None, help="crops in pixels: 64 for mini, 512 for sd3")
    parser.add_argument("--points", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    arguments = parser.parse_args()
    if arguments.what == "mini":
        result = mini(arguments.steps, arguments.batch, arguments.edge or 64)
    else:
        result = sd3(arguments.points, arguments.edge or 512, arguments.device, arguments.precision)
    about = {"torch": torch.__version__, "threads": torch.get_num_threads(), "processor": platform.processor()}
    print(json.dumps(result | about, indent=1))


if __name__ == "__main__":
    main()
