"""Which errors of storage libraries are tried again, and how often."""

from __future__ import annotations

import errno

import aiohttp
import httpx
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, ReadTimeoutError

import tsdsr.storage as storage
from tsdsr.errors import FileReadError, FileWriteError, MissingFileError
from tsdsr.storage import can_pass, errors_named, retried


class RefusedError(Exception):
    """An error like those of gcsfs, azure and huggingface_hub: with a status, or a response that has one."""

    def __init__(self, **attributes: object) -> None:
        super().__init__("refused")
        vars(self).update(attributes)


def botocore_error(status: int) -> OSError:
    """What s3fs raises: an OSError that came from botocore's."""
    error = OSError(errno.EIO, "refused")
    error.__cause__ = ClientError({"ResponseMetadata": {"HTTPStatusCode": status}}, "GetObject")
    return error


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(),
        TimeoutError(),
        OSError(errno.EIO, "refused"),
        OSError("no number"),
        botocore_error(500),
        botocore_error(503),
        botocore_error(429),
        EndpointConnectionError(endpoint_url="http://far"),
        ReadTimeoutError(endpoint_url="http://far"),
        aiohttp.ServerDisconnectedError(),
        aiohttp.ClientPayloadError(),
        httpx.ReadTimeout("slow"),
        RefusedError(code=503),
        RefusedError(status_code=502),
        RefusedError(response=httpx.Response(504)),
    ],
    ids=repr,
)
def test_errors_that_can_pass(error: Exception) -> None:
    assert can_pass(error)


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(),
        PermissionError(),
        OSError(errno.ENOSPC, "full"),
        botocore_error(400),
        botocore_error(403),
        NoCredentialsError(),
        RefusedError(code=404),
        RefusedError(code="AccessDenied"),
        RefusedError(response=httpx.Response(401)),
        FileReadError("said already"),
        ValueError("a bug"),
    ],
    ids=repr,
)
def test_errors_that_last(error: Exception) -> None:
    assert not can_pass(error)


def test_waits_grow_at_random_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", waits.append)
    monkeypatch.setattr(storage, "TRIES", 12)
    calls = []

    def fail() -> None:
        calls.append(1)
        raise ConnectionResetError("cut off")

    with pytest.raises(ConnectionResetError):
        retried(fail)
    assert len(calls) == 12
    assert len(set(waits)) == 11
    assert all(0 <= wait <= min(0.5 * 2**number, 30) for number, wait in enumerate(waits))
    assert max(waits) > 2
    calls.clear()
    with pytest.raises(ZeroDivisionError):
        retried(lambda: calls.append(1) or 1 / 0)  # type: ignore[func-returns-value]
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (FileNotFoundError("x"), "s3://b/a: no such file, folder or bucket"),
        (ConnectionResetError(104, "reset"), "s3://b/a: cannot be read (reset) in 8 tries; run again later"),
        (PermissionError("Denied"), "s3://b/a: cannot be read (Denied); check the address and the credentials"),
        (ValueError("two\nlines"), "s3://b/a: cannot be read (two); check the address and the credentials"),
    ],
)
def test_errors_become_one_sentence(error: Exception, message: str) -> None:
    with pytest.raises(FileReadError) as caught, errors_named("s3://b/a"):
        raise error
    assert str(caught.value) == message
    assert isinstance(caught.value, MissingFileError) == isinstance(error, FileNotFoundError)
    with (
        pytest.raises(FileWriteError, match=r"^/a/b: cannot be written \("),
        errors_named("/a/b", "written", FileWriteError),
    ):
        raise error
