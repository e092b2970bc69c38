"""Interrupted and damaged videos, and bounded memory."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.child_processes import finished, started
from tests.video.clips import Enlarger, av, frames_of, picture, pixels_of, write_clip
from tsdsr import VideoOptions, upscale_video
from tsdsr.errors import VideoError
from tsdsr.pipeline.options import RestoreOptions
from tsdsr.video.encoding import plan_encoding, write_segment
from tsdsr.video.options import CodecName
from tsdsr.video.source import read_source

SLOW = """
import sys, time
from tests.video.clips import Enlarger
from tsdsr.video import planning, upscale_video as module
from tsdsr import VideoOptions

class Slow(Enlarger):
    def upscale_pixels(self, pixels, *arguments, **options):
        time.sleep(0.05)
        return super().upscale_pixels(pixels, *arguments, **options)

module.load_pipeline = lambda *arguments, **options: Slow()
result = module.upscale_video(sys.argv[1], sys.argv[2], 2, video_options=VideoOptions(segment_frames=3, steady=0.5))
print(result.frames, result.reused)
"""


def test_a_killed_run_continues_to_the_same_frames(tmp_path: Path) -> None:
    clip, target = write_clip(tmp_path / "in.mp4", 12), tmp_path / "out.mp4"
    command = [sys.executable, "-c", SLOW, str(clip)]
    whole = finished([*command, str(tmp_path / "whole.mp4")])
    assert whole.stdout.split() == [b"12", b"0"], whole.stderr
    second = tmp_path / ".out.mp4.segments" / "000001.mkv"
    with started([*command, str(target)]) as process:
        deadline = time.monotonic() + 60
        while not second.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()
        process.wait()
    assert second.exists()
    assert not target.exists()
    frames, reused = map(int, finished([*command, str(target)]).stdout.split())
    assert frames == 12
    assert reused >= 3
    assert np.array_equal(pixels_of(target), pixels_of(tmp_path / "whole.mp4"))
    assert not second.parent.exists()


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "vp9"])
def test_the_same_frames_are_encoded_to_the_same_bytes(tmp_path: Path, codec: CodecName) -> None:
    noise = np.random.default_rng(0).integers(0, 60, (144, 192, 3), np.uint8)
    frames = [(number, picture(number, 144, 192) // 2 + np.roll(noise, 3 * number, 1)) for number in range(30)]
    clip = write_clip(tmp_path / "in.mp4", 2, size=(144, 192))
    encoding = plan_encoding(read_source(clip), tmp_path / "a.mkv", RestoreOptions(1), VideoOptions(codec))
    made = set()
    for _ in range(4):
        write_segment(tmp_path / "a.mkv", frames, encoding)
        with av.open(str(tmp_path / "a.mkv")) as container:
            made.add(b"".join(bytes(packet) for packet in container.demux(video=0)))
    assert len(made) == 1


def test_segments_of_other_settings_are_made_again(tmp_path: Path) -> None:
    clip, target = write_clip(tmp_path / "in.mp4", 6), tmp_path / "out.mp4"

    class Failing(Enlarger):
        def upscale_pixels(self, pixels, *arguments, **options):
            if self.calls == 4:
                raise VideoError("stop here")
            return super().upscale_pixels(pixels, *arguments, **options)

    for crf, reused in ((20.0, 0), (21.0, 0)):
        with pytest.raises(VideoError, match="stop here"):
            upscale_video(clip, target, 2, model=Failing(), video_options=VideoOptions(crf=crf, segment_frames=2))
        assert (tmp_path / ".out.mp4.segments" / "000000.mkv").exists()
        model = Enlarger()
        result = upscale_video(clip, tmp_path / f"{crf}.mp4", 2, model=model)
        assert (result.reused, model.calls) == (reused, 6)


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "libx264"), (".avi", "mpeg4")])
def test_a_damaged_frame_shows_the_one_before(tmp_path: Path, suffix: str, codec: str) -> None:
    clip = write_clip(tmp_path / f"in{suffix}", 8, codec=codec, options={"g": "4", "bf": "0"})
    with av.open(str(clip)) as container:
        hit = [packet for packet in container.demux(video=0) if packet.size][5]
        at, length, when = hit.pos + hit.size // 2, max(4, hit.size // 3), float(hit.pts * hit.time_base)
    data = bytearray(clip.read_bytes())
    data[at : at + length] = bytes(length)
    clip.write_bytes(data)
    result = upscale_video(clip, tmp_path / "out.mp4", 1, model=Enlarger(), video_options=VideoOptions(crf=0))
    assert result.frames == 8 == len(frames_of(tmp_path / "out.mp4"))
    assert result.damaged[0] == pytest.approx(when)
    pixels = pixels_of(tmp_path / "out.mp4")
    assert np.array_equal(pixels[5], pixels[4])
    assert not np.array_equal(pixels[4], pixels[3])


def test_a_file_that_ends_early_gives_what_is_there(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mkv", 12, sounds=["aac"])
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size * 2 // 3])
    result = upscale_video(clip, tmp_path / "out.mkv", 1, model=Enlarger())
    assert 0 < result.frames < 12


def test_a_file_that_is_shorter_than_it_says_is_reported(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mkv", 60, options={"crf": "1", "g": "8"})
    whole = upscale_video(clip, tmp_path / "whole.mkv", 1, model=Enlarger())
    assert whole.notices == ()
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 3])
    result = upscale_video(clip, tmp_path / "out.mkv", 1, model=Enlarger())
    seconds = result.frames / 25
    assert 0 < seconds < 1.3
    assert result.notices == (
        f"the frames end at {seconds:.2f} s, but the file says that it lasts 2.40 s; it may be damaged or cut off",
    )
    part = upscale_video(clip, tmp_path / "part.mkv", 1, model=Enlarger(), video_options=VideoOptions(frames=2))
    assert part.notices == ()


def test_few_frames_wait_however_long_the_video_is(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mp4", 60, size=(32, 32))
    read, most = [0], [0]

    class Watching(Enlarger):
        def upscale_pixels(self, pixels, *arguments, **options):
            time.sleep(0.002)
            return super().upscale_pixels(pixels, *arguments, **options)

    from tsdsr.video import upscale_video as module

    original = module.read_frames

    def counted(*arguments):
        for frame in original(*arguments):
            read[0] += 1
            yield frame

    model = Watching()
    module.read_frames = counted
    try:
        upscale_video(
            clip, tmp_path / "out.mp4", 1, model=model, on_frame=lambda done, _: most.append(read[0] - done),
            video_options=VideoOptions(preset="ultrafast"),
        )  # fmt: skip
    finally:
        module.read_frames = original
    assert read[0] == 60
    assert max(most) <= 2 * module.AHEAD + 4


def test_two_runs_do_not_share_a_result(tmp_path: Path) -> None:
    clip, target = write_clip(tmp_path / "in.mp4", 4), tmp_path / "out.mp4"

    class Second(Enlarger):
        def upscale_pixels(self, *arguments: object, **options: object) -> np.ndarray:
            with pytest.raises(VideoError, match="is in use by process"):
                upscale_video(clip, target, 2, model=Enlarger())
            return super().upscale_pixels(*arguments, **options)  # type: ignore[arg-type]

    assert upscale_video(clip, target, 2, model=Second()).frames == 4
    assert {path.name for path in tmp_path.iterdir()} == {"in.mp4", "out.mp4", ".tsdsr-results.jsonl"}


def test_a_source_that_changes_is_no_result(tmp_path: Path) -> None:
    clip, target = write_clip(tmp_path / "in.mp4", 4), tmp_path / "out.mp4"

    class Changing(Enlarger):
        def upscale_pixels(self, *arguments: object, **options: object) -> np.ndarray:
            with clip.open("ab") as file:
                file.write(b"more")
            return super().upscale_pixels(*arguments, **options)  # type: ignore[arg-type]

    with pytest.raises(VideoError, match=r"in.mp4: was changed while it was read; run again"):
        upscale_video(clip, target, 2, model=Changing())
    assert {path.name for path in tmp_path.iterdir()} == {"in.mp4"}
