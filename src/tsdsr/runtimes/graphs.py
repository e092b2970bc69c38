"""Export a pipeline's networks as ONNX graphs.

A pipeline is three graphs for one image of any size. Inputs and outputs are float32 in any compute precision:

* ``encoder``: image in [-1, 1], (1, 3, H, W) → latent, (1, C, H/f, W/f), the posterior's mode, arranged but not scaled;
* ``denoiser``: scaled latent ``z_lq`` → scaled latent ``z_hat``, the whole step;
* ``decoder``: latent, arranged but not scaled → image, nominally in [-1, 1].

A graph with more than 256 MB of weights stores them in a second file, ``.onnx.data``.

H and W are multiples of the model's ``size_multiple``. The batch size is one, so time and prompt are constants of
the graph, and so is everything that depends only on them: the embeddings and each modulation's linear layer are
computed once, during export, and their weights are dropped.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from tsdsr.errors import MissingDependencyError, install_extra
from tsdsr.files import StrPath
from tsdsr.models.denoiser import FoldedDenoiser, as_denoiser, restore
from tsdsr.models.latents import arrange, arrange_back, compute_dtype
from tsdsr.models.parts_check import network_config
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline

_NO_LIMIT = 2**62  # the optimiser leaves large constants alone unless told otherwise; adaLN's weights are large

_LARGEST_SINGLE_FILE = 2**28


@dataclass(frozen=True)
class GraphInfo:
    """Size of an exported graph.

    Attributes:
        name (str): encoder, denoiser or decoder.
        nodes (int): number of operations.
        constants (int): number of stored values.
        parameters (int): number of parameters in PyTorch.
    """

    name: str
    nodes: int
    constants: int
    parameters: int


class _Encoder(nn.Module):
    def __init__(self, pipe: OneStepSRPipeline) -> None:
        super().__init__()
        self.vae = pipe.vae

    def forward(self, image: Tensor) -> Tensor:
        latent: Tensor = self.vae.encode(image.to(compute_dtype(self.vae))).latent_dist.mode()
        return arrange(self.vae, latent.float())


class _Step(nn.Module):
    def __init__(self, pipe: OneStepSRPipeline) -> None:
        super().__init__()
        self.network, self.spec, self.prompt = pipe.denoiser, pipe.spec, pipe.prompt
        self.denoiser = as_denoiser(pipe.denoiser)
        if isinstance(self.denoiser, FoldedDenoiser):
            self.denoiser.require(torch.tensor([float(self.spec.timestep)]), self.prompt.conditioning())
            self.denoiser = self.denoiser.unchecked

    def forward(self, z_lq: Tensor) -> Tensor:
        return restore(self.denoiser, self.spec.process, z_lq, self.spec.timestep, self.prompt.conditioning())


class _Decoder(nn.Module):
    def __init__(self, pipe: OneStepSRPipeline) -> None:
        super().__init__()
        self.vae = pipe.vae

    def forward(self, latent: Tensor) -> Tensor:
        latent = arrange_back(self.vae, latent).to(compute_dtype(self.vae))
        image: Tensor = self.vae.decode(latent, return_dict=False)[0]
        return image.float()


_PARTS: dict[str, tuple[type[nn.Module], str, str]] = {
    "encoder": (_Encoder, "image", "latent"),
    "denoiser": (_Step, "z_lq", "z_hat"),
    "decoder": (_Decoder, "latent", "image"),
}


@torch.no_grad()
def write_onnx(pipe: OneStepSRPipeline, name: str, path: StrPath) -> GraphInfo:
    """Write one of :data:`~tsdsr.pipeline.model_files.GRAPHS`.

    Args:
        pipe (OneStepSRPipeline): on the CPU; the precision of its networks becomes the graph's. It is not changed.
        name (str): which graph.
        path (str | PathLike): a file with the suffix ``.onnx``.

    Raises:
        MissingDependencyError: the exporter's packages are missing.
    """
    optimizer = _exporter()
    wrapper, source, result = _PARTS[name]
    module = wrapper(pipe)
    spec = pipe.spec
    # The process caches the schedule. If it were first computed below, the cache would hold a tracer's proxy instead.
    spec.process.coefficients(torch.tensor(spec.timestep))
    example, sizes = _example(pipe, name)
    with _quiet(), _evaluating(module):
        program = torch.export.export(module, (example,), dynamic_shapes=(sizes,), strict=False)
        exported: Any = torch.onnx.export(
            program, (), dynamo=True, input_names=[source], output_names=[result], verbose=False
        )
        optimizer.fold_constants(exported.model, input_size_limit=_NO_LIMIT, output_size_limit=_NO_LIMIT)
        optimizer.remove_unused_nodes(exported.model)
        graph = exported.model.graph
        tensors = [value.const_value for value in graph.initializers.values()]
        # Weights beside the graph are written directly; weights within it would be copied three times.
        exported.save(path, external_data=sum(tensor.nbytes for tensor in tensors) > _LARGEST_SINGLE_FILE)
    constants = sum(tensor.size for tensor in tensors)
    return GraphInfo(name, len(list(graph)), constants, sum(p.numel() for p in _used(pipe, name).parameters()))


def _example(pipe: OneStepSRPipeline, name: str) -> tuple[Tensor, dict[int, Any]]:
    """Return an input for tracing and its dynamic axes, multiples of what the model needs."""
    spec = pipe.spec
    multiple, channels = spec.size_multiple, 3
    if name != "encoder":
        multiple //= spec.vae_scale_factor
        channels = network_config(pipe.denoiser)["in_channels"]
    height, width = Dim("height", min=1), Dim("width", min=1)
    return torch.zeros(1, channels, 4 * multiple, 6 * multiple), {2: multiple * height, 3: multiple * width}


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Put the module into evaluation mode within the block."""
    modes = {part: part.training for part in module.modules()}
    try:
        module.eval()
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


def _used(pipe: OneStepSRPipeline, name: str) -> nn.Module:
    """Return the network of a graph."""
    whole: nn.Module = pipe.denoiser if name == "denoiser" else pipe.vae
    return getattr(whole, name, whole)


def _exporter() -> Any:
    try:
        from onnxscript import optimizer
    except ImportError as error:
        raise MissingDependencyError(f"exporting needs onnx and onnxscript: {install_extra('onnx')}") from error
    return optimizer


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporters' notes on skipped folds, unknown domains and their own deprecated calls."""
    loggers = [logging.getLogger(name) for name in ("onnxscript", "torch.onnx")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
