"""The one-step super-resolution pipeline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.utils.outputs import BaseOutput
from torch import Tensor

from tsdsr.errors import InvalidInputError, TSDSRError
from tsdsr.models.conditioning import FixedPrompt
from tsdsr.models.denoiser import as_denoiser, restore
from tsdsr.models.zoo import ModelSpec, get_spec
from tsdsr.pipeline.color import COLOR_FIXES, ColorFix, apply_color_fix
from tsdsr.pipeline.plan import Tile, TilePlan, output_size, plan_tiles
from tsdsr.pipeline.tensors import ImageInput, OutputType, from_tensors, pad_to_multiple, to_tensors
from tsdsr.pipeline.tiling import tiled_apply
from tsdsr.resize import upsample_bicubic


@dataclass
class SROutput(BaseOutput):
    """Result of the pipeline.

    Attributes:
        images (list of PIL images | Tensor (B, 3, H, W) in [0, 1] | list of arrays (H, W, 3) in [0, 1]): one an input.
    """

    images: Any


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

    @torch.no_grad()
    def __call__(
        self,
        image: ImageInput,
        scale: float = 4.0,
        *,
        target_size: tuple[int, int] | None = None,
        color_fix: ColorFix = "wavelet",
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
            tile (int | "auto" | None): edge of a tile in pixels of the result, rounded down to what the model needs.
                "auto" tiles only what exceeds the model's native area, None never tiles.
            tile_overlap (int | None): overlap of neighbouring tiles in pixels; default an eighth of the tile.
            tile_batch (int): tiles processed together.
            generator (torch.Generator | None): draw the latent from the encoder's posterior with this generator; None
                takes its mode and is deterministic.
            output_type ("pil" | "pt" | "np" | None): kind of result; default the kind of the input.
            on_tile (callable | None): called with (finished, total) tiles of the denoiser.

        Returns:
            SROutput: with ``.images``.

        Raises:
            InvalidInputError: an argument is out of range.
        """
        if color_fix not in COLOR_FIXES:
            raise InvalidInputError(f"unknown color_fix {color_fix!r}; choose from {', '.join(COLOR_FIXES)}")
        tensors, kind = to_tensors(image)
        results = []
        for x in tensors:
            size = output_size(x.shape[-2], x.shape[-1], scale, target_size)
            plan = plan_tiles(self.spec, size, tile, tile_overlap, tile_batch)
            x_hat = self.upscale(x, size, plan, color_fix, generator, on_tile)
            results.append(x_hat.float().cpu())
        return SROutput(images=from_tensors(results, output_type or kind))

    @torch.no_grad()
    def upscale(
        self,
        x: Tensor,
        size: tuple[int, int],
        plan: TilePlan,
        color_fix: ColorFix = "wavelet",
        generator: torch.Generator | None = None,
        on_tile: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """The pipeline's core, tensors in and out: enlarge, encode, one step, decode, align colours.

        Args:
            x (Tensor): images (B, 3, h, w) in [0, 1].
            size (tuple): height and width of the result.
            plan (TilePlan): tile sizes.
            color_fix, generator, on_tile: as in :meth:`__call__`.

        Returns:
            Tensor: (B, 3, *size) in [0, 1], float32, on the pipeline's device.

        Raises:
            TSDSRError: the network produced values that are not finite.
        """
        x_lq = upsample_bicubic(x.to(self._execution_device, torch.float32), size)
        padded = pad_to_multiple(x_lq, self.spec.size_multiple)
        z_lq = self.encode(padded, plan, generator)
        z_hat = self.denoise(z_lq, plan, on_tile)
        x_hat = self.decode(z_hat, plan)[..., : size[0], : size[1]]
        if not bool(torch.isfinite(x_hat).all()):
            raise TSDSRError(f"the model produced values that are not finite in {self.dtype}; try bfloat16 or float32")
        return apply_color_fix(color_fix, x_hat, x_lq).clamp_(0, 1)

    def encode(self, x: Tensor, plan: TilePlan, generator: torch.Generator | None = None) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] → scaled latents (B, C, H/f, W/f), ``scaling_factor * z`` without a shift."""
        factor = self.spec.vae_scale_factor
        dtype = _compute_dtype(self.vae)

        def encode_tile(tile: Tensor) -> Tensor:
            posterior = self.vae.encode((tile * 2 - 1).to(dtype)).latent_dist
            latent: Tensor = posterior.mode() if generator is None else posterior.sample(generator)
            scaled: Tensor = latent.float() * self.vae.config.scaling_factor
            return scaled

        return tiled_apply(
            encode_tile,
            x,
            tile=plan.autoencoder,
            overlap=plan.overlap,
            multiple=self.spec.size_multiple,
            scale=(1, factor),
        )

    def denoise(self, z_lq: Tensor, plan: TilePlan, on_tile: Callable[[int, int], None] | None = None) -> Tensor:
        """The one step on latents (B, C, h, w), tiled as planned."""
        factor = self.spec.vae_scale_factor
        return tiled_apply(
            self.one_step,
            z_lq,
            tile=plan.denoiser and plan.denoiser // factor,
            overlap=plan.overlap // factor,
            multiple=self.spec.size_multiple // factor,
            batch=plan.batch,
            on_tile=on_tile,
        )

    def one_step(self, z_lq: Tensor) -> Tensor:
        """The one step on scaled latents (B, C, h, w) as they are, untiled → ``z_hat``, same shape."""
        denoiser, prompt = as_denoiser(self.denoiser), self.prompt.conditioning()
        return restore(denoiser, self.spec.process, z_lq, self.spec.timestep, prompt)

    def decode(self, z: Tensor, plan: TilePlan) -> Tensor:
        """Scaled latents (B, C, h, w) → images (B, 3, h * f, w * f), nominally in [0, 1], not clamped."""
        factor = self.spec.vae_scale_factor
        dtype = _compute_dtype(self.vae)

        def decode_tile(tile: Tensor) -> Tensor:
            x: Tensor = self.vae.decode((tile / self.vae.config.scaling_factor).to(dtype), return_dict=False)[0]
            return x.float() / 2 + 0.5

        return tiled_apply(
            decode_tile,
            z,
            tile=plan.autoencoder and plan.autoencoder // factor,
            overlap=plan.overlap // factor,
            multiple=self.spec.size_multiple // factor,
            scale=(factor, 1),
        )


def _compute_dtype(module: ModelMixin) -> torch.dtype:
    """The dtype of the module's weights; float32 for a module without any."""
    first = next(module.parameters(), None)
    return torch.float32 if first is None else first.dtype
