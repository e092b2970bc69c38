"""A server in a process of its own: signals, kills, and clients that go away, pause or never end."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serving.conftest import picture
from tests.serving.server_process import ServerProcess, serving
from tsdsr.serving.spool import Spool

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="signals of POSIX")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that works for 20 s at a picture, and has little patience."""
    folder = tmp_path_factory.mktemp("spool")
    with serving(folder, tiles=1000, seconds=0.02, max_upload_bytes=500_000, read_timeout=0.5) as server:
        yield server


def queue_picture(server: ServerProcess) -> str:
    response = server.http.post("/v1/jobs", files={"image": ("a.png", picture())})
    assert response.status_code == 202
    return str(response.json()["id"])


def until(true: Callable[[], Any]) -> Any:
    """Wait until something is true; return it."""
    end = time.monotonic() + 20
    while not (found := true()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def figure(server: ServerProcess, name: str) -> float:
    """A figure of ``/metrics``."""
    lines = server.http.get("/metrics").text.splitlines()
    return float(next(line for line in lines if line.startswith(f"{name} ")).split()[-1])


def test_sigterm_finishes_what_runs_and_tells_what_waits(tmp_path: Path) -> None:
    with serving(tmp_path, tiles=10, seconds=0.08) as server:
        running = queue_picture(server)
        until(lambda: server.http.get(f"/v1/jobs/{running}").json()["state"] == "running")
        waiting, told = queue_picture(server), []
        upload = {"image": ("a.png", picture())}
        address = f"http://127.0.0.1:{server.port}"
        thread = threading.Thread(target=lambda: told.append(httpx.post(f"{address}/v1/upscale", files=upload)))
        thread.start()
        until(lambda: figure(server, "tsdsr_queue_length") == 2)
        server.process.send_signal(signal.SIGTERM)
        until(lambda: server.http.get("/healthz").status_code == 503)
        assert server.http.get(f"/v1/jobs/{waiting}").json()["error"]["type"] == "/problems/stopping"
        assert server.http.post("/v1/jobs", files=upload).status_code == 503
        thread.join(20)
        assert (told[0].status_code, told[0].json()["type"]) == (503, "/problems/stopping")
        with server.http.stream("GET", f"/v1/jobs/{running}/events") as stream:
            last = [line for line in stream.iter_lines() if line.startswith("data: ")][-1]
        assert json.loads(last.removeprefix("data: "))["state"] == "done"
        assert server.http.get(f"/v1/jobs/{running}/result").status_code == 200
        assert server.wait() == (-signal.SIGTERM, "")
    assert list(tmp_path.iterdir()) == []


def test_a_picture_that_is_not_finished_in_time_is_cancelled(tmp_path: Path) -> None:
    with serving(tmp_path, tiles=1000, seconds=0.05, stop_seconds=0.3) as server:
        queue_picture(server)
        until(lambda: figure(server, "tsdsr_tiles_total") > 0)
        started = time.monotonic()
        status, said = server.end(signal.SIGINT)
        assert "are cancelled" in said
        assert status not in (0, None)
        assert time.monotonic() - started < 10
    assert list(tmp_path.iterdir()) == []


def test_a_killed_server_leaves_nothing_once_another_starts(tmp_path: Path) -> None:
    alive = Spool(tmp_path)
    with serving(tmp_path, tiles=1000, seconds=0.05) as server:
        queue_picture(server)
        (left,) = set(tmp_path.iterdir()) - {alive.folder}
        server.end(signal.SIGKILL)
    assert len(list(left.iterdir())) == 2  # its lock and an upload
    with serving(tmp_path) as server:
        assert not left.exists()
        assert alive.folder.exists()  # nobody else's folder is removed
        id = queue_picture(server)
        until(lambda: server.http.get(f"/v1/jobs/{id}").json()["state"] == "done")
    alive.close()


def test_a_client_that_goes_away_cancels_its_picture(server: ServerProcess) -> None:
    content = picture()
    cancelled = 'tsdsr_jobs_total{outcome="cancelled"}'
    before = figure(server, cancelled)
    head = f"POST /v1/upscale HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: {len(content)}"
    with server.connect() as connection:
        connection.sendall(f"{head}\r\n\r\n".encode() + content)
        until(lambda: figure(server, "tsdsr_tiles_total") > 0)
    until(lambda: figure(server, cancelled) == before + 1)
    until(lambda: figure(server, "tsdsr_disk_bytes") == 0)
    time.sleep(0.1)
    tiles = figure(server, "tsdsr_tiles_total")
    time.sleep(0.2)
    assert figure(server, "tsdsr_tiles_total") == tiles


def test_a_client_that_stops_listening_to_events_is_forgotten(server: ServerProcess) -> None:
    id = queue_picture(server)
    with server.connect() as connection:
        connection.sendall(f"GET /v1/jobs/{id}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert b"event: job" in connection.recv(4096) + connection.recv(4096)
    name = 'tsdsr_http_requests_total{method="GET",route="/v1/jobs/{id}/events",status="200"}'
    until(lambda: name in server.http.get("/metrics").text)  # counted at its end
    for _ in range(2):  # cancelled, then forgotten
        assert server.http.delete(f"/v1/jobs/{id}").status_code == 204


def answer(server: ServerProcess, *pieces: bytes) -> bytes:
    """Send bytes; return all that comes back until the server closes the connection."""
    received = b""
    with server.connect() as connection:
        for piece in pieces:
            connection.sendall(piece)
        while data := connection.recv(65536):
            received += data
    return received


HEAD = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"


@pytest.mark.parametrize(
    ("pieces", "status"),
    [
        ((b"GET / HT",), b""),
        ((b"",), b""),
        ((HEAD + b"Content-Length: 1000\r\n\r\n", b"x" * 10), b"HTTP/1.1 408 "),
        ((HEAD + b"Content-Length: 1000000000\r\nExpect: 100-continue\r\n\r\n",), b"HTTP/1.1 413 "),
        ((HEAD + b"Content-Length: 1000000000\r\n\r\n", bytes(10_000)), b"HTTP/1.1 413 "),
        (
            (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", (b"2710\r\n" + bytes(10_000) + b"\r\n") * 60),
            b"HTTP/1.1 413 ",
        ),
        ((b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n",), b"HTTP/1.1 400 "),
    ],
    ids=["no head", "nothing", "slow", "claims 1 GB and asks", "claims 1 GB", "more than allowed", "TLS"],
)
def test_requests_that_do_not_end_are_ended(server: ServerProcess, pieces: tuple[bytes, ...], status: bytes) -> None:
    began = time.monotonic()
    assert answer(server, *pieces).startswith(status)
    assert time.monotonic() - began < 10
    assert server.http.get("/healthz").status_code == 200
    assert figure(server, "tsdsr_disk_bytes") == 0


def test_an_endless_body_is_cut_off(server: ServerProcess) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield bytes(10_000)

    with suppress(httpx.TransportError):  # or the connection is closed before the answer is seen
        response = server.http.post("/v1/jobs", content=endless(), headers={"Content-Type": "image/png"})
        assert response.status_code == 413
    assert server.http.get("/healthz").status_code == 200
    assert figure(server, "tsdsr_disk_bytes") == 0
