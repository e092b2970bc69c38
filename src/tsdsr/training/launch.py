"""Checks of how a run was launched: its processes and its precision."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType

from tsdsr.errors import ConfigError
from tsdsr.training.config import RunConfig


def check_launch(config: RunConfig, accelerator: Accelerator, dtype: torch.dtype) -> None:
    """Check that the settings fit the processes and the precision of a run.

    Args:
        config (RunConfig): the run's settings.
        accelerator (Accelerator): the run's.
        dtype (torch.dtype): autocast precision; float32 means none.

    Raises:
        ConfigError: a batch cannot be split evenly over processes and micro-batches, the launcher is set to shard, or
            ``dtype`` is float32 with 16-bit base weights.
    """
    if accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED):
        raise ConfigError(
            "sharded training is not supported: roles share frozen weights, which sharding would separate. "
            "Launch with plain data parallelism (MULTI_GPU)"
        )
    if config.networks.base_precision != "fp32" and dtype == torch.float32:
        raise ConfigError(
            f"networks.base_precision={config.networks.base_precision} needs 16-bit autocast: choose bf16 or "
            "fp16 as precision, or set networks.base_precision=fp32"
        )
    share = accelerator.num_processes * config.accumulation
    if uneven := [phase.batch_size for phase in config.phases if phase.batch_size % share]:
        raise ConfigError(
            f"batch_size {uneven[0]} is not a multiple of {accelerator.num_processes} processes times "
            f"{config.accumulation} micro-batches"
        )
