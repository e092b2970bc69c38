"""An S3 server on this machine that can answer with errors, for tests: fixture :func:`s3_server`."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import fsspec
import pytest

_ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


class S3Server:
    """moto's S3 server behind a layer that counts requests and refuses some of them.

    Attributes:
        url (str): its address; processes find it in the environment variable ``FSSPEC_S3_ENDPOINT_URL``.
        requests (list of str): method and path of each request, such as "GET /bucket/key".
        refuse (callable): takes method and path, returns an HTTP status to answer with, or 0 to answer properly.
    """

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
        from werkzeug.serving import make_server

        self.requests: list[str] = []
        self.refuse: Callable[[str, str], int] = lambda method, path: 0
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, True, request_handler=MotoRequestHandler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def bucket(self, name: str) -> str:
        """Create a bucket and return its URL."""
        fsspec.filesystem("s3").mkdir(name)
        return f"s3://{name}"

    def put(self, bucket: str, key: str, data: bytes = b"x") -> None:
        """Put an object into a bucket without a request, which is faster."""
        from moto.core import DEFAULT_ACCOUNT_ID
        from moto.s3.models import s3_backends

        s3_backends[DEFAULT_ACCOUNT_ID]["aws"].put_object(bucket.removeprefix("s3://"), key, data)

    def fail_next(self, count: int, status: int, method: str = "") -> None:
        """Refuse the next requests of a method, or of any method."""
        left = [count]

        def refuse(sent: str, _: str) -> int:
            if method not in ("", sent) or not left[0]:
                return 0
            left[0] -= 1
            return status

        self.refuse = refuse

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.requests.append(f"{method} {path}")
        if status := self.refuse(method, path):
            start_response(f"{status} refused", [("Content-Length", "0"), ("Connection", "close")])
            return []
        answer: Iterable[bytes] = self._app(environ, start_response)
        return answer


@contextmanager
def running_s3_server() -> Iterator[S3Server]:
    """Start a server that this process, and processes it starts, use for ``s3://`` URLs."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = S3Server()
    environment = {**_ENVIRONMENT, "FSSPEC_S3_ENDPOINT_URL": server.url}
    try:
        with mock.patch.dict(os.environ, environment), mock.patch.dict(fsspec.config.conf):
            fsspec.config.conf["s3"] = {"endpoint_url": server.url}
            yield server
    finally:
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        server.stop()


@pytest.fixture(scope="module")
def s3_server() -> Iterator[S3Server]:
    """A server for the tests of a module; import it into the module."""
    with running_s3_server() as server:
        yield server
