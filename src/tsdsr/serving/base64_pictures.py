"""Pictures as base64 in JSON, as AUTOMATIC1111's interface sends and answers them."""

from __future__ import annotations

import base64
import binascii
import html
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from tsdsr.pipeline.options import MAX_SCALE
from tsdsr.serving.job_queue import JobQueue
from tsdsr.serving.options import invalid_options
from tsdsr.serving.problems import ProblemError
from tsdsr.serving.uploads import clean_name, receive

MOST_JSON_BYTES = 150_000_000
"""Bytes of a request: JSON is read as a whole."""

NO_UPSCALER = "None"
one_at_a_time = threading.Lock()
"""One request is decoded at a time, beside those in work."""

_PIECE = 3 * 2**18  # base64 has no padding within

Share = Annotated[float, Field(ge=0, le=1)]


class ExtrasBody(BaseModel):
    """What both requests have in common. Fields that are not known here are ignored, as there."""

    model_config = ConfigDict(allow_inf_nan=False)

    resize_mode: Literal[0, 1] = 0
    upscaling_resize: Annotated[float, Field(ge=1, le=MAX_SCALE)] = 2
    upscaling_resize_w: Annotated[int, Field(ge=1, le=100_000)] = 512
    upscaling_resize_h: Annotated[int, Field(ge=1, le=100_000)] = 512
    upscaling_crop: bool = True
    upscaler_1: str = NO_UPSCALER
    upscaler_2: str = NO_UPSCALER
    extras_upscaler_2_visibility: Share = 0
    gfpgan_visibility: Share = 0
    codeformer_visibility: Share = 0

    def pictures(self) -> list[tuple[str, str]]:
        """Return name and base64 of each picture."""
        raise NotImplementedError

    def notices(self) -> list[str]:
        """Return what was asked for and is not done, though it would change the picture."""
        found = []
        if self.extras_upscaler_2_visibility and self.upscaler_2 not in (NO_UPSCALER, self.upscaler_1):
            found.append(f"upscaler_2 {self.upscaler_2[:100]!r} was not used: pictures are made by one model")
        if self.gfpgan_visibility or self.codeformer_visibility:
            found.append("faces were not restored separately: GFPGAN and CodeFormer are not here")
        return found


class SingleBody(ExtrasBody):
    """Request for one picture."""

    image: str

    def pictures(self) -> list[tuple[str, str]]:
        return [("image", self.image)]


class NamedPicture(BaseModel):
    """A picture of a batch."""

    data: str
    name: str = "image"


class BatchBody(ExtrasBody):
    """Request for several pictures."""

    images: Annotated[list[NamedPicture], Field(alias="imageList", min_length=1)]

    def pictures(self) -> list[tuple[str, str]]:
        return [(image.name, image.data) for image in self.images]


Body = TypeVar("Body", bound=ExtrasBody)


async def receive_pictures(request: Request, queue: JobQueue, kind: type[Body]) -> tuple[Body, list[tuple[str, Path]]]:
    """Receive a request; return it, and name and file of each picture.

    Raises:
        ProblemError: it is not JSON, too large, or a value is out of range.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise ProblemError("not-an-image", "Send JSON, with pictures in base64.")
    most = min(MOST_JSON_BYTES, queue.settings.max_upload_bytes * 4 // 3 + 2**16)
    path = await receive(request, queue, most)
    try:
        return await run_in_threadpool(_decode, queue, kind, path)
    finally:
        queue.spool.remove(path)


def _decode(queue: JobQueue, kind: type[Body], path: Path) -> tuple[Body, list[tuple[str, Path]]]:
    uploads: list[tuple[str, Path]] = []
    with one_at_a_time:
        try:
            body = kind.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise invalid_options(error.errors(include_url=False, include_context=False, include_input=False)) from None
        try:
            for name, text in body.pictures():
                content = _from_base64(name, text)
                queue.make_room(len(content))
                uploads.append((clean_name(name), queue.spool.new_path()))
                uploads[-1][1].write_bytes(content)
                queue.spool.count(uploads[-1][1])
        except BaseException:
            queue.spool.remove(*(file for _, file in uploads))
            raise
    return body, uploads


def _from_base64(name: str, text: str) -> bytes:
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        reason = "addresses are not fetched" if text.startswith("http") else "it is not base64"
        raise ProblemError("bad-request", f"{clean_name(name)}: {reason}; send the picture's file in base64.") from None


class PicturesResponse(StreamingResponse):
    """JSON with files in base64, read piece by piece; ``clean`` is called at the end, also if the client has gone."""

    def __init__(
        self, key: Literal["image", "images"], files: Sequence[Path], notices: list[str], clean: Callable[[], None]
    ) -> None:
        self._clean = clean
        information = "".join(f"<p>{html.escape(notice)}</p>" for notice in notices)
        super().__init__(_json_of_files(key, files, information), media_type="application/json")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._clean()


def _json_of_files(key: str, files: Sequence[Path], information: str) -> Iterator[bytes]:
    several = key == "images"
    yield f'{{"html_info": {json.dumps(information)}, "{key}": {"[" if several else ""}'.encode()
    for number, path in enumerate(files):
        yield b', "' if number else b'"'
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                yield base64.b64encode(piece)
        yield b'"'
    yield b"]}" if several else b"}"
