"""The objects of the HTTP interface, for OpenAPI."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tsdsr.safetensors_header import read_header
from tsdsr.serving.job import State
from tsdsr.serving.options import MEDIA_TYPES, UpscaleOptions
from tsdsr.serving.problems import PROBLEM_JSON, PROBLEMS, ProblemError

_PROBLEM = {
    "title": "Problem",
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "examples": ["/problems/queue-full"]},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
}
_INPUT = {"width": 640, "height": 480, "format": "jpg", "bytes": 84211}
_OUTPUT = {
    "name": "cat.jpg",
    "width": 2560,
    "height": 1920,
    "format": "jpg",
    "media_type": "image/jpeg",
    "bytes": 1203417,
}
_JOB: dict[str, Any] = {
    "id": "0bX2f8m1Qk7cV5aYt3ZrLw9d",
    "name": "cat.jpg",
    "state": "done",
    "position": None,
    "tiles_done": 12,
    "tiles_total": 12,
    "seconds_left": None,
    "created": 1767225600.0,
    "started": 1767225600.1,
    "finished": 1767225606.4,
    "expires": 1767229206.4,
    "input": _INPUT,
    "output": _OUTPUT,
    "notices": [],
    "error": None,
    "options": UpscaleOptions().model_dump(mode="json"),
}


class InputView(BaseModel):
    """The upload."""

    width: int
    height: int
    format: str
    bytes: int


class OutputView(BaseModel):
    """The result."""

    name: str
    width: int
    height: int
    format: str
    media_type: str
    bytes: int


class ProblemView(BaseModel):
    """Problem details (RFC 9457)."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str


class JobView(BaseModel):
    """A job. Times are Unix times in seconds."""

    model_config = ConfigDict(title="Job", json_schema_extra={"examples": [_JOB]})

    id: str = Field(description="Unguessable: whoever knows it may see and cancel the job.")
    name: str
    state: State
    position: int | None = Field(description="Jobs before this one in the queue; null if it does not wait.")
    tiles_done: int
    tiles_total: int | None
    seconds_left: float | None = Field(description="Estimated from earlier jobs and tiles.")
    created: float
    started: float | None
    finished: float | None
    expires: float | None
    input: InputView
    output: OutputView | None
    notices: list[str] = Field(description="What was converted or dropped.")
    error: ProblemView | None
    options: UpscaleOptions


class ModelView(BaseModel):
    """A model that can be used."""

    name: str = Field(examples=["mini"])
    parameters: int | None = Field(examples=[7_900_000])
    engine: str = Field(examples=["onnx"])
    provider: str | None = Field(examples=["cpu"])
    scales: list[float] = Field(description="Smallest and largest enlargement.", examples=[[1, 8]])
    default: bool


class FormatView(BaseModel):
    """A format that the server writes."""

    name: str = Field(description="Value of the option `format`.", examples=["jpg"])
    label: str = Field(examples=["JPEG"])
    suffix: str = Field(examples=[".jpg"])
    media_type: str = Field(examples=["image/jpeg"])
    quality: bool = Field(description="Takes the option `quality`.")
    lossless: bool = Field(description="Takes the option `lossless`.")
    subsampling: bool = Field(description="Takes the option `subsampling`.")
    compression: bool = Field(description="Takes the option `compression`.")
    alpha: bool = Field(description="Holds transparency.")
    sixteen_bits: bool = Field(description="Holds 16 bits per channel.")


class LimitsView(BaseModel):
    """What the server takes."""

    max_upload_bytes: int
    max_pixels: int = Field(description="Pixels of the largest input.")
    max_result_pixels: int = Field(description="Pixels of the largest result.")
    queue_size: int
    result_seconds: float
    timeout_seconds: float
    formats: list[FormatView]
    token_required: bool


class HealthView(BaseModel):
    """Whether the server takes work."""

    status: Literal["ok", "stopping"]


class TokenBody(BaseModel):
    """The server's token."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"token": "the token of the server"}]})

    token: str = Field(max_length=1000)


@lru_cache(maxsize=8)
def stored_parameters(folder: Path) -> int | None:
    """Count the numbers in the weights of a model's denoiser; None if there are none in safetensors."""
    headers = [read_header(path) for path in sorted((folder / "denoiser").glob("*.safetensors"))]
    return sum(math.prod(stored.shape) for header in headers for stored in header.values()) or None


def problem_responses(*names: str) -> dict[int | str, dict[str, Any]]:
    """Return the error responses of an operation for OpenAPI, with an example for each type of problem."""
    responses: dict[int | str, dict[str, Any]] = {}
    for name in dict.fromkeys(("unauthorized", "wrong-host", *names)):
        status, title = PROBLEMS[name]
        entry = responses.setdefault(
            status, {"description": title, "content": {PROBLEM_JSON: {"schema": _PROBLEM, "examples": {}}}}
        )
        example = ProblemError(name, f"{title}: one sentence that says what is wrong and what to do.")
        entry["content"][PROBLEM_JSON]["examples"][name] = {"summary": title, "value": example.content()}
        if "Retry-After" in _headers_of(name):
            entry["headers"] = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}
    return responses


def _headers_of(name: str) -> tuple[str, ...]:
    return ("Retry-After",) if name == "queue-full" else ()


def upload_body() -> dict[str, Any]:
    """Return the request body of an upload for OpenAPI."""
    picture = {"type": "string", "format": "binary"}
    options = UpscaleOptions.model_json_schema()["properties"]
    for option in options.values():  # a form has no null
        if "anyOf" in option:
            option["anyOf"] = [kind for kind in option["anyOf"] if kind != {"type": "null"}]
        if option.get("default", 0) is None:
            del option["default"]
    form = {
        "type": "object",
        "required": ["image"],
        "properties": {"image": {**picture, "description": "The picture."}, **options},
        "additionalProperties": False,
    }
    raw = {kind: {"schema": picture} for kind in (*MEDIA_TYPES.values(), "application/octet-stream")}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}, **raw}}}


def picture_response(description: str) -> dict[str, Any]:
    """Return the response with a picture for OpenAPI."""
    content = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in MEDIA_TYPES.values()}
    headers = {
        "Content-Disposition": {"description": "The file's name (RFC 6266).", "schema": {"type": "string"}},
        "TSDSR-Notices": {
            "description": "What was converted or dropped: a JSON array of sentences, ASCII.",
            "schema": {"type": "string"},
        },
    }
    return {"description": description, "content": content, "headers": headers}
