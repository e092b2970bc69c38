"""How a run was launched: checks of its processes and its precision, modules for several processes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from tsdsr.errors import ConfigError
from tsdsr.training.artefact_losses import least_images
from tsdsr.training.config import RunConfig
from tsdsr.training.sharding import ShardMode
from tsdsr.wording import counted


def check_launch(
    config: RunConfig, accelerator: Accelerator, dtype: torch.dtype, shard: ShardMode | None = None
) -> None:
    """Check that the settings fit the processes and the precision of a run.

    Args:
        config (RunConfig): the run's settings.
        accelerator (Accelerator): the run's.
        dtype (torch.dtype): autocast precision; float32 means none.
        shard (ShardMode | None): how networks are sharded.

    Raises:
        ConfigError: the launcher is set to shard by itself, a sharded run has no process group or computes in float16;
            or see :func:`check_fit`.
    """
    if accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED):
        raise ConfigError(
            f"the launcher is set to {accelerator.distributed_type.value}, which does not know the roles of a run: "
            "launch plain processes (torchrun, or MULTI_GPU), and shard with --shard"
        )
    if shard is not None and not torch.distributed.is_initialized():
        raise ConfigError("--shard splits a run over processes: start it with torchrun -m tsdsr train …")
    if shard is not None and dtype == torch.float16:
        raise ConfigError("--shard trains in bf16 or fp32, because loss scales in fp16 would differ between processes")
    check_fit(config, accelerator.num_processes, dtype)


def check_fit(config: RunConfig, processes: int, dtype: torch.dtype) -> None:
    """Check that batches can be split over a number of processes, and that base weights fit the precision.

    Raises:
        ConfigError: a batch cannot be split evenly over processes and micro-batches, a micro-batch would have too few
            images for a loss, or ``dtype`` is float32 with 16-bit base weights.
    """
    if config.networks.base_precision != "fp32" and dtype == torch.float32:
        raise ConfigError(
            f"networks.base_precision={config.networks.base_precision} needs 16-bit autocast: choose bf16 or "
            "fp16 as precision, or set networks.base_precision=fp32"
        )
    for number, phase in enumerate(config.phases, 1):
        parts = processes * config.accumulation
        if phase.batch_size % parts:
            raise ConfigError(
                f"batch_size {phase.batch_size} of phase {number} is not a multiple of "
                f"{counted(processes, 'process', 'processes')} times "
                f"{counted(config.accumulation, 'micro-batch', 'micro-batches')}"
            )
        if phase.batch_size // parts < least_images(phase):
            raise ConfigError(
                f"phase {number} needs at least {least_images(phase)} images in a micro-batch, because "
                f"equivariance_weight compares two halves: batch_size {phase.batch_size} in {counted(parts, 'part')}"
            )


def data_parallel(accelerator: Accelerator, module: nn.Module, trained: Sequence[nn.Parameter]) -> nn.Module:
    """Wrap a module so that processes start from equal weights and average the gradients of the trained ones.

    Args:
        accelerator (Accelerator): the run's.
        module (nn.Module): module of a role; it may contain trained weights of other roles.
        trained (sequence of nn.Parameter): the role's own.
    """
    own = set(trained)
    others = [p for p in module.parameters() if p.requires_grad and p not in own]
    for parameter in others:  # the wrapper waits for gradients of all weights that require some when it is made
        parameter.requires_grad_(False)
    wrapped: nn.Module = accelerator.prepare_model(module)
    for parameter in others:
        parameter.requires_grad_(True)
    return wrapped


def leave_group(accelerator: Accelerator, owner: object) -> None:
    """Close trackers and leave the process group, once all processes are here.

    Attributes of the owner that :func:`data_parallel` has wrapped are unwrapped: a wrapper keeps the group's threads
    alive, and a Gloo thread that frees a tensor while Python shuts down aborts its process (pytorch/pytorch#179291).

    Args:
        accelerator (Accelerator): the run's.
        owner (object): holds the run's networks as attributes.
    """
    accelerator.wait_for_everyone()
    for name, value in list(vars(owner).items()):
        if isinstance(value, DistributedDataParallel):
            setattr(owner, name, value.module)
    accelerator.free_memory()
    accelerator.end_training()
