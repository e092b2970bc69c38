"""Pictures embedded in an HTML report: selection of the images and encoding as data URLs."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import MappingProxyType

from PIL import Image

from tsdsr.errors import DatasetError, ImageError
from tsdsr.evaluation.metrics import METRICS
from tsdsr.evaluation.results import Evaluation
from tsdsr.hashing import hash_file
from tsdsr.images.reading import read_rgb

THUMBNAIL = 160
"""Longer side of a thumbnail in pixels."""

_WEBP_LIMIT = 16383  # largest side in pixels


def choose_images(evaluation: Evaluation, count: int | None) -> tuple[int, ...]:
    """Select the images to embed: the worst third, the best third, and the rest evenly spaced in between.

    Images are ranked by the first metric with per-image values, averaged over the systems. Without such a metric, the
    selection is evenly spaced in the given order.

    Args:
        evaluation (Evaluation): images and scores.
        count (int | None): number of images; None selects all.

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
    """Encode all pictures of one image as data URLs.

    Args:
        evaluation (Evaluation): the evaluation with its files.
        index (int): index of the image.
        quality (int | None): quality of lossy WebP, 1 to 100; None is lossless.

    Returns:
        dict: ``lr`` is the input, ``bicubic`` the input upscaled to the size of the results, ``gt`` the ground truth,
        and each system's output has the system's index as key. Missing pictures have no entry.

    Raises:
        DatasetError: A file is missing or damaged.
    """
    files = {str(k): system.files for k, system in enumerate(evaluation.systems)}
    files |= {"gt": evaluation.gt_files, "lr": evaluation.lr_files}
    pictures = {key: open_picture(paths[index], evaluation.hashes) for key, paths in files.items() if paths}
    if low := pictures.get("lr"):
        size = next((p.size for key, p in pictures.items() if key != "lr"), low.size)
        pictures["bicubic"] = low.resize(size, Image.Resampling.BICUBIC)
    with ThreadPoolExecutor() as pool:
        return dict(zip(pictures, pool.map(partial(data_url, quality=quality), pictures.values()), strict=True))


def thumbnails(evaluation: Evaluation) -> Iterator[tuple[str, str]]:
    """Encode a small lossy thumbnail of every output of every system.

    Yields:
        (str, str): key ``IMAGE-SYSTEM`` of indices, and a data URL.

    Raises:
        DatasetError: A file is missing or damaged.
    """
    for k, system in enumerate(evaluation.systems):
        for index, file in enumerate(system.files):
            picture = open_picture(file, evaluation.hashes)
            picture.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
            yield f"{index}-{k}", data_url(picture, quality=75)


def open_picture(file: str, hashes: Mapping[str, str] = MappingProxyType({})) -> Image.Image:
    """Open an image file with :func:`~tsdsr.images.reading.read_rgb`.

    Args:
        file (str): path.
        hashes (mapping): path → SHA-256 of the content that was scored; files without an entry are not checked.

    Raises:
        DatasetError: The file is missing, damaged, or not the one that was scored.
    """
    path = Path(file)
    if not path.is_file():
        raise DatasetError(f"{path}: the evaluation names this file, but it is gone; put it back or evaluate again")
    try:
        if hashes.get(file, "") not in ("", hash_file(path)):
            raise DatasetError(f"{path}: has changed since it was scored; evaluate again")
        return Image.fromarray(read_rgb(path))
    except (ImageError, OSError) as error:
        raise DatasetError(f"{error}; write the file again or evaluate again") from error


def data_url(picture: Image.Image, quality: int | None) -> str:
    """Encode a picture as a data URL: lossy WebP of a quality, or for None the smaller of PNG and lossless WebP."""
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
    """Select ``count`` evenly spaced candidates. If ``count`` is two or more, include the first and the last."""
    last = len(candidates) - 1
    return [candidates[round(i * last / max(1, count - 1))] for i in range(count)]
