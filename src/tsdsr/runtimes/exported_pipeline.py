"""Exported models with the pipeline's interface: tiling, colours and files work as with any other model."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tsdsr.arrays import HostDevice
from tsdsr.errors import InvalidInputError
from tsdsr.files import StrPath
from tsdsr.measuring import stage
from tsdsr.models.zoo import ModelSpec, get_spec
from tsdsr.pipeline.model_files import GRAPHS
from tsdsr.pipeline.noise import Noise
from tsdsr.pipeline.sr_pipeline import SRPipeline
from tsdsr.runtimes.export_index import ExportIndex
from tsdsr.runtimes.graph_calls import Graph, each
from tsdsr.runtimes.graph_openers import opener, runtime_dtype

_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}


class ExportedPipeline(SRPipeline):
    """An exported model, on numpy arrays; see :func:`load_exported`.

    Args:
        encoder (callable): image in [-1, 1] → unscaled latent; one sample per call, as for all graphs.
        denoiser (callable): scaled latent ``z_lq`` → ``z_hat``.
        decoder (callable): unscaled latent → image.
        scaling_factor (float): scaling factor of the latents.
        spec (ModelSpec): the base model.
        dtype ("fp32" | "fp16" | "bf16"): precision of the runtime; inputs and outputs are float32.
        engine ("onnx" | "openvino"): the runtime.
    """

    array_device = HostDevice()

    def __init__(
        self,
        encoder: Graph,
        denoiser: Graph,
        decoder: Graph,
        scaling_factor: float,
        spec: ModelSpec,
        dtype: str,
        engine: str,
    ) -> None:
        self.engine = engine
        self.encoder, self.denoiser, self.decoder = encoder, denoiser, decoder
        self.scaling_factor, self.dtype, self._spec = scaling_factor, dtype, spec

    @property
    def spec(self) -> ModelSpec:
        return self._spec

    @property
    def dtype_bytes(self) -> int:
        return _BYTES[self.dtype]

    def encode(self, x: np.ndarray, noise: Noise | None = None) -> np.ndarray:
        """Encode images, see :meth:`SRPipeline.encode`.

        Raises:
            InvalidInputError: noise is given, but the graph gives only the posterior's mode.
        """
        if noise is not None:
            raise InvalidInputError("an exported model uses the latent's mode and cannot sample it: leave out the seed")
        with stage("encode"):
            latents: np.ndarray = each(self.encoder, x * 2 - 1) * np.float32(self.scaling_factor)
        return latents

    def denoise(self, z_lq: np.ndarray) -> np.ndarray:
        with stage("denoise"):
            return each(self.denoiser, z_lq)

    def decode(self, z: np.ndarray) -> np.ndarray:
        with stage("decode"):
            images: np.ndarray = each(self.decoder, z / np.float32(self.scaling_factor)) / 2 + np.float32(0.5)
        return images


def load_exported(
    folder: StrPath,
    device: str = "auto",
    dtype: str = "auto",
    threads: int | None = None,
    provider: str = "auto",
) -> ExportedPipeline:
    """Open a model made by ``tsdsr export`` or :func:`~tsdsr.runtimes.export.export_pipeline`.

    Args:
        folder: the exported model.
        device (str): device of OpenVINO, see :func:`tsdsr.runtimes.graph_openers.opener`.
        dtype (str): see :func:`tsdsr.runtimes.graph_openers.runtime_dtype`.
        threads (int | None): CPU threads; default: one per core.
        provider (str): execution provider of ONNX Runtime, see
            :func:`tsdsr.runtimes.providers.choose_provider`. If it fails, the CPU is used instead.

    Raises:
        ModelNotFoundError: the folder contains no exported model, or a file is missing.
        WeightsError: a file is broken.
        ModelError: the device or the provider does not exist.
        InvalidInputError: the model cannot compute in that precision.
        MissingDependencyError: the runtime is not installed.
    """
    folder = Path(folder)
    index = ExportIndex.read(folder)
    precision = runtime_dtype(index.backend, index.dtype, dtype, device)
    open_graph = opener(index.backend, device, precision, provider, threads)
    encoder, denoiser, decoder = (open_graph(index.graph(folder, name)) for name in GRAPHS)
    pipe = ExportedPipeline(
        encoder, denoiser, decoder, index.scaling_factor, get_spec(index.model), precision, index.backend
    )
    pipe.folder = folder
    return pipe
