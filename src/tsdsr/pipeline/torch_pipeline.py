"""Pipelines whose model runs in torch."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from tsdsr.devices import TorchDevice, choose_device, choose_dtype
from tsdsr.measuring import stage
from tsdsr.models.conditioning import Conditioning
from tsdsr.models.denoiser import as_denoiser, restore
from tsdsr.models.mini_folder import MiniLatents, prompt_label
from tsdsr.models.mini_network import MiniNetwork
from tsdsr.models.network_folders import load_plain
from tsdsr.models.zoo import MINI
from tsdsr.out_of_memory import memory_reported
from tsdsr.pipeline.noise import Generator, Noise
from tsdsr.pipeline.options import RestoreKeywords, RestoreOptions
from tsdsr.pipeline.sr_pipeline import TOO_LARGE, OnTile, SRPipeline

if TYPE_CHECKING:
    from typing_extensions import Unpack


class TorchPipeline(SRPipeline):
    """A pipeline whose arrays are tensors."""

    engine = "torch"

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """Compute precision of the denoiser. Latents and images stay in float32."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """The device of the networks."""

    @property
    @abstractmethod
    def networks(self) -> list[nn.Module]:
        """The networks, which lie on :attr:`device`."""

    @property
    def array_device(self) -> TorchDevice:
        device = self._compute_device()
        if self._arrays is None or self._arrays.device != device:
            self._arrays = TorchDevice(device)
        return self._arrays

    _arrays: TorchDevice | None = None

    def _compute_device(self) -> torch.device:
        return self.device

    @property
    def dtype_bytes(self) -> int:
        return self.dtype.itemsize

    @memory_reported(TOO_LARGE)
    def upscale(
        self,
        x: Tensor,
        scale: float = 4.0,
        *,
        generator: Generator | None = None,
        on_tile: OnTile | None = None,
        **options: Unpack[RestoreKeywords],
    ) -> Tensor:
        """Restore and enlarge a batch without leaving the device.

        Args:
            x (Tensor): images (B, 3, h, w) in [0, 1].
            scale, generator, on_tile, options: as in :meth:`__call__`.

        Returns:
            Tensor: (B, 3, H, W) in [0, 1], float32, on the pipeline's device.

        Raises:
            InvalidInputError: an argument is out of range.
            TSDSRError: the network produced values that are not finite.
            OutOfMemoryError: even the smallest tiles do not fit.
        """
        chosen = RestoreOptions(scale, **options)
        shape = (len(x), 3, *chosen.size(*x.shape[-2:]))
        canvas = torch.empty(shape, dtype=torch.float32, device=self.array_device.device)
        self._restore_into(canvas, x.detach(), chosen, generator, on_tile)
        return canvas


class TorchMini(TorchPipeline):
    """`mini` in torch, without diffusers. Only for restoring: it is neither folded, compiled nor exported.

    Args:
        network (MiniNetwork): the student.
        latents (MiniLatents): its latent space.
        label (int): index of its fixed prompt.
    """

    spec = MINI

    def __init__(self, network: MiniNetwork, latents: MiniLatents, label: int) -> None:
        self.network, self.latents = network, latents
        self._prompt = Conditioning(labels=torch.tensor([label]))

    @property
    def networks(self) -> list[nn.Module]:
        return [self.network]

    @property
    def thread_safe(self) -> bool:
        return self.device.type == "cpu"  # threads share the pending copy from a GPU, which one of them may drop

    def to(self, device: str | torch.device) -> TorchMini:
        """Move the network, and return self."""
        self.network.to(device)
        return self

    @property
    def dtype(self) -> torch.dtype:
        return next(self.network.parameters()).dtype

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    @torch.no_grad()
    def encode(self, x: Tensor, noise: Noise | None = None) -> Tensor:
        """Encode images; mini's latents are exact, so there is nothing to sample. See :meth:`SRPipeline.encode`."""
        with stage("encode"):
            latents: Tensor = self.latents.encode(x)
        return latents

    @torch.no_grad()
    def denoise(self, z_lq: Tensor) -> Tensor:
        with stage("denoise"):
            return restore(as_denoiser(self.network), self.spec.process, z_lq, self.spec.timestep, self._prompt)

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        with stage("decode"):
            images: Tensor = self.latents.decode(z)
        return images


def load_torch_mini(folder: Path, device: str | torch.device = "auto", dtype: str | torch.dtype = "auto") -> TorchMini:
    """Load a pipeline folder of `mini`, whose network is not folded.

    Args:
        folder (Path): the pipeline.
        device, dtype: see :func:`~tsdsr.devices.choose_device` and :func:`~tsdsr.devices.choose_dtype`.

    Raises:
        ModelNotFoundError, ModelError, WeightsError, OutOfMemoryError: it cannot be loaded.
    """
    chosen = choose_device(device)
    network = load_plain(MiniNetwork, folder / "denoiser", choose_dtype(dtype, chosen), "MiniUNet")
    label = prompt_label(folder, network.prompt_embedding.num_embeddings)
    if chosen.type == "cpu":
        network.to(memory_format=torch.channels_last)
    pipe = TorchMini(network.to(chosen), MiniLatents.read(folder), label)
    pipe.folder = folder
    return pipe
