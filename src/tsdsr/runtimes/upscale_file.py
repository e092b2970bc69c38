"""Restore one image file, including its metadata, with any model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tsdsr.errors import ImageWriteError, InvalidInputError
from tsdsr.files import StrPath, as_path, require_writable_file
from tsdsr.images.formats import image_format, require_codec
from tsdsr.images.reading import DEFAULT_MAX_PIXELS
from tsdsr.images.writing import WriteOptions
from tsdsr.pipeline.batch import restore_and_record
from tsdsr.pipeline.jobs import Job, check_targets
from tsdsr.pipeline.made_from import BatchSettings
from tsdsr.pipeline.model_files import hash_of_model
from tsdsr.pipeline.options import RestoreKeywords, RestoreOptions, check_seed, is_count
from tsdsr.pipeline.picture_restorer import check_model, picture_restorer
from tsdsr.pipeline.sources import named_file
from tsdsr.pipeline.sr_pipeline import OnTile, SRPipeline
from tsdsr.result_records import ResultRecords
from tsdsr.runtimes.open_model import Engine, load_pipeline

if TYPE_CHECKING:
    import torch
    from typing_extensions import Unpack


def upscale_file(
    source: StrPath,
    target: StrPath,
    scale: float = 4.0,
    *,
    model: SRPipeline | StrPath = "mini",
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    engine: Engine = "auto",
    provider: str = "auto",
    fast: bool = False,
    seed: int | None = None,
    icc: Literal["keep", "srgb"] = "keep",
    max_pixels: int | None = DEFAULT_MAX_PIXELS,
    write_options: WriteOptions | None = None,
    on_tile: OnTile | None = None,
    **options: Unpack[RestoreKeywords],
) -> tuple[str, ...]:
    """Restore and enlarge one image file, as ``tsdsr upscale`` does.

    Metadata, transparency, grey and 16 bits are kept as far as the target's format supports them. An existing target is
    replaced. A hidden file next to it records what it was made from, so that ``tsdsr upscale`` recognises it later. The
    arguments that are not listed here are those of :func:`tsdsr.load_pipeline`.

    Args:
        source (str | PathLike): PNG, JPEG, WebP, TIFF, BMP, AVIF, HEIC or JPEG XL, or a pipe that yields one.
        target (str | PathLike): the result; its suffix determines the format. Missing folders are created.
        scale (float): enlargement from 1 to 8.
        model: as for :func:`tsdsr.load_pipeline`, loaded for this call; for several files, a pipeline.
        seed (int | None): sample the latent from the encoder's posterior with this seed; None uses the mode.
        icc ("keep" | "srgb"): keep colours and profile, or convert to sRGB, which also tone-maps PQ and HLG.
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
    chosen, written = RestoreOptions(scale, **options), WriteOptions() if write_options is None else write_options
    check_seed(seed)
    _check_types(model, device, dtype, icc, max_pixels, written, on_tile)
    job, weights = _checked_job(as_path(source, "source"), as_path(target, "target"), chosen), None
    if isinstance(model, str | os.PathLike):
        check_model(model, chosen, seed, engine)
        weights = hash_of_model(model)
    settings = BatchSettings(weights, chosen, written, dtype, seed, icc, engine, "fast" if fast else None)
    made_from = settings.made_from(job)
    if not isinstance(model, SRPipeline):
        model = load_pipeline(model, device, dtype, engine=engine, provider=provider, fast=fast, pixels=job.pixels)
    restore = picture_restorer(model, chosen, seed, icc, on_tile)
    return restore_and_record(job, restore, ResultRecords(), made_from, max_pixels, written)


def _checked_job(source: Path, target: Path, options: RestoreOptions) -> Job:
    """Return the job of one file after all checks that need no model.

    Raises:
        InvalidInputError: ``target`` cannot be written, or the source cannot be enlarged to the target size.
        ImageError: the source cannot be read, or the target's format or place does not allow the result.
    """
    require_codec(target, image_format(target))
    found = named_file(source)
    if found.error is not None:
        raise found.error
    if os.path.exists(target) and target.samefile(source):
        raise ImageWriteError(f"{target}: the result would overwrite the input; choose another name")
    require_writable_file(target)
    (job,) = check_targets([Job(source, target, data=found.data)], options)
    if job.error is not None:
        raise job.error
    return job


def _check_types(
    model: object,
    device: object,
    dtype: object,
    icc: object,
    max_pixels: object,
    written: object,
    on_tile: object,
) -> None:
    """Check the arguments of :func:`upscale_file` that no other function checks.

    Raises:
        InvalidInputError: one has a wrong type or value; the message names it.
    """
    if isinstance(model, str | os.PathLike):
        as_path(model, "model")
    elif not isinstance(model, SRPipeline):
        raise InvalidInputError(f"model must be a pipeline, a name or a folder, got {type(model).__name__}")
    if not isinstance(device, str) and type(device).__name__ != "device":
        raise InvalidInputError(f"device must be a name such as 'auto' or a torch.device, got {device!r}")
    if not isinstance(dtype, str) and type(dtype).__name__ != "dtype":
        raise InvalidInputError(f"dtype must be a name such as 'auto' or a torch.dtype, got {dtype!r}")
    if not isinstance(icc, str) or icc not in ("keep", "srgb"):
        raise InvalidInputError(f"icc must be 'keep' or 'srgb', got {icc!r}")
    if max_pixels is not None and not is_count(max_pixels, 1):
        raise InvalidInputError(f"max_pixels must be None or a whole number of at least 1, got {max_pixels!r}")
    if not isinstance(written, WriteOptions):
        raise InvalidInputError(f"write_options must be a WriteOptions, got {type(written).__name__}")
    if on_tile is not None and not callable(on_tile):
        raise InvalidInputError(f"on_tile must be callable, got {type(on_tile).__name__}")
