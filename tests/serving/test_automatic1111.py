"""AUTOMATIC1111's interface, with a client that was written for it (webuiapi)."""

from __future__ import annotations

import base64
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from PIL import Image

from tests.serving.conftest import Serve, TestClient, files_in, opened, picture, problem
from tests.serving.pipes import RepeatingPipe
from tests.serving.test_limits import until
from tsdsr.serving.app import create_app
from tsdsr.serving.settings import ServeSettings

TOKEN = "a token of some length"
NO_PICTURE = base64.b64encode(b"a text, no picture" * 9).decode()
SINGLE, BATCH = "/sdapi/v1/extra-single-image", "/sdapi/v1/extra-batch-images"
Connect = Callable[..., Any]


@pytest.fixture
def connect(pipe: RepeatingPipe, tmp_path: Path) -> Iterator[Connect]:
    """Start a server with given settings on a port of its own, and return the client for it."""
    webuiapi = pytest.importorskip("webuiapi", reason="webuiapi is not installed")
    with ExitStack() as servers:

        def start(**settings: Any) -> Any:
            app = create_app(pipe, ServeSettings(folder=tmp_path / "spool", **settings))
            listener = servers.enter_context(socket.create_server(("127.0.0.1", 0)))
            server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="on"))
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
            thread.start()
            servers.callback(thread.join, 20)
            servers.callback(setattr, server, "should_exit", True)
            while not server.started:
                time.sleep(0.01)
            api = webuiapi.WebUIApi("127.0.0.1", listener.getsockname()[1])
            servers.callback(api.session.close)
            api.queue = app.state.queue
            return api

        yield start
        pipe.release()


def photo(width: int = 12, height: int = 8) -> Image.Image:
    return opened(picture(width, height))


def body(**fields: Any) -> dict[str, Any]:
    return {"image": base64.b64encode(picture()).decode(), "upscaler_1": "mini", "upscaling_resize": 2, **fields}


def test_a_client_enlarges_pictures(connect: Connect) -> None:
    api = connect()
    assert [upscaler["name"] for upscaler in api.get_upscalers()] == ["None", "mini"]
    result = api.extra_single_image(photo(), upscaler_1="mini", upscaling_resize=3)
    assert (np.asarray(result.image) == np.asarray(photo()).repeat(3, 0).repeat(3, 1)).all()
    assert (result.image.format, result.info) == ("PNG", "")
    many = api.extra_batch_images(
        [photo(), photo(20, 10)], name_list=["a.png", "b.png"], upscaler_1="MINI", upscaling_resize=1.5
    )
    assert [image.size for image in many.images] == [(18, 12), (30, 15)]
    assert list(api.queue.spool.folder.glob("[0-9a-f]*")) == []
    assert api.queue._jobs == {}


def test_a_size_instead_of_a_scale(connect: Connect) -> None:
    api = connect()
    to_size = {"upscaler_1": "mini", "resize_mode": 1, "upscaling_resize_w": 24, "upscaling_resize_h": 24}
    assert api.extra_single_image(photo(), **to_size, upscaling_crop=True).image.size == (24, 24)
    assert api.extra_single_image(photo(), **to_size, upscaling_crop=False).image.size == (36, 24)
    for crop in (True, False):
        with pytest.raises(RuntimeError, match="invalid-option"):
            api.extra_single_image(photo(), **to_size | {"upscaling_resize_w": 500}, upscaling_crop=crop)


def test_none_returns_the_picture_as_it_is(connect: Connect) -> None:
    api = connect()
    result = api.extra_single_image(photo())
    assert (np.asarray(result.image) == np.asarray(photo())).all()
    assert result.info == "<p>the upscaler None changes nothing; there is also mini</p>"
    assert list(api.queue.spool.folder.glob("[0-9a-f]*")) == []


def test_what_is_not_done_is_said(connect: Connect) -> None:
    api = connect()
    result = api.extra_single_image(
        photo(), upscaler_1="mini", upscaler_2="<LDSR>", extras_upscaler_2_visibility=0.5, gfpgan_visibility=1
    )
    assert result.info == (
        "<p>upscaler_2 &#x27;&lt;LDSR&gt;&#x27; was not used: pictures are made by one model</p>"
        "<p>faces were not restored separately: GFPGAN and CodeFormer are not here</p>"
    )
    with pytest.raises(RuntimeError, match=r"R-ESRGAN 4x.* is not available; choose None or mini"):
        api.extra_single_image(photo(), upscaler_1="R-ESRGAN 4x")


def test_a_token_as_the_password(connect: Connect) -> None:
    api = connect(token=TOKEN)
    with pytest.raises(RuntimeError, match="401"):
        api.extra_single_image(photo(), upscaler_1="mini")
    api.set_auth("anyone", TOKEN)
    assert api.extra_single_image(photo(), upscaler_1="mini").image.size == (24, 16)


def test_what_clients_ask_for_when_they_connect(connect: Connect) -> None:
    api = connect(model="./models/own")
    assert api.get_scripts() == {"txt2img": [], "img2img": []}
    assert api.util_get_model_names() == ["own"]
    assert api.util_get_current_model() == "own"
    api.util_wait_for_ready()
    lists = (api.get_samplers, api.get_schedulers, api.get_sd_vae, api.get_loras, api.get_face_restorers,
             api.get_realesrgan_models, api.get_latent_upscale_modes, api.get_prompt_styles)  # fmt: skip
    assert [listing() for listing in lists] == [[]] * len(lists)


def test_progress(connect: Connect, pipe: RepeatingPipe) -> None:
    api = connect()
    idle = api.get_progress()
    assert (idle["progress"], idle["state"]["job_count"]) == (0, 0)
    pipe.hold()
    threads = [threading.Thread(target=api.extra_single_image, args=[photo()], kwargs={"upscaler_1": "mini"})
               for _ in range(2)]  # fmt: skip
    for thread in threads:
        thread.start()
    pipe.wait_for_work()
    while (busy := api.get_progress())["state"]["job_count"] < 2:
        time.sleep(0.01)
    assert busy["state"]["job"] == "upscale"
    pipe.release()
    for thread in threads:
        thread.join()
    assert api.get_progress()["state"]["job_count"] == 0


def test_base64_with_and_without_its_type(client: TestClient) -> None:
    for prefix in ("", "data:image/png;base64,", "data:;base64,\n"):
        response = client.post(SINGLE, json=body(image=prefix + body()["image"]))
        assert opened(base64.b64decode(response.json()["image"])).size == (24, 16)
    assert files_in(client) == []


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"image": "no base64!"}, (400, "bad-request")),
        ({"image": "http://127.0.0.1/cat.png"}, (400, "bad-request")),
        ({"image": NO_PICTURE}, (400, "unreadable-image")),
        ({"image": NO_PICTURE, "upscaler_1": "None"}, (400, "unreadable-image")),
        ({"upscaling_resize": 9}, (422, "invalid-option")),
        ({"resize_mode": 2}, (422, "invalid-option")),
        ({"image": None}, (422, "invalid-option")),
    ],
)  # fmt: skip
def test_refused_requests(client: TestClient, fields: dict[str, Any], expected: tuple[int, str]) -> None:
    assert problem(client.post(SINGLE, json=body(**fields))) == expected
    assert files_in(client) == []


def test_bodies_that_are_no_request(client: TestClient) -> None:
    assert problem(client.post(SINGLE, content=picture(), headers={"Content-Type": "image/png"})) == (
        415,
        "not-an-image",
    )
    json = {"Content-Type": "application/json"}
    for content in (b"", b"{", b"[" * 100_000, b'{"image": "\xff"}', b"[]"):
        assert problem(client.post(SINGLE, content=content, headers=json)) == (422, "invalid-option")
    assert problem(client.post(BATCH, json={"imageList": []})) == (422, "invalid-option")
    assert files_in(client) == []


def test_the_limits_are_those_of_the_other_routes(serve: Serve, pipe: RepeatingPipe) -> None:
    client = serve(queue_size=2, max_upload_bytes=30_000, max_pixels=100)
    three = [{"data": body()["image"], "name": "a.png"}] * 3
    assert problem(client.post(BATCH, json={**body(), "imageList": three})) == (429, "queue-full")
    large = base64.b64encode(picture(80, 80)).decode()
    for upscaler in ("mini", "None"):
        assert problem(client.post(SINGLE, json=body(image=large, upscaler_1=upscaler))) == (413, "too-many-pixels")
    assert problem(client.post(SINGLE, json=body(image="A" * 200_000))) == (413, "upload-too-large")
    cross = client.post(SINGLE, json=body(), headers={"Origin": "http://elsewhere.example"})
    assert problem(cross) == (403, "cross-site")
    assert files_in(client) == []
    assert client.app.state.queue._places == 0  # type: ignore[attr-defined]


def test_one_bad_picture_of_a_batch_leaves_nothing(client: TestClient) -> None:
    images = [{"data": body()["image"], "name": "a.png"}, {"data": NO_PICTURE, "name": "../../b.png"}]
    response = client.post(BATCH, json={**body(), "imageList": images})
    assert problem(response) == (400, "unreadable-image")
    assert response.json()["detail"].startswith("b.png: ")
    until(lambda: files_in(client) == [])  # the first one may be in work, until its next tile
