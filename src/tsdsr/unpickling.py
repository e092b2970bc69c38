"""Weight files that libraries load by themselves: tensors only, never code."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_CLIP_RN50 = "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762"
"""SHA-256 of OpenAI's RN50.pt, which is only published as TorchScript."""


@contextmanager
def tensors_only() -> Iterator[None]:
    """Let ``torch.load`` read nothing but tensors, whatever its caller asks for, and refuse TorchScript.

    Metrics of other packages open downloaded files with ``weights_only=False``, which would run code in them. One
    TorchScript file is accepted, by its hash: the published CLIP RN50. The change applies to all threads of the
    process.

    Raises:
        pickle.UnpicklingError: raised by ``torch.load`` and ``torch.jit.load`` in the block, for a refused file.
    """
    load: Any = torch.load
    load_script: Any = torch.jit.load

    def load_tensors(*args: Any, **kwargs: Any) -> Any:
        return load(*args, **{**kwargs, "weights_only": True, "pickle_module": None})

    def load_known_script(file: Any, *args: Any, **kwargs: Any) -> Any:
        if not hasattr(file, "read") or hashlib.sha256(file.read()).hexdigest() != _CLIP_RN50:
            raise pickle.UnpicklingError("is a TorchScript program, which could run any code; it is not loaded")
        file.seek(0)
        return load_script(file, *args, **kwargs)

    torch.load, torch.jit.load = load_tensors, load_known_script  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.load, torch.jit.load = load, load_script
