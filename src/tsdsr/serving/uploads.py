"""Uploads: the body of a request → a file in the spool, checked from its header → a job."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from tsdsr.errors import MissingDependencyError
from tsdsr.images.encoded import EncodedImage
from tsdsr.images.formats import FORMATS, require_codec
from tsdsr.images.reading import read_size_and_format
from tsdsr.images.writing import check_size
from tsdsr.pipeline.tile_plan import check_tile
from tsdsr.serving.job import Job, Order
from tsdsr.serving.job_queue import JobQueue
from tsdsr.serving.options import RawQuery, UpscaleOptions, format_name, parse_options
from tsdsr.serving.problems import ProblemError, problem_of
from tsdsr.serving.security import UPLOAD_OVERHEAD
from tsdsr.wording import readable_size

MULTIPART, BINARY = "multipart/form-data", "application/octet-stream"
_MOST_FIELDS = 32
_FIELD_BYTES = 4096
_PIECE = 2**20
_LONGEST_NAME = 150


@dataclass(frozen=True)
class Upload:
    """A received body.

    Attributes:
        path (Path): the picture in the spool.
        name (str | None): file name that the client gave, as given.
        fields (dict): the other fields of a form.
    """

    path: Path
    name: str | None
    fields: dict[str, str]


async def accept(request: Request, queue: JobQueue, query: RawQuery, waits_for_client: bool = False) -> Job:
    """Receive a picture and queue it.

    Raises:
        ProblemError: the queue is full, or the upload or an option is refused.
    """
    kind = _checked_kind(request, queue.settings.max_upload_bytes)
    with queue.place():
        upload = await (_receive_form if kind == MULTIPART else _receive_raw)(request, queue)
        try:
            queue.make_room(0)
            given = query.model_dump(exclude_unset=True, exclude={"name"})
            for name in given.keys() & upload.fields.keys():
                raise ProblemError("invalid-option", f"{name}: is given in the address and in the form")
            options = parse_options({**given, **upload.fields})
            order = await run_in_threadpool(check_upload, queue, upload.path, upload.name or query.name, options)
            return queue.submit(order, waits_for_client)
        except BaseException:
            queue.spool.remove(upload.path)
            raise


def check_upload(queue: JobQueue, path: Path, name: str | None, options: UpscaleOptions) -> Order:
    """Check an upload from its header, without decoding it.

    Args:
        queue (JobQueue): gives model and limits.
        path (Path): the upload in the spool.
        name (str | None): file name that the client gave.
        options (UpscaleOptions): what is asked for.

    Raises:
        ProblemError: it is no picture, it or its result is too large, or the result's format cannot hold it.
    """
    settings, shown = queue.settings, clean_name(name)
    try:
        width, height, format = read_size_and_format(EncodedImage(shown, path))
    except MissingDependencyError as error:
        raise ProblemError("not-an-image", str(error)) from None
    except Exception as error:
        raise problem_of(error) from None
    _check_pixels(f"{shown}: the picture", width, height, settings.max_pixels)
    own, stem = format_name(format), Path(shown).stem if Path(shown).suffix.lower() in FORMATS else shown
    wanted = options.format or own
    result_name = f"{stem}.{wanted}" if options.format or stem == shown else shown
    try:
        result_height, result_width = options.restore_options().size(height, width)
        options.write_options()
        _check_pixels(f"{shown}: the result", result_width, result_height, settings.max_result_pixels)
        require_codec(result_name, FORMATS[f".{wanted}"])
        check_size(result_name, result_width, result_height)
        check_tile(queue.pipe.spec, options.tile)
        _check_seed(queue, options)
    except ProblemError:
        raise
    except Exception as error:
        raise problem_of(error) from None
    size, result_size = path.stat().st_size, (result_width, result_height)
    return Order(shown, path, width, height, own, size, options, result_name, wanted, result_size)


def clean_name(name: str | None) -> str:
    """Return a client's file name for messages and downloads: no folders, no control characters, bounded."""
    text = (name or "").encode("utf-8", "replace").decode().replace("\\", "/").rpartition("/")[2]
    text = "".join(c for c in text if c.isprintable()).strip().lstrip(".")
    if len(text) > _LONGEST_NAME:
        text = text[: _LONGEST_NAME - 10] + text[-10:]
    return text or "picture"


def _check_pixels(what: str, width: int, height: int, most: int) -> None:
    if width * height > most:
        raise ProblemError("too-many-pixels", f"{what} has {width}x{height} pixels, more than the limit of {most}.")


def _check_seed(queue: JobQueue, options: UpscaleOptions) -> None:
    if options.seed is not None and queue.pipe.engine != "torch" and queue.pipe.spec.name != "mini":
        raise ProblemError("invalid-option", "seed: an exported model cannot sample; leave it out")


def _checked_kind(request: Request, most: int) -> str:
    """Return the media type of the body, after all checks that need the headers only."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in (MULTIPART, BINARY) and not kind.startswith("image/"):
        raise ProblemError(
            "not-an-image", f"Send {MULTIPART} with a file 'image', or the picture itself as image/* or {BINARY}."
        )
    if request.headers.get("content-encoding", "identity") != "identity":
        raise ProblemError("not-an-image", "Compressed bodies are not accepted: send the picture uncompressed.")
    length = request.headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()) or int(length[:18]) > most + _overhead(kind):
        raise _too_large(most)
    return kind


def _overhead(kind: str) -> int:
    return UPLOAD_OVERHEAD if kind == MULTIPART else 0


def _too_large(most: int) -> ProblemError:
    return ProblemError("upload-too-large", f"An upload has at most {readable_size(most)} ({most} bytes).")


async def _pieces(request: Request, queue: JobQueue, most: int, key: Path) -> AsyncGenerator[bytes, None]:
    """Yield the body, counted against the limits of size, time and disk.

    Raises:
        ProblemError: a limit is exceeded.
    """
    settings, size, counted = queue.settings, 0, 0
    until = time.monotonic() + settings.upload_timeout
    stream = request.stream()
    while True:
        try:
            piece = await asyncio.wait_for(anext(stream), max(0.0, until - time.monotonic()))
        except StopAsyncIteration:
            return
        except asyncio.TimeoutError:
            raise ProblemError("upload-too-slow", f"The upload took more than {settings.upload_timeout:g} s.") from None
        size += len(piece)
        if size > most:
            raise _too_large(settings.max_upload_bytes)
        if size - counted >= _PIECE:
            queue.make_room(size - counted)
            queue.spool.count(key, size)
            counted = size
        yield piece


async def receive(request: Request, queue: JobQueue, most: int) -> Path:
    """Receive the whole body of a request; return its file in the spool.

    Raises:
        ProblemError: it has more than ``most`` bytes, or is too slow.
    """
    path = queue.spool.new_path()
    try:
        with path.open("xb") as file:
            waiting = bytearray()
            async for piece in _pieces(request, queue, most, path):
                waiting += piece
                if len(waiting) >= _PIECE:
                    await run_in_threadpool(file.write, waiting)
                    waiting = bytearray()
            await run_in_threadpool(file.write, waiting)
        queue.spool.count(path)
    except BaseException:
        queue.spool.remove(path)
        raise
    return path


async def _receive_raw(request: Request, queue: JobQueue) -> Upload:
    return Upload(await receive(request, queue, queue.settings.max_upload_bytes), None, {})


async def _receive_form(request: Request, queue: JobQueue) -> Upload:
    path = queue.spool.new_path()
    most = queue.settings.max_upload_bytes + UPLOAD_OVERHEAD
    parser = MultiPartParser(
        request.headers,
        _pieces(request, queue, most, path),
        max_files=1,
        max_fields=_MOST_FIELDS,
        max_part_size=_FIELD_BYTES,
    )
    try:
        form = await parser.parse()
        try:
            upload, fields = _sorted_fields(form.multi_items())
            await run_in_threadpool(_copy, upload, path)
        finally:
            await form.close()
        queue.spool.count(path)
    except BaseException as error:
        queue.spool.remove(path)
        if isinstance(error, MultiPartException):
            raise ProblemError("bad-request", f"The form cannot be read: {error.message}") from None
        raise
    return Upload(path, upload.filename, fields)


def _sorted_fields(items: list[tuple[str, Any]]) -> tuple[UploadFile, dict[str, str]]:
    """Return the file and the other fields of a form.

    Raises:
        ProblemError: there is no file, or a field occurs twice.
    """
    files = [value for name, value in items if name == "image" and isinstance(value, UploadFile)]
    if not files:
        raise ProblemError("bad-request", "The form has no file 'image'.")
    fields: dict[str, str] = {}
    for name, value in items:
        if value is files[0]:
            continue
        if name in fields or isinstance(value, UploadFile) or name == "image":
            raise ProblemError("invalid-option", f"{name[:100]}: is given twice, or is a file")
        fields[name] = value
    return files[0], fields


def _copy(upload: UploadFile, path: Path) -> None:
    with path.open("xb") as file:
        while piece := upload.file.read(_PIECE):
            file.write(piece)
