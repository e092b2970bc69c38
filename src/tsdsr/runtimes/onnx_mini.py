"""`mini` in ONNX Runtime: the graph beside its weights, on numpy arrays, without torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tsdsr.arrays import HostDevice
from tsdsr.errors import InvalidInputError, WeightsError
from tsdsr.measuring import stage
from tsdsr.models.mini_folder import MiniLatents, hash_of_weights
from tsdsr.models.network_config import WEIGHTS
from tsdsr.models.zoo import MINI
from tsdsr.pipeline.model_files import MINI_FAST_GRAPH, MINI_GRAPH
from tsdsr.pipeline.noise import Noise
from tsdsr.pipeline.sr_pipeline import SRPipeline
from tsdsr.processor import multiplies_int8
from tsdsr.runtimes.graph_calls import Graph
from tsdsr.runtimes.providers import THREAD_SAFE, OnnxSessions
from tsdsr.safetensors_header import read_header


class OnnxMini(SRPipeline):
    """`mini` in ONNX Runtime.

    Args:
        graph (callable): ``z_lq`` → ``z_hat``, (B, 48, h, w), float32.
        latents (MiniLatents): its latent space.
        sessions (OnnxSessions | None): what opened the graph.
    """

    engine = "onnx"
    spec = MINI
    array_device = HostDevice()
    dtype_bytes = 4

    def __init__(self, graph: Graph, latents: MiniLatents, sessions: OnnxSessions | None = None) -> None:
        self.graph, self.latents, self._sessions = graph, latents, sessions

    @property
    def provider(self) -> str | None:
        """Name of the execution provider in use, if it is known."""
        return None if self._sessions is None else self._sessions.provider

    @property
    def thread_safe(self) -> bool:
        return self.provider in (None, *THREAD_SAFE)

    def encode(self, x: np.ndarray, noise: Noise | None = None) -> np.ndarray:
        """Encode images, see :meth:`SRPipeline.encode`. The latents are exact, so there is nothing to sample."""
        with stage("encode"):
            latents: np.ndarray = self.latents.encode(x)
        return latents

    def denoise(self, z_lq: np.ndarray) -> np.ndarray:
        with stage("denoise"):
            return self.graph(z_lq)

    def decode(self, z: np.ndarray) -> np.ndarray:
        with stage("decode"):
            images: np.ndarray = self.latents.decode(z)
        return images


def load_onnx_mini(folder: Path, provider: str = "auto", threads: int | None = None, fast: bool = False) -> OnnxMini:
    """Load a pipeline folder of `mini` that holds a graph.

    Args:
        folder (Path): the pipeline.
        provider (str): execution provider, see :func:`~tsdsr.runtimes.providers.choose_provider`. If its first tile
            differs from the CPU's, or it fails, the CPU is used instead.
        threads (int | None): CPU threads; default: one per core.
        fast (bool): compute with 8-bit integers, in half the time; results change by a few grey levels at most. Needs a
            processor with VNNI, and the graph of ``tsdsr graph --int8``, which the packaged `mini` has.

    Raises:
        ModelNotFoundError, WeightsError, ModelError: it cannot be loaded.
        InvalidInputError: ``fast`` is not possible with this model, processor or provider.
    """
    if fast:
        _check_fast(folder, provider)
        provider = "cpu"
    path = folder / (MINI_FAST_GRAPH if fast else MINI_GRAPH)
    latents = MiniLatents.read(folder)
    read_header(folder / "denoiser" / WEIGHTS)  # names a damaged file, where ONNX Runtime would read something
    sessions = OnnxSessions(provider, threads)
    remedy = f"run 'tsdsr graph {folder} --overwrite{' --int8 PICTURES' if fast else ''}'"
    # checked before ONNX Runtime reads other weights at the graph's positions
    if hash_of_weights(folder).encode() not in _content(path):
        raise WeightsError(f"{path}: was made for other weights, or is incomplete; {remedy}")
    pipe = OnnxMini(sessions.open_graph(path, compare=True, remedy=remedy), latents, sessions)
    pipe.folder = folder
    return pipe


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error})") from error


def _check_fast(folder: Path, provider: str) -> None:
    """Check that 8-bit arithmetic is possible.

    Raises:
        InvalidInputError: it is not.
    """
    if provider not in ("auto", "cpu"):
        raise InvalidInputError(f"8-bit arithmetic runs on the CPU: leave out 'fast' or the provider {provider!r}")
    if not multiplies_int8():
        raise InvalidInputError("this processor has no fast 8-bit arithmetic (VNNI): leave out 'fast'")
    if not (folder / MINI_FAST_GRAPH).is_file():
        raise InvalidInputError(
            f"{folder}: has no 8-bit graph; leave out 'fast', or run 'tsdsr graph {folder} --int8 PICTURES'"
        )
