"""Time and memory of a training step: ways to ask teacher and fake in turn, and full-size SD3.

    python benchmarks/training_step.py mini [--steps 10] [--precision bf16]      # on `mini`'s network
    python benchmarks/training_step.py tiny [--steps 10] [--precision bf16]      # on a tiny SD3 with LoRA
    python benchmarks/training_step.py sd3 [--points 1]       # SD3-medium with random weights, one step, every role

LPIPS is omitted from all, because it is the same in all. For the distillation of one step with N = 4 and guidance, 24
predictions are needed: six at each of four points (teacher at both latents, fake at one, each with and without prompt).
The ways:

* batched: at each point one pass of the teacher (both latents, both prompts) and one of the fake: 8 passes.
* pairs: three passes at each point, each with both prompts, and AdamW as a loop over weights: 12 passes. This is what
  the released code does.
* singles: a pass for each prediction: 24 passes.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tsdsr.devices import TorchDevice
from tsdsr.diffusion.losses import Predictions, guided
from tsdsr.measuring import peak_memory_so_far
from tsdsr.models.conditioning import Conditioning
from tsdsr.models.zoo import MINI, ModelSpec, get_spec
from tsdsr.recipes import student_recipe
from tsdsr.training.build import DTYPES
from tsdsr.training.config import NetworkSettings, Phase, StudentConfig, TSDSettings
from tsdsr.training.networks import Networks, Parts, Role, ScoreNetworks, build_networks
from tsdsr.training.prompts import join
from tsdsr.training.run_log import make_accelerator
from tsdsr.training.samples import TrainingData, TrainingSample
from tsdsr.training.student import StudentTrainer
from tsdsr.training.tensor_counter import TensorCounter


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
    config: StudentConfig,
    networks: Networks,
    prompts: ZeroPrompts | None,
    device: str,
    dtype: torch.dtype,
    perceptual: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> StudentTrainer:
    out = Path(tempfile.mkdtemp())
    accelerator = make_accelerator(out, device)
    return StudentTrainer(config, networks, TrainingData(()), out, prompts, accelerator, dtype, perceptual=perceptual)


def tiny_sd3() -> tuple[ModelSpec, NetworkSettings]:
    """SD3 with 2 blocks of width 32, and rank 4 on student and fake."""
    spec = get_spec("sd3")
    small = {"num_layers": 2, "num_attention_heads": 4, "attention_head_dim": 8, "joint_attention_dim": 32,
             "caption_projection_dim": 32, "pooled_projection_dim": 24}  # fmt: skip
    vae = {"block_out_channels": (8, 8, 8, 8), "norm_num_groups": 4}
    spec = dataclasses.replace(
        spec, denoiser_config={**spec.denoiser_config, **small}, vae_config={**spec.vae_config, **vae},
        prompt_shapes={"prompt_embeds": (20, 32), "pooled_prompt_embeds": (24,)},
    )  # fmt: skip
    return spec, NetworkSettings(model="sd3", lora_rank=4)


def ask_in_pairs(scores: ScoreNetworks) -> Callable[..., Predictions]:
    """Replacement of `ScoreNetworks.predictions`: see "pairs" above."""

    def predictions(
        z_hat_t: Tensor, z_hq_t: Tensor, t: Tensor, prompt: Conditioning, null: Conditioning, guidance: float, _: bool
    ) -> Predictions:
        def ask(role: Role, z: Tensor) -> Tensor:
            both = scores(torch.cat([z, z]), t.repeat(2), join(null.expand(len(t)), prompt), role)
            without, with_prompt = both.chunk(2)
            return guided(with_prompt, without, guidance)

        return Predictions(ask("teacher", z_hat_t), ask("fake", z_hat_t), ask("teacher", z_hq_t))

    return predictions


class Calls(TorchDispatchMode):
    """Counts operations of torch: kernels that a GPU would have to start, nearly."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def make_run(model: str, way: str, batch: int, dtype: torch.dtype) -> StudentTrainer:
    recipe = student_recipe("mini_student")
    tsd = TSDSettings(guidance=7.5, points=4, batched=way == "batched")
    phase = dataclasses.replace(recipe.phases[-1], batch_size=batch, perceptual_weight=0.0, tsd=tsd, steps=10**6)
    spec, settings = (MINI, recipe.networks) if model == "mini" else tiny_sd3()
    config = dataclasses.replace(recipe, phases=(phase,), networks=settings, monitor_every=0)
    torch.manual_seed(0)
    teacher = spec.make_denoiser() if model == "mini" else None
    parts = Parts(spec.make_denoiser(), spec.make_autoencoder(), teacher)
    networks = build_networks(parts, spec, settings, 0, scores=True)
    prompts = None if model == "mini" else ZeroPrompts(dict(spec.prompt_shapes))
    run = trainer(config, networks, prompts, "cpu", dtype)
    if way == "pairs":
        assert run.scores is not None
        run.scores.predictions = ask_in_pairs(run.scores)  # type: ignore[method-assign]
        for role in run.roles.values():
            role.optimizer = torch.optim.AdamW(role.parameters, betas=config.betas, weight_decay=config.weight_decay)
    return run


def compare(model: str, steps: int, batch: int, edge: int, dtype: torch.dtype) -> dict[str, object]:
    """Time steps of the recipe's last phase with guidance, asked in three ways in turn in one run."""
    runs = {way: make_run(model, way, batch, dtype) for way in ("batched", "pairs", "singles")}
    seconds: dict[str, list[float]] = {way: [] for way in runs}
    processor: dict[str, list[float]] = {way: [] for way in runs}
    data = sample(batch, edge)
    for step in range(steps + 2):
        for way, run in runs.items():
            started, used = time.perf_counter(), time.process_time()
            run.train_step([data])
            run.step += 1
            if step >= 2:
                seconds[way].append(time.perf_counter() - started)
                processor[way].append(time.process_time() - used)
    result: dict[str, object] = {"model": model, "batch": batch, "edge": edge, "steps": steps, "precision": str(dtype)}
    for name, times in (("seconds", seconds), ("processor seconds", processor)):
        medians = {way: statistics.median(values) for way, values in times.items()}
        result[name] = medians
        result[f"{name} against batched"] = {way: value / medians["batched"] for way, value in medians.items()}
    for way, run in runs.items():
        with Calls() as calls, TensorCounter() as counter:
            run.train_step([data])
        result[way] = {"operations of torch": calls.count, "GFLOP": counter.flops / 1e9}
    return result


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
    parser.add_argument("what", choices=("mini", "tiny", "sd3"))
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--edge", type=int, default=None, help="crops in pixels: 64, 512 for sd3")
    parser.add_argument("--points", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    arguments = parser.parse_args()
    dtype = DTYPES[arguments.precision]
    if arguments.what != "sd3":
        result = compare(arguments.what, arguments.steps, arguments.batch, arguments.edge or 64, dtype)
    else:
        result = sd3(arguments.points, arguments.edge or 512, arguments.device, arguments.precision)
    about = {"torch": torch.__version__, "threads": torch.get_num_threads(), "processor": platform.processor()}
    print(json.dumps(result | about, indent=1))


if __name__ == "__main__":
    main()
