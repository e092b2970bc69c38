"""The path of every image through a model, whatever runs the model: torch, diffusers, or an exported graph.

:class:`SRPipeline` enlarges, tiles, blends, aligns colours and rounds. A subclass supplies the model: ``encode``,
``denoise`` and ``decode`` on the arrays of its device. Imports no torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tsdsr.arrays import Array, ArrayDevice
from tsdsr.errors import InvalidInputError
from tsdsr.models.zoo import ModelSpec
from tsdsr.out_of_memory import memory_reported
from tsdsr.pipeline.canvas import make_canvas
from tsdsr.pipeline.noise import Generator, Noise, NoiseField, noise_at, noise_fields
from tsdsr.pipeline.options import ColorFix, Fit, RestoreKeywords, RestoreOptions, Tile
from tsdsr.pipeline.pixel_batches import (
    ImageInput,
    OutputType,
    empty_result,
    from_array,
    from_batches,
    result_dtype,
    to_pixels,
)
from tsdsr.pipeline.stream import EnlargedImage, Place, TileStream
from tsdsr.pipeline.tile_plan import TilePlan, largest_tile, next_smaller_plan, plan_tiles

if TYPE_CHECKING:
    from typing_extensions import Unpack

OnTile = Callable[[int, int], None]
"""Called with (finished, total) tiles of the denoiser."""

TOO_LARGE = "out of memory for input and result; free some, or choose a smaller scale"


@dataclass
class SROutput:
    """Result of the pipeline.

    Attributes:
        images (list of PIL images | Tensor (B, 3, H, W) in [0, 1] | list of arrays (H, W, 3) in [0, 1]): results in
            the order of the inputs.
    """

    images: Any


class SRPipeline(ABC):
    """Restore and enlarge photographs with one step of a distilled diffusion model.

    Made by :func:`tsdsr.load_pipeline`.
    """

    engine: str
    """What runs the model: "torch", "onnx" or "openvino"."""

    folder: Path | None = None
    """Folder that the model was loaded from."""

    @property
    def thread_safe(self) -> bool:
        """Whether several threads may restore pictures at the same time. Subclasses that allow it override this."""
        return False

    @property
    @abstractmethod
    def spec(self) -> ModelSpec:
        """Specification of the base model."""

    @property
    @abstractmethod
    def array_device(self) -> ArrayDevice:
        """Where the model's inputs and outputs are, and where the image is blended and its colours are matched."""

    @property
    @abstractmethod
    def dtype_bytes(self) -> int:
        """Bytes per value in the precision of the denoiser, for estimates of memory."""

    @abstractmethod
    def encode(self, x: Any, noise: Noise | None = None) -> Any:
        """Encode images (B, 3, H, W) in [0, 1] to scaled latents (B, C, H/f, W/f), float32.

        Args:
            x (array): sides are multiples of the model's ``size_multiple``.
            noise (callable | None): gives the noise of a draw from the posterior; None uses the posterior's mode.
        """

    @abstractmethod
    def denoise(self, z_lq: Any) -> Any:
        """Take the one step: map scaled latents (B, C, h, w) to ``z_hat``, same shape."""

    @abstractmethod
    def decode(self, z: Any) -> Any:
        """Decode scaled latents (B, C, h, w) to images (B, 3, H, W), float32, nominally in [0, 1]."""

    @memory_reported(TOO_LARGE)
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
        generator: Generator | None = None,
        output_type: OutputType | None = None,
        on_tile: OnTile | None = None,
    ) -> SROutput:
        """Restore and enlarge.

        The arguments that are not listed here are those of :class:`~tsdsr.pipeline.options.RestoreOptions`.

        Args:
            image: image or list of images of one kind; sizes in a list may differ.

                * PIL image: rotated by its EXIF orientation; 16-bit grey keeps its precision; transparency is flattened
                  onto white (:func:`~tsdsr.runtimes.upscale_file.upscale_file` keeps it);
                * ndarray (h, w, C), C = 1 or 3: uint8, uint16, or float32 in [0, 1];
                * torch tensor (B, 3, h, w) or (3, h, w), floating point in [0, 1].
            generator (int | numpy.random.Generator | torch.Generator | None): a seed, or a generator that draws one, to
                sample the latent from the encoder's posterior; None uses the mode and is deterministic. The noise does
                not depend on the tiles.
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
        return SROutput(images=from_batches(results, kind))

    @memory_reported(TOO_LARGE)
    def upscale_pixels(
        self,
        pixels: np.ndarray,
        scale: float = 4.0,
        *,
        generator: Generator | None = None,
        on_tile: OnTile | None = None,
        **options: Unpack[RestoreKeywords],
    ) -> np.ndarray:
        """Restore and enlarge an array, keeping its dtype.

        Besides input and result, this needs the model's working memory for one tile, and one row of tiles along the
        shorter side. A result larger than half of the free RAM is a ``numpy.memmap`` of a temporary file that is
        deleted with the array. The arguments that are not listed here are those of a call of the pipeline.

        Args:
            pixels (ndarray): (h, w, C), C = 1 or 3; uint8, uint16, or float32 in [0, 1]. The model sees grey as RGB.

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

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        revision: str | None = None,
        token: str | None = None,
        commit_message: str | None = None,
    ) -> str:
        """Upload the model to the hub; ``load_pipeline(repo_id)`` loads it from there.

        This uploads the folder that the model was loaded from: configuration, weights as safetensors, graphs and model
        card. A :class:`~tsdsr.pipeline.diffusers_pipeline.OneStepSRPipeline` whose networks have changed (by folding or
        training), or that was loaded in another way, is first stored in its current precision.

        Args: see :func:`~tsdsr.pipeline.hub.push_folder`.

        Returns:
            str: address of the commit.

        Raises:
            InvalidInputError: the folder is not known, or as :func:`~tsdsr.pipeline.hub.push_folder`.
            ModelNotFoundError, GatedModelError, HubError, MissingDependencyError: see there.
        """
        from tsdsr.pipeline.hub import check_push, push_folder

        check_push(repo_id, revision)
        with self._folder_to_push() as folder:
            return push_folder(
                folder, repo_id, private=private, revision=revision, token=token, commit_message=commit_message
            )

    @contextmanager
    def _folder_to_push(self) -> Iterator[Path]:
        if self.folder is None:
            raise InvalidInputError(f"{type(self).__name__}: was not loaded from a folder, so there is none to upload")
        yield self.folder

    def plan(self, size: tuple[int, int], tile: Tile = "auto", overlap: int | None = None, batch: int = 1) -> TilePlan:
        """Plan tiles for a result of ``size``; arguments as in :func:`plan_tiles`.

        With "auto", tiles are as large as free memory allows.

        Raises:
            InvalidInputError: tile, overlap or batch is out of range.
        """
        largest = None
        if tile == "auto":
            largest = largest_tile(self.spec, size, self.array_device.free_memory(), self.dtype_bytes)
        return plan_tiles(self.spec, size, tile, overlap, batch, largest)

    def _restore_into(
        self,
        canvas: Array,
        pixels: Array,
        options: RestoreOptions,
        generator: Generator | None,
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
            self.array_device.release()  # the failed run's arrays were freed with the error, whose frames held them

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
        """Give all tiles within the block the statistics of the whole image. Networks without any need nothing."""
        yield

    def _restore(
        self, windows: Array, places: list[Place], options: RestoreOptions, noise: Sequence[NoiseField] | None
    ) -> Any:
        """Restore windows of the enlarged image (N * B, 3, h, w), same shape: encode, take one step, decode."""
        factor = self.spec.vae_scale_factor
        spots = [(top // factor, left // factor) for top, left in places]
        z_lq = self.encode(windows, None if noise is None else noise_at(noise, spots))
        z_hat = self.denoise(z_lq)
        if options.detail < 1:
            z_hat = z_lq + self.spec.strength(options.detail) * (z_hat - z_lq)
        return self.decode(z_hat)
