"""``torch.compile`` for the networks of a pipeline."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec

import torch

from tsdsr.errors import MissingDependencyError
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline, require_diffusers_pipeline


def compile_pipeline(pipe: OneStepSRPipeline) -> OneStepSRPipeline:
    """Compile, in place, the networks of a pipeline that become faster on its device.

    On a GPU, the denoiser, encoder and decoder are compiled and captured as CUDA graphs. On a CPU, only the denoiser
    is compiled, with its weights frozen and packed, which takes their size in memory once more. The autoencoder is not
    compiled on a CPU, because inductor's code for it is slower than eager convolutions and group norms.

    Shapes are static: the first image of every new tile size takes seconds to minutes longer. Do not move, cast or
    train the pipeline afterwards.

    Args:
        pipe (OneStepSRPipeline): pipeline on its final device.

    Returns:
        OneStepSRPipeline: the same ``pipe``.

    Raises:
        InvalidInputError: the pipeline is no diffusers pipeline.
        MissingDependencyError: there is no compiler for this device.
    """
    require_diffusers_pipeline(pipe, "compile_pipeline")
    require_compiler(pipe.device)
    if pipe.device.type == "cuda":
        halves = (getattr(pipe.vae, name, None) for name in ("encoder", "decoder"))
        for network in (pipe.denoiser, *(half for half in halves if half is not None)):
            network.compile(mode="reduce-overhead", dynamic=False)
    else:
        pipe.denoiser.compile(options={"freezing": True}, dynamic=False)
    return pipe


def require_compiler(device: torch.device) -> None:
    """Raise unless ``torch.compile`` can generate code for the device.

    Raises:
        MissingDependencyError: Triton is missing on a GPU, or a C++ compiler elsewhere.
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
