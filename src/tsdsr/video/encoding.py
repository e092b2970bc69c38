"""Encoding of restored frames: the stream of a result, in segments that can be made one by one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from tsdsr.errors import InvalidInputError, VideoError
from tsdsr.images.picture import Pixels
from tsdsr.pipeline.options import RestoreOptions
from tsdsr.video.codecs import CODECS, check_quality, choose_codec, choose_pixel_format, quiet_encoders
from tsdsr.video.colors import to_frame
from tsdsr.video.options import VideoOptions
from tsdsr.video.source import LIMITED, VideoSource

_TICK = Fraction(1, 1000)
"""Time base of segments. Their time stamps count frames; the true ones are put in when they are joined."""

_LONGEST_REORDERING = 32


@dataclass(frozen=True)
class Encoding:
    """How the frames of a result are encoded.

    Attributes:
        codec (str): key of :data:`~tsdsr.video.codecs.CODECS`.
        crf, preset: see :class:`~tsdsr.video.options.VideoOptions`.
        pixel_format (str): name in libav.
        width, height (int): size of the frames.
        aspect (Fraction): width of a pixel by its height.
        matrix, range, primaries, transfer (int): colour codes, see :class:`~tsdsr.video.source.VideoSource`.
        time_base (Fraction): unit of the time stamps in seconds.
        rate (Fraction): frames per second, for the encoder.
        notices (tuple of str): what the result does not keep.
    """

    codec: str
    crf: float | None
    preset: str | None
    pixel_format: str
    width: int
    height: int
    aspect: Fraction
    matrix: int
    range: int
    primaries: int
    transfer: int
    time_base: Fraction
    rate: Fraction
    notices: tuple[str, ...]


def plan_encoding(source: VideoSource, target: Path, restore: RestoreOptions, options: VideoOptions) -> Encoding:
    """Choose codec, pixel format and size of a result.

    Raises:
        InvalidInputError: an option does not go with the container, the codec or the source.
        MissingDependencyError: this PyAV cannot encode the codec.
    """
    codec = choose_codec(target, options.codec, source.bits > 8)
    check_quality(codec, options.crf, options.preset)
    pixel_format = choose_pixel_format(codec, options.pixel_format, source.chroma, source.bits)
    height, width = restore.size(source.height, source.width)
    aspect = source.aspect
    if restore.target_size is not None and restore.fit == "stretch":
        aspect *= Fraction(source.width * height, source.height * width)
    notices = []
    across, down = _blocks(pixel_format)
    if width % across or height % down:
        whole = (width - width % across, height - height % down)
        notices.append(f"{width}x{height} becomes {whole[0]}x{whole[1]}: {pixel_format} needs even sides")
        width, height = whole
    if not width or not height:
        raise InvalidInputError(f"{source.path}: one pixel is too small for {pixel_format}; choose a larger scale")
    if source.bits > 8 and "10" not in pixel_format:
        notices.append(f"{source.bits} bits become 8: {codec} is written in {pixel_format}")
    return Encoding(
        codec, options.crf, options.preset, pixel_format, width, height, aspect, source.matrix,
        LIMITED if CODECS[codec].limited_range else source.range, source.primaries, source.transfer,
        source.time_base, source.rate, tuple(notices),
    )  # fmt: skip


def _blocks(pixel_format: str) -> tuple[int, int]:
    """Return the size of the block of pixels that shares one colour."""
    import av

    format = av.VideoFormat(pixel_format, 16, 16)
    if format.is_rgb or len(format.components) < 3:
        return 1, 1
    return 16 // format.chroma_width(), 16 // format.chroma_height()


def write_segment(path: Path, frames: Iterable[tuple[int, Pixels]], encoding: Encoding) -> int:
    """Encode consecutive frames to a file that begins with a key frame and refers to no other.

    Args:
        path (Path): a Matroska file, whatever its suffix.
        frames (iterable): time stamps, strictly growing, and pixels (H, W, 1 or 3); cropped to the encoding's size.
        encoding (Encoding): how.

    Returns:
        int: number of frames.

    Raises:
        VideoError: the encoder refuses the frames.
        OSError: the file cannot be written.
    """
    import av

    quiet_encoders()
    order: dict[int, int] = {}
    written = 0
    try:
        with av.open(str(path.absolute()), "w", format="matroska") as container:
            stream = _encoder(container, encoding)

            def put(packets: Iterable[Any]) -> None:
                nonlocal written
                for packet in packets:
                    packet.pts = order.pop(packet.pts)
                    packet.dts, packet.time_base = written - _LONGEST_REORDERING, _TICK
                    container.mux(packet)
                    written += 1

            for number, (pts, pixels) in enumerate(frames):
                order[pts] = number
                frame = to_frame(pixels[: encoding.height, : encoding.width], encoding)
                frame.pts, frame.time_base = pts, encoding.time_base
                put(stream.encode(frame))
            put(stream.encode(None))
    except av.FFmpegError as error:
        if isinstance(error, OSError):  # the disk is full, or the folder is gone
            raise
        raise VideoError(f"{encoding.codec} cannot encode {encoding.width}x{encoding.height} ({error})") from error
    return written


def _encoder(container: Any, encoding: Encoding) -> Any:
    """Return the stream of a segment with its encoder."""
    chosen = CODECS[encoding.codec]
    stream = container.add_stream(
        chosen.encoder, rate=encoding.rate, options=chosen.options(encoding.crf, encoding.preset)
    )
    stream.width, stream.height, stream.pix_fmt = encoding.width, encoding.height, encoding.pixel_format
    context = stream.codec_context
    context.time_base = encoding.time_base
    context.sample_aspect_ratio = encoding.aspect
    describe_colors(context, encoding)
    return stream


def describe_colors(context: Any, encoding: Encoding) -> None:
    """Give a codec context the colour codes of a result."""
    is_rgb = encoding.pixel_format.startswith("gbr")
    context.color_primaries, context.color_trc = encoding.primaries, encoding.transfer
    context.colorspace = 0 if is_rgb else encoding.matrix
    context.color_range = 2 if is_rgb else encoding.range
