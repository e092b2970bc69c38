"""Who may ask: token, session, names of the server, requests from other sites. And the headers of every answer."""

from __future__ import annotations

import asyncio
import base64
import math
import secrets
import time
from collections import OrderedDict
from contextlib import suppress
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tsdsr.serving.metrics import Metrics
from tsdsr.serving.problems import ProblemError
from tsdsr.serving.settings import ServeSettings
from tsdsr.web import COMMON_HEADERS, CONTENT_POLICY

SESSION_SECONDS = 30 * 86400
_MOST_SESSIONS = 1000
_OPEN_PATHS = ("/", "/healthz", "/v1/limits", "/v1/session", "/favicon.ico")
UPLOAD_OVERHEAD = 65_536
"""Bytes that a request may have besides its picture."""
_DRAIN_SECONDS = 2.0

_HEADERS = {
    **COMMON_HEADERS,
    "Content-Security-Policy": CONTENT_POLICY.format(images="'self' blob: data:"),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


class Sessions:
    """Sessions of browsers that presented the token. They end with the server."""

    def __init__(self) -> None:
        self._until: OrderedDict[str, float] = OrderedDict()

    def begin(self) -> str:
        """Return the secret of a new session."""
        secret = secrets.token_urlsafe(32)
        self._until[secret] = time.time() + SESSION_SECONDS
        while len(self._until) > _MOST_SESSIONS:
            self._until.popitem(last=False)
        return secret

    def end(self, secret: str) -> None:
        """End a session."""
        self._until.pop(secret, None)

    def is_valid(self, secret: str) -> bool:
        """Return whether a secret is that of a session."""
        return self._until.get(secret, 0.0) > time.time()


def cookie_name(scope: Scope) -> str:
    """Return the name of the session's cookie. Browsers do not distinguish ports: the name does."""
    server = scope.get("server") or ("", 0)
    return f"tsdsr-{server[1]}"


def is_token(given: str, token: str) -> bool:
    """Compare a token in constant time."""
    return secrets.compare_digest(given.encode("utf-8", "replace"), token.encode())


class Guard:
    """ASGI middleware around everything else: refuses, adds headers, counts.

    Args:
        app: the application.
        settings (ServeSettings): token and names.
        sessions (Sessions): sessions of browsers.
        metrics (Metrics): what is counted.
    """

    def __init__(self, app: ASGIApp, settings: ServeSettings, sessions: Sessions, metrics: Metrics) -> None:
        self.app, self.settings, self.sessions, self.metrics = app, settings, sessions, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange, started = _Exchange(scope, receive, send, self.settings), time.perf_counter()
        try:
            problem = self.refusal(Request(scope))
            app = self.app if problem is None else problem.response()
            await app(scope, exchange.receive, exchange.send)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.request(scope["method"], route, exchange.status, time.perf_counter() - started)

    def refusal(self, request: Request) -> ProblemError | None:
        """Return why a request is refused, or None."""
        host = _host_name(request.headers.get("host", ""))
        if not self._is_known(host):
            return ProblemError("wrong-host", "The server is not known by this name; start it with --allow-host NAME.")
        if request.method not in ("GET", "HEAD", "OPTIONS") and _is_cross_site(request):
            return ProblemError("cross-site", "Pages of other sites cannot change anything here.")
        path = request.url.path
        if self.settings.token is None or path in _OPEN_PATHS or path.startswith("/assets/"):
            return None
        if self._has_token(request, self.settings.token):
            return None
        challenge = {"WWW-Authenticate": "Bearer"}
        if path.startswith("/sdapi/"):
            challenge = {"WWW-Authenticate": "Basic"}
        return ProblemError("unauthorized", "Send the server's token: 'Authorization: Bearer TOKEN'.", challenge)

    def _is_known(self, host: str) -> bool:
        """Return whether the server is addressed by a name of its own: another page may have its name resolved here."""
        if host in self.settings.allowed_hosts:
            return True
        if not self.settings.is_local:
            return not self.settings.allowed_hosts or host == self.settings.host
        if host == "localhost" or host.endswith(".localhost"):
            return True
        with suppress(ValueError):
            return ip_address(host).is_loopback
        return False

    def _has_token(self, request: Request, token: str) -> bool:
        kind, _, value = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return is_token(value.strip(), token)
        if kind.lower() == "basic":
            with suppress(ValueError):
                return is_token(base64.b64decode(value, validate=True).decode().partition(":")[2], token)
            return False
        cookie = SimpleCookie()
        with suppress(CookieError):
            cookie.load(request.headers.get("cookie", ""))
        found = cookie.get(cookie_name(request.scope))
        return found is not None and self.sessions.is_valid(found.value)


class _Exchange:
    """One request and its answer: adds headers, and reads what is left of a refused body."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, settings: ServeSettings) -> None:
        names = dict(scope["headers"])
        self._pause, self._left = settings.read_timeout, _most_bytes(scope["path"], settings)
        self._has_body = b"transfer-encoding" in names or names.get(b"content-length", b"0") != b"0"
        self._awaits_permission = b"expect" in names
        self._receive, self._send, self.status = receive, send, 0

    async def receive(self) -> Message:
        self._awaits_permission = False
        if not self._has_body:
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), self._pause)
        except asyncio.TimeoutError:
            raise ProblemError("upload-too-slow", "The upload paused for too long; send it again.") from None
        self._has_body = message.get("more_body", False)
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise ProblemError("upload-too-large", "The body of the request is too long.")
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            if self._has_body:
                await self._drain()
                headers["Connection"] = "close"
        await self._send(message)

    async def _drain(self) -> None:
        """Read on for a moment: a client that is still sending would not see the answer."""
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._read_rest(), _DRAIN_SECONDS)

    async def _read_rest(self) -> None:
        more = not self._awaits_permission
        while more:
            more = (await self._receive()).get("more_body", False)


def _most_bytes(path: str, settings: ServeSettings) -> float:
    """Return the bytes that a body may have, if it is no picture, which is counted as it arrives."""
    if path in ("/v1/upscale", "/v1/jobs"):
        return math.inf
    if path.startswith("/sdapi/"):
        return settings.max_upload_bytes * 4 // 3 + UPLOAD_OVERHEAD
    return UPLOAD_OVERHEAD


def _host_name(host: str) -> str:
    """Return the name in a Host header, without the port and the brackets of IPv6; "" if it is none."""
    with suppress(ValueError):
        parts = urlsplit(f"//{host}")
        if parts.username is None and not parts.path and not parts.query and not parts.fragment:
            return (parts.hostname or "").rstrip(".")
    return ""


def _is_cross_site(request: Request) -> bool:
    """Return whether a browser sends the request for a page of another origin; other programs send neither header."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = request.headers.get("origin")
    if origin is None:
        return False
    with suppress(ValueError):
        return urlsplit(origin).netloc.lower() != request.headers.get("host", "").lower()
    return True
