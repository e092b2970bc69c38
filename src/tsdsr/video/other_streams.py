"""Sound, subtitles, attachments and further streams: copied packet by packet where the container takes them."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

_SOUND = ("libopus", "aac", "libmp3lame", "flac", "pcm_s16le")
"""Encoders for sound that a container does not take as it is, in order of preference."""

_TEXT = {"subrip", "srt", "text", "mov_text", "webvtt"}
"""Codecs of subtitles whose packets are plain text, but for a length in front of that of mov_text."""


class Carried:
    """A stream that goes from the source to the result.

    Args:
        source (av.stream.Stream): where its packets come from.
        target (av.stream.Stream): of the result.
        notice (str | None): what is not kept of it.
        codec (str): name of its codec in the result, if that is another one.
    """

    def __init__(self, source: Any, target: Any, notice: str | None = None, codec: str = "") -> None:
        self.source, self.notice = source, notice
        self._target, self._codec = target, codec

    def packets(self, packet: Any) -> Iterator[Any]:
        """Yield what a packet of the source becomes; the last, empty one flushes."""
        if packet.size and packet.dts is not None:
            packet.stream = self._target
            yield packet


class EncodedSound(Carried):
    """Sound that is encoded again."""

    def packets(self, packet: Any) -> Iterator[Any]:
        """Yield what a packet of the source becomes; the last, empty one flushes."""
        import av

        try:
            frames = packet.decode()
        except (EOFError, av.FFmpegError):
            frames = []
        for frame in frames:
            yield from self._target.encode(frame)
        if not packet.size:
            yield from self._target.encode(None)


class RewrittenText(Carried):
    """Subtitles of plain text in another codec."""

    def packets(self, packet: Any) -> Iterator[Any]:
        """Yield what a packet of the source becomes; the last, empty one flushes."""
        import av

        if not packet.size or packet.pts is None:
            return
        data = bytes(packet)
        if self.source.codec_context.name == "mov_text":
            data = data[2 : 2 + int.from_bytes(data[:2], "big")]
        if not data:
            return  # mov_text ends each subtitle with an empty one
        new = av.Packet(len(data).to_bytes(2, "big") + data if self._codec == "mov_text" else data)
        new.pts, new.dts, new.duration, new.time_base = packet.pts, packet.pts, packet.duration, packet.time_base
        new.stream = self._target
        yield new


def carry(stream: Any, container: Any) -> Carried | str:
    """Add a stream of a source to a result.

    Args:
        stream (av.stream.Stream): of the source.
        container (av.container.OutputContainer): the result, before its first packet.

    Returns:
        Carried | str: the stream, or a notice that it is left out.
    """
    what = f"{stream.type} stream {stream.index} ({_codec_name(stream)})"
    name = container.format.name
    if _takes(name, lambda trial: trial.add_stream_from_template(stream, opaque=True)):
        return Carried(stream, _described(container.add_stream_from_template(stream, opaque=True), stream))
    if stream.type == "audio" and stream.codec_context is not None:
        for encoder in _SOUND:
            for layout in (stream.layout.name, *(name for count, name in _USUAL if count <= stream.channels)):
                add = partial(_sound, stream, encoder, layout)
                if not _takes(name, add):
                    continue
                target = _described(add(container), stream)
                notice = f"{what} is encoded again with {encoder}: {name} does not take it"
                if target.channels < stream.channels:
                    notice += f"; {stream.channels} channels become {target.channels}"
                return EncodedSound(stream, target, notice)
    if stream.type == "subtitle" and _codec_name(stream) in _TEXT:
        for codec in ("mov_text", "subrip", "webvtt"):
            try:
                target = container.add_mux_stream(codec, time_base=stream.time_base)
            except ValueError:
                continue
            return RewrittenText(stream, _described(target, stream), f"{what} becomes {codec}, as plain text", codec)
    return f"{what} is left out: {name} does not take it"


def _described(target: Any, stream: Any) -> Any:
    """Give a stream of the result the tags of the source's: language, title, default or forced."""
    target.metadata.update({key: value for key, value in stream.metadata.items() if key.lower() not in _COMPUTED})
    target.disposition = stream.disposition
    return target


_COMPUTED = {"duration", "number_of_frames", "number_of_bytes", "bps", "encoder", "vendor_id", "handler_name",
             "_statistics_tags", "_statistics_writing_app", "_statistics_writing_date_utc"}  # fmt: skip
"""Tags that muxers write, and that are no longer true."""


def _takes(format: str, add: Callable[[Any], Any]) -> bool:
    """Whether a container takes the stream that ``add`` adds to it. A header is written to find out."""
    import av

    # delay_moov: the header of AC-3 needs its first packet, which the trial does not have.
    options = {"movflags": "empty_moov+default_base_moof+delay_moov"} if format in ("mp4", "mov") else {}
    try:
        trial = av.open(io.BytesIO(), "w", format=format, options=options)
        try:
            add(trial)
            trial.start_encoding()
        finally:
            trial.close()
    except (av.FFmpegError, ValueError, OSError):  # av.codec.codec.UnknownCodecError is a ValueError
        return False
    return True


def _codec_name(stream: Any) -> str:
    if stream.codec_context is not None:
        return str(stream.codec_context.name)
    return str(getattr(stream, "name", None) or "unknown")


def _sound(stream: Any, encoder: str, layout: str, container: Any) -> Any:
    """Add a stream for sound that is encoded again."""
    target = container.add_stream(encoder, rate=_rate(stream, encoder))
    target.layout = layout
    return target


_USUAL = ((8, "7.1"), (6, "5.1"), (4, "quad"), (2, "stereo"), (1, "mono"))
"""Layouts that encoders take, by their number of channels. Those of films differ in the place of the rear ones."""


def _rate(stream: Any, encoder: str) -> int:
    """Return the sample rate for an encoder: that of the stream, but Opus has one of its own."""
    return 48000 if encoder == "libopus" else int(stream.rate or 48000)
