"""What the processes of one run agree on: the first one's answers, common failures, equal inputs, a shared folder.

Objects travel between processes by ``torch.distributed``, which pickles them. All of them belong to one run, on hosts
that start each other's programs anyway.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object

from tsdsr.errors import TrainingError, TSDSRError
from tsdsr.training.provenance import differences, flat

T = TypeVar("T")


def first_process_says(accelerator: Accelerator, value: T) -> T:
    """Return the first process's value on every process; all of them must call this."""
    if accelerator.num_processes == 1:
        return value
    said: T = broadcast_object_list([value])[0]
    return said


@contextmanager
def failing_together(accelerator: Accelerator) -> Iterator[None]:
    """Let an error in the block, on any process, end the block with an error on every process.

    Without this, the others would wait for the failed one until a timeout. All processes must enter the block; the
    end of the block waits for all of them.

    Raises:
        TrainingError: another process failed; the message is its own.
    """
    if accelerator.num_processes == 1:
        yield
        return
    own: Exception | None = None
    try:
        yield
    except Exception as error:
        own = error
    said = None if own is None else str(own) if isinstance(own, TSDSRError) else f"{type(own).__name__}: {own}"
    if own is not None:
        with suppress(RuntimeError):  # the others may be gone, which may be why this one failed
            gather_object([said])
        raise own
    for number, text in enumerate(gather_object([said])):
        if text is not None:
            raise TrainingError(f"process {number}: {text}")


def require_equal(accelerator: Accelerator, facts: Mapping[str, Any], kind: str) -> None:
    """Check that all processes of a run were started with the same inputs.

    Args:
        accelerator (Accelerator): the run's.
        facts (mapping): inputs of this process, as JSON values.
        kind (str): what they are, for the message.

    Raises:
        TrainingError: on every process, if any of them differs from the first.
    """
    if accelerator.num_processes == 1:
        return
    first = flat(dict(first_process_says(accelerator, facts)))
    with failing_together(accelerator):
        own = flat(dict(facts))
        if names := [change.partition(":")[0] for change in differences(first, own)]:
            values = "; ".join(f"{n}: {first.get(n, 'none')} there, {own.get(n, 'none')} here" for n in names[:5])
            raise TrainingError(
                f"this process was started with other {kind} than the first ({values}); start the same command on "
                f"every host, with the same files"
            )


def require_shared_folder(accelerator: Accelerator, folder: Path) -> None:
    """Check that a folder is the same one for all processes, as parts of one checkpoint are written there by each.

    Args:
        accelerator (Accelerator): the run's.
        folder (Path): created if missing.

    Raises:
        TrainingError: on every process, if any of them does not see the first one's file.
    """
    if accelerator.num_processes == 1:
        return
    probe = folder / first_process_says(accelerator, f".tsdsr-{secrets.token_hex(5)}.tmp")
    with failing_together(accelerator):
        if accelerator.is_main_process:
            folder.mkdir(parents=True, exist_ok=True)
            probe.touch()
    try:
        with failing_together(accelerator):
            if not probe.exists():
                raise TrainingError(
                    f"{folder}: is not the folder that the first process sees; every process of a sharded run writes "
                    f"a part of each checkpoint, so give an output folder on a disk that all hosts share"
                )
    finally:
        if accelerator.is_main_process:
            probe.unlink(missing_ok=True)
