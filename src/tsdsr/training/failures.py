"""What ended a run, and what is left of it: no memory, no space, dead processes, non-finite numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save_file

from tsdsr.errors import FileWriteError, OutOfMemoryError, TrainingError, TSDSRError
from tsdsr.files import atomic_path
from tsdsr.out_of_memory import is_out_of_memory, without_frames
from tsdsr.training.artefact_losses import least_images
from tsdsr.training.config import RunConfig
from tsdsr.training.optim import RoleOptimizer
from tsdsr.training.samples import TrainingSample, crops_of
from tsdsr.wording import first_line


@contextmanager
def failures_explained(
    config: RunConfig, processes: int, step: Callable[[], int], kept: Callable[[], str]
) -> Iterator[None]:
    """Convert failures of the machine within the block to errors that say what is left and what helps.

    Args:
        config (RunConfig): the run's settings.
        processes (int): number of processes.
        step (callable): returns the current step.
        kept (callable): returns what is left of the run.

    Raises:
        OutOfMemoryError: memory ran out.
        FileWriteError: a file of the run cannot be written.
        TrainingError: a data loading process, or another process of the run, ended.
    """
    try:
        yield
    except FileWriteError as error:
        raise FileWriteError(f"{error}; {kept()}; free some space and repeat the command") from error
    except TSDSRError:
        raise
    except Exception as error:  # libraries have no common class for these
        if is_out_of_memory(error):
            phase = config.phases[config.find(step())[0]]
            message = (
                f"step {step()}: out of memory with batch_size={phase.batch_size} and crops of "
                f"{crops_of(config).size} pixels; {kept()}; {_relief(config, processes)}"
            )
            raise OutOfMemoryError(message) from without_frames(error)
        if isinstance(error, RuntimeError) and "DataLoader worker" in str(error):
            raise TrainingError(
                f"step {step()}: a data loading process ended ({first_line(error)}); {kept()}; repeat the command with "
                f"fewer --workers, or with more shared memory (in a container --shm-size)"
            ) from error
        if is_lost_process(error):
            raise _lost_process(error, f"step {step()}: ", f"{kept()}; ") from error
        raise


@contextmanager
def lost_process_explained() -> Iterator[None]:
    """Convert the loss of another process before or after the steps of a run.

    Raises:
        TrainingError: another process of the run ended.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_lost_process(error):
            raise
        raise _lost_process(error) from error


def _lost_process(error: Exception, where: str = "", kept: str = "") -> TrainingError:
    return TrainingError(
        f"{where}another process of the run has ended or cannot be reached ({first_line(error)}); "
        f"{kept}repeat the command to continue"
    )


def is_lost_process(error: Exception) -> bool:
    """Whether an error of ``torch.distributed`` says that another process is gone."""
    if not isinstance(error, RuntimeError):
        return False
    known = getattr(torch.distributed, "DistError", ())  # missing where torch has no distributed package
    return isinstance(error, known) or any(name in str(error) for name in ("gloo/transport", "Gloo ", "NCCL"))


def _relief(config: RunConfig, processes: int) -> str:
    """Return what to change: more micro-batches in the same run if batches can be split, else another run."""
    sizes = [phase.batch_size for phase in config.phases]
    most = min(phase.batch_size // least_images(phase) for phase in config.phases) // processes
    more = range(config.accumulation + 1, most + 1)
    split = next((n for n in more if all(size % (n * processes) == 0 for size in sizes)), None)
    if split is not None:
        return f"repeat the command with --set accumulation={split}, which takes a batch in smaller parts"
    return "free some memory and repeat the command, or start a run with smaller crops in another folder"


def require_finite_weights(roles: Mapping[str, RoleOptimizer], where: str, kept: str) -> None:
    """Check that all trained weights are finite.

    Args:
        roles (mapping): trained roles by name.
        where (str): run folder and step, for the message.
        kept (str): what is left of the run, for the message.

    Raises:
        TrainingError: some are not.
    """
    for name, role in roles.items():
        if (found := role.first_not_finite()) is not None:
            raise TrainingError(
                f"{where}: the run has diverged, weights of the {name} are not finite ({found} …); {kept}; start again "
                f"in another folder with a lower learning rate"
            )


def stuck(batches: Sequence[TrainingSample], path: Path, what: str) -> TrainingError:
    """Store the batch of a step that could not be taken as safetensors: ``item``, ``x_lq`` and ``x_hq``.

    Returns:
        TrainingError: says ``what`` went wrong, ending in the number of such steps, where the batch is, and what helps.
    """
    with atomic_path(path) as temporary:
        save_file(
            {
                "item": torch.cat([b.item for b in batches]),
                "x_lq": torch.cat([b.x_lq for b in batches]).contiguous(),
                "x_hq": torch.cat([b.x_hq for b in batches]).contiguous(),
            },
            temporary,
        )
    return TrainingError(
        f"{what} steps in a row could not be taken. The batch is in {path}. "
        f"Lower the learning rate or the weight of the loss that grew (log.jsonl), or train in bf16 or fp32"
    )
