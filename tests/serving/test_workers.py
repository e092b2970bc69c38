"""Several workers: what runs at the same time, in which order, and how each picture ends."""

from __future__ import annotations

import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from queue import Queue
from typing import Any

import numpy as np
import pytest

from tests.serving.conftest import Serve, TestClient, files_in, picture, problem, wait_for
from tests.serving.pipes import RepeatingPipe
from tests.serving.test_limits import until
from tsdsr import load_pipeline
from tsdsr.errors import InvalidInputError
from tsdsr.memory import free_ram
from tsdsr.serving.app import create_app
from tsdsr.serving.job_queue import JobQueue
from tsdsr.serving.settings import ServeSettings


class GatedPipe(RepeatingPipe):
    """A pipeline for several threads that begins pictures at once and finishes each when told to.

    Attributes:
        began (Queue): widths of the pictures that were begun, in order.
        gates (dict): width → the event that lets it go on.
        broken (set): widths of pictures that fail.
        free (list): what each picture's worker took for free memory.
    """

    thread_safe = True

    def __init__(self) -> None:
        super().__init__()
        self.began: Queue[int] = Queue()
        self.gates: defaultdict[int, threading.Event] = defaultdict(threading.Event)
        self.broken: set[int] = set()
        self.free: list[int] = []

    def upscale_pixels(self, pixels: np.ndarray, scale: float = 4.0, **options: Any) -> np.ndarray:
        width = pixels.shape[1]
        self.free.append(free_ram())
        self.began.put(width)
        assert self.gates[width].wait(20)
        if width in self.broken:
            raise RuntimeError("the model is broken")
        return super().upscale_pixels(pixels, scale, **options)

    def release(self) -> None:
        for width in range(100):
            self.gates[width].set()
        super().release()


@pytest.fixture
def pipe() -> GatedPipe:
    return GatedPipe()


def send(client: TestClient, width: int, height: int = 8) -> str:
    response = client.post("/v1/jobs", files={"image": ("a.png", picture(width, height))}, data={"scale": 1})
    assert response.status_code == 202
    return str(response.json()["id"])


def state(client: TestClient, id: str) -> str:
    return str(client.get(f"/v1/jobs/{id}").json()["state"])


def queue_of(client: TestClient) -> JobQueue:
    queue: JobQueue = client.app.state.queue  # type: ignore[attr-defined]
    return queue


def test_two_run_and_a_third_waits_in_the_order_of_arrival(serve: Serve, pipe: GatedPipe) -> None:
    client = serve(workers=2)
    ids = [send(client, width) for width in (10, 11, 12, 13)]
    assert {pipe.began.get(timeout=20) for _ in range(2)} == {10, 11}
    views = [client.get(f"/v1/jobs/{id}").json() for id in ids]
    assert [(view["state"], view["position"]) for view in views] == [
        ("running", None), ("running", None), ("queued", 0), ("queued", 1),
    ]  # fmt: skip
    assert pipe.began.empty()
    pipe.gates[11].set()
    assert pipe.began.get(timeout=20) == 12
    assert wait_for(client, ids[1])["state"] == "done"
    assert state(client, ids[0]) == "running"
    assert client.get("/sdapi/v1/progress").json()["state"]["job_count"] == 3
    pipe.release()
    assert {wait_for(client, id)["state"] for id in ids} == {"done"}
    assert pipe.began.get(timeout=20) == 13


def test_cancelling_one_leaves_the_other(serve: Serve, pipe: GatedPipe) -> None:
    client = serve(workers=2)
    first, second, third = (send(client, width) for width in (10, 11, 12))
    for _ in range(2):
        pipe.began.get(timeout=20)
    client.delete(f"/v1/jobs/{first}")
    assert state(client, second) == "running"
    assert state(client, third) == "queued"  # the worker has not noticed yet
    assert client.get("/sdapi/v1/progress").json()["state"]["job"] == "upscale"
    pipe.gates[10].set()
    assert pipe.began.get(timeout=20) == 12
    pipe.release()
    assert [wait_for(client, id)["state"] for id in (first, second, third)] == ["cancelled", "done", "done"]
    until(lambda: queue_of(client).wait_until_idle(0))
    assert len(files_in(client)) == 5  # three uploads, two results


def test_a_picture_that_fails_ends_no_worker(serve: Serve, pipe: GatedPipe) -> None:
    client, pipe.broken = serve(workers=2), {10, 11}
    broken = [send(client, width) for width in (10, 11)]
    sound = [send(client, width) for width in (12, 13)]
    pipe.gates[10].set()
    pipe.gates[11].set()
    assert {wait_for(client, id)["error"]["type"] for id in broken} == {"/problems/internal-error"}
    assert {pipe.began.get(timeout=20) for _ in range(4)} == {10, 11, 12, 13}  # both at the same time again
    pipe.release()
    assert {wait_for(client, id)["state"] for id in sound} == {"done"}


def test_a_stopping_server_finishes_all_that_run(serve: Serve, pipe: GatedPipe) -> None:
    client = serve(workers=2)
    ids = [send(client, width) for width in (10, 11, 12)]
    for _ in range(2):
        pipe.began.get(timeout=20)
    queue = queue_of(client)
    assert [job.id for job in queue.stop()] == ids[:2]
    assert state(client, ids[2]) == "cancelled"
    pipe.gates[10].set()
    wait_for(client, ids[0])
    assert not queue.wait_until_idle(0.05)
    pipe.release()
    assert queue.wait_until_idle(20)
    jobs = [queue.find(id) for id in ids[:2]]
    assert client.get(f"/v1/jobs/{ids[0]}/result").status_code == 200
    assert not queue.wait_until_fetched(jobs, 0.05)
    assert client.get(f"/v1/jobs/{ids[1]}/result").status_code == 200
    assert queue.wait_until_fetched(jobs, 20)


def test_closing_ends_all_that_run(serve: Serve, pipe: GatedPipe) -> None:
    client = serve(workers=2)
    ids = [send(client, width) for width in (10, 11)]
    for _ in range(2):
        pipe.began.get(timeout=20)
    queue_of(client).close()
    assert {state(client, id) for id in ids} == {"cancelled"}


def test_a_large_picture_runs_alone_and_nobody_overtakes_it(serve: Serve, pipe: GatedPipe) -> None:
    client = serve(workers=3, max_pixels=1000, max_result_pixels=1000)  # together at most 2000, input and result
    small, large, last = send(client, 10), send(client, 60, 16), send(client, 11)
    assert pipe.began.get(timeout=20) == 10
    assert (state(client, large), state(client, last)) == ("queued", "queued")
    pipe.gates[10].set()
    assert pipe.began.get(timeout=20) == 60
    assert state(client, last) == "queued"  # 1920 and 176 are too many
    pipe.gates[60].set()
    assert pipe.began.get(timeout=20) == 11
    pipe.release()
    assert {wait_for(client, id)["state"] for id in (small, large, last)} == {"done"}


def test_estimates_count_the_workers(serve: Serve, pipe: GatedPipe) -> None:
    client = serve(workers=2, queue_size=3)
    queue = queue_of(client)
    ids = [send(client, width, 10) for width in (10, 10, 10, 10, 10)]
    for _ in range(2):
        pipe.began.get(timeout=20)
    queue.schedule.learn(queue.find(ids[0]), 8.0)
    left = [client.get(f"/v1/jobs/{id}").json()["seconds_left"] for id in ids]
    assert left == [8, 8, 16, 16, 24]
    refused = client.post("/v1/jobs", files={"image": ("a.png", picture())})
    assert (problem(refused), refused.headers["retry-after"]) == ((429, "queue-full"), "8")
    client.delete(f"/v1/jobs/{ids[0]}")  # ends at its next tile
    assert client.get(f"/v1/jobs/{ids[2]}").json()["seconds_left"] == 8


def test_each_worker_plans_with_its_share_of_memory(
    serve: Serve, pipe: GatedPipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tsdsr.memory.control_group_memory", lambda: 3000)
    client = serve(workers=3)
    pipe.release()
    wait_for(client, send(client, 10))
    assert (pipe.free, free_ram()) == ([1000], 3000)


@pytest.mark.parametrize("engine", ["onnx", "torch"])
def test_threads_that_share_mini_get_the_same_pictures_as_one(engine: Any) -> None:
    if engine == "torch":
        pytest.importorskip("torch")
    pipe = load_pipeline("mini", "auto" if engine == "onnx" else "cpu", engine=engine, dtype="fp32")
    assert pipe.thread_safe
    pictures = np.random.default_rng(0).integers(0, 256, (6, 40, 56, 3), np.uint8)
    expected = [pipe.upscale_pixels(pixels, 2, tile=64) for pixels in pictures]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda pixels: pipe.upscale_pixels(pixels, 2, tile=64), pictures))
    assert np.array_equal(found, expected)


def test_several_workers_need_a_model_for_threads() -> None:
    with pytest.raises(InvalidInputError, match="mini restores one picture at a time here: leave out --workers"):
        create_app(RepeatingPipe(), ServeSettings(workers=2))
