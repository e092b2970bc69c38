"""The web application: page, routes, errors and security around one queue."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from mimetypes import guess_type

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match

from tsdsr import __version__
from tsdsr.pipeline.sr_pipeline import SRPipeline
from tsdsr.serving import automatic1111
from tsdsr.serving.api import router
from tsdsr.serving.job_queue import JobQueue
from tsdsr.serving.metrics import Metrics
from tsdsr.serving.options import invalid_options
from tsdsr.serving.problems import ProblemError, is_full_disk, storage_problem
from tsdsr.serving.security import Guard, Sessions
from tsdsr.serving.settings import ServeSettings
from tsdsr.serving.worker import Worker

logger = logging.getLogger(__name__)

_ASSETS = "assets"
_TEXT = ("text/", "application/json", "application/javascript", "application/manifest+json", "image/svg+xml")


def create_app(pipe: SRPipeline, settings: ServeSettings | None = None) -> FastAPI:
    """Create the web application. Its queue runs during the application's lifespan.

    Args:
        pipe (SRPipeline): the model, see :func:`tsdsr.load_pipeline`.
        settings (ServeSettings | None): limits and security.

    Raises:
        InvalidInputError: the settings ask for several workers, but the model restores one picture at a time.
        FileWriteError: the folder for temporary files cannot be written.
    """
    settings, metrics, sessions = settings or ServeSettings(), Metrics(), Sessions()
    queue = JobQueue(pipe, settings, metrics)
    workers = [Worker(pipe, queue) for _ in range(settings.workers)]

    def stop() -> None:
        queue.close()
        until = time.monotonic() + settings.stop_seconds
        for worker in workers:
            worker.join(max(0.0, until - time.monotonic()))
        queue.spool.close()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        queue.start()
        for worker in workers:
            worker.start()
        yield
        await run_in_threadpool(stop)

    app = FastAPI(
        title="tsdsr",
        version=__version__,
        description="Restores and enlarges photographs with one step of a diffusion model.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.queue, app.state.sessions = queue, sessions
    app.include_router(router)
    app.include_router(automatic1111.router)
    app.add_route("/", _page, include_in_schema=False)
    app.add_route("/assets/{path:path}", _page, include_in_schema=False)
    app.add_exception_handler(ProblemError, _answer_problem)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(OSError, _answer_full_disk)
    app.add_exception_handler(ClientDisconnect, _answer_gone)
    app.add_exception_handler(Exception, _answer_failure)
    app.add_middleware(Guard, settings=settings, sessions=sessions, metrics=metrics)
    return app


async def _page(request: Request) -> Response:
    """Send a file of the page."""
    parts = (request.path_params.get("path") or "index.html").split("/")
    file = files("tsdsr.serving").joinpath(_ASSETS, *parts)
    if any(part in ("", ".", "..") or "\\" in part for part in parts) or not file.is_file():
        raise ProblemError("not-found", "There is no such file.")
    kind = guess_type(parts[-1])[0] or "application/octet-stream"
    return Response(file.read_bytes(), media_type=f"{kind}; charset=utf-8" if kind.startswith(_TEXT) else kind)


async def _answer_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return error.response()


async def _answer_full_disk(request: Request, error: Exception) -> Response:
    if not is_full_disk(error):
        raise error
    logger.error("the disk of the folder for temporary files is full")
    return storage_problem().response()


async def _answer_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return invalid_options(error.errors()).response()


async def _answer_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    names = {404: "not-found", 405: "method-not-allowed"}
    details = {404: "Look at /openapi.json.", 405: "The header Allow names the methods."}
    name, headers = names.get(error.status_code, "bad-request"), dict(error.headers or {})
    if error.status_code == 405:
        known = {method.strip() for method in headers.get("Allow", "").split(",")} | _methods(request)
        headers["Allow"] = ", ".join(sorted(known - {""}))
    return ProblemError(name, details.get(error.status_code, str(error.detail)), headers).response()


def _methods(request: Request) -> set[str]:
    """Return the methods of all routes of an address; Starlette names those of the first one."""
    routes = [*router.routes, *request.app.routes]
    matching = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    return {method for route in matching for method in getattr(route, "methods", None) or ()}


async def _answer_gone(request: Request, error: Exception) -> Response:
    """Nobody receives this answer."""
    return ProblemError("bad-request", "The upload ended before its end.").response()


async def _answer_failure(request: Request, error: Exception) -> Response:
    """The error itself goes to the log."""
    return ProblemError("internal-error", "The server failed at this request; its log says why.").response()
