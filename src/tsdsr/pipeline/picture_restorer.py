"""Restore pictures with a pipeline: colours, transparency and metadata around the pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tsdsr.errors import InvalidInputError
from tsdsr.files import StrPath
from tsdsr.images.icc import to_srgb
from tsdsr.images.picture import Picture, Pixels
from tsdsr.images.transparency import enlarge_alpha, fill_transparent
from tsdsr.pipeline.model_files import base_model, has_graph, is_exported, local_folder
from tsdsr.pipeline.options import RestoreOptions

if TYPE_CHECKING:
    from tsdsr.pipeline.batch import Restore
    from tsdsr.pipeline.sr_pipeline import SRPipeline
    from tsdsr.pipeline.steady import SteadyDetail

Enlarge = Callable[[Pixels], Pixels]
Visible = Callable[[int, int], tuple[slice, slice]]


def _samples(folder: Path | None, engine: str) -> bool:
    """Return whether a model in an engine takes a seed. `mini` in ONNX Runtime does: it has nothing to sample."""
    if folder is None:
        return engine in ("auto", "torch")
    return not is_exported(folder) and (engine in ("auto", "torch") or (engine == "onnx" and has_graph(folder)))


def check_model(
    model: StrPath, options: RestoreOptions, seed: int | None, engine: str = "auto", upstream: bool = False
) -> None:
    """Check what can be known without loading a model: its smallest tile, and whether it can sample.

    Args:
        model (str | PathLike): name, folder or hub ID.
        options (RestoreOptions): how pictures are to be restored.
        seed (int | None): seed for sampling.
        engine (str): see :func:`tsdsr.load_pipeline`.
        upstream (bool): whether the released inference is to be reproduced.

    Raises:
        InvalidInputError: the model cannot be used with these options.
    """
    folder = local_folder(model)
    if seed is not None and not _samples(folder, engine):
        raise InvalidInputError("an exported model uses the latent's mode and cannot sample it: leave out the seed")
    name = None if folder is None else base_model(folder)
    if name is not None and (upstream or options.tile not in ("auto", None)):
        from tsdsr.models.zoo import SPECS
        from tsdsr.pipeline.tile_plan import check_tile

        if name in SPECS:
            check_tile(SPECS[name], options.tile)
            if upstream:
                from tsdsr.pipeline.upstream import check_upstream_model

                check_upstream_model(SPECS[name])


def picture_restorer(
    pipe: SRPipeline,
    options: RestoreOptions,
    seed: int | None = None,
    icc: Literal["keep", "srgb"] = "keep",
    on_tile: Callable[[int, int], None] | None = None,
    steady: SteadyDetail | None = None,
) -> Restore:
    """Wrap a pipeline as a function from picture to picture.

    Args:
        pipe (SRPipeline): a loaded pipeline.
        options (RestoreOptions): how to restore pictures.
        seed (int | None): sample the latent with this seed, the same for every picture; None uses the mode.
        icc ("keep" | "srgb"): keep colours and profile, or convert to sRGB.
        on_tile (callable | None): called with (finished, total) tiles.
        steady (SteadyDetail | None): removes flicker, if the pictures are consecutive frames.
    """

    generator = None if seed is None else int(seed)

    def restore(picture: Picture) -> Picture:
        enlarge: Enlarge = partial(pipe.upscale_pixels, generator=generator, on_tile=on_tile, **asdict(options))
        if steady is not None:
            enlarge = steady.wrap(enlarge)
        return restore_picture(to_srgb(picture) if icc == "srgb" else picture, enlarge, options.visible)

    return restore


def restore_picture(picture: Picture, enlarge: Enlarge, visible: Visible | None = None) -> Picture:
    """Restore and enlarge a picture. The model sees only the colour channels.

    Visible colours are first extended into transparent areas, so that invisible colours do not bleed into edges. Alpha
    is enlarged separately. Metadata is kept.

    Args:
        picture (Picture): the picture to enlarge.
        enlarge (callable): maps pixels (h, w, C) to pixels (H, W, C) of the same dtype and number of channels, such as
            a pipeline's ``upscale_pixels``.
        visible (callable | None): maps (h, w) to the rows and columns of the input that ``enlarge`` keeps, see
            :meth:`~tsdsr.pipeline.options.RestoreOptions.visible`; None means all.

    Raises:
        ImageReadError: the picture has high dynamic range.
    """
    picture.check_range()
    pixels, alpha = picture.pixels, picture.alpha
    if alpha is None:
        return replace(picture, pixels=enlarge(pixels))
    transparent = int(alpha.min()) < picture.max_value
    pixels = enlarge(fill_transparent(pixels, alpha) if transparent else pixels)
    alpha = alpha if visible is None else alpha[visible(*alpha.shape[:2])]
    return replace(picture, pixels=pixels, alpha=enlarge_alpha(alpha, pixels.shape[:2]))
