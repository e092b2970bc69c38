"""``torch.compile`` for the networks of a pipeline."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec

import torch
from torch import nn

from tsdsr.errors import MissingDependencyError
from tsdsr.pipeline.pipeline import OneStepSRPipeline


def compile_pipeline(pipe: OneStepSRPipeline) -> OneStepSRPipeline:
    """Compile the denoiser and the autoencoder's two halves, in place.

    The first image of every new tile size takes seconds to minutes longer, which is why nothing is compiled unasked.
    On a GPU the compiled networks are also captured as CUDA graphs.

    Args:
        pipe (OneStepSRPipeline): ready on its device.

    Returns:
        OneStepSRPipeline: ``pipe``.

    Raises:
        MissingDependencyError: there is no compiler for this device.
    """
    require_compiler(pipe.device)
    mode = "reduce-overhead" if pipe.device.type == "cuda" else None
    halves = (getattr(pipe.vae, name, None) for name in ("encoder", "decoder"))
    for network in (pipe.denoiser, *halves):
        if isinstance(network, nn.Module):
            network.compile(mode=mode, dynamic=False)
    return pipe


def require_compiler(device: torch.device) -> None:
    """Raise unless ``torch.compile`` can make code for the device.

    Raises:
        MissingDependencyError: it needs Triton on a GPU and a C++ compiler elsewhere.
    """
    if device.type == "cuda":
        if find_spec("triton") is None:
            raise MissingDependencyError("--compile on a GPU needs Triton: pip install triton")
        return
    names = [os.environ.get("CXX"), "g++", "clang++", "cl"]
    if not any(name and shutil.which(name) for name in names):
        raise MissingDependencyError(
            "--compile needs a C++ compiler: install g++ or clang++, or set CXX to one; without it leave the flag out"
        )
