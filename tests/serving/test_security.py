"""Who may ask, and what every answer carries."""

from __future__ import annotations

import base64

import pytest

from tests.serving.conftest import Serve, TestClient, picture, problem
from tsdsr.errors import InvalidInputError
from tsdsr.serving.settings import ServeSettings

TOKEN = "correct-horse-battery"


@pytest.fixture
def guarded(serve: Serve) -> TestClient:
    return serve(token=TOKEN)


def basic(password: str) -> str:
    return f"Basic {base64.b64encode(f'any:{password}'.encode()).decode()}"


@pytest.mark.parametrize("url", ["/v1/models", "/metrics", "/openapi.json", "/v1/jobs/x", "/nothing", "/sdapi/v1/x"])
def test_everything_needs_the_token(guarded: TestClient, url: str) -> None:
    for given in (None, "", "Bearer", "Bearer wrong", f"Bearer {TOKEN}x", TOKEN, basic("wrong"), "Basic !", "Bearer é"):
        headers = {} if given is None else {"Authorization": given.encode("latin-1")}
        response = guarded.get(url, headers=headers)
        assert problem(response) == (401, "unauthorized")
        assert response.headers["www-authenticate"] in ("Bearer", "Basic")
    for given in (f"Bearer {TOKEN}", f"bearer {TOKEN}", basic(TOKEN)):
        assert guarded.get(url, headers={"Authorization": given}).status_code != 401


def test_what_a_page_needs_before_the_token_is_known(guarded: TestClient) -> None:
    assert guarded.get("/healthz").status_code == 200
    assert guarded.get("/v1/limits").json()["token_required"] is True
    for url in ("/", "/assets/nothing.js"):
        assert guarded.get(url).status_code in (200, 404)
    assert guarded.get("/assetsx").status_code == 401


def test_an_upload_without_the_token_is_not_received(guarded: TestClient) -> None:
    assert problem(guarded.post("/v1/jobs", files={"image": ("a.png", picture())})) == (401, "unauthorized")


def test_a_session_of_a_browser(guarded: TestClient) -> None:
    assert problem(guarded.post("/v1/session", json={"token": "wrong"})) == (401, "unauthorized")
    assert guarded.get("/v1/models").status_code == 401
    begun = guarded.post("/v1/session", json={"token": TOKEN})
    assert begun.status_code == 204
    cookie = begun.headers["set-cookie"]
    assert cookie.startswith("tsdsr-8787=")
    assert {"httponly", "samesite=strict", "path=/"} <= {part.strip().lower() for part in cookie.split(";")}
    assert TOKEN not in cookie
    assert guarded.get("/v1/models").status_code == 200
    secret = guarded.cookies["tsdsr-8787"]
    assert guarded.delete("/v1/session").status_code == 204
    guarded.cookies.set("tsdsr-8787", secret)
    assert guarded.get("/v1/models").status_code == 401  # it has ended on the server too


def test_the_token_is_long_and_not_shown() -> None:
    assert TOKEN not in repr(ServeSettings(token=TOKEN))
    with pytest.raises(InvalidInputError, match="at least 16 ASCII characters"):
        ServeSettings(token="short")
    with pytest.raises(InvalidInputError, match="at least 16 ASCII characters"):
        ServeSettings(token="ü" * 20)


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("127.0.0.1:8787", True),
        ("localhost", True),
        ("LOCALHOST:9000", True),
        ("page.localhost:8787", True),
        ("[::1]:8787", True),
        ("127.5.5.5", True),
        ("evil.example", False),
        ("evil.example:8787", False),
        ("127.0.0.1.evil.example", False),
        ("127.0.0.1@evil.example", False),
        ("localhost.evil.example", False),
        ("192.168.0.7:8787", False),
        ("[::1", False),
        ("", False),
    ],
)
def test_a_local_server_is_known_by_local_names_only(client: TestClient, host: str, known: bool) -> None:
    """The name of another page can be made to resolve to this machine (DNS rebinding)."""
    response = client.get("/v1/models", headers={"Host": host})
    assert response.status_code == 200 if known else problem(response) == (403, "wrong-host")


def test_further_names_are_allowed_by_hand(serve: Serve) -> None:
    client = serve(allowed_hosts=("photos.example",))
    assert client.get("/healthz", headers={"Host": "photos.example"}).status_code == 200
    assert client.get("/healthz", headers={"Host": "other.example"}).status_code == 403


def test_a_server_in_a_network_has_the_names_that_it_is_given(serve: Serve) -> None:
    assert serve(host="0.0.0.0").get("/healthz", headers={"Host": "nas.local"}).status_code == 200
    named = serve(host="0.0.0.0", allowed_hosts=("nas.local",))
    assert named.get("/healthz", headers={"Host": "nas.local"}).status_code == 200
    assert named.get("/healthz", headers={"Host": "evil.example"}).status_code == 403


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"Origin": "http://127.0.0.1:8787"}, True),
        ({"Origin": "http://127.0.0.1:8788"}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://[bad"}, False),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1:8787"}, False),
    ],
)
def test_other_sites_change_nothing(client: TestClient, headers: dict[str, str], allowed: bool) -> None:
    upload = {"image": ("a.png", picture())}
    answers = [client.post("/v1/upscale", files=upload, headers=headers), client.delete("/v1/session", headers=headers)]
    for answer in answers:
        assert answer.status_code in (200, 204) if allowed else problem(answer) == (403, "cross-site")


@pytest.mark.parametrize("url", ["/", "/healthz", "/v1/nothing", "/v1/jobs/x", "/openapi.json", "/metrics"])
def test_every_answer_carries_the_headers_of_security(client: TestClient, url: str) -> None:
    headers = client.get(url).headers
    policy = dict(part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["img-src"] == "'self' blob: data:"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "access-control-allow-origin" not in headers
    assert "server" not in headers


@pytest.mark.parametrize("path", ["../problems.py", "..%2fproblems.py", "%2e%2e/problems.py", "a//b", "..\\x", "x\0"])
def test_assets_stay_in_their_folder(client: TestClient, path: str) -> None:
    response = client.get(f"/assets/{path}" if "\0" not in path else "/assets/x%00")
    assert problem(response) == (404, "not-found")
