"""``torch.compile`` for the networks of a pipeline."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec

import torch

from tsdsr.errors import InvalidInputError, MissingDependencyError
from tsdsr.pipeline.pipeline import OneStepSRPipeline


def compile_pipeline(pipe: OneStepSRPipeline) -> OneStepSRPipeline:
    """Compile a pipeline's networks in place, those that gain from it on its device.

    On a GPU these are the denoiser and both halves of the autoencoder, captured as CUDA graphs. On a CPU it is the
    denoiser alone, its weights frozen into the code and packed, which takes their size in memory once more; of the
    autoencoder inductor makes something slower than eager convolutions and group norms.

    Sizes are compiled in: the first image of every new tile size takes seconds to minutes longer. The pipeline must
    not be moved, cast or trained afterwards.

    Args:
        pipe (OneStepSRPipeline): ready on its device.

    Returns:
        OneStepSRPipeline: ``pipe``.

    Raises:
        InvalidInputError: the pipeline runs in another runtime.
        MissingDependencyError: there is no compiler for this device.
    """
    if not hasattr(pipe.denoiser, "compile"):
        raise InvalidInputError("an exported model is compiled by its own runtime; leave --compile out")
    require_compiler(pipe.device)
    if pipe.device.type == "cuda":
        halves = (getattr(pipe.vae, name, None) for name in ("encoder", "decoder"))
        for network in (pipe.denoiser, *(half for half in halves if half is not None)):
            network.compile(mode="reduce-overhead", dynamic=False)
    else:
        pipe.denoiser.compile(options={"freezing": True}, dynamic=False)
    return pipe


def require_compiler(device: torch.device) -> None:
    """Raise unless ``torch.compile`` can make code for the device.

    Raises:
        MissingDependencyError: it needs Triton on a GPU and a C++ compiler elsewhere.
    """
    if device.type == "cuda":
        if find_spec("triton") is None:
            raise MissingDependencyError("--compile on a GPU needs Triton: pip install triton, or leave the flag out")
        return
    names = (os.environ.get("CXX"), "g++", "clang++", "cl")
    if not any(name and shutil.which(name) for name in names):
        raise MissingDependencyError(
            "--compile needs a C++ compiler: install g++ or clang++, or set CXX to one; without it leave the flag out"
        )
