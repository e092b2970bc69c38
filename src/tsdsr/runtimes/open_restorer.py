"""Any model in any engine as a function from picture to picture, with the settings of a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from tsdsr.images.icc import to_srgb
from tsdsr.images.picture import Picture
from tsdsr.pipeline.made_from import BatchSettings
from tsdsr.pipeline.picture_restorer import picture_restorer
from tsdsr.pipeline.tile_plan import check_tile
from tsdsr.runtimes.open_model import Engine, load_pipeline

if TYPE_CHECKING:
    from tsdsr.optimize.quantize import QuantizeMode
    from tsdsr.pipeline.batch import Restore
    from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline
    from tsdsr.pipeline.sr_pipeline import SRPipeline
    from tsdsr.pipeline.steady import SteadyDetail

FAST = "fast"
"""Value of :attr:`BatchSettings.quantize` for the 8-bit graph of `mini`; any other is a mode of torchao."""


@dataclass(frozen=True)
class ModelSource:
    """A model and where it runs: what :class:`BatchSettings` does not say because results do not depend on it.

    Attributes:
        model (str): name, folder or hub ID.
        provider, device: see :func:`~tsdsr.runtimes.open_model.load_pipeline`.
        compile (bool): compile the networks with torch.
    """

    model: str = "mini"
    provider: str = "auto"
    device: str = "auto"
    compile: bool = False


def open_restorer(
    source: ModelSource,
    settings: BatchSettings,
    pixels: int | None = None,
    threads: int | None = None,
    say: Callable[[str], None] = lambda _: None,
    on_tile: Callable[[int, int], None] | None = None,
    steady: SteadyDetail | None = None,
) -> Restore:
    """Load a model and return the function that restores pictures with it.

    Args:
        source (ModelSource): the model and where it runs.
        settings (BatchSettings): how pictures are restored.
        pixels, threads, say: see :func:`~tsdsr.runtimes.open_model.load_pipeline`.
        on_tile (callable | None): called with (finished, total) tiles.
        steady (SteadyDetail | None): see :func:`~tsdsr.pipeline.picture_restorer.picture_restorer`.

    Raises:
        TSDSRError: the model cannot be loaded, or not used with these settings.
    """
    if settings.preset == "upstream":
        return _upstream_restorer(_open_diffusers(source, settings), settings)
    pipe = _open(source, settings, pixels, threads, say)
    check_tile(pipe.spec, settings.restore.tile)
    return picture_restorer(
        pipe, settings.restore, settings.seed, "srgb" if settings.icc == "srgb" else "keep", on_tile, steady
    )


def _open(
    source: ModelSource,
    settings: BatchSettings,
    pixels: int | None,
    threads: int | None,
    say: Callable[[str], None],
) -> SRPipeline:
    fast = settings.quantize == FAST
    if source.compile or (settings.quantize is not None and not fast):
        return _open_diffusers(source, settings)
    return load_pipeline(
        source.model, source.device, str(settings.dtype), engine=cast("Engine", settings.engine),
        provider=source.provider, fast=fast, threads=threads, pixels=pixels, say=say,
    )  # fmt: skip


def _open_diffusers(source: ModelSource, settings: BatchSettings) -> OneStepSRPipeline:
    """Load the model with diffusers; quantise or compile it if asked to."""
    from tsdsr.devices import choose_device
    from tsdsr.optimize.compile import compile_pipeline, require_compiler
    from tsdsr.pipeline.diffusers_loading import load_diffusers_pipeline

    if source.compile:
        require_compiler(choose_device(source.device))
    pipe = load_diffusers_pipeline(source.model, source.device, str(settings.dtype))
    if settings.quantize is not None:
        from tsdsr.optimize.quantize import quantize

        quantize(pipe, cast("QuantizeMode", settings.quantize))
    return compile_pipeline(pipe) if source.compile else pipe  # last, so that the final network is compiled


def _upstream_restorer(pipe: OneStepSRPipeline, settings: BatchSettings) -> Restore:
    from tsdsr.pipeline.upstream import check_upstream_model, upscale_like_upstream

    check_upstream_model(pipe.spec)

    def restore(picture: Picture) -> Picture:
        picture = to_srgb(picture) if settings.icc == "srgb" else picture
        result = upscale_like_upstream(pipe, picture.to_image(), settings.restore.scale, settings.restore.color_fix)
        plain = picture.alpha is None and picture.max_value == 255 and not picture.grey
        notices = picture.notices if plain else (*picture.notices, "the upstream preset works in RGB of 8 bits")
        return Picture(np.asarray(result), None, picture.metadata, notices)

    return restore
