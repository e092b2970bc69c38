"""Small videos made for the tests, and a model that only enlarges."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tsdsr.models.zoo import SPECS
from tsdsr.pipeline.options import RestoreOptions
from tsdsr.pipeline.sr_pipeline import SRPipeline

av = pytest.importorskip("av", reason="PyAV is not installed (extra 'video')")

HEIGHT, WIDTH = 48, 64
TICKS = Fraction(1, 90000)


class Enlarger(SRPipeline):
    """A stand-in for a model: pixels are repeated."""

    engine = "onnx"
    spec = SPECS["mini"]
    array_device = None
    dtype_bytes = 4

    def __init__(self) -> None:
        self.calls = 0

    def encode(self, x: Any, noise: Any = None) -> Any:
        raise AssertionError

    denoise = decode = encode

    def upscale_pixels(self, pixels: np.ndarray, scale: float = 4.0, *, on_tile=None, generator=None, **options):
        self.calls += 1
        if on_tile is not None:
            on_tile(0, 1)
        height, width = RestoreOptions(scale, **options).size(*pixels.shape[:2])
        rows = np.arange(height) * pixels.shape[0] // height
        columns = np.arange(width) * pixels.shape[1] // width
        return pixels[rows][:, columns]


def picture(number: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Return frame ``number`` of a clip: a gradient with a square that moves."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(20, 220, width)
    image[..., 1] = np.linspace(200, 40, height)[:, None]
    left = 4 + 3 * number % (width - 16)
    image[height // 4 : height // 2, left : left + 8] = (250, 240, 30)
    return image


def write_clip(
    path: Path,
    frames: int = 8,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    pts: Sequence[int] | None = None,
    sounds: Sequence[str] = (),
    colors: tuple[int, int, int, int] | None = (1, 1, 1, 1),
    rotation: int = 0,
    aspect: Fraction | None = None,
    size: tuple[int, int] = (HEIGHT, WIDTH),
    options: dict[str, str] | None = None,
    metadata: dict[str, str] | None = None,
    chapters: list[dict[str, Any]] | None = None,
) -> Path:
    """Write a video; ``colors`` are primaries, transfer, matrix and range, ``sounds`` encoders of sound tracks,
    with a layout as in "ac3:5.1"."""
    times = list(pts) if pts is not None else [3600 * number for number in range(frames)]
    base = Fraction(1, 25) if codec == "mpeg4" else TICKS  # it has 16 bits for the time
    with av.open(str(path), "w") as container:
        container.metadata.update(metadata or {})
        stream = container.add_stream(codec, rate=25, options=options or {})
        stream.height, stream.width = size
        stream.pix_fmt = pixel_format
        stream.codec_context.time_base = base
        if colors is not None:
            context = stream.codec_context
            context.color_primaries, context.color_trc, context.colorspace, context.color_range = colors
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if rotation:
            stream.set_display_rotation(rotation)
        tracks = [container.add_stream(name.partition(":")[0], rate=48000) for name in sounds]
        for number, track in enumerate(tracks):
            track.layout = sounds[number].partition(":")[2] or "stereo"
            track.metadata["language"] = ("eng", "deu")[number % 2]
        if chapters is not None:
            container.set_chapters(chapters)
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(number, *size), format="rgb24")
            frame.color_range = 2
            frame = frame.reformat(format=pixel_format, dst_colorspace="ITU709", dst_color_range="MPEG")
            frame.pts, frame.time_base = round(time * TICKS / base), base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        for number, track in enumerate(tracks):
            for packet in _sound(track, number, len(times) / 25):
                container.mux(packet)
    return path


def _sound(track: Any, number: int, seconds: float) -> Iterator[Any]:
    for block in range(max(1, int(seconds * 48000 / 960))):
        wave = np.sin((np.arange(960) + 960 * block) * 0.03 * (number + 1)) * 0.3
        frame = av.AudioFrame.from_ndarray(np.stack([wave, wave]).astype(np.float32), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = 48000, 960 * block
        yield from track.encode(frame)
    yield from track.encode(None)


def frames_of(path: Path) -> list[Any]:
    """Decode the frames of a video."""
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def pixels_of(path: Path) -> list[np.ndarray]:
    """Return the frames of a video as RGB."""
    return [frame.to_ndarray(format="rgb24", src_colorspace="ITU709") for frame in frames_of(path)]


def packets_of(path: Path, kind: str, number: int = 0) -> list[tuple[bytes, Fraction]]:
    """Return content and time of the packets of a stream that are not empty."""
    with av.open(str(path)) as container:
        stream = [stream for stream in container.streams if stream.type == kind][number]
        return [(bytes(p), p.pts * p.time_base) for p in container.demux(stream) if p.size]
