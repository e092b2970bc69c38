"""``tsdsr video``: exit status and what is printed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.cli.command import run
from tests.video.clips import frames_of, write_clip


def test_a_video_from_file_to_file(tmp_path: Path) -> None:
    clip, target = write_clip(tmp_path / "in.mp4", 2, sounds=["aac"]), tmp_path / "out.mkv"
    code, output = run("video", clip, "-o", target, "--scale", 1, "--frames", 1, "--codec", "ffv1")
    assert code == 0
    assert "1 frame restored" in output
    assert len(frames_of(target)) == 1
    code, output = run("video", clip, "-o", target, "--scale", 1, "--frames", 1, "--codec", "ffv1")
    assert (code, output) == (
        0,
        f"{target}: already exists, made from the same video with the same settings; nothing to do\n",
    )
    code, output = run("video", clip, "-o", target, "--scale", 2)
    assert (code, "--overwrite replaces it" in output) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("missing.mp4 -o out.mp4", "missing.mp4: no such file"),
        ("in.mp4 -o out.txt", "give one of these suffixes"),
        ("in.mp4 -o out.mp4 --from 3 --to 2", "before its start"),
        ("in.mp4 -o out.mp4 --scale 9", "scale must lie between 1 and 8"),
        ("in.mp4 -o out.mp4 --fit cover", "--fit cover needs --target"),
        ("in.mp4 -o out.mp4 --codec prores", "cannot contain prores"),
        ("photo.png -o out.mp4", "is a still image; restore it with 'tsdsr upscale'"),
        ("sound.m4a -o out.mp4", "has sound only"),
    ],
)
def test_mistakes_are_one_line(arguments: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    from tests.video.clips import av

    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "in.mp4", 1)
    Image.new("RGB", (32, 32)).save("photo.png")
    with av.open("sound.m4a", "w", format="mp4") as container:
        track = container.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        frame.sample_rate = 48000
        container.mux(track.encode(frame))
        container.mux(track.encode(None))
    code, output = run("video", *arguments.split())
    assert code == 2
    assert message in output
    assert output.startswith("error: ")
    assert output.count("\n") == 1
    assert not Path("out.mp4").exists()


def test_an_old_pyav_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.video.clips import av

    monkeypatch.setattr(av, "__version__", "16.0.1")
    code, output = run("video", write_clip(tmp_path / "in.mp4", 1), "-o", tmp_path / "out.mp4")
    assert code == 2
    assert output.startswith("error: videos need PyAV 18 or newer, on Python 3.11 or newer: run pip install")
    assert "(PyAV 16.0.1 is installed)" in output
