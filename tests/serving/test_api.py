"""The interface as its users see it: pictures, jobs, events, results, previews, archives."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.serving.conftest import Serve, TestClient, files_in, opened, picture, problem, wait_for
from tests.serving.pipes import RepeatingPipe


def queue_picture(client: TestClient, name: str = "cat.png", content: bytes | None = None, **options: Any) -> str:
    response = client.post("/v1/jobs", files={"image": (name, content or picture())}, data=options)
    assert response.status_code == 202, response.text
    assert response.headers["location"] == f"/v1/jobs/{response.json()['id']}"
    return str(response.json()["id"])


def test_a_picture_in_a_form(client: TestClient) -> None:
    response = client.post("/v1/upscale", files={"image": ("cat.png", picture())}, data={"scale": "2"})
    assert response.status_code == 200
    assert response.headers["content-type"] == "image/png"
    assert response.headers["content-disposition"] == 'attachment; filename="cat.png"'
    assert response.headers["tsdsr-notices"] == "[]"
    repeated = np.asarray(opened(picture())).repeat(2, 0).repeat(2, 1)
    assert (np.asarray(opened(response.content)) == repeated).all()
    assert files_in(client) == []


@pytest.mark.parametrize("kind", ["image/png", "image/x-unknown", "application/octet-stream"])
def test_a_picture_as_the_raw_body(client: TestClient, kind: str) -> None:
    url = "/v1/upscale?scale=1.5&name=cat.png&format=jpg&quality=90"
    response = client.post(url, content=picture(mode="RGBA"), headers={"Content-Type": kind})
    assert response.status_code == 200
    assert response.headers["content-disposition"] == 'attachment; filename="cat.jpg"'
    assert json.loads(response.headers["tsdsr-notices"]) == ["JPEG has no transparency: it is flattened onto white"]
    assert (opened(response.content).format, opened(response.content).size) == ("JPEG", (18, 12))


def test_options_in_the_form_and_in_the_address(client: TestClient) -> None:
    id = queue_picture(client, width=30, height=30, fit="stretch", detail=0.5, tile=128, seed=3, icc="srgb")
    job = wait_for(client, id)
    assert (job["state"], job["output"]["width"], job["output"]["height"]) == ("done", 30, 30)
    assert job["options"] | {"fit": "stretch", "detail": 0.5, "tile": 128, "seed": 3, "icc": "srgb"} == job["options"]
    both = client.post("/v1/jobs?scale=2", files={"image": ("a.png", picture())}, data={"scale": "3"})
    assert problem(both) == (422, "invalid-option")


def test_a_job_from_upload_to_result(client: TestClient, pipe: RepeatingPipe) -> None:
    pipe.hold()
    first, second = queue_picture(client), queue_picture(client, "dog.webp", picture(format="WEBP"))
    pipe.wait_for_work()
    running, queued = (client.get(f"/v1/jobs/{id}").json() for id in (first, second))
    assert (running["state"], running["position"], running["output"]) == ("running", None, None)
    assert (queued["state"], queued["position"]) == ("queued", 0)
    assert queued["input"] == {"width": 12, "height": 8, "format": "webp", "bytes": len(picture(format="WEBP"))}
    assert problem(client.get(f"/v1/jobs/{second}/result")) == (409, "not-finished")
    assert problem(client.get(f"/v1/jobs/{second}/preview/after")) == (409, "not-finished")
    assert client.get(f"/v1/jobs/{second}/preview/before").status_code == 200
    pipe.release()
    job = wait_for(client, second)
    assert (job["state"], job["tiles_done"], job["tiles_total"], job["error"]) == ("done", 2, 2, None)
    assert job["created"] <= job["started"] <= job["finished"] < job["expires"]
    result = client.get(f"/v1/jobs/{second}/result")
    assert result.headers["content-type"] == "image/webp"
    assert len(result.content) == job["output"]["bytes"]
    assert opened(result.content).size == (job["output"]["width"], job["output"]["height"]) == (48, 32)
    shown = client.get(f"/v1/jobs/{second}/result?download=0")
    assert shown.headers["content-disposition"] == 'inline; filename="dog.webp"'


def test_events_tell_every_state(client: TestClient, pipe: RepeatingPipe) -> None:
    pipe.hold()
    id = queue_picture(client)
    pipe.wait_for_work()
    pipe.release()
    with client.stream("GET", f"/v1/jobs/{id}/events") as stream:
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
        blocks = "".join(stream.iter_text()).strip().split("\n\n")
    jobs = []
    for block in blocks:
        event, data = block.split("\n")
        assert event == "event: job"
        jobs.append(json.loads(data.removeprefix("data: ")))
    assert jobs[-1] == client.get(f"/v1/jobs/{id}").json()
    assert [job["state"] for job in jobs][-1] == "done"
    assert {job["id"] for job in jobs} == {id}


@pytest.mark.parametrize("mode", ["RGB", "L", "LA", "RGBA"])
def test_previews_are_shown_by_every_browser(client: TestClient, mode: str) -> None:
    id = queue_picture(client, "scan.tif", picture(120, 60, "TIFF", mode))
    wait_for(client, id)
    for which, size in (("before", (100, 50)), ("after", (100, 50))):
        response = client.get(f"/v1/jobs/{id}/preview/{which}?edge=100")
        image = opened(response.content)
        assert response.headers["content-type"] == ("image/webp" if "A" in mode else "image/jpeg")
        assert image.size == size
        assert ("A" in image.getbands()) == ("A" in mode)
    assert opened(client.get(f"/v1/jobs/{id}/preview/before").content).size == (120, 60)
    assert problem(client.get(f"/v1/jobs/{id}/preview/before?edge=5000")) == (422, "invalid-option")
    assert problem(client.get(f"/v1/jobs/{id}/preview/between")) == (422, "invalid-option")


def test_a_preview_of_16_bits_with_a_profile(client: TestClient) -> None:
    pixels = np.full((10, 10), 32768, np.uint16)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    id = queue_picture(client, content=file.getvalue())
    assert wait_for(client, id)["state"] == "done"
    assert abs(int(np.asarray(opened(client.get(f"/v1/jobs/{id}/preview/after").content))[0, 0]) - 128) <= 1
    result = opened(client.get(f"/v1/jobs/{id}/result").content)
    assert np.asarray(result).max() == 32768


def test_an_archive_has_every_result_under_a_name_of_its_own(client: TestClient, pipe: RepeatingPipe) -> None:
    names = ["cat.png", "CAT.png", "dog.png"]
    ids = [queue_picture(client, name) for name in names]
    for id in ids:
        wait_for(client, id)
    response = client.get("/v1/results.zip", params={"job": [*ids, ids[0]]})
    assert response.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        assert archive.testzip() is None
        assert [info.filename for info in archive.infolist()] == ["cat.png", "CAT-2.png", "dog.png"]
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        assert archive.read("dog.png") == client.get(f"/v1/jobs/{ids[2]}/result").content
    pipe.hold()
    waiting = queue_picture(client)
    assert problem(client.get("/v1/results.zip", params={"job": [ids[0], waiting]})) == (409, "not-finished")
    assert problem(client.get("/v1/results.zip")) == (422, "invalid-option")
    assert problem(client.get("/v1/results.zip?job=nothing")) == (404, "unknown-job")


def test_cancelling_and_forgetting(client: TestClient, pipe: RepeatingPipe) -> None:
    pipe.hold()
    running, waiting = queue_picture(client), queue_picture(client)
    pipe.wait_for_work()
    for id in (running, waiting):
        assert client.delete(f"/v1/jobs/{id}").status_code == 204
        assert client.get(f"/v1/jobs/{id}").json()["state"] == "cancelled"
        assert problem(client.get(f"/v1/jobs/{id}/result")) == (410, "no-result")
    pipe.release()
    later = queue_picture(client)
    assert wait_for(client, later)["state"] == "done"
    assert pipe.finished_tiles == 1 + pipe.tiles  # the cancelled one ended at its next tile
    for id in (running, waiting, later):
        assert client.delete(f"/v1/jobs/{id}").status_code == 204
        assert problem(client.get(f"/v1/jobs/{id}")) == (404, "unknown-job")
    assert files_in(client) == []


def test_models_limits_and_health(serve: Serve) -> None:
    client = serve(max_pixels=1000, queue_size=3)
    assert client.get("/healthz").json() == {"status": "ok"}
    (model,) = client.get("/v1/models").json()
    assert (model["name"], model["engine"], model["scales"], model["default"]) == ("mini", "onnx", [1, 8], True)
    assert 7e6 < model["parameters"] < 9e6
    limits = client.get("/v1/limits").json()
    assert (limits["max_pixels"], limits["queue_size"], limits["token_required"]) == (1000, 3, False)
    assert {"name": "png", "suffix": ".png", "media_type": "image/png"}.items() <= limits["formats"][0].items()


def test_figures_for_prometheus(client: TestClient) -> None:
    client.post("/v1/upscale", files={"image": ("cat.png", picture())})
    client.post("/v1/upscale", files={"image": ("cat.png", b"nothing")})
    text = client.get("/metrics").text
    for line in (
        'tsdsr_http_requests_total{method="POST",route="/v1/upscale",status="200"} 1.0',
        'tsdsr_http_requests_total{method="POST",route="/v1/upscale",status="400"} 1.0',
        'tsdsr_http_request_seconds_count{route="/v1/upscale"} 2.0',
        'tsdsr_jobs_total{outcome="done"} 1.0',
        "tsdsr_tiles_total 2.0",
        "tsdsr_queue_length 0.0",
        "tsdsr_disk_bytes 0.0",
    ):
        assert f"\n{line}\n" in text
    assert "\nprocess_resident_memory_bytes " in text
