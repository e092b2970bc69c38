"""Codecs and containers that videos are written in: encoders, pixel formats, quality, speed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tsdsr.errors import InvalidInputError, MissingDependencyError, install_extra

_OLDEST_AV = 18
_SPEEDS = (
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo",
)  # fmt: skip


def require_av() -> None:
    """Check that PyAV is installed.

    Raises:
        MissingDependencyError: it is not, is too old, or cannot be imported.
    """
    needed = f"videos need PyAV {_OLDEST_AV} or newer, on Python 3.11 or newer: {install_extra('video')}"
    try:
        import av
    except ImportError as error:
        raise MissingDependencyError(needed) from error
    if int(av.__version__.partition(".")[0]) < _OLDEST_AV:
        raise MissingDependencyError(f"{needed} (PyAV {av.__version__} is installed)")


@dataclass(frozen=True)
class VideoCodec:
    """A codec and its encoder.

    Attributes:
        encoder (str): name of the encoder in libav.
        crf (int | None): default of the constant rate factor; None if the codec has none.
        largest_crf (int): the worst quality.
        presets (tuple of str): speeds that the encoder takes, fast first for names, slow first for numbers.
        preset (str | None): the default one.
        lossless_at_0 (bool): whether a rate factor of 0 loses nothing in the chosen pixel format.
        limited_range (bool): whether it stores limited range only.
    """

    encoder: str
    crf: int | None = None
    largest_crf: int = 51
    presets: tuple[str, ...] = ()
    preset: str | None = None
    lossless_at_0: bool = False
    limited_range: bool = False

    def options(self, crf: float | None, preset: str | None) -> dict[str, str]:
        """Return the encoder's options for a rate factor and a preset; None takes the defaults."""
        crf, preset = self.crf if crf is None else crf, preset or self.preset
        lossless = self.lossless_at_0 and crf == 0
        if self.encoder == "libx264":
            # x264's macroblock tree gives other packets in each run; a continued one has to be the same.
            rate = {"qp": "0"} if lossless else {"crf": f"{crf:g}", "x264-params": "no-mbtree=1"}
            return {"preset": preset or "", **rate}
        if self.encoder == "libx265":
            more = ":lossless=1" if lossless else ""
            return {"preset": preset or "", "crf": f"{crf:g}", "x265-params": f"log-level=none{more}"}
        if self.encoder == "libsvtav1":
            return {"preset": preset or "", "crf": f"{crf:g}"}
        if self.encoder == "libvpx-vp9":
            rate = {"lossless": "1"} if lossless else {"crf": f"{crf:g}", "b": "0"}
            return {"cpu-used": preset or "", "row-mt": "1", **rate}
        return {"level": "3", "slicecrc": "1", "g": "1"} if self.encoder == "ffv1" else {}


CODECS: Mapping[str, VideoCodec] = {
    "h264": VideoCodec("libx264", 18, 51, _SPEEDS, "medium", lossless_at_0=True),
    "hevc": VideoCodec("libx265", 20, 51, _SPEEDS, "medium", lossless_at_0=True),
    "av1": VideoCodec("libsvtav1", 26, 63, tuple(str(n) for n in range(14)), "8"),
    "vp9": VideoCodec("libvpx-vp9", 24, 63, tuple(str(n) for n in range(9)), "4", lossless_at_0=True),
    "ffv1": VideoCodec("ffv1"),
    "prores": VideoCodec("prores_ks", limited_range=True),
}
"""Name → codec. Rate factors are chosen so that the encoder's loss is hard to see beside the restoration's."""


@dataclass(frozen=True)
class VideoContainer:
    """A container.

    Attributes:
        format (str): name of the muxer in libav.
        codecs (tuple of str): what it may hold, the default for 8 bits first.
        deep (tuple of str): the defaults for 10 bits, in order of preference.
    """

    format: str
    codecs: tuple[str, ...]
    deep: tuple[str, ...]


_MP4 = ("h264", "hevc", "av1", "vp9")
CONTAINERS: Mapping[str, VideoContainer] = {
    ".mp4": VideoContainer("mp4", _MP4, ("hevc", "av1", "h264")),
    ".m4v": VideoContainer("mp4", _MP4, ("hevc", "av1", "h264")),
    ".mov": VideoContainer("mov", ("h264", "hevc", "prores"), ("hevc", "prores", "h264")),
    ".mkv": VideoContainer("matroska", (*_MP4, "ffv1", "prores"), ("hevc", "av1", "h264", "ffv1")),
    ".webm": VideoContainer("webm", ("av1", "vp9"), ("av1",)),
}
"""Suffix → container of a result."""


def container_of(path: Path) -> VideoContainer:
    """Return the container that a result's suffix names.

    Raises:
        InvalidInputError: no such container is written.
    """
    container = CONTAINERS.get(path.suffix.lower())
    if container is None:
        raise InvalidInputError(f"{path}: videos are written to {', '.join(CONTAINERS)}; give one of these suffixes")
    return container


def has_encoder(name: str) -> bool:
    """Whether this PyAV has the encoder of a codec."""
    import av

    try:
        av.Codec(CODECS[name].encoder, "w")
    except ValueError:  # av.codec.codec.UnknownCodecError
        return False
    return True


def choose_codec(path: Path, codec: str | None, deep: bool) -> str:
    """Return the codec of a result: the one asked for, or the container's default.

    Args:
        path (Path): the result.
        codec (str | None): key of :data:`CODECS`; None takes the default.
        deep (bool): whether the frames have more than 8 bits.

    Raises:
        InvalidInputError: the container does not hold it.
        MissingDependencyError: this PyAV cannot encode it.
    """
    container = container_of(path)
    if codec is not None:
        if codec not in container.codecs:
            raise InvalidInputError(
                f"{path}: {path.suffix} cannot contain {codec}; choose {', '.join(container.codecs)}, or another suffix"
            )
        if not has_encoder(codec):
            here = ", ".join(name for name in CODECS if has_encoder(name)) or "none"
            raise MissingDependencyError(f"this build of PyAV cannot encode {codec}; it has {here}")
        return codec
    for name in (*(container.deep if deep else ()), *container.codecs):
        if has_encoder(name):
            return name
    raise MissingDependencyError(f"{path}: this build of PyAV has none of {', '.join(container.codecs)}")


def check_quality(codec: str, crf: float | None, preset: str | None) -> None:
    """Check rate factor and preset.

    Raises:
        InvalidInputError: the codec has none, or it is out of range.
    """
    chosen = CODECS[codec]
    if crf is not None and chosen.crf is None:
        raise InvalidInputError(f"{codec} has no crf; leave it out")
    if crf is not None and not 0 <= crf <= chosen.largest_crf:
        raise InvalidInputError(f"crf of {codec} must lie in 0 (best) to {chosen.largest_crf}, got {crf:g}")
    if preset is not None and not chosen.presets:
        raise InvalidInputError(f"{codec} has no preset; leave it out")
    if preset is not None and preset not in chosen.presets:
        raise InvalidInputError(f"unknown preset {preset!r} of {codec}; choose from {', '.join(chosen.presets)}")


def choose_pixel_format(codec: str, wanted: str | None, chroma: str, bits: int) -> str:
    """Return the pixel format of a result: the one asked for, or the closest to the source's.

    Args:
        codec (str): key of :data:`CODECS`.
        wanted (str | None): name of a pixel format in libav.
        chroma (str): the source's "gray", "420", "422", "444" or "rgb".
        bits (int): the source's bits per sample.

    Raises:
        InvalidInputError: the encoder does not take the format that was asked for.
    """
    import av

    offered = [video_format.name for video_format in av.Codec(CODECS[codec].encoder, "w").video_formats or ()]
    if wanted is not None:
        usable = [name for name in offered if "a" not in name.removeprefix("gr") and not name.startswith("yuvj")]
        if wanted not in usable:
            raise InvalidInputError(f"{codec} does not take the pixel format {wanted!r}; it takes {', '.join(usable)}")
        return wanted
    depths = ("10le", "") if bits > 8 else ("", "10le")
    first = {"gray": ["gray", "yuv420p"], "rgb": ["gbrp"] if codec == "ffv1" else ["yuv420p"]}.get(
        chroma, [f"yuv{chroma}p"]
    )
    names = (*first, "yuv420p", "yuv422p", "yuv444p")
    for depth in depths:
        for name in names:
            if f"{name}{depth}" in offered:
                return f"{name}{depth}"
    raise InvalidInputError(f"{codec}: this build of PyAV offers no pixel format that is supported here")


def quiet_encoders() -> None:
    """Keep SVT-AV1 from printing its settings. It reads a variable of the environment; the user's own value counts."""
    os.environ.setdefault("SVT_LOG", "1")
