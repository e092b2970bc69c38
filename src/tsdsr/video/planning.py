"""A video, checked before a model is loaded."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tsdsr.errors import InvalidInputError
from tsdsr.files import StrPath, as_path, file_stamp, require_writable_file
from tsdsr.hashing import hash_file
from tsdsr.pipeline.made_from import BatchSettings
from tsdsr.pipeline.options import RestoreOptions
from tsdsr.result_records import MadeFrom, ResultRecords
from tsdsr.video.codecs import require_av
from tsdsr.video.encoding import Encoding, plan_encoding
from tsdsr.video.options import VideoOptions
from tsdsr.video.source import INTERLACED, VideoSource, read_source


@dataclass(frozen=True)
class VideoJob:
    """A video that can be restored, after every check that needs no model.

    Attributes:
        source (VideoSource): what the file holds.
        target (Path): the result.
        restore (RestoreOptions): how frames are restored.
        options (VideoOptions): how the video is made.
        encoding (Encoding): how the result is encoded.
        made_from (mapping): what it is made from.
        finished (bool): the result is there, made from the same.
        source_stamp (tuple of int): of the source, see :func:`~tsdsr.files.file_stamp`.
    """

    source: VideoSource
    target: Path
    restore: RestoreOptions
    options: VideoOptions
    encoding: Encoding
    made_from: MadeFrom
    finished: bool
    source_stamp: tuple[int, ...]

    @property
    def notices(self) -> tuple[str, ...]:
        """What is known before the work: what is assumed, converted or left out."""
        notices = (*self.source.notices, *self.encoding.notices)
        return tuple(notice for notice in notices if not (self.options.deinterlace and notice == INTERLACED))

    @property
    def pixels(self) -> int:
        """Pixels of all frames of the result, an estimate."""
        return max(1, self.source.frames) * self.encoding.width * self.encoding.height


def plan_video(
    source: StrPath,
    target: StrPath,
    restore: RestoreOptions,
    options: VideoOptions,
    settings: BatchSettings,
    overwrite: bool = False,
) -> VideoJob:
    """Check a video and where its result goes; no model is loaded.

    Args:
        source, target (str | PathLike): see :func:`upscale_video`.
        restore (RestoreOptions): how frames are restored.
        options (VideoOptions): how the video is made.
        settings (BatchSettings): the model and how it runs, for the record of the result.
        overwrite (bool): replace a result, whatever it was made from.

    Raises:
        InvalidInputError: an option does not fit, or another file has the name of the result.
        VideoError: the source cannot be restored.
        MissingDependencyError: PyAV, or an encoder in it, is missing.
    """
    require_av()
    given, result = as_path(source, "source"), as_path(target, "target")
    facts = read_source(given)
    encoding = plan_encoding(facts, result, restore, options)
    if result.exists() and result.samefile(given):
        raise InvalidInputError(f"{result}: the result would overwrite the input; choose another name")
    require_writable_file(result)
    before = file_stamp(given)
    made_from = {"input": hash_file(given), **settings.restored(), **_as_plain(encoding), **_as_plain(options)}
    finished = _is_finished(result, made_from, overwrite)
    return VideoJob(facts, result, restore, options, encoding, made_from, finished, before)


def _as_plain(settings: Any) -> dict[str, Any]:
    """Return the fields of settings that a result depends on, as JSON values, and the versions of the encoders."""
    import av

    fields = {name: str(value) for name, value in asdict(settings).items() if name != "notices"}
    return {**fields, "libavcodec": ".".join(str(part) for part in av.library_versions["libavcodec"])}


def _is_finished(target: Path, made_from: MadeFrom, overwrite: bool) -> bool:
    """Whether the result is there already.

    Raises:
        InvalidInputError: something else has its name.
    """
    if overwrite or not target.is_file():
        return False
    records = ResultRecords()
    if records.state(target, made_from) == "same":
        return True
    others = records.differences(target, made_from) if records.is_result(target) else []
    what = f"was made with other settings ({', '.join(others)})" if others else "is there already"
    raise InvalidInputError(f"{target}: {what}; --overwrite replaces it, or choose another -o")
