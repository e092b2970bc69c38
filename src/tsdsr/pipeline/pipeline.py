"""The one-step super-resolution pipeline."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.utils.outputs import BaseOutput
from torch import Tensor

from tsdsr.arrays import Array
from tsdsr.devices import TorchDevice
from tsdsr.files import StrPath
from tsdsr.measuring import stage
from tsdsr.models.denoiser import as_denoiser, restore
from tsdsr.models.fixed_prompt import FixedPrompt
from tsdsr.models.groupnorm import SharedGroupNorms
from tsdsr.models.latents import Noise, decode_latents, encode_images
from tsdsr.models.zoo import ModelSpec, get_spec
from tsdsr.out_of_memory import memory_reported
from tsdsr.pipeline.canvas import make_canvas
from tsdsr.pipeline.noise import NoiseField, noise_at, noise_fields
from tsdsr.pipeline.options import ColorFix, Fit, RestoreKeywords, RestoreOptions, Tile
from tsdsr.pipeline.stream import EnlargedImage, Place, TileStream
from tsdsr.pipeline.tensors import (
    ImageInput,
    OutputType,
    empty_result,
    from_array,
    from_tensors,
    result_dtype,
    to_pixels,
)
from tsdsr.pipeline.tile_plan import TilePlan, largest_tile, next_smaller_plan, plan_tiles

if TYPE_CHECKING:
    from typing_extensions import Unpack

OnTile = Callable[[int, int], None]
"""Called with (finished, total) tiles of the denoiser."""


@dataclass
class SROutput(BaseOutput):
    """Result of the pipeline.

    Attributes:
        images (list of PIL images | Tensor (B, 3, H, W) in [0, 1] | list of arrays (H, W, 3) in [0, 1]): results in
            the order of the inputs.
    """

    images: Any


_TOO_LARGE = "out of memory for input and result; free some, or choose a smaller scale"


class OneStepSRPipeline(DiffusionPipeline):
    """Restore and enlarge photographs with one step of a distilled diffusion model.

    A diffusers pipeline: ``from_pretrained(folder or hub id)``, ``save_pretrained``, ``.to(device, dtype)``.

    Args:
        denoiser (ModelMixin): the student's network, with LoRA merged.
        vae (ModelMixin): the autoencoder, with the student's encoder.
        prompt (FixedPrompt): the student's fixed prompt.
        model (str): name of the base model in :data:`tsdsr.models.zoo.SPECS`.
    """

    model_cpu_offload_seq = "vae->denoiser"

    def __init__(self, denoiser: ModelMixin, vae: ModelMixin, prompt: FixedPrompt, model: str = "mini") -> None:
        super().__init__()
        get_spec(model)
        self.register_modules(denoiser=denoiser, vae=vae, prompt=prompt)
        self.register_to_config(model=model)

    @property
    def array_device(self) -> TorchDevice:
        """Where windows are made, blended and aligned."""
        return TorchDevice(self._execution_device)

    @property
    def dtype(self) -> torch.dtype:
        """Compute precision of the denoiser. Latents and images stay in float32."""
        dtype: torch.dtype = self.denoiser.dtype
        return dtype

    def to(self, *args: Any, **kwargs: Any) -> OneStepSRPipeline:
        """Move or cast the networks, as in diffusers. float16 on a CPU is no reason for a warning: it runs, slowly."""
        moved: OneStepSRPipeline = super().to(*args, **{"silence_dtype_warnings": True, **kwargs})
        return moved

    def save_pretrained(self, save_directory: StrPath, **kwargs: Any) -> None:
        """Store the pipeline, as in diffusers. The weights get the permissions of the umask.

        :func:`~tsdsr.pipeline.convert.save_pipeline` writes the whole folder or nothing, and chooses the precision.
        """
        super().save_pretrained(save_directory, **kwargs)
        for weights in Path(save_directory).glob("*/*.safetensors"):  # safetensors creates private files
            weights.chmod(stat.S_IMODE(weights.with_name("config.json").stat().st_mode))

    @cached_property
    def spec(self) -> ModelSpec:
        """Specification of the base model."""
        return get_spec(self.config["model"])

    @memory_reported(_TOO_LARGE)
    def __call__(
        self,
        image: ImageInput,
        scale: float = 4.0,
        *,
        target_size: tuple[int, int] | None = None,
        fit: Fit = "contain",
        color_fix: ColorFix = "wavelet",
        detail: float = 1.0,
        tile: Tile = "auto",
        tile_overlap: int | None = None,
        tile_batch: int = 1,
        generator: torch.Generator | None = None,
        output_type: OutputType | None = None,
        on_tile: OnTile | None = None,
    ) -> SROutput:
        """Restore and enlarge.

        Args:
            image: image or list of images of one kind; sizes in a list may differ.

                * PIL image: rotated by its EXIF orientation; 16-bit grey keeps its precision; transparency is flattened
                  onto white (:func:`~tsdsr.pipeline.upscale.upscale_file` keeps it);
                * ndarray (h, w, C), C = 1 or 3: uint8, uint16, or float32 in [0, 1];
                * tensor (B, 3, h, w) or (3, h, w), floating point in [0, 1].
            scale, target_size, fit, color_fix, detail, tile, tile_overlap, tile_batch: see :class:`RestoreOptions`.
            generator (torch.Generator | None): sample the latent from the encoder's posterior with this generator; None
                uses the mode and is deterministic. The noise does not depend on the tiles.
            output_type ("pil" | "np" | "pt" | None): kind of result; default: that of the input.
            on_tile (callable | None): called with (finished, total) tiles of the denoiser.

        Returns:
            SROutput: ``.images`` has three channels: for "pil" a list of 8-bit PIL images; for "np" a list of arrays
            (H, W, 3), float32 in [0, 1] for any input dtype (:meth:`upscale_pixels` keeps the dtype); for "pt" a
            tensor (B, 3, H, W), float32 in [0, 1], or a list of tensors if sizes differ.

        Raises:
            InvalidInputError: an argument is out of range.
            OutOfMemoryError: even the smallest tiles do not fit.
        """
        options = RestoreOptions(scale, target_size, fit, color_fix, detail, tile, tile_overlap, tile_batch)
        batches, kind = to_pixels(image)
        kind = output_type or kind
        dtype, results = result_dtype(kind), []
        for pixels in batches:
            canvas = empty_result(len(pixels), options.size(*pixels.shape[-2:]), kind, dtype)
            self._restore_into(canvas, pixels, options, generator, on_tile)
            results.append(canvas)
        return SROutput(images=from_tensors(results, kind))

    @memory_reported(_TOO_LARGE)
    def upscale_pixels(
        self,
        pixels: np.ndarray,
        scale: float = 4.0,
        *,
        generator: torch.Generator | None = None,
        on_tile: OnTile | None = None,
        **options: Unpack[RestoreKeywords],
    ) -> np.ndarray:
        """Restore and enlarge an array, keeping its dtype.

        Besides input and result, this needs the model's working memory for one tile, and one row of tiles along the
        shorter side. A result larger than half of the free RAM is a ``numpy.memmap`` of a temporary file that is
        deleted with the array.

        Args:
            pixels (ndarray): (h, w, C), C = 1 or 3; uint8, uint16, or float32 in [0, 1]. The model sees grey as RGB.
            scale, generator, on_tile, options: as in :meth:`__call__`.

        Returns:
            ndarray: (H, W, C) of the same dtype, rounded once.

        Raises:
            InvalidInputError: an argument is out of range.
            OutOfMemoryError: even the smallest tiles do not fit.
        """
        chosen, x = RestoreOptions(scale, **options), from_array(pixels)
        result = make_canvas((*chosen.size(*pixels.shape[:2]), pixels.shape[2]), pixels.dtype)
        self._restore_into(result.transpose(2, 0, 1)[None], x, chosen, generator, on_tile)
        return result

    @memory_reported(_TOO_LARGE)
    def upscale(
        self,
        x: Tensor,
        scale: float = 4.0,
        *,
        generator: torch.Generator | None = None,
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
        canvas = torch.empty(len(x), 3, *chosen.size(*x.shape[-2:]), device=self._execution_device)
        self._restore_into(canvas, x, chosen, generator, on_tile)
        return canvas

    def plan(self, size: tuple[int, int], tile: Tile = "auto", overlap: int | None = None, batch: int = 1) -> TilePlan:
        """Plan tiles for a result of ``size`` (height, width), see :func:`plan_tiles`. "auto" depends on free memory.

        Raises:
            InvalidInputError: tile, overlap or batch is out of range.
        """
        largest = None
        if tile == "auto":
            largest = largest_tile(self.spec, size, self.array_device.free_memory(), self.dtype.itemsize)
        return plan_tiles(self.spec, size, tile, overlap, batch, largest)

    @torch.no_grad()
    def _restore_into(
        self,
        canvas: Array,
        pixels: Array,
        options: RestoreOptions,
        generator: torch.Generator | None,
        on_tile: OnTile | None,
    ) -> None:
        """Restore the visible part of ``pixels`` (B, C, h, w) into ``canvas``.

        If memory runs out, restart with smaller tiles. A restart costs little: all tiles have the same size, so nearly
        always the first one fails.
        """
        size = (int(canvas.shape[-2]), int(canvas.shape[-1]))
        rows, columns = options.visible(*pixels.shape[-2:])
        pixels = pixels[..., rows, columns]
        plan = self.plan(size, options.tile, options.tile_overlap, options.tile_batch)
        noise = None if generator is None else noise_fields(generator, len(pixels))
        while True:
            try:
                self._run(canvas, pixels, plan, options, noise, on_tile)
                return
            except (MemoryError, RuntimeError, OSError) as error:  # torch.OutOfMemoryError is a RuntimeError
                plan = next_smaller_plan(error, plan, self.spec, size)
            self.array_device.release()  # the failed run's tensors were freed with the error, whose frames held them

    def _run(
        self,
        canvas: Array,
        pixels: Array,
        plan: TilePlan,
        options: RestoreOptions,
        noise: Sequence[NoiseField] | None,
        on_tile: OnTile | None,
    ) -> None:
        """Run once: the whole batch if untiled, otherwise one sample at a time."""
        size = (int(canvas.shape[-2]), int(canvas.shape[-1]))
        step = len(pixels) if plan.tile is None else 1
        for start in range(0, len(pixels), step):
            batch = slice(start, start + step)
            fields = None if noise is None else noise[batch]
            image = EnlargedImage(pixels[batch], size, self.spec.size_multiple, self.array_device)
            with self._normalised_as_a_whole(image, plan, options, fields):
                tiles = TileStream(image, canvas[batch], plan, options.color_fix, on_tile)
                for group in tiles:
                    tiles.put(group, self._restore(group.windows, group.places, options, fields))
                tiles.close()

    @contextmanager
    def _normalised_as_a_whole(
        self, image: EnlargedImage, plan: TilePlan, options: RestoreOptions, noise: Sequence[NoiseField] | None
    ) -> Iterator[None]:
        """Normalise tiles within the block with whole-image statistics, measured on a reduced image."""
        norms = SharedGroupNorms(self.vae, self.denoiser)
        if plan.tile is None or not norms:
            yield
            return
        with norms.measured():
            self._restore(image.reduced(plan.tile), [(0, 0)], options, noise)
        with norms.held():
            yield

    def _restore(
        self, windows: Tensor, places: list[Place], options: RestoreOptions, noise: Sequence[NoiseField] | None
    ) -> Tensor:
        """Restore windows of the enlarged image (N * B, 3, h, w), same shape: encode, take one step, decode."""
        factor = self.spec.vae_scale_factor
        spots = [(top // factor, left // factor) for top, left in places]
        z_lq = self.encode(windows, None if noise is None else noise_at(noise, spots))
        z_hat = self.denoise(z_lq)
        if options.detail < 1:
            z_hat = torch.lerp(z_lq, z_hat, self.spec.strength(options.detail))
        return self.decode(z_hat)

    def encode(self, x: Tensor, noise: Noise | None = None) -> Tensor:
        """Encode images (B, 3, H, W) in [0, 1] to scaled latents (B, C, H/f, W/f), see :func:`encode_images`."""
        with stage("encode"):
            return encode_images(self.vae, x, noise)

    def denoise(self, z_lq: Tensor) -> Tensor:
        """Take the one step: map scaled latents (B, C, h, w) to ``z_hat``, same shape."""
        denoiser, prompt = as_denoiser(self.denoiser), self.prompt.conditioning()
        with stage("denoise"):
            return restore(denoiser, self.spec.process, z_lq, self.spec.timestep, prompt)

    def decode(self, z: Tensor) -> Tensor:
        """Decode scaled latents (B, C, h, w) to images (B, 3, H, W), nominally in [0, 1]: :func:`decode_latents`."""
        with stage("decode"):
            return decode_latents(self.vae, z)
