"""Results of a run: the averaged student as a pipeline, the averaged teacher; gathered if they are sharded.

This is the only training module that depends on the pipeline, because a student is stored as one.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from tsdsr.errors import TrainingError
from tsdsr.models.adapters import adapter_state
from tsdsr.models.fixed_prompt import FixedPrompt
from tsdsr.pipeline.convert import convert_released, save_pipeline
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline
from tsdsr.training.build import store_teacher, write_student_lora
from tsdsr.training.engine import Engine
from tsdsr.training.networks import STUDENT
from tsdsr.training.processes import failing_together
from tsdsr.training.provenance import TEACHER, RunFiles
from tsdsr.training.sharding import gathered, gathered_network, local_part
from tsdsr.training.student import StudentTrainer
from tsdsr.training.teacher import TeacherTrainer
from tsdsr.wording import counted


def _require_finite(trainer: Engine, network: torch.nn.Module, dtype: torch.dtype) -> None:
    """Raise, on every process that takes part, unless all weights are finite in the precision they are stored in."""
    with nullcontext() if trainer.shard is None else failing_together(trainer.accelerator):
        bad = [
            name for name, p in network.named_parameters() if not bool(torch.isfinite(local_part(p).to(dtype)).all())
        ]
        if not bad:
            return
        raise TrainingError(
            f"{trainer.output}: the run has diverged, {counted(len(bad), 'tensor is', 'tensors are')} not finite "
            f"({bad[0]} …), and nothing is stored; "
            f"start again in another folder with a lower learning rate"
        )


def store_trained_teacher(trainer: TeacherTrainer, target: Path) -> Path:
    """Store the averaged teacher; return its path on the first process, ``target`` on others.

    Raises:
        TrainingError: the weights are not finite.
    """
    first = bool(trainer.accelerator.is_main_process)
    with trainer.averaged():
        _require_finite(trainer, trainer.network, torch.float32)
        if trainer.config.networks.lora_rank is None:
            found = gathered_network(trainer.network, first)
        else:
            found = adapter_state(trainer.network, TEACHER, gathered)
        return store_teacher(found, trainer.config, target) if first else target


def store_student(trainer: StudentTrainer, files: RunFiles, target: Path) -> None:
    """Store the averaged student as a pipeline folder, and its LoRA, if any, in the released layout.

    Raises:
        TrainingError: the weights are not finite.
    """
    net, spec, first = trainer.networks.student, trainer.spec, bool(trainer.accelerator.is_main_process)
    denoiser: Any
    vae: Any
    with trainer.averaged():
        _require_finite(trainer, net, spec.stored_dtype)
        if trainer.config.networks.lora_rank is None:
            denoiser, vae = (gathered_network(network, first) for network in (net.denoiser, net.vae))
            if first:
                prompt = FixedPrompt.from_conditioning(trainer.prompts.fixed())
                save_pipeline(OneStepSRPipeline(denoiser, vae, prompt, spec.name), target)
            return
        denoiser, vae = (adapter_state(network, STUDENT, gathered) for network in (net.denoiser, net.vae))
        lora = target.with_name(target.name.replace("pipeline", "lora"))
        if first:
            write_student_lora(denoiser, vae, spec, trainer.prompts, lora)
    if first:
        assert files.base is not None
        save_pipeline(convert_released(files.base, lora, lora, spec.name), target)
