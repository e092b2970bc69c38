"""The part of AUTOMATIC1111's interface that enlarges pictures, for programs that were written for it.

Pictures go through the same queue, with the same limits. Results are PNG files in base64, as there. The routes are not
in the OpenAPI description, whose interface is :mod:`tsdsr.serving.api`.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request, Response
from starlette.concurrency import run_in_threadpool

from tsdsr.images.encoded import EncodedImage
from tsdsr.images.reading import read_size_and_format
from tsdsr.pipeline.batch import restore_file
from tsdsr.serving.answers import ended, finished_file
from tsdsr.serving.api import queue_of
from tsdsr.serving.base64_pictures import (
    NO_UPSCALER,
    BatchBody,
    Body,
    ExtrasBody,
    PicturesResponse,
    SingleBody,
    one_at_a_time,
    receive_pictures,
)
from tsdsr.serving.job import Job, Order
from tsdsr.serving.job_queue import JobQueue
from tsdsr.serving.options import UpscaleOptions, parse_options
from tsdsr.serving.problems import ProblemError, problem_of
from tsdsr.serving.uploads import check_upload

router = APIRouter(prefix="/sdapi/v1", include_in_schema=False)

Queue = Annotated[JobQueue, Depends(queue_of)]


@router.post("/extra-single-image")
async def extra_single_image(request: Request, queue: Queue) -> Response:
    """Enlarge a picture."""
    return await _enlarge(request, queue, SingleBody, "image")


@router.post("/extra-batch-images")
async def extra_batch_images(request: Request, queue: Queue) -> Response:
    """Enlarge several pictures."""
    return await _enlarge(request, queue, BatchBody, "images")


async def _enlarge(request: Request, queue: JobQueue, kind: type[Body], key: Literal["image", "images"]) -> Response:
    """Receive pictures, wait for their results, and answer with them. If one fails, its error is the answer."""
    jobs: list[Job] = []
    files: list[Path] = []  # uploads that are not a job's yet, and results of "None", which needs no job
    readers = ExitStack()

    def clean() -> None:
        queue.spool.remove(*files)
        for job in jobs:
            queue.forget(job)
        readers.close()

    try:
        with ExitStack() as places:
            places.enter_context(queue.place())
            body, uploads = await receive_pictures(request, queue, kind)
            files += [path for _, path in uploads]
            for _ in uploads[1:]:
                places.enter_context(queue.place())
            name = _upscaler(queue, body.upscaler_1)
            for upload in list(uploads):
                if name == NO_UPSCALER:
                    files.append(await run_in_threadpool(_as_png, queue, *upload))
                else:
                    order = await run_in_threadpool(_order, queue, body, *upload)
                    jobs.append(queue.submit(order, waits_for_client=True))
                    readers.enter_context(queue.reading(jobs[-1]))  # it does not make room for others
                    files.remove(upload[1])
        for job in jobs:
            await ended(request, queue, job)
        results = [finished_file(job) for job in jobs] or files[len(uploads) :]
        notices = [*body.notices(), *dict.fromkeys(notice for job in jobs for notice in job.notices)]
        if name == NO_UPSCALER:
            notices.insert(0, f"the upscaler None changes nothing; there is also {upscaler_name(queue)}")
        return PicturesResponse(key, results, notices, clean)
    except BaseException:
        clean()
        raise


def upscaler_name(queue: JobQueue) -> str:
    """Return the name of the model in the list of upscalers."""
    return Path(queue.settings.model).name


def _upscaler(queue: JobQueue, wanted: str) -> str:
    """Return the upscaler that a client names, in any case.

    Raises:
        ProblemError: it is not here.
    """
    names = (NO_UPSCALER, upscaler_name(queue))
    for name in names:
        if wanted.casefold() == name.casefold():
            return name
    raise ProblemError("invalid-option", f"upscaler_1: {wanted[:100]!r} is not available; choose {' or '.join(names)}")


def _order(queue: JobQueue, body: ExtrasBody, name: str, path: Path) -> Order:
    """Check a picture; return the order for the queue.

    Raises:
        ProblemError: see :func:`~tsdsr.serving.uploads.check_upload`.
    """
    options: dict[str, Any] = {"format": "png", "scale": body.upscaling_resize}
    target = body.upscaling_resize_w, body.upscaling_resize_h
    if body.resize_mode == 1 and body.upscaling_crop:
        options |= {"width": target[0], "height": target[1], "fit": "cover", "scale": 1.0}
    elif body.resize_mode == 1:
        options["scale"] = _scale_to_cover(name, path, target)
    return check_upload(queue, path, name, _options(options))


def _options(given: dict[str, Any]) -> UpscaleOptions:
    try:
        return parse_options(given)
    except ProblemError as problem:
        problem.detail = problem.detail.replace("scale:", "upscaling_resize_w and _h: the scale to cover them:")
        raise


def _scale_to_cover(name: str, path: Path, target: tuple[int, int]) -> float:
    """Return the scale at which a picture is as large as ``target`` along both axes, nothing cut off."""
    try:
        width, height, _ = read_size_and_format(EncodedImage(name, path))
    except Exception as error:
        raise problem_of(error) from None
    return max(target[0] / width, target[1] / height)


def _as_png(queue: JobQueue, name: str, path: Path) -> Path:
    """Store an upload as PNG, otherwise unchanged; return the file.

    Raises:
        ProblemError: it is no picture, or too large.
    """
    target = queue.spool.new_path(".png")
    try:
        with one_at_a_time:
            restore_file(EncodedImage(name, path), target, lambda picture: picture, queue.settings.max_pixels)
        queue.spool.count(target)
        queue.make_room(0)
    except Exception as error:
        queue.spool.remove(target)
        raise error if isinstance(error, ProblemError) else problem_of(error) from None
    return target


@router.get("/upscalers")
async def list_upscalers(queue: Queue) -> list[dict[str, Any]]:
    """List the model, and "None", which returns a picture as it is."""
    empty = {"model_name": None, "model_path": None, "model_url": None, "scale": 4.0}
    name = upscaler_name(queue)
    return [{"name": NO_UPSCALER, **empty}, {"name": name, **empty, "model_name": name}]


@router.get("/progress")
async def show_progress(queue: Queue) -> dict[str, Any]:
    """Show how far the picture is that is longest in work, whoever asked for it."""
    running, waiting = queue.in_work()
    job = next((job for job in running if job.state == "running"), None)
    done, total = (0, 0) if job is None else (job.tiles_done, job.tiles_total or 0)
    left = None if job is None else queue.view(job)["seconds_left"]
    state = {
        "skipped": False,
        "interrupted": False,
        "job": "" if job is None else "upscale",
        "job_count": waiting + len(running),
        "job_timestamp": "0",
        "job_no": 0,
        "sampling_step": done,
        "sampling_steps": total,
    }
    progress = done / total if total else 0.0
    return {"progress": progress, "eta_relative": left or 0.0, "state": state, "current_image": None, "textinfo": None}


@router.get("/options")
async def show_options(queue: Queue) -> dict[str, Any]:
    """Show the options that clients look for when they connect."""
    return {"samples_format": "png", "sd_model_checkpoint": upscaler_name(queue), "sd_checkpoint_hash": None}


@router.get("/sd-models")
async def list_checkpoints(queue: Queue) -> list[dict[str, Any]]:
    """List the model as a checkpoint."""
    name = upscaler_name(queue)
    return [{"title": name, "model_name": name, "hash": None, "sha256": None, "filename": name, "config": None}]


@router.get("/scripts")
async def list_scripts() -> dict[str, list[str]]:
    """List no scripts: pictures are not made from texts here."""
    return {"txt2img": [], "img2img": []}


@router.get("/samplers")
@router.get("/schedulers")
@router.get("/sd-vae")
@router.get("/loras")
@router.get("/face-restorers")
@router.get("/realesrgan-models")
@router.get("/latent-upscale-modes")
@router.get("/prompt-styles")
async def list_nothing() -> list[dict[str, Any]]:
    """List nothing: these belong to making pictures from texts, or to other upscalers."""
    return []
