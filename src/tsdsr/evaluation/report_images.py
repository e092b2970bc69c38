"""The pictures inside a report: which images are embedded, and how they become text."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from PIL import Image

from tsdsr.errors import DatasetError, ImageError
from tsdsr.evaluation.metrics import METRICS
from tsdsr.evaluation.results import Evaluation
from tsdsr.images.reading import read_rgb

THUMBNAIL = 160
"""Longer side of a thumbnail in pixels."""

_WEBP_LIMIT = 16383  # pixels a side; the format has no more


def choose_images(evaluation: Evaluation, count: int | None) -> tuple[int, ...]:
    """The images to embed: a third of them the worst, a third the best, the rest evenly spaced between.

    They are ordered by the first metric that has values of single images, averaged over the systems; without one they
    are evenly spaced in the order given.

    Args:
        evaluation (Evaluation): images and scores.
        count (int | None): how many; None is all.

    Returns:
        tuple of int: indices into :attr:`Evaluation.images`, ascending.
    """
    total = len(evaluation.images)
    if count is None or count >= total:
        return tuple(range(total))
    ranked = _from_worst_to_best(evaluation)
    if ranked is None:
        return tuple(_evenly(range(total), count))
    extreme = count // 3
    middle = ranked[extreme : total - extreme]
    return tuple(sorted({*ranked[:extreme], *ranked[total - extreme :], *_evenly(middle, count - 2 * extreme)}))


def pictures_of(evaluation: Evaluation, index: int, quality: int | None) -> dict[str, str]:
    """The pictures of one image as data URLs.

    Args:
        evaluation (Evaluation): the files.
        index (int): which image.
        quality (int | None): 1 to 100 of lossy WebP; None is lossless.

    Returns:
        dict: ``lr`` as it is, ``bicubic`` the same enlarged to the size of the results, ``gt``, and each system's
        picture under its number; what the evaluation does not have is left out.

    Raises:
        DatasetError: a file is missing or broken.
    """
    pictures = {str(k): open_picture(s.files[index]) for k, s in enumerate(evaluation.systems) if s.files}
    if evaluation.gt_files:
        pictures["gt"] = open_picture(evaluation.gt_files[index])
    if evaluation.lr_files:
        low = pictures["lr"] = open_picture(evaluation.lr_files[index])
        size = next((p.size for key, p in pictures.items() if key != "lr"), low.size)
        pictures["bicubic"] = low.resize(size, Image.Resampling.BICUBIC)
    with ThreadPoolExecutor() as pool:
        return dict(zip(pictures, pool.map(partial(data_url, quality=quality), pictures.values()), strict=True))


def thumbnails(evaluation: Evaluation) -> Iterator[tuple[str, str]]:
    """A small lossy picture of every image of every system.

    Yields:
        (str, str): ``image-system`` as numbers, and a data URL.

    Raises:
        DatasetError: a file is missing or broken.
    """
    for k, system in enumerate(evaluation.systems):
        for index, file in enumerate(system.files):
            picture = open_picture(file)
            picture.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
            yield f"{index}-{k}", data_url(picture, quality=75)


def open_picture(file: str) -> Image.Image:
    """An image file as :func:`~tsdsr.images.reading.read_rgb` reads it.

    Raises:
        DatasetError: missing or broken.
    """
    path = Path(file)
    if not path.is_file():
        raise DatasetError(f"{path}: the evaluation names this file, but it is gone; put it back or evaluate again")
    try:
        return Image.fromarray(read_rgb(path))
    except ImageError as error:
        raise DatasetError(f"{error}; write the file again or evaluate again") from error


def data_url(picture: Image.Image, quality: int | None) -> str:
    """A picture as text: lossy WebP of the given quality, or, for None, the smaller of PNG and lossless WebP."""
    fits_webp = max(picture.size) <= _WEBP_LIMIT
    if quality is not None and fits_webp:
        candidates = {"webp": _encoded(picture, "WEBP", quality=quality)}
    else:
        candidates = {"png": _encoded(picture, "PNG")}
        if fits_webp:
            candidates["webp"] = _encoded(picture, "WEBP", lossless=True)
    kind, data = min(candidates.items(), key=lambda item: len(item[1]))
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _encoded(picture: Image.Image, kind: str, **options: bool | int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def _from_worst_to_best(evaluation: Evaluation) -> list[int] | None:
    for name in evaluation.metrics:
        columns = [s.scores[name].values for s in evaluation.systems if name in s.scores and s.scores[name].values]
        if columns and name in METRICS:
            sign = 1 if METRICS[name].higher_is_better else -1
            means = [sign * sum(values) / len(values) for values in zip(*columns, strict=True)]
            return sorted(range(len(means)), key=lambda i: -math.inf if math.isnan(means[i]) else means[i])
    return None


def _evenly(candidates: range | list[int], count: int) -> list[int]:
    """``count`` of the candidates, the first and the last among them when there are two or more."""
    last = len(candidates) - 1
    return [candidates[round(i * last / max(1, count - 1))] for i in range(count)]
