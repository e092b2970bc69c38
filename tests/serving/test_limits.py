"""Limits: queue, bytes, pixels, disk, time. And what becomes of old results."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.serving.conftest import ADDRESS, Serve, TestClient, files_in, picture, problem, wait_for
from tests.serving.pipes import RepeatingPipe
from tests.serving.test_api import queue_picture
from tests.small_disk import mounted
from tsdsr.serving.app import create_app
from tsdsr.serving.settings import ServeSettings


def until(true: Callable[[], bool]) -> None:
    """Wait until something is true."""
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_full_queue_refuses_and_says_when_to_come_back(serve: Serve, pipe: RepeatingPipe) -> None:
    client = serve(queue_size=2)
    wait_for(client, queue_picture(client))
    pipe.hold()
    ids = [queue_picture(client)]
    pipe.wait_for_work()
    ids += [queue_picture(client) for _ in range(2)]
    for url in ("/v1/jobs", "/v1/upscale"):
        refused = client.post(url, files={"image": ("a.png", picture())})
        assert problem(refused) == (429, "queue-full")
        assert 1 <= int(refused.headers["retry-after"]) <= 600
    assert [client.get(f"/v1/jobs/{id}").json()["position"] for id in ids] == [None, 0, 1]
    client.delete(f"/v1/jobs/{ids[1]}")
    assert client.get(f"/v1/jobs/{ids[2]}").json()["position"] == 0
    ids[1] = queue_picture(client)
    pipe.release()
    assert {wait_for(client, id)["state"] for id in ids} == {"done"}
    assert 'tsdsr_jobs_total{outcome="refused"} 2.0' in client.get("/metrics").text


def test_a_refused_upload_gives_its_place_back(serve: Serve) -> None:
    client = serve(queue_size=1)
    for _ in range(3):
        assert problem(client.post("/v1/jobs", files={"image": ("a.png", b"nothing")})) == (400, "unreadable-image")
    assert wait_for(client, queue_picture(client))["state"] == "done"


def test_the_time_left_is_estimated_from_earlier_jobs(serve: Serve, pipe: RepeatingPipe) -> None:
    client, pipe.seconds = serve(), 0.1
    wait_for(client, queue_picture(client))
    pipe.hold()
    queue_picture(client)
    pipe.wait_for_work()
    last = [queue_picture(client) for _ in range(2)][-1]
    assert 0.3 <= client.get(f"/v1/jobs/{last}").json()["seconds_left"] <= 10


@pytest.mark.parametrize("form", [True, False])
def test_bytes_are_counted_while_they_arrive(serve: Serve, form: bool) -> None:
    client, sent = serve(max_upload_bytes=100_000), []

    def endless() -> Iterator[bytes]:
        if form:
            yield b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
        while len(sent) < 1000:
            sent.append(1)
            yield bytes(10_000)

    kind = "multipart/form-data; boundary=b" if form else "image/png"
    response = client.post("/v1/jobs", content=endless(), headers={"Content-Type": kind})
    assert problem(response) == (413, "upload-too-large")
    assert "100000 bytes" in response.json()["detail"]
    assert files_in(client) == []


def test_a_large_upload_is_refused_by_its_headers(serve: Serve) -> None:
    client = serve(max_upload_bytes=1000)
    response = client.post(
        "/v1/jobs", content=b"", headers={"Content-Type": "image/png", "Content-Length": str(10**9), "Expect": "100"}
    )
    assert problem(response) == (413, "upload-too-large")


def test_pixels_are_counted_before_the_queue(serve: Serve) -> None:
    client = serve(max_pixels=200, max_result_pixels=2000)
    for size, scale, most in (((20, 20), 1, 200), ((14, 14), 4, 2000)):
        upload = {"image": ("a.png", picture(*size))}
        response = client.post("/v1/jobs", files=upload, data={"scale": scale})
        assert problem(response) == (413, "too-many-pixels")
        assert str(most) in response.json()["detail"]
    assert files_in(client) == []
    assert wait_for(client, queue_picture(client, content=picture(10, 10)))["state"] == "done"


def test_results_expire_and_are_forgotten_later(serve: Serve) -> None:
    client = serve(result_seconds=0.3)
    id = queue_picture(client)
    wait_for(client, id)
    assert len(files_in(client)) == 2
    until(lambda: files_in(client) == [])
    response = client.get(f"/v1/jobs/{id}/result")
    assert problem(response) == (410, "no-result")
    assert "expired" in response.json()["detail"]
    assert problem(client.get(f"/v1/jobs/{id}/preview/before")) == (410, "no-result")
    assert client.get(f"/v1/jobs/{id}").json()["output"] is None
    until(lambda: client.get(f"/v1/jobs/{id}").status_code == 404)


def test_the_oldest_results_make_room_on_the_disk(serve: Serve) -> None:
    content = picture(200, 200)
    client = serve(max_disk_bytes=6 * len(content))
    ids = [queue_picture(client, content=content, scale=1) for _ in range(6)]
    for id in ids:
        wait_for(client, id)
    there = [client.get(f"/v1/jobs/{id}/result").status_code for id in ids]
    assert there[0] == 410
    assert there[-1] == 200
    assert there == sorted(there, reverse=True)


def test_no_upload_is_taken_if_pictures_in_work_fill_the_disk(serve: Serve, pipe: RepeatingPipe) -> None:
    content = picture(800, 800)
    client = serve(max_disk_bytes=3 * 2**20)
    pipe.hold()
    assert len(content) > 1.5 * 2**20
    queue_picture(client, content=content, scale=1)
    response = client.post("/v1/jobs", files={"image": ("a.png", content)}, data={"scale": 1})
    assert problem(response) == (503, "storage-full")
    assert len(files_in(client)) == 1


def test_a_full_disk_is_told_and_passes(pipe: RepeatingPipe, tmp_path: Path) -> None:
    """Of an upload as form, as body and in JSON; and of a result."""
    with mounted(tmp_path / "spool", 1) as folder:
        app = create_app(pipe, ServeSettings(folder=folder))
        with TestClient(app, ADDRESS, raise_server_exceptions=False) as client:
            large = picture(800, 600)
            assert len(large) > 2**20
            body = {"content": large, "headers": {"Content-Type": "image/png"}}
            coded = {"image": base64.b64encode(large).decode(), "upscaler_1": "mini"}
            answers = [
                client.post("/v1/upscale", files={"image": ("a.png", large)}),
                client.post("/v1/jobs", **body),
                client.post("/sdapi/v1/extra-single-image", json=coded),
                client.post("/v1/upscale", files={"image": ("a.png", picture(200, 150))}, data={"format": "bmp"}),
            ]
            assert [problem(answer) for answer in answers] == [(503, "storage-full")] * 4
            assert {answer.headers["retry-after"] for answer in answers} == {"10"}
            job = wait_for(client, queue_picture(client, content=picture(200, 150), format="bmp"))
            assert job["error"]["type"] == "/problems/storage-full"
            client.delete(f"/v1/jobs/{job['id']}")
            assert files_in(client) == []
            assert wait_for(client, queue_picture(client))["state"] == "done"


@pytest.mark.parametrize("waits", [True, False])
def test_a_picture_that_takes_too_long_is_given_up(serve: Serve, pipe: RepeatingPipe, waits: bool) -> None:
    client, pipe.tiles, pipe.seconds = serve(timeout=0.3), 100, 0.05
    upload = {"image": ("a.png", picture())}
    if waits:
        assert problem(client.post("/v1/upscale", files=upload)) == (504, "timeout")
    else:
        job = wait_for(client, client.post("/v1/jobs", files=upload).json()["id"])
        assert (job["state"], job["error"]["type"]) == ("failed", "/problems/timeout")
    until(lambda: client.app.state.queue.wait_until_idle(0))  # type: ignore[attr-defined]
    assert pipe.finished_tiles < 20
    assert 'tsdsr_jobs_total{outcome="timeout"} 1.0' in client.get("/metrics").text


def test_the_wait_in_the_queue_counts_for_a_client_that_waits(serve: Serve, pipe: RepeatingPipe) -> None:
    client = serve(timeout=0.3)
    pipe.hold()
    queue_picture(client)
    pipe.wait_for_work()
    assert problem(client.post("/v1/upscale", files={"image": ("a.png", picture())})) == (504, "timeout")


def test_a_stopping_server_finishes_what_runs_and_tells_what_waits(client: TestClient, pipe: RepeatingPipe) -> None:
    pipe.hold()
    running = queue_picture(client)
    pipe.wait_for_work()
    waiting, answers = queue_picture(client), []
    upload = {"image": ("a.png", picture())}
    thread = threading.Thread(target=lambda: answers.append(client.post("/v1/upscale", files=upload)))
    thread.start()
    queue = client.app.state.queue  # type: ignore[attr-defined]
    until(lambda: len(queue._waiting) == 2)
    queue.stop()
    thread.join(20)
    assert problem(answers[0]) == (503, "stopping")
    job = client.get(f"/v1/jobs/{waiting}").json()
    assert (job["state"], job["error"]["type"]) == ("cancelled", "/problems/stopping")
    refused = client.post("/v1/jobs", files=upload)
    assert problem(refused) == (503, "stopping")
    assert refused.headers["retry-after"]
    assert (client.get("/healthz").status_code, client.get("/healthz").json()) == (503, {"status": "stopping"})
    pipe.release()
    assert wait_for(client, running)["state"] == "done"
    assert client.get(f"/v1/jobs/{running}/result").status_code == 200
