"""``torch.compile`` for the networks of a pipeline, and CUDA graphs on a GPU."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from tsdsr.errors import MissingDependencyError
from tsdsr.optimize.cuda_graphs import CaptureSpace, GraphedFunction
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline, require_diffusers_pipeline

_VERSIONS = 64


def compile_pipeline(pipe: OneStepSRPipeline) -> OneStepSRPipeline:
    """Compile, in place, the networks of a pipeline that become faster on its device.

    On a GPU, denoiser, encoder and decoder are compiled, and each is captured as a CUDA graph. The blocks of a
    transformer are compiled one by one: they are alike, so the code of the first works for nearly all. On a CPU, only
    the denoiser is compiled. Its weights are frozen and packed, which takes as much memory again. The autoencoder is
    not compiled on a CPU, because inductor's code for it is slower than eager convolutions and group norms.

    The first image takes seconds to minutes longer. On a CPU, so does the first image of every new tile size. On a GPU,
    so does the first image of the second tile size, whose code then works for all sizes. Capturing a graph for each
    further size takes moments. While an image is tiled, networks with group norms run uncompiled, because their
    statistics are the image's. Do not move, cast or train the pipeline afterwards.

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
        space = CaptureSpace(pipe.device)
        halves = (getattr(pipe.vae, name, None) for name in ("encoder", "decoder"))
        for network in (pipe.denoiser, *(half for half in halves if half is not None)):
            network.forward = GraphedFunction(_compiled_forward(network), network.forward, space)
    else:
        pipe.denoiser.compile(options={"freezing": True}, dynamic=False)
    return pipe


def _compiled_forward(network: nn.Module) -> Callable[..., Any]:
    """Compile the blocks of a transformer in place, or the whole of another network; return what to call."""
    lists = [part for name, part in network.named_children() if name.endswith("transformer_blocks")]
    blocks = [block for part in lists if isinstance(part, nn.ModuleList) for block in part]
    if blocks:
        # Blocks that differ, batches and a second model share the code of one function, and torch's limit of 8 versions
        # is what a folded FLUX.2 takes alone. Past the limit it runs without compiled code, and says so only in a log.
        config = torch._dynamo.config
        config.recompile_limit = max(config.recompile_limit, _VERSIONS)
    for block in blocks:
        block.compile()
    forward: Callable[..., Any] = network.forward
    return forward if blocks else torch.compile(forward)


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
