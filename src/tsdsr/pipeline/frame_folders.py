"""Folders of frames that follow each other, restored one by one as pictures."""

from __future__ import annotations

from typing import Literal

from tsdsr.errors import ImageError
from tsdsr.images.icc import to_srgb
from tsdsr.images.reading import read_picture
from tsdsr.images.transparency import fill_transparent
from tsdsr.pipeline.batch import JobResult
from tsdsr.pipeline.jobs import Job
from tsdsr.pipeline.options import RestoreOptions
from tsdsr.pipeline.steady import SteadyDetail


class Frames:
    """The state of a batch of frames: begins anew in each folder, and goes on after results that are there already.

    Args:
        strength (float): see :class:`~tsdsr.pipeline.steady.SteadyDetail`.
        options (RestoreOptions): how frames are restored.
        icc, max_pixels: see :func:`~tsdsr.runtimes.upscale_file.upscale_file`.

    Attributes:
        steady (SteadyDetail): the frame before.
    """

    def __init__(
        self, strength: float, options: RestoreOptions, icc: Literal["keep", "srgb"], max_pixels: int | None
    ) -> None:
        self.steady = SteadyDetail(strength, options.visible)
        self._icc, self._max_pixels = icc, max_pixels

    def after(self, result: JobResult, following: Job | None) -> None:
        """Prepare for the job that follows a result, if there is one.

        If the result was there already, it is read back with its input. A lossy format makes the frames after it differ
        a little from those of a run without interruption.
        """
        if following is None or following.finished or following.error is not None:
            return
        if result.status == "failed" or following.source.parent != result.job.source.parent:
            self.steady.reset()
        elif result.status == "skipped":
            try:
                given = read_picture(result.job.image, self._max_pixels)
                restored = read_picture(result.job.destination, None)
            except ImageError:
                self.steady.reset()
                return
            given = to_srgb(given) if self._icc == "srgb" else given
            pixels = given.pixels if given.alpha is None else fill_transparent(given.pixels, given.alpha)
            self.steady.resume(pixels, restored.pixels)
