"""Hostile requests: each gets a typed answer, nothing stays behind, and the server goes on."""

from __future__ import annotations

import io
import json
import struct
import zlib
from typing import Any
from urllib.parse import quote, unquote

import pytest
from PIL import Image

from tests.serving.conftest import Serve, TestClient, files_in, opened, picture, problem
from tests.serving.test_api import queue_picture
from tsdsr.serving.uploads import clean_name


def upload(client: TestClient, content: bytes, name: str = "a.png", **options: Any) -> Any:
    return client.post("/v1/upscale", files={"image": (name, content)}, data=options)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(width: int, height: int) -> bytes:
    """A small PNG whose pixels take very much memory."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10**6)))


@pytest.mark.parametrize("size", [(30_000, 30_000), (2**31 - 1, 2**31 - 1), (10**9, 1)])
def test_decompression_bombs(client: TestClient, size: tuple[int, int]) -> None:
    assert problem(upload(client, bomb(*size))) == (413, "too-many-pixels")


def test_a_bomb_in_a_text_chunk(client: TestClient) -> None:
    content = picture()
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(200_000_000)))
    response = upload(client, content[:33] + text + content[33:])
    assert response.status_code in (200, 400)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"GIF89a",
        b"<html><script>alert(1)</script>",
        b"%PDF-1.7",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe0",
        b"II*\0\xff\xff\xff\xff",
        bytes(1000),
        picture()[:50],
        picture(format="JPEG")[:200],
        picture(format="GIF"),
        picture(format="WEBP")[:40],
    ],
)
def test_what_is_no_picture(client: TestClient, content: bytes) -> None:
    assert problem(upload(client, content)) == (400, "unreadable-image")
    raw = client.post("/v1/upscale", content=content, headers={"Content-Type": "image/png"})
    assert problem(raw) == (400, "unreadable-image")
    assert str(client.app.state.queue.spool.folder) not in raw.text  # type: ignore[attr-defined]
    assert files_in(client) == []
    assert upload(client, picture()).status_code == 200


@pytest.mark.parametrize("kind", ["text/html", "application/json", "application/x-www-form-urlencoded", "", "image"])
def test_bodies_of_other_types(client: TestClient, kind: str) -> None:
    response = client.post("/v1/upscale", content=picture(), headers={"Content-Type": kind})
    assert problem(response) == (415, "not-an-image")
    packed = client.post("/v1/jobs", content=picture(), headers={"Content-Type": "image/png", "Content-Encoding": "br"})
    assert problem(packed) == (415, "not-an-image")


def test_a_page_hidden_in_a_picture_comes_back_as_a_picture(client: TestClient) -> None:
    """The name, the type that the client states, and what follows the picture do not count."""
    page = b"<html><script>alert(1)</script></html>"
    files = {"image": ("evil.html", picture() + page, "text/html")}
    response = client.post("/v1/upscale", files=files)
    assert response.headers["content-type"] == "image/png"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["content-disposition"] == 'attachment; filename="evil.html.png"'
    assert page not in response.content


NAMES = [
    'a"b.png',
    "a\r\nSet-Cookie: x=1.png",
    "写真.png",
    "../../etc/passwd",
    "C:\\photos\\a.png",
    "....//x.png",
    "a;b=c.png",
    "\ud800.png",
    ".png",
    "",
    "x" * 5000 + ".png",
    "%2e%2e%2fx.png",
    "a\0b.png",
    "\u202egnp.exe",
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_names_of_files(client: TestClient, name: str) -> None:
    raw = quote(name[:900], safe="", errors="surrogatepass")
    response = client.post(f"/v1/upscale?name={raw}", content=picture(), headers={"Content-Type": "image/png"})
    assert response.status_code == 200, response.text
    assert "set-cookie" not in response.headers
    disposition = response.headers["content-disposition"]
    assert disposition.isascii()
    assert disposition.isprintable()
    shown = unquote(disposition.partition("filename*=utf-8''")[2] or disposition.partition('filename="')[2][:-1])
    assert shown.endswith(".png")
    assert not set(shown) & set("/\\\r\n\0")
    assert clean_name(shown.removesuffix(".png")) in (shown.removesuffix(".png"), "picture")
    assert 5 <= len(shown) <= 160


def test_a_name_in_a_form_breaks_no_header(client: TestClient) -> None:
    boundary = "b"
    part = 'form-data; name="image"; filename="a\\"%0d%0aX: 1\\".png"'
    body = f"--{boundary}\r\nContent-Disposition: {part}\r\n\r\n".encode() + picture() + f"\r\n--{boundary}--".encode()
    kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    response = client.post("/v1/upscale", content=body, headers=kind)
    assert response.status_code == 200
    assert "x" not in response.headers


@pytest.mark.parametrize(
    "options",
    [
        {"scale": "nan"},
        {"scale": "inf"},
        {"scale": "0.5"},
        {"scale": "9"},
        {"scale": "4" * 10_000},
        {"scale": ""},
        {"detail": "-1"},
        {"detail": "1e999"},
        {"width": "100"},
        {"width": "0", "height": "0"},
        {"width": "1", "height": "1"},
        {"width": "99999", "height": "99999"},
        {"fit": "fill"},
        {"color_fix": "x" * 4000},
        {"tile": "3"},
        {"tile": "off"},
        {"seed": "-1"},
        {"seed": str(2**64)},
        {"seed": "9" * 4000},
        {"format": "svg"},
        {"format": "../png"},
        {"quality": "0"},
        {"lossless": "perhaps"},
        {"subsampling": "411"},
        {"compression": "10"},
        {"icc": "drop"},
        {"unknown": "1"},
        {"__class__": "1"},
        {"scale": "2", "Scale": "3"},
    ],
    ids=str,
)
def test_options_out_of_range(client: TestClient, options: dict[str, str]) -> None:
    files = {"image": ("a.png", picture())}
    answers = [client.post("/v1/upscale", data=options, files=files)]
    answers.append(client.post("/v1/jobs", params=options, files=files))
    for answer in answers:
        if len(str(options)) < 4096:
            assert problem(answer) == (422, "invalid-option")
        assert answer.status_code in (400, 422)
        assert len(answer.text) < 6000
    assert files_in(client) == []


def test_fields_beyond_measure(client: TestClient) -> None:
    assert problem(upload(client, picture(), **{f"x{i}": "1" for i in range(5000)}))[0] in (400, 413)
    assert problem(upload(client, picture(), scale=["2", "3"])) == (422, "invalid-option")
    twice = [("image", ("a.png", picture())), ("image", ("b.png", picture()))]
    assert problem(client.post("/v1/jobs", files=twice)) == (400, "bad-request")
    as_text = client.post("/v1/jobs", files={"image": (None, "text"), "other": ("a.png", picture())})
    assert problem(as_text)[0] in (400, 422)
    assert problem(client.post("/v1/jobs", files={"scale": (None, "2")})) == (400, "bad-request")
    assert files_in(client) == []


@pytest.mark.parametrize(
    "body", [b"", b"nothing", b"--b", b"--b\r\n\r\n", b"--b\r\nContent-Disposition: x\r\n\r\n--b--"]
)
def test_damaged_forms(client: TestClient, body: bytes) -> None:
    for kind in ("multipart/form-data; boundary=b", "multipart/form-data", "multipart/form-data; boundary="):
        assert problem(client.post("/v1/jobs", content=body, headers={"Content-Type": kind})) == (400, "bad-request")
    assert files_in(client) == []


@pytest.mark.parametrize("length", ["-1", "1e3", "٣", "9" * 5000, "", "1, 1"])
def test_lengths_that_are_none(client: TestClient, length: str) -> None:
    headers = {"Content-Type": "image/png", "Content-Length": length.encode()}
    response = client.post("/v1/jobs", content=picture(), headers=headers)
    assert response.status_code in (413, 202)


@pytest.mark.parametrize("id", ["x", "../../etc/passwd", "%00", "a" * 5000, "é"])
def test_ids_of_no_job(client: TestClient, id: str) -> None:
    for method, url in (("GET", "{}"), ("DELETE", "{}"), ("GET", "{}/result"), ("GET", "{}/events")):
        assert client.request(method, f"/v1/jobs/{url.format(quote(id, safe=''))}").status_code == 404


def test_other_methods_and_bodies(client: TestClient) -> None:
    refused = client.put("/v1/jobs")
    assert problem(refused) == (405, "method-not-allowed")
    assert refused.headers["allow"] == "POST"
    for body in (b"", b"[", b'{"token": 1}', b'{"token": "x", "more": 1}', b"[" * 100_000, b'{"token": "\\ud800"}'):
        answer = client.post("/v1/session", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code in (204, 400, 422)


def test_a_truncated_picture_fails_in_the_queue_and_names_no_path(client: TestClient) -> None:
    content = picture(300, 300)
    response = upload(client, content[: len(content) // 2], "holiday.png")
    assert problem(response) == (400, "unreadable-image")
    assert response.json()["detail"].startswith("holiday.png: ")
    assert "tsdsr-serve" not in response.text


def test_an_error_of_the_server_keeps_its_message(serve: Serve, pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise ValueError("secret /home/somebody")

    client = serve()
    monkeypatch.setattr(pipe, "upscale_pixels", fail)
    response = upload(client, picture())
    assert problem(response) == (500, "internal-error")
    assert "secret" not in response.text
    monkeypatch.undo()
    assert upload(client, picture()).status_code == 200


def test_a_result_that_its_format_cannot_hold(client: TestClient) -> None:
    response = upload(client, picture(5000, 1), scale=8, format="webp")
    assert problem(response) == (422, "invalid-option")
    assert "16383" in response.json()["detail"]


def test_notices_are_one_line_of_ascii(client: TestClient) -> None:
    file = io.BytesIO()
    Image.new("P", (9, 9)).save(file, "PNG")
    response = upload(client, file.getvalue(), "画.png", format="jpg")
    assert all(isinstance(text, str) for text in json.loads(response.headers["tsdsr-notices"]))
    assert response.headers["tsdsr-notices"].isascii()
    assert opened(response.content).format == "JPEG"


def test_one_client_cannot_name_the_files_of_another(client: TestClient) -> None:
    first, second = queue_picture(client, "same.png"), queue_picture(client, "same.png")
    assert first != second
    assert len(first) >= 24
    assert not any("same" in name for name in files_in(client))
