"""Exported models with the pipeline's interface: tiling, colours and files work as with any other model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import torch
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from torch import Tensor, nn

from tsdsr.errors import InvalidInputError
from tsdsr.files import StrPath
from tsdsr.measuring import stage
from tsdsr.models.autoencoder import PointDistribution
from tsdsr.models.zoo import get_spec
from tsdsr.pipeline.pipeline import OneStepSRPipeline
from tsdsr.runtimes.export import ExportIndex
from tsdsr.runtimes.sessions import Graph, opener, runtime_dtype


class ExportedPart:
    """Interface that the pipeline needs from each component. Has no parameters: the runtime holds the weights.

    Args:
        dtype (torch.dtype): compute precision of the runtime; inputs and outputs are float32 on the CPU.
    """

    device = torch.device("cpu")

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype

    def parameters(self) -> Iterator[nn.Parameter]:
        return iter(())


class ExportedDenoiser(ExportedPart):
    """The denoising step as one graph.

    Args:
        graph (callable): ``z_lq`` → ``z_hat``, one sample per call.
        dtype (torch.dtype): see :class:`ExportedPart`.
    """

    def __init__(self, graph: Graph, dtype: torch.dtype) -> None:
        super().__init__(dtype)
        self.graph = graph

    def __call__(self, z_lq: Tensor) -> Tensor:
        """Map scaled latents (B, C, h, w) to restored latents, same shape."""
        return _each(self.graph, z_lq)


class ExportedAutoencoder(ExportedPart):
    """The autoencoder as two graphs, with the interface of ``diffusers.AutoencoderKL``.

    Args:
        encoder (callable): image in [-1, 1] → latent, one per call.
        decoder (callable): latent → image.
        scaling_factor (float): scaling factor of the latents.
        dtype (torch.dtype): see :class:`ExportedPart`.
    """

    def __init__(self, encoder: Graph, decoder: Graph, scaling_factor: float, dtype: torch.dtype) -> None:
        super().__init__(dtype)
        self.encoder, self.decoder = encoder, decoder
        self.config = SimpleNamespace(scaling_factor=scaling_factor)

    def encode(self, x: Tensor) -> AutoencoderKLOutput:
        """Encode images (B, 3, H, W) in [-1, 1] to distributions of latents (B, C, H/f, W/f) with only a mode."""
        return AutoencoderKLOutput(latent_dist=_ModeOnly(_each(self.encoder, x)))

    def decode(self, z: Tensor, return_dict: bool = False) -> tuple[Tensor]:
        """Decode latents (B, C, h, w) to images (B, 3, h f, w f), nominally in [-1, 1]."""
        return (_each(self.decoder, z),)


class _ModeOnly(PointDistribution):
    @property
    def std(self) -> Tensor:
        raise InvalidInputError("an exported model takes the latent's mode and cannot sample it: leave out the seed")


class ExportedPipeline(OneStepSRPipeline):
    """:class:`OneStepSRPipeline` over an exported model, see :func:`load_exported`."""

    def __init__(self, denoiser: ExportedDenoiser, vae: ExportedAutoencoder, model: str = "mini") -> None:
        DiffusionPipeline.__init__(self)  # the parent's takes a prompt, which is part of the graph here
        self.register_modules(denoiser=denoiser, vae=vae)
        self.register_to_config(model=model)

    def denoise(self, z_lq: Tensor) -> Tensor:
        """Take the one step with the exported graph; see the parent class."""
        with stage("denoise"):
            z_hat: Tensor = self.denoiser(z_lq)
        return z_hat

    def save_pretrained(self, save_directory: StrPath, **kwargs: object) -> None:
        """Not supported; copy the exported folder instead."""
        raise InvalidInputError("an exported model has no weights to save: copy its folder")


def load_exported(
    folder: StrPath,
    device: str = "auto",
    dtype: str | torch.dtype = "auto",
    threads: int | None = None,
) -> ExportedPipeline:
    """Open a model made by ``tsdsr export`` or :func:`~tsdsr.runtimes.export.export_pipeline`.

    Args:
        folder: the exported model.
        device (str): see :func:`tsdsr.runtimes.sessions.opener`.
        dtype: see :func:`tsdsr.runtimes.sessions.runtime_dtype`.
        threads (int | None): CPU threads; default: PyTorch's number.

    Raises:
        ModelNotFoundError: the folder contains no exported model, or a file is missing.
        WeightsError: a file is broken.
        ModelError: the device does not exist.
        InvalidInputError: the model cannot compute in that precision.
        MissingDependencyError: the runtime is not installed.
    """
    folder = Path(folder)
    index = ExportIndex.read(folder)
    precision = runtime_dtype(index.backend, index.dtype, dtype, device)
    open_graph = opener(index.backend, device, precision, threads or torch.get_num_threads())
    encoder, denoiser, decoder = (open_graph(index.graph(folder, name)) for name in ("encoder", "denoiser", "decoder"))
    vae = ExportedAutoencoder(encoder, decoder, index.scaling_factor, precision)
    return ExportedPipeline(ExportedDenoiser(denoiser, precision), vae, model=get_spec(index.model).name)


def _each(graph: Graph, x: Tensor) -> Tensor:
    """Run a graph on each sample of a batch, because graphs take one sample."""
    results = [graph(x[i : i + 1]) for i in range(len(x))]
    return results[0] if len(results) == 1 else torch.cat(results)
