"""Restore one image file with a pipeline, including its metadata."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tsdsr.errors import ImageReadError, ImageWriteError, InvalidInputError
from tsdsr.files import StrPath
from tsdsr.images.icc import to_srgb
from tsdsr.images.reading import DEFAULT_MAX_PIXELS, image_format, require_codec
from tsdsr.pipeline.files import restore_file, restore_picture
from tsdsr.pipeline.options import RestoreKeywords, RestoreOptions

if TYPE_CHECKING:
    import torch
    from typing_extensions import Unpack

    from tsdsr.images.picture import Picture
    from tsdsr.images.writing import WriteOptions
    from tsdsr.pipeline.files import Restore
    from tsdsr.pipeline.pipeline import OneStepSRPipeline, OnTile


def upscale_file(
    source: StrPath,
    target: StrPath,
    scale: float = 4.0,
    *,
    model: OneStepSRPipeline | StrPath = "mini",
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    seed: int | None = None,
    icc: Literal["keep", "srgb"] = "keep",
    max_pixels: int | None = DEFAULT_MAX_PIXELS,
    write_options: WriteOptions | None = None,
    on_tile: OnTile | None = None,
    **options: Unpack[RestoreKeywords],
) -> tuple[str, ...]:
    """Restore and enlarge one image file, as ``tsdsr upscale`` does.

    EXIF, XMP, ICC profile, resolution, transparency, grey and 16 bits are kept as far as the target's format
    supports them. An existing target is replaced.

    Args:
        source (str | PathLike): PNG, JPEG, WebP, TIFF, BMP, AVIF or HEIC.
        target (str | PathLike): the result; its suffix determines the format. Missing folders are created.
        scale (float): enlargement from 1 to 8.
        model: a pipeline, used as it is, or an argument of :func:`~tsdsr.pipeline.loading.load_pipeline`, loaded for
            this call. For several files, load the pipeline once.
        device, dtype: device and precision to load a model with.
        seed (int | None): sample the latent from the encoder's posterior with this seed; None uses the mode.
        icc ("keep" | "srgb"): keep the ICC profile, or convert the pixels to sRGB.
        max_pixels (int | None): inputs with more pixels are rejected; None accepts any.
        write_options (WriteOptions | None): quality, subsampling and compression of the result.
        on_tile (callable | None): called with (finished, total) tiles.
        options: ``target_size``, ``fit``, ``color_fix``, ``detail``, ``tile``, ``tile_overlap``, ``tile_batch``, see
            :class:`~tsdsr.pipeline.options.RestoreOptions`.

    Returns:
        tuple of str: what was converted or dropped, such as "JPEG has no transparency: …".

    Raises:
        InvalidInputError: an argument is out of range; raised before the model is loaded.
        ImageError: the source cannot be read, or the target cannot be written.
        ModelError: the model cannot be loaded.
        OutOfMemoryError: even the smallest tiles do not fit.
    """
    chosen = RestoreOptions(scale, **options)
    if icc not in ("keep", "srgb"):
        raise InvalidInputError(f"icc must be 'keep' or 'srgb', got {icc!r}")
    source, target = Path(source), Path(target)
    require_codec(target, image_format(target))
    if not source.is_file():
        raise ImageReadError(f"{source}: no such file")
    if target.exists() and target.samefile(source):
        raise ImageWriteError(f"{target}: the result would overwrite the input; choose another name")
    restore = picture_restorer(_loaded(model, device, dtype), chosen, seed, icc, on_tile)
    return restore_file(source, target, restore, max_pixels, write_options)


def picture_restorer(
    pipe: OneStepSRPipeline,
    options: RestoreOptions,
    seed: int | None = None,
    icc: Literal["keep", "srgb"] = "keep",
    on_tile: Callable[[int, int], None] | None = None,
) -> Restore:
    """Wrap a pipeline as a function from picture to picture.

    Args:
        pipe (OneStepSRPipeline): a loaded pipeline.
        options (RestoreOptions): how to restore pictures.
        seed, icc, on_tile: see :func:`upscale_file`; every picture starts from the same seed.
    """
    import torch

    def restore(picture: Picture) -> Picture:
        generator = None if seed is None else torch.Generator(pipe.device).manual_seed(seed)
        enlarge = partial(pipe.upscale_pixels, generator=generator, on_tile=on_tile, **asdict(options))
        return restore_picture(to_srgb(picture) if icc == "srgb" else picture, enlarge, options.visible)

    return restore


def _loaded(
    model: OneStepSRPipeline | StrPath, device: str | torch.device, dtype: str | torch.dtype
) -> OneStepSRPipeline:
    from tsdsr.pipeline.loading import load_pipeline
    from tsdsr.pipeline.pipeline import OneStepSRPipeline

    return model if isinstance(model, OneStepSRPipeline) else load_pipeline(model, device, dtype)
