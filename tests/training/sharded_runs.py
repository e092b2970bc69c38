"""Tiny runs, in one process or sharded over several."""

from __future__ import annotations

import dataclasses
import json
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.conftest import flux2_prompt, sd3_prompt, tiny_mmdit, tiny_vae
from tests.training.golden_runs import LORA_LOSSES, TEACHER, ScaledPrompts
from tests.training.tiny import FLUX2, LORA, NETWORK, TSD, config, data, distance, flux2_networks, mini_networks
from tsdsr.models.adapters import adapter_state, new_lora, train_adapters, use_adapter
from tsdsr.models.mini import MiniUNet
from tsdsr.models.zoo import MINI, get_spec
from tsdsr.recipes import student_recipe
from tsdsr.training.config import Phase, StudentConfig, TeacherConfig
from tsdsr.training.engine import Engine
from tsdsr.training.networks import Parts, build_networks
from tsdsr.training.overrides import apply_overrides
from tsdsr.training.run import train_student
from tsdsr.training.run_log import make_accelerator
from tsdsr.training.sharding import ShardMode, gathered, gathered_network, local_part
from tsdsr.training.student import StudentTrainer
from tsdsr.training.teacher import TeacherTrainer

PHASE = Phase(
    steps=3, batch_size=4, lr=(1e-3, 1e-3), fake_lr=(1e-3, 1e-3), l1_weight=1.0, perceptual_weight=0.5,
    adversarial_weight=0.1, tsd=TSD,
)  # fmt: skip
LORA_PHASE = dataclasses.replace(PHASE, **{**LORA_LOSSES, "lr": (1e-3, 1e-3)})
SHORT = (dataclasses.replace(TEACHER.phases[0], steps=2, warmup=1),)
RECOMPUTED = dataclasses.replace(LORA, gradient_checkpointing=True)
HALF = dataclasses.replace(LORA, base_precision="bf16")


@dataclasses.dataclass(frozen=True)
class Run:
    """A run: its settings, and how it is done if it is sharded."""

    config: StudentConfig | TeacherConfig
    shard: ShardMode = "full"
    accumulation: int = 1


RUNS = {
    "mini": Run(config(phases=(PHASE,), validate_every=2)),
    "mini in host memory": Run(config(phases=(PHASE,)), "offload", 2),
    "sd3": Run(config(phases=(LORA_PHASE,), networks=RECOMPUTED, validate_every=2), accumulation=2),
    "sd3 on four": Run(config(phases=(LORA_PHASE,), networks=LORA)),
    "sd3 in 16 bits": Run(config(phases=(LORA_PHASE,), networks=HALF)),
    "flux2": Run(config(phases=(LORA_PHASE,), networks=dataclasses.replace(FLUX2, gradient_checkpointing=True))),
    "mini teacher": Run(dataclasses.replace(TEACHER, phases=SHORT)),
    "sd3 teacher": Run(dataclasses.replace(TEACHER, phases=SHORT, networks=RECOMPUTED), "offload", 2),
}


def make(name: str, photos: Path, out: Path, sharded: bool = False) -> Engine:
    """Create a trainer; if sharded, only the first process has weights to give."""
    run = RUNS[name]
    accelerator = make_accelerator(out, "cpu")
    given: dict[str, Any] = {"data": data(photos), "output": out, "accelerator": accelerator}
    if sharded:
        given["shard"] = run.shard
    cfg = dataclasses.replace(run.config, accumulation=run.accumulation if sharded else 1)
    if cfg.networks.base_precision != "fp32":
        given["dtype"] = torch.bfloat16
    if cfg.networks.model != "mini":
        given["prompts"] = ScaledPrompts(sd3_prompt() if cfg.networks.model == "sd3" else flux2_prompt())
    with nullcontext() if accelerator.is_main_process or not sharded else torch.device("meta"):
        torch.manual_seed(2)
        networks = _networks(cfg) if isinstance(cfg, StudentConfig) else _teacher(cfg)
    if isinstance(cfg, StudentConfig):
        return StudentTrainer(cfg, networks, perceptual=distance, **given)
    return TeacherTrainer(cfg, *networks, **given)


def _networks(cfg: StudentConfig) -> Any:
    if cfg.networks.model == "mini":
        return mini_networks()
    if cfg.networks.model == "flux2-klein":
        return flux2_networks(cfg.networks)
    base = nn.Module.to(tiny_mmdit(), torch.bfloat16 if cfg.networks.base_precision == "bf16" else torch.float32)
    return build_networks(Parts(base, tiny_vae(16)), get_spec("sd3"), cfg.networks, 0, scores=True)


def _teacher(cfg: TeacherConfig) -> tuple[Any, Any]:
    if cfg.networks.model == "mini":
        return MiniUNet(**NETWORK), MINI.make_autoencoder()
    network = tiny_mmdit()
    new_lora(network, get_spec("sd3").lora_targets, 2, "teacher", torch.Generator().manual_seed(0))
    train_adapters(network, {"teacher"})
    use_adapter(network, "teacher")
    network.enable_gradient_checkpointing()
    network.train()
    return network, tiny_vae(16)


def stored(run: Engine) -> dict[str, Tensor]:
    """What would be stored of a run's averaged network, on the first process; every process calls this."""
    first = bool(run.accelerator.is_main_process)
    network = run.networks.student.denoiser if isinstance(run, StudentTrainer) else run.network  # type: ignore[attr-defined]
    with run.averaged():
        if run.config.networks.lora_rank is not None:
            adapter = "student" if isinstance(run, StudentTrainer) else "teacher"
            state = adapter_state(network, adapter, gathered)
        else:
            found = gathered_network(network, first)
            state = found.state_dict() if first else {}
        return {name: tensor.clone() for name, tensor in state.items()}


def flags(run: Engine) -> dict[str, bool]:
    """Which weights require gradients."""
    return {f"{role}.{n}": p.requires_grad for role, r in run.roles.items() for n, p in r.module.named_parameters()}


def whole_run(photos: Path, out: Path, shard: ShardMode | None) -> Path:
    """Train from files and store the result, as the command does."""
    batches = [f"phases.{phase}.batch_size=4" for phase in range(2)]
    recipe = apply_overrides(student_recipe("mini_smoke"), batches)
    return train_student(recipe, photos, out, device="cpu", dtype="fp32", shard=shard)


def do_runs(photos: Path, out: Path, names: list[str]) -> None:
    """Do some of :data:`RUNS`, one after the other, and one from files; in each process of a group."""
    warnings.simplefilter("error")
    for name in names:
        run = make(name, photos, out / name, sharded=True)
        rank, before = run.accelerator.process_index, flags(run)
        assert run._sharded is not None
        weights = list(run._sharded.parameters())  # type: ignore[attr-defined]
        sizes = [sum(local_part(p).numel() for p in weights), sum(p.numel() for p in weights)]
        run.run()
        found = stored(run)
        facts = {"sizes": sizes, "switching changed nothing": flags(run) == before}
        (out / f"{name}-{rank}.json").write_text(json.dumps(facts))
        if run.accelerator.is_main_process:
            save_file(found, out / f"{name}.safetensors")
    whole_run(photos, out / "whole", "full")
