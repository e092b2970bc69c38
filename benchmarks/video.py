"""Seconds per frame of `tsdsr video`, and what segments cost: one clip at 480p to 1080p, in parts.

    python benchmarks/video.py [--frames 6]

The clip shows a scikit-image picture that moves slowly. Times are the best of the frames: restoring, the blend of
--steady, reading with conversion, and encoding, each by itself on an idle machine. The second table compares the size
of a result in segments with that in one piece.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
from PIL import Image
from skimage import data

from tsdsr import VideoOptions, load_pipeline
from tsdsr.pipeline.options import RestoreOptions
from tsdsr.pipeline.steady import SteadyDetail
from tsdsr.video.colors import to_pixels
from tsdsr.video.encoding import plan_encoding, write_segment
from tsdsr.video.frames import read_frames
from tsdsr.video.source import read_source

SIZES = {"480p to 1080p": ((854, 480), (1920, 1080)), "360p to 720p": ((640, 360), (1280, 720))}


def write_clip(path: Path, size: tuple[int, int], frames: int) -> None:
    """Write a clip of a picture that moves by a pixel per frame."""
    width, height = size
    large = np.asarray(Image.fromarray(data.astronaut()).resize((width + frames, height), Image.Resampling.BICUBIC))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(large[:, number : number + width]), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def seconds(call: Callable[[], object], repeats: int) -> float:
    """Return the shortest time of a call."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return min(times)


def times(folder: Path, frames: int) -> None:
    """Print seconds per frame, part by part."""
    pipe = load_pipeline("mini")
    print("| | restore | --steady | read | encode h264 |\n|---|---|---|---|---|")
    for name, (size, target) in SIZES.items():
        clip = folder / "in.mp4"
        write_clip(clip, size, frames)
        source, options = read_source(clip), RestoreOptions(target_size=target, fit="stretch")
        encoding = plan_encoding(source, folder / "out.mp4", options, VideoOptions())
        inputs = [to_pixels(frame.image, source) for frame in read_frames(source, VideoOptions())]
        read = seconds(lambda s=source: [to_pixels(f.image, s) for f in read_frames(s, VideoOptions())], 3) / frames
        result = pipe.upscale_pixels(inputs[0], target_size=target, fit="stretch")
        restore = seconds(lambda i=inputs, t=target: pipe.upscale_pixels(i[0], target_size=t, fit="stretch"), 3)
        steady = SteadyDetail(0.7)
        steady.blend(inputs[0], result)
        blend = seconds(lambda s=steady, i=inputs, r=result: s.blend(i[0], r), 3)
        many = [(1000 * n, result) for n in range(24)]
        encode = seconds(lambda m=many, e=encoding: write_segment(folder / "s.mkv", m, e), 2) / len(many)
        print(f"| {name} | {restore:.2f} s | {blend:.2f} s | {read:.3f} s | {encode:.3f} s |", flush=True)


def segment_cost(folder: Path) -> None:
    """Print the size of an encoded clip in segments of several lengths by that in one piece."""
    count, side = 240, (640, 360)
    clip = folder / "long.mp4"
    write_clip(clip, side, count)
    source, options = read_source(clip), RestoreOptions(scale=1)
    encoding = plan_encoding(source, folder / "out.mp4", options, VideoOptions())
    frames = [(frame.pts, to_pixels(frame.image, source)) for frame in read_frames(source, VideoOptions())]
    print("\n| frames of a segment | size by one piece |\n|---|---|")
    whole = 0
    for length in (count, 120, 48, 24):
        size = 0
        for start in range(0, count, length):
            write_segment(folder / "s.mkv", frames[start : start + length], encoding)
            size += (folder / "s.mkv").stat().st_size
        whole = whole or size
        print(f"| {length} | {size / whole:.3f} |", flush=True)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=6)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        times(Path(folder), arguments.frames)
        segment_cost(Path(folder))


if __name__ == "__main__":
    main()
