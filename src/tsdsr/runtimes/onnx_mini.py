"""`mini` in ONNX Runtime: the graph beside its weights, on numpy arrays, without torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tsdsr.arrays import HostDevice
from tsdsr.measuring import stage
from tsdsr.models.mini_folder import MiniLatents
from tsdsr.models.zoo import MINI
from tsdsr.pipeline.model_files import MINI_GRAPH
from tsdsr.pipeline.noise import Noise
from tsdsr.pipeline.sr_pipeline import SRPipeline
from tsdsr.runtimes.sessions import Graph, each, open_onnx


class OnnxMini(SRPipeline):
    """`mini` in ONNX Runtime.

    Args:
        graph (callable): ``z_lq`` → ``z_hat``, (1, 48, h, w), float32.
        latents (MiniLatents): its latent space.
    """

    engine = "onnx"
    spec = MINI
    array_device = HostDevice()
    dtype_bytes = 4

    def __init__(self, graph: Graph, latents: MiniLatents) -> None:
        self.graph, self.latents = graph, latents

    def encode(self, x: np.ndarray, noise: Noise | None = None) -> np.ndarray:
        """Encode images; mini's latents are exact, so there is nothing to sample. See :meth:`SRPipeline.encode`."""
        with stage("encode"):
            latents: np.ndarray = self.latents.encode(x)
        return latents

    def denoise(self, z_lq: np.ndarray) -> np.ndarray:
        with stage("denoise"):
            return each(self.graph, z_lq)

    def decode(self, z: np.ndarray) -> np.ndarray:
        with stage("decode"):
            images: np.ndarray = self.latents.decode(z)
        return images


def load_onnx_mini(folder: Path, provider: str = "auto", threads: int | None = None) -> OnnxMini:
    """Load a pipeline folder of `mini` that holds a graph.

    Args:
        folder (Path): the pipeline.
        provider (str): execution provider, see :func:`~tsdsr.runtimes.sessions.open_onnx`.
        threads (int | None): CPU threads; default: one per core.

    Raises:
        ModelNotFoundError, WeightsError, ModelError: it cannot be loaded.
    """
    return OnnxMini(open_onnx(folder / MINI_GRAPH, provider, threads), MiniLatents.read(folder))
