"""The routes of the HTTP interface, version 1."""

from __future__ import annotations

import threading
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from tsdsr.images.encoded import EncodedImage
from tsdsr.pipeline.model_files import local_folder
from tsdsr.pipeline.options import MAX_SCALE
from tsdsr.serving.answers import ResultResponse, archive, ended, events, finished_file
from tsdsr.serving.job_queue import JobQueue
from tsdsr.serving.metrics import CONTENT_TYPE
from tsdsr.serving.options import RawQuery, format_table
from tsdsr.serving.previews import LARGEST_EDGE, SMALLEST_EDGE, make_preview
from tsdsr.serving.problems import ProblemError, problem_of
from tsdsr.serving.schemas import (
    HealthView,
    JobView,
    LimitsView,
    ModelView,
    TokenBody,
    picture_response,
    problem_responses,
    stored_parameters,
    upload_body,
)
from tsdsr.serving.security import SESSION_SECONDS, Sessions, cookie_name, is_token
from tsdsr.serving.uploads import accept

router = APIRouter()

_MOST_IN_ARCHIVE = 1000
_UPLOAD_PROBLEMS = (
    "bad-request",
    "unreadable-image",
    "cross-site",
    "upload-too-slow",
    "upload-too-large",
    "too-many-pixels",
    "not-an-image",
    "invalid-option",
    "format-unavailable",
    "queue-full",
    "out-of-memory",
    "storage-full",
    "stopping",
)
_previewing = threading.Lock()
"""One picture is decoded for a preview at a time, beside those in work."""


def queue_of(request: Request) -> JobQueue:
    """Return the queue of the application."""
    queue: JobQueue = request.app.state.queue
    return queue


Queue = Annotated[JobQueue, Depends(queue_of)]
JobIds = Annotated[list[str], Query(min_length=1, max_length=_MOST_IN_ARCHIVE, description="Ids of finished jobs.")]


@router.post(
    "/v1/upscale",
    tags=["pictures"],
    summary="Restore and enlarge a picture, and wait for it",
    response_class=Response,
    responses={
        200: picture_response("The picture."),
        **problem_responses(*_UPLOAD_PROBLEMS, "no-result", "cancelled", "internal-error", "timeout"),
    },
    openapi_extra=upload_body(),
)
async def upscale(request: Request, queue: Queue, query: Annotated[RawQuery, Query()]) -> Response:
    """Restore a picture. It is cancelled if the client goes away."""
    job = await accept(request, queue, query, waits_for_client=True)
    try:
        await ended(request, queue, job)
        return ResultResponse(queue, job, on_end=lambda: queue.forget(job))
    except BaseException:
        queue.forget(job)
        raise


@router.post(
    "/v1/jobs",
    tags=["jobs"],
    summary="Queue a picture",
    status_code=202,
    response_model=JobView,
    responses=problem_responses(*_UPLOAD_PROBLEMS),
    openapi_extra=upload_body(),
)
async def create_job(request: Request, response: Response, queue: Queue, query: Annotated[RawQuery, Query()]) -> Any:
    """Queue a picture; the answer's ``Location`` is the job's address."""
    job = await accept(request, queue, query)
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return queue.view(job)


@router.get("/v1/jobs/{id}", tags=["jobs"], response_model=JobView, responses=problem_responses("unknown-job"))
async def show_job(id: str, queue: Queue) -> Any:
    """Show a job."""
    return queue.view(queue.find(id))


@router.delete(
    "/v1/jobs/{id}", tags=["jobs"], status_code=204, responses=problem_responses("cross-site", "unknown-job")
)
async def delete_job(id: str, queue: Queue) -> None:
    """Cancel a job that waits or runs; forget one that has ended."""
    job = queue.find(id)
    if job.ended.is_set():
        await run_in_threadpool(queue.forget, job)
    else:
        queue.cancel(job)


@router.get(
    "/v1/jobs/{id}/events",
    tags=["jobs"],
    summary="Follow a job",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "`event: job`, `data:` a Job, at each change; ends after a final state.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        **problem_responses("unknown-job"),
    },
)
async def follow_job(id: str, queue: Queue) -> Response:
    """Send the states of a job as server-sent events."""
    headers = {"X-Accel-Buffering": "no"}
    return StreamingResponse(events(queue, queue.find(id)), media_type="text/event-stream", headers=headers)


@router.get(
    "/v1/jobs/{id}/result",
    tags=["jobs"],
    summary="Fetch the result",
    response_class=Response,
    responses={
        200: picture_response("The picture."),
        **problem_responses("unknown-job", "not-finished", "no-result", "invalid-option"),
    },
)
async def fetch_result(id: str, queue: Queue, download: bool = True) -> Response:
    """Send the result; ``download=0`` lets a browser show it."""
    return ResultResponse(queue, queue.find(id), inline=not download)


@router.get(
    "/v1/jobs/{id}/preview/{which}",
    tags=["jobs"],
    summary="Fetch a small picture that every browser shows",
    response_class=Response,
    responses={
        200: {
            "description": "8-bit sRGB.",
            "content": {
                kind: {"schema": {"type": "string", "format": "binary"}} for kind in ("image/jpeg", "image/webp")
            },
        },
        **problem_responses("unreadable-image", "unknown-job", "not-finished", "no-result", "invalid-option"),
    },
)
def fetch_preview(
    id: str,
    which: Literal["before", "after"],
    queue: Queue,
    edge: Annotated[int, Query(ge=SMALLEST_EDGE, le=LARGEST_EDGE, description="Longest side in pixels.")] = 2048,
) -> Response:
    """Send a preview of the input or the result."""
    job = queue.find(id)
    with queue.reading(job), _previewing:
        path = job.order.source if which == "before" else finished_file(job)
        if not path.exists():
            raise ProblemError("no-result", "The picture has expired.")
        try:
            content, media_type = make_preview(EncodedImage(job.order.name, path), edge, queue.spool)
        except Exception as error:
            raise problem_of(error) from None
    return Response(content, media_type=media_type, headers={"Cache-Control": "private, max-age=3600"})


@router.get(
    "/v1/results.zip",
    tags=["jobs"],
    summary="Fetch several results",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "The pictures, stored as they are.",
            "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
        },
        **problem_responses("unknown-job", "not-finished", "no-result", "invalid-option"),
    },
)
async def fetch_archive(job: JobIds, queue: Queue) -> Response:
    """Send finished results as one ZIP file."""
    jobs = [queue.find(id) for id in dict.fromkeys(job)]
    for one in jobs:
        finished_file(one)
    headers = {"Content-Disposition": 'attachment; filename="results.zip"'}
    return StreamingResponse(archive(queue, jobs), media_type="application/zip", headers=headers)


@router.get("/v1/models", tags=["server"], response_model=list[ModelView], responses=problem_responses())
async def list_models(queue: Queue) -> Any:
    """List the models; one is chosen when the server starts."""
    pipe, folder = queue.pipe, local_folder(queue.settings.model)
    return [
        {
            "name": queue.settings.model if folder is None else folder.name,  # no path of this machine
            "parameters": None if folder is None else stored_parameters(folder),
            "engine": pipe.engine,
            "provider": getattr(pipe, "provider", None),
            "scales": [1, MAX_SCALE],
            "default": True,
        }
    ]


@router.get("/v1/limits", tags=["server"], response_model=LimitsView, responses=problem_responses())
async def show_limits(queue: Queue) -> Any:
    """Show what the server takes. Needs no token."""
    settings = queue.settings
    return {
        "max_upload_bytes": settings.max_upload_bytes,
        "max_pixels": settings.max_pixels,
        "max_result_pixels": settings.max_result_pixels,
        "queue_size": settings.queue_size,
        "result_seconds": settings.result_seconds,
        "timeout_seconds": settings.timeout,
        "formats": format_table(),
        "token_required": settings.token is not None,
    }


@router.post(
    "/v1/session",
    tags=["server"],
    status_code=204,
    responses=problem_responses("bad-request", "cross-site", "invalid-option"),
)
async def begin_session(request: Request, body: TokenBody, queue: Queue) -> Response:
    """Exchange the token for a cookie, so that a browser's pictures and downloads are allowed too."""
    response = Response(status_code=204)
    token = queue.settings.token
    if token is None:
        return response
    if not is_token(body.token, token):
        raise ProblemError("unauthorized", "This is not the server's token.")
    sessions: Sessions = request.app.state.sessions
    response.set_cookie(
        cookie_name(request.scope), sessions.begin(), max_age=SESSION_SECONDS, httponly=True, samesite="strict",
        secure=request.url.scheme == "https",
    )  # fmt: skip
    return response


@router.delete("/v1/session", tags=["server"], status_code=204, responses=problem_responses("cross-site"))
async def end_session(request: Request) -> Response:
    """End the session of a browser."""
    name = cookie_name(request.scope)
    sessions: Sessions = request.app.state.sessions
    sessions.end(request.cookies.get(name, ""))
    response = Response(status_code=204)
    response.delete_cookie(name, httponly=True, samesite="strict")
    return response


@router.get(
    "/healthz",
    tags=["server"],
    response_model=HealthView,
    responses={503: {"description": "The server is stopping.", "model": HealthView}, **problem_responses()},
)
async def show_health(response: Response, queue: Queue) -> Any:
    """Say whether the server takes work. Needs no token."""
    if queue.stopping:
        response.status_code = 503
        return {"status": "stopping"}
    return {"status": "ok"}


@router.get(
    "/metrics",
    tags=["server"],
    response_class=Response,
    responses={
        200: {"description": "Prometheus text.", "content": {"text/plain": {"schema": {"type": "string"}}}},
        **problem_responses(),
    },
)
def show_metrics(queue: Queue) -> Response:
    """Show figures for Prometheus."""
    return Response(queue.metrics.text(), headers={"Content-Type": CONTENT_TYPE})
