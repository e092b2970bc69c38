"""Web server of a study.

::

    GET  /                  the page
    GET  /api/session       the remaining questions; before a session begins, only their number
    POST /api/session       begin a session; sets the cookie
    POST /api/vote          {"choice": ADDRESS} → 201; 409 if this image already has a vote
    GET  /pictures/ADDRESS  a picture of this session

Every address answers 503 while the database or a picture cannot be used.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import closing
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from tsdsr.errors import MissingDependencyError, install_extra
from tsdsr.files import StrPath
from tsdsr.hashing import hash_text
from tsdsr.study.blinding import plan_session
from tsdsr.study.definition import VOTES, Study, check_pictures, picture_path
from tsdsr.study.votes import DoubleVoteError, Vote, VoteStore, VotesUnavailableError
from tsdsr.web import COMMON_HEADERS, CONTENT_POLICY, bind, shown_address

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route
except ImportError as error:
    raise MissingDependencyError(
        f"serving a study needs Starlette and uvicorn: {install_extra('study')} ({error})"
    ) from error

logger = logging.getLogger(__name__)

BODY_LIMIT = 1024
"""Largest request body in bytes; a vote has about 50."""

COOKIE_SECONDS = 30 * 86400

_ASSETS = {
    "/": ("study.html", "text/html"),
    "/study.css": ("study.css", "text/css"),
    "/study.js": ("study.js", "text/javascript"),
    "/zoom.js": ("zoom.js", "text/javascript"),
}

_HEADERS = {**COMMON_HEADERS, "Content-Security-Policy": CONTENT_POLICY.format(images="blob: data:")}


class StudyServer:
    """ASGI application that serves one study.

    Args:
        study (Study): the study to serve.
        folder (Path): folder of the study.
        store (VoteStore): store of the votes; the caller closes it.

    Attributes:
        app (Starlette): the ASGI application.
    """

    def __init__(self, study: Study, folder: Path, store: VoteStore) -> None:
        self.study, self.folder, self.store = study, folder, store
        # Cookies are per host, not per port: studies on one host need different cookie names.
        self.cookie = f"study-{hash_text(study.seed)[:8]}"
        self.plan = lru_cache(maxsize=1024)(lambda session: plan_session(study, session))
        assets = files("tsdsr.study") / "assets"
        self.app = Starlette(
            routes=[
                *(Route(path, _file((assets / name).read_bytes(), kind)) for path, (name, kind) in _ASSETS.items()),
                Route("/api/session", self.show_session),
                Route("/api/session", self.begin, methods=["POST"]),
                Route("/api/vote", self.vote, methods=["POST"]),
                Route("/pictures/{address}", self.picture),
            ],
            exception_handlers={VotesUnavailableError: _votes_unavailable},
        )

    async def show_session(self, request: Request) -> Response:
        """Return the remaining questions of the session."""
        return _json(await self._state(await self._session(request)))

    async def begin(self, request: Request) -> Response:
        """Begin a session, or return the session of the cookie."""
        session = await self._session(request)
        if session is not None:
            return _json(await self._state(session))
        session, token = await run_in_threadpool(self.store.begin)
        response = _json(await self._state(session), 201)
        secure = request.url.scheme == "https"
        response.set_cookie(self.cookie, token, max_age=COOKIE_SECONDS, httponly=True, samesite="strict", secure=secure)
        return response

    async def vote(self, request: Request) -> Response:
        """Store a vote."""
        session = await self._session(request)
        if session is None:
            return _problem(401, "no session; reload the page to begin")
        # A form on another site cannot send this type without a CORS preflight request.
        if request.headers.get("content-type", "").split(";")[0].strip() != "application/json":
            return _problem(415, "a vote is application/json")
        body = await _limited_body(request)
        if body is None:
            return _problem(413, f"a vote has at most {BODY_LIMIT} bytes")
        choice = _parse_choice(body)
        if choice is None:
            return _problem(400, 'a vote is {"choice": "ADDRESS"}')
        found = self.plan(session).choices.get(choice)
        if found is None:
            return _problem(404, "this session was shown no such restoration")
        trial, system = found
        try:
            await run_in_threadpool(self.store.add, Vote(session, trial.image.stem, trial.systems, system))
        except DoubleVoteError:
            return _problem(409, "this session has voted on this image")
        return _json({}, 201)

    async def picture(self, request: Request) -> Response:
        """Return a picture without Last-Modified or ETag headers, which would be the same in all sessions."""
        session = await self._session(request)
        key = None if session is None else self.plan(session).pictures.get(request.path_params["address"])
        if key is None:
            return _problem(404, "no such picture in this session")
        try:
            content = await run_in_threadpool(picture_path(self.folder, key).read_bytes)
        except OSError as error:
            logger.warning("a picture cannot be read: %s", error)
            return _problem(503, "the picture cannot be read at the moment; try again")
        return Response(content, headers=_HEADERS, media_type="image/png")

    async def _session(self, request: Request) -> int | None:
        token = request.cookies.get(self.cookie)
        return None if token is None else await run_in_threadpool(self.store.session_of, token)

    async def _state(self, session: int | None) -> dict[str, Any]:
        about = {"title": self.study.title, "total": self.study.per_voter, "shown": self.study.shown}
        if session is None:
            return {**about, "started": False, "trials": []}
        voted = await run_in_threadpool(self.store.voted, session)
        trials = [
            {"input": trial.input, "reference": trial.reference, "candidates": trial.candidates}
            for trial in self.plan(session).trials
            if trial.image.stem not in voted
        ]
        return {**about, "started": True, "trials": trials}


def serve(folder: StrPath, host: str, port: int, on_ready: Callable[[str], None] | None = None) -> None:
    """Serve a study until interrupted.

    Args:
        folder (str | PathLike): folder of the study.
        host (str): address to listen on; ``127.0.0.1`` is this machine only, ``0.0.0.0`` all network interfaces.
        port (int): port to listen on; 0 selects a free port.
        on_ready (callable | None): called with the URL of the page once it can be opened.

    Raises:
        DatasetError: The folder is not a study, or its pictures have changed.
        InvalidInputError: The port is in use, or the host is not an address of this machine.
    """
    folder = Path(folder)
    study = Study.load(folder)
    check_pictures(study, folder)
    with closing(bind(host, port)) as listener, closing(VoteStore(folder / VOTES)) as store:
        app = StudyServer(study, folder, store).app
        # No access log: it would contain the voters' IP addresses.
        config = uvicorn.Config(app, access_log=False, log_level="warning", lifespan="off", ws="none")
        if on_ready is not None:  # the socket queues connections until the server accepts them
            on_ready(shown_address(host, listener))
        uvicorn.Server(config).run(sockets=[listener])


def _json(content: Any, status: int = 200) -> JSONResponse:
    return JSONResponse(content, status, _HEADERS)


def _problem(status: int, message: str) -> Response:
    return _json({"error": message}, status)


async def _votes_unavailable(request: Request, error: Exception) -> Response:
    """Answer 503 while the database cannot be used; the operator reads the reason in the log."""
    logger.warning("%s", error)
    return _problem(503, "the study cannot store answers at the moment; wait a little and try again")


def _file(content: bytes, kind: str) -> Callable[[Request], Response]:
    return lambda request: Response(content, headers=_HEADERS, media_type=kind)


async def _limited_body(request: Request) -> bytes | None:
    """Read the request body. Return None if it is longer than :data:`BODY_LIMIT`."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_LIMIT:
            return None
    return body


def _parse_choice(body: bytes) -> str | None:
    """Return the address in the body of a vote, or None if the body is not a vote."""
    try:
        vote = json.loads(body)
    except (ValueError, RecursionError):
        return None
    choice = vote.get("choice") if isinstance(vote, dict) else None
    return choice if isinstance(choice, str) else None
