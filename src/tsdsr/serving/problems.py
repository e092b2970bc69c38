"""Errors of the HTTP interface as problem details (RFC 9457). Types are stable; docs/reference/http.md lists them."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import JSONResponse, Response

from tsdsr.errors import (
    ImageError,
    ImageReadError,
    ImageTooLargeError,
    ImageWriteError,
    InvalidInputError,
    MissingDependencyError,
    OutOfMemoryError,
)

PROBLEM_JSON = "application/problem+json"

PROBLEMS: dict[str, tuple[int, str]] = {
    "bad-request": (400, "The request cannot be understood"),
    "unreadable-image": (400, "The picture cannot be read"),
    "unauthorized": (401, "A token is required"),
    "cross-site": (403, "Requests from other sites are refused"),
    "wrong-host": (403, "The server is not known by this name"),
    "not-found": (404, "There is nothing at this address"),
    "unknown-job": (404, "There is no such job"),
    "method-not-allowed": (405, "The address does not take this method"),
    "upload-too-slow": (408, "The upload took too long"),
    "not-finished": (409, "The job is not finished"),
    "no-result": (410, "The job has no result"),
    "upload-too-large": (413, "The upload has too many bytes"),
    "too-many-pixels": (413, "The picture has too many pixels"),
    "not-an-image": (415, "The upload is of a type that is not taken"),
    "invalid-option": (422, "An option is unknown or out of range"),
    "format-unavailable": (422, "The server cannot write this format"),
    "queue-full": (429, "The queue is full"),
    "cancelled": (409, "The job was cancelled"),
    "internal-error": (500, "The server failed"),
    "out-of-memory": (503, "The server has too little memory for this picture"),
    "storage-full": (503, "The server has no room for the picture"),
    "stopping": (503, "The server is stopping"),
    "timeout": (504, "The restoration took too long"),
}
"""Name of each type of problem → HTTP status and title."""


@dataclass(eq=False)
class ProblemError(Exception):
    """An error that is answered as a problem.

    Attributes:
        name (str): a key of :data:`PROBLEMS`; the type is ``/problems/NAME``.
        detail (str): one sentence that says what is wrong and what to do.
        headers (mapping): further headers of the answer.
        more (mapping): further members of the problem.
    """

    name: str
    detail: str
    headers: Mapping[str, str] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def status(self) -> int:
        """The HTTP status."""
        return PROBLEMS[self.name][0]

    def content(self) -> dict[str, Any]:
        """Return the problem as a JSON object."""
        status, title = PROBLEMS[self.name]
        return {"type": f"/problems/{self.name}", "title": title, "status": status, "detail": self.detail, **self.more}

    def response(self) -> Response:
        """Return the answer."""
        return JSONResponse(self.content(), self.status, dict(self.headers), media_type=PROBLEM_JSON)


_OF_ERRORS: tuple[tuple[type[Exception], str], ...] = (
    (ImageTooLargeError, "too-many-pixels"),
    (ImageReadError, "unreadable-image"),
    (ImageWriteError, "invalid-option"),
    (ImageError, "unreadable-image"),
    (MissingDependencyError, "format-unavailable"),
    (OutOfMemoryError, "out-of-memory"),
    (InvalidInputError, "invalid-option"),
)


def storage_problem() -> ProblemError:
    """Return the problem of a disk, or of the share of it that the server may use, that is full."""
    return ProblemError("storage-full", "The server has no room for the picture now; try again.", {"Retry-After": "10"})


def is_full_disk(error: BaseException | None) -> bool:
    """Return whether an error, or what caused it, is that a disk or a quota is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__
    return False


def problem_of(error: Exception) -> ProblemError:
    """Return the problem that an error of this package is answered with; of any other, its message stays private."""
    if is_full_disk(error):
        return storage_problem()
    for kind, name in _OF_ERRORS:
        if isinstance(error, kind):
            return ProblemError(name, " ".join(str(error).split()))
    return ProblemError("internal-error", "The server failed at this picture; its log says why.")
