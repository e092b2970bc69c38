"""The one-step super-resolution pipeline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.utils.outputs import BaseOutput
from torch import Tensor

from tsdsr.devices import free_memory
from tsdsr.errors import InvalidInputError
from tsdsr.models.conditioning import FixedPrompt
from tsdsr.models.denoiser import as_denoiser, restore
from tsdsr.models.groupnorm import SharedGroupNorms
from tsdsr.models.latents import Noise, decode_latents, encode_images
from tsdsr.models.zoo import ModelSpec, get_spec
from tsdsr.pipeline.canvas import make_canvas
from tsdsr.pipeline.color import COLOR_FIXES, ColorFix
from tsdsr.pipeline.noise import NoiseField
from tsdsr.pipeline.stream import EnlargedImage, Place, stream
from tsdsr.pipeline.tensors import ImageInput, OutputType, from_array, from_tensors, result_dtype, to_pixels
from tsdsr.pipeline.tile_plan import Tile, TilePlan, largest_tile, output_size, plan_tiles, retry_smaller


@dataclass
class SROutput(BaseOutput):
    """Result of the pipeline.

    Attributes:
        images (list of PIL images | Tensor (B, 3, H, W) in [0, 1] | list of arrays (H, W, 3) in [0, 1]): one an input.
    """

    images: Any


@dataclass(frozen=True)
class _Look:
    """What is done to a restored latent and image, checked."""

    color_fix: ColorFix
    detail: float

    def __post_init__(self) -> None:
        if self.color_fix not in COLOR_FIXES:
            raise InvalidInputError(f"unknown color_fix {self.color_fix!r}; choose from {', '.join(COLOR_FIXES)}")
        if not 0 <= self.detail <= 1:
            raise InvalidInputError(f"detail must lie in [0, 1], got {self.detail:g}")


class OneStepSRPipeline(DiffusionPipeline):
    """Restores and enlarges photographs in one step of a distilled diffusion model.

    A diffusers pipeline: ``from_pretrained(folder or hub id)``, ``save_pretrained``, ``.to(device, dtype)``.

    Args:
        denoiser (ModelMixin): the student's network, LoRA merged.
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
    def dtype(self) -> torch.dtype:
        """The precision the denoiser computes in; latents and images stay in float32."""
        dtype: torch.dtype = self.denoiser.dtype
        return dtype

    @property
    def spec(self) -> ModelSpec:
        """The row of the base-model table this pipeline belongs to."""
        return get_spec(self.config["model"])

    def __call__(
        self,
        image: ImageInput,
        scale: float = 4.0,
        *,
        target_size: tuple[int, int] | None = None,
        color_fix: ColorFix = "wavelet",
        detail: float = 1.0,
        tile: Tile = "auto",
        tile_overlap: int | None = None,
        tile_batch: int = 1,
        generator: torch.Generator | None = None,
        output_type: OutputType | None = None,
        on_tile: Callable[[int, int], None] | None = None,
    ) -> SROutput:
        """Restore and enlarge.

        Args:
            image: a PIL image, a tensor (B, 3, h, w) or (3, h, w) in [0, 1], or a list of either; sizes in a list may
                differ.
            scale (float): enlargement from 1 to 8, fractional allowed. Sides are rounded to whole pixels.
            target_size (tuple | None): width and height of the result instead of ``scale``.
            color_fix ("wavelet" | "adain" | "none"): where low frequencies and colour come from.
            detail (float): from 0, as faithful as can be, to 1, the model as it was trained: how much of the step is
                taken, see :meth:`tsdsr.models.zoo.ModelSpec.strength`.
            tile (int | "auto" | None): largest edge of a tile in pixels of the result, rounded down to what the model
                needs. "auto" tiles what exceeds the model's native area or the free memory, None tiles only when
                memory runs out.
            tile_overlap (int | None): overlap of neighbouring tiles in pixels; default the model's own.
            tile_batch (int): tiles processed together.
            generator (torch.Generator | None): draw the latent from the encoder's posterior with this generator; None
                takes its mode and is deterministic. The noise does not depend on the tiles.
            output_type ("pil" | "pt" | "np" | None): kind of result; default the kind of the input.
            on_tile (callable | None): called with (finished, total) tiles of the denoiser.

        Returns:
            SROutput: with ``.images``.

        Raises:
            InvalidInputError: an argument is out of range.
            OutOfMemoryError: even the smallest tiles do not fit.
        """
        batches, kind = to_pixels(image)
        kind = output_type or kind
        dtype, results = result_dtype(kind), []
        for x in batches:
            size = output_size(x.shape[-2], x.shape[-1], scale, target_size)
            if kind == "pt":
                canvas = torch.from_numpy(make_canvas((len(x), 3, *size), dtype))
            else:
                canvas = torch.from_numpy(make_canvas((len(x), *size, 3), dtype)).permute(0, 3, 1, 2)
            plan = self.plan(size, tile, tile_overlap, tile_batch)
            self._fill(canvas, x, plan, _Look(color_fix, detail), generator, on_tile)
            results.append(canvas)
        return SROutput(images=from_tensors(results, kind))

    def upscale_pixels(
        self,
        pixels: np.ndarray,
        scale: float = 4.0,
        *,
        target_size: tuple[int, int] | None = None,
        color_fix: ColorFix = "wavelet",
        detail: float = 1.0,
        tile: Tile = "auto",
        tile_overlap: int | None = None,
        tile_batch: int = 1,
        generator: torch.Generator | None = None,
        on_tile: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        """Restore and enlarge an array, in its own precision from end to end.

        Beyond input and result it takes the model's working memory for a tile and a row of tiles along the shorter
        side. A result that would take more than half of the free RAM is a ``numpy.memmap`` over a temporary file that
        vanishes with the array.

        Args:
            pixels (ndarray): (h, w, C), C = 1 or 3; uint8, uint16, or float32 in [0, 1]. The model sees grey as RGB.
            scale, target_size, color_fix, detail, tile, tile_overlap, tile_batch, generator, on_tile: as in
                :meth:`__call__`.

        Returns:
            ndarray: (H, W, C) of the same dtype; the model's values, rounded once.

        Raises:
            InvalidInputError: an argument is out of range.
            OutOfMemoryError: even the smallest tiles do not fit.
        """
        x = from_array(pixels)
        size = output_size(x.shape[-2], x.shape[-1], scale, target_size)
        result = make_canvas((*size, x.shape[1]), pixels.dtype)
        canvas = torch.from_numpy(result).permute(2, 0, 1)[None]
        plan = self.plan(size, tile, tile_overlap, tile_batch)
        self._fill(canvas, x, plan, _Look(color_fix, detail), generator, on_tile)
        return result

    def plan(self, size: tuple[int, int], tile: Tile = "auto", overlap: int | None = None, batch: int = 1) -> TilePlan:
        """Tiles for a result of ``size`` (height, width): see :func:`plan_tiles`; "auto" looks at the free memory.

        Raises:
            InvalidInputError: tile, overlap or batch are out of range.
        """
        device = self._execution_device
        largest = largest_tile(self.spec, size, free_memory(device), self.dtype) if tile == "auto" else None
        return plan_tiles(self.spec, size, tile, overlap, batch, largest)

    def upscale(
        self,
        x: Tensor,
        size: tuple[int, int],
        plan: TilePlan,
        color_fix: ColorFix = "wavelet",
        detail: float = 1.0,
        generator: torch.Generator | None = None,
        on_tile: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """Tensors in and out, without leaving the device.

        Args:
            x (Tensor): images (B, 3, h, w) in [0, 1].
            size (tuple): height and width of the result.
            plan (TilePlan): tile sizes.
            color_fix, detail, generator, on_tile: as in :meth:`__call__`.

        Returns:
            Tensor: (B, 3, *size) in [0, 1], float32, on the pipeline's device.

        Raises:
            TSDSRError: the network produced values that are not finite.
            OutOfMemoryError: even the smallest tiles do not fit.
        """
        canvas = torch.empty(len(x), 3, *size, device=self._execution_device)
        self._fill(canvas, x, plan, _Look(color_fix, detail), generator, on_tile)
        return canvas

    @torch.no_grad()
    def _fill(
        self,
        canvas: Tensor,
        pixels: Tensor,
        plan: TilePlan,
        look: _Look,
        generator: torch.Generator | None,
        on_tile: Callable[[int, int], None] | None,
    ) -> None:
        """Restore ``pixels`` (B, C, h, w) into ``canvas``, with smaller tiles from the start when memory runs out."""
        size = (int(canvas.shape[-2]), int(canvas.shape[-1]))
        noise = None if generator is None else [NoiseField(generator) for _ in pixels]

        def attempt(plan: TilePlan) -> None:
            if plan.tile is None:
                self._stream(canvas, pixels, plan, look, noise, on_tile)
                return
            for b in range(len(pixels)):
                own = noise and noise[b : b + 1]
                self._stream(canvas[b : b + 1], pixels[b : b + 1], plan, look, own, on_tile)

        retry_smaller(attempt, plan, self.spec, size)

    def _stream(
        self,
        canvas: Tensor,
        pixels: Tensor,
        plan: TilePlan,
        look: _Look,
        noise: list[NoiseField] | None,
        on_tile: Callable[[int, int], None] | None,
    ) -> None:
        multiple, factor = self.spec.size_multiple, self.spec.vae_scale_factor
        size = (int(canvas.shape[-2]), int(canvas.shape[-1]))
        image = EnlargedImage(pixels, size, multiple, self._execution_device)

        def restore_tiles(windows: Tensor, places: list[Place]) -> Tensor:
            def draw(shape: torch.Size) -> Tensor:
                """Noise for the latents of the windows, by place and sample."""
                spots = [(top // factor, left // factor) for top, left in places]
                return torch.stack([field.window(*spot, tuple(shape[1:])) for spot in spots for field in noise or ()])

            z_lq = self.encode(windows, draw if noise else None)
            z_hat = self.denoise(z_lq)
            if look.detail < 1:
                z_hat = torch.lerp(z_lq, z_hat, self.spec.strength(look.detail))
            return self.decode(z_hat)

        norms = SharedGroupNorms(self.vae, self.denoiser)
        if plan.tile is None or not norms:
            stream(image, canvas, restore_tiles, plan, multiple, look.color_fix, on_tile)
            return
        with norms.measured():
            restore_tiles(image.reduced(plan.tile), [(0, 0)])
        with norms.held():
            stream(image, canvas, restore_tiles, plan, multiple, look.color_fix, on_tile)

    def encode(self, x: Tensor, noise: Noise | None = None) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] → scaled latents (B, C, H/f, W/f): see :func:`encode_images`."""
        return encode_images(self.vae, x, noise)

    def denoise(self, z_lq: Tensor) -> Tensor:
        """The one step: scaled latents (B, C, h, w) → ``z_hat``, same shape."""
        denoiser, prompt = as_denoiser(self.denoiser), self.prompt.conditioning()
        return restore(denoiser, self.spec.process, z_lq, self.spec.timestep, prompt)

    def decode(self, z: Tensor) -> Tensor:
        """Scaled latents (B, C, h, w) → images (B, 3, H, W), nominally in [0, 1]: see :func:`decode_latents`."""
        return decode_latents(self.vae, z)
