"""Storage services through fsspec: file systems, repeated calls, and what a user reads about errors."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, TypeVar

from tsdsr.errors import (
    FileReadError,
    InvalidInputError,
    MissingDependencyError,
    MissingFileError,
    TSDSRError,
    install_extra,
)
from tsdsr.wording import first_line

_T = TypeVar("_T")

TRIES = 8
"""How often a call is made before it has failed: with the waits below, for about half a minute."""

FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
"""Seconds. Each wait is drawn from 0 to a limit that starts at the first value and doubles up to the second."""

_PASSING_STATUS = {408, 425, 429}
_LASTING_ERRNO = {
    errno.ENOENT, errno.EACCES, errno.EPERM, errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.EINVAL,
    errno.ENAMETOOLONG, errno.ENOSPC, errno.EROFS, errno.EMSGSIZE, errno.ELOOP,
}  # fmt: skip
_PASSING_CLASSES = {
    "ConnectionError", "ConnectTimeout", "Timeout", "TimeoutError", "HTTPClientError", "TransportError",
    "ClientConnectionError", "ClientPayloadError", "ProtocolError", "IncompleteRead", "IncompleteReadError",
    "ResponseStreamingError", "ServiceRequestError", "ServiceResponseError",
}  # fmt: skip
"""Base classes of lost connections in botocore, aiohttp, httpx, requests, urllib3 and azure."""


def require_fsspec(url: str) -> None:
    """Check that the packages for URLs are installed.

    Raises:
        MissingDependencyError: one of them is not.
    """
    for package in ("fsspec", "tenacity"):
        if find_spec(package) is None:
            raise MissingDependencyError(f"{url}: URLs need {package}: {install_extra('ray')}")


def file_system(url: str) -> tuple[Any, str]:
    """Return fsspec's file system of a URL, and the path in it. Listings are not cached: they would fill the memory.

    Raises:
        MissingDependencyError: fsspec, or its package for this kind of URL, is not installed.
        InvalidInputError: the kind of URL is unknown.
    """
    require_fsspec(url)
    from fsspec.core import url_to_fs

    try:
        fs, inner = url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        raise MissingDependencyError(f"{url}: {first_line(error)}") from error
    except ValueError as error:
        raise InvalidInputError(f"{url}: {first_line(error)}; check the part before ://") from error
    return fs, inner


def retried(call: Callable[[], _T]) -> _T:
    """Return ``call()``, made again with growing random waits if it fails for a reason that can pass.

    Raises:
        Exception: that of the last call.
    """
    from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

    wait = wait_random_exponential(multiplier=FIRST_WAIT, max=LONGEST_WAIT)
    return Retrying(
        retry=retry_if_exception(can_pass), stop=stop_after_attempt(TRIES), wait=wait, reraise=True
    )(call)  # fmt: skip


def can_pass(error: BaseException) -> bool:
    """Return whether a call to a storage service that failed with this error can succeed if it is made again."""
    if isinstance(error, TSDSRError):
        return False
    chain = [error]
    while (cause := chain[-1].__cause__) is not None and cause not in chain:
        chain.append(cause)
    if any(cls.__name__ in _PASSING_CLASSES for link in chain for cls in type(link).__mro__):
        return True
    status = next((code for link in chain if (code := _http_status(link))), None)
    if status is not None:
        return status >= 500 or status in _PASSING_STATUS
    lasting = (FileNotFoundError, PermissionError, FileExistsError, IsADirectoryError, NotADirectoryError)
    return isinstance(error, OSError) and not isinstance(error, lasting) and error.errno not in _LASTING_ERRNO


def _http_status(error: BaseException) -> int | None:
    """Return the HTTP status that an error of a storage library carries."""
    response = getattr(error, "response", None)
    values = [getattr(error, name, None) for name in ("status", "status_code", "code")]
    if isinstance(response, dict):  # botocore
        values.append(response.get("ResponseMetadata", {}).get("HTTPStatusCode"))
    else:
        values.append(getattr(response, "status_code", None))
    statuses = (int(str(value)) for value in values if str(value).isdecimal())
    return next((status for status in statuses if 400 <= status < 600), None)


@contextmanager
def errors_named(url: str, done: str = "read", kind: type[TSDSRError] = FileReadError) -> Iterator[None]:
    """Report any error of a library in the block in one sentence that names the URL.

    Args:
        url (str): URL or path.
        done (str): what could not be done with it: "read" or "written".
        kind (type): class of the error that is raised.

    Raises:
        TSDSRError: of this kind, or a :class:`~tsdsr.errors.MissingFileError` in the place of a FileReadError.
    """
    try:
        yield
    except TSDSRError:
        raise
    except Exception as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or first_line(error)
        if isinstance(error, FileNotFoundError | NotADirectoryError) and kind is FileReadError:
            what = "no such file, folder or bucket" if "://" in url else "no such file or folder"
            raise MissingFileError(f"{url}: {what}") from error
        remedy = "; check the address and the credentials" if "://" in url else ""
        if remedy and can_pass(error):
            remedy = f" in {TRIES} tries; run again later"
        raise kind(f"{url}: cannot be {done} ({reason}){remedy}") from error
