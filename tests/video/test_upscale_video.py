"""What a restored video keeps of its source, read back from the result."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.video.clips import (
    Enlarger,
    av,
    frames_of,
    packets_of,
    picture,
    pixels_of,
    write_clip,
)
from tsdsr import VideoOptions, upscale_video
from tsdsr.errors import InvalidInputError, TSDSRError, VideoError


def restored(source: Path, target: Path, scale: float = 2, options: VideoOptions | None = None, **more):
    return upscale_video(source, target, scale, model=Enlarger(), video_options=options, **more)


def test_frames_are_enlarged_in_order(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mp4", options={"crf": "1"})
    result = restored(clip, tmp_path / "out.mp4", options=VideoOptions(crf=1, segment_frames=3))
    assert (result.frames, result.damaged, result.finished) == (8, (), False)
    for number, pixels in enumerate(pixels_of(tmp_path / "out.mp4")):
        wanted = picture(number).repeat(2, 0).repeat(2, 1).astype(float)
        assert np.abs(pixels - wanted).mean() < 3, number
    assert sorted(path.name for path in tmp_path.iterdir()) == [".tsdsr-results.jsonl", "in.mp4", "out.mp4"]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
def test_each_container_keeps_times_rotation_and_colors(tmp_path: Path, suffix: str) -> None:
    clip = write_clip(tmp_path / "in.mp4", rotation=90, colors=(9, 14, 9, 1))
    restored(clip, tmp_path / f"out{suffix}", options=VideoOptions(segment_frames=3))
    frames, before = frames_of(tmp_path / f"out{suffix}"), frames_of(clip)
    assert [frame.pts * frame.time_base for frame in frames] == [frame.pts * frame.time_base for frame in before]
    assert {frame.rotation for frame in frames} == {90}
    first = frames[0]
    assert (first.color_primaries, first.color_trc, first.colorspace, first.color_range) == (9, 14, 9, 1)
    assert (first.width, first.height) == (128, 96)


def test_time_stamps_of_a_variable_rate_are_exact(tmp_path: Path) -> None:
    pts = [4507, 8111, 8112, 15000, 21001, 21501, 90001, 90071, 90973]
    clip = write_clip(tmp_path / "in.mp4", pts=pts, options={"bf": "3"})
    assert [frame.pts for frame in frames_of(clip)] != [0, *pts[1:]]
    restored(clip, tmp_path / "out.mp4", options=VideoOptions(segment_frames=4))
    before, after = frames_of(clip), frames_of(tmp_path / "out.mp4")
    assert [frame.pts for frame in after] == [frame.pts for frame in before]
    assert after[0].time_base == before[0].time_base == Fraction(1, 90000)


def test_sound_is_copied_to_the_bit(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mp4", sounds=["aac", "aac"])
    result = restored(clip, tmp_path / "out.mp4")
    for number in range(2):
        assert packets_of(tmp_path / "out.mp4", "audio", number) == packets_of(clip, "audio", number)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [stream.language for stream in container.streams.audio] == ["eng", "deu"]
    assert result.notices == ()


def test_sound_that_a_container_refuses_is_encoded_again(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mp4", sounds=["aac"])
    result = restored(clip, tmp_path / "out.webm")
    assert "encoded again with libopus" in result.notices[-1]
    with av.open(str(tmp_path / "out.webm")) as container:
        (stream,) = container.streams.audio
        assert stream.codec_context.name == "opus"
        samples = sum(frame.samples for frame in container.decode(stream))
    assert abs(samples - 0.32 * 48000) < 2500


@pytest.mark.parametrize(
    ("given", "layout", "suffix", "codec", "kept"),
    [
        ("ac3", "5.1(side)", ".mp4", "ac3", "5.1(side)"),
        ("ac3", "5.1(side)", ".webm", "opus", "5.1"),
        ("flac", "5.0(side)", ".webm", "opus", "quad"),
        ("libopus", "stereo", ".mov", "aac", "stereo"),
    ],
)
def test_sound_of_films_reaches_each_container(tmp_path, given, layout, suffix, codec, kept) -> None:
    clip, target = write_clip(tmp_path / "in.mkv", sounds=[f"{given}:{layout}"]), tmp_path / f"out{suffix}"
    notices = " ".join(restored(clip, target).notices)
    assert ("encoded again" in notices) == (codec != given)
    assert ("5 channels become 4" in notices) == (kept == "quad")
    with av.open(str(target)) as container:
        (stream,) = container.streams.audio
        assert (stream.codec_context.name, stream.layout.name) == (codec, kept)
        assert sum(frame.samples for frame in container.decode(stream)) > 0.25 * 48000


def test_names_with_colons_are_no_protocols(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    clip = write_clip(tmp_path / "in.mp4", 3).rename("2024-05-01T10:22:33.mp4")
    assert restored(Path(clip.name), Path("x2:out.mkv")).frames == 3
    assert len(frames_of(tmp_path / "x2:out.mkv")) == 3


def test_chapters_tags_and_attachments_are_kept(tmp_path: Path) -> None:
    chapters = [
        {"id": 1, "start": 0, "end": 100, "time_base": Fraction(1, 1000), "metadata": {"title": "one"}},
        {"id": 2, "start": 100, "end": 320, "time_base": Fraction(1, 1000), "metadata": {"title": "two"}},
    ]
    clip = write_clip(tmp_path / "in.mp4", chapters=chapters, metadata={"title": "A film", "comment": "kept"})
    for name in ("out.mp4", "out.mkv"):
        restored(clip, tmp_path / name)
        with av.open(str(tmp_path / name)) as container:
            tags = {key.lower(): value for key, value in container.metadata.items()}
            assert (tags["title"], tags["comment"]) == ("A film", "kept")
            found = [(c["start"] * c["time_base"], c["metadata"]["title"]) for c in container.chapters()]
        assert found == [(0, "one"), (Fraction(1, 10), "two")]


def with_subtitles(path: Path, codec: str, font: bool = False) -> Path:
    """Write a clip with a track of subtitles."""
    clip = write_clip(path.with_name("plain.mkv"))
    with av.open(str(clip)) as given, av.open(str(path), "w") as container:
        video = container.add_stream_from_template(given.streams.video[0], opaque=True)
        track = container.add_mux_stream(codec, time_base=Fraction(1, 1000))
        track.metadata["language"] = "fra"
        if font:
            container.add_attachment("font.ttf", "font/ttf", b"not really a font")
        for packet in given.demux(video=0):
            if packet.size:
                packet.stream = video
                container.mux(packet)
        for start, text in ((40, b"Bonjour"), (160, "été".encode())):
            packet = av.Packet(text)
            packet.stream, packet.time_base = track, Fraction(1, 1000)
            packet.pts = packet.dts = start
            packet.duration = 100
            container.mux(packet)
    return path


def test_subtitles_and_fonts_are_copied(tmp_path: Path) -> None:
    clip = with_subtitles(tmp_path / "in.mkv", "subrip", font=True)
    result = restored(clip, tmp_path / "out.mkv")
    assert packets_of(tmp_path / "out.mkv", "subtitle") == packets_of(clip, "subtitle")
    with av.open(str(tmp_path / "out.mkv")) as container:
        (font,) = [stream for stream in container.streams if stream.type == "attachment"]
        assert (font.name, font.data) == ("font.ttf", b"not really a font")
        assert container.streams.subtitles[0].language == "fra"
    assert result.notices == ()


def test_subtitles_become_text_that_mp4_takes(tmp_path: Path) -> None:
    clip = with_subtitles(tmp_path / "in.mkv", "subrip", font=True)
    result = restored(clip, tmp_path / "out.mp4")
    texts = [data[2:] for data, _ in packets_of(tmp_path / "out.mp4", "subtitle") if len(data) > 2]
    assert texts == [b"Bonjour", "été".encode()]
    assert "becomes mov_text" in " ".join(result.notices)
    assert "attachment font.ttf is left out" in " ".join(result.notices)


def test_ten_bits_stay_ten_bits(tmp_path: Path) -> None:
    ramp = np.arange(64, 940, dtype=np.uint16)[:: 876 // 64][:64]
    clip = tmp_path / "in.mkv"
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p10le"
        frame = av.VideoFrame(64, 48, "yuv420p10le")
        for plane, values in zip(frame.planes, (ramp, np.full(32, 512), np.full(32, 512)), strict=True):
            rows = np.zeros((plane.height, plane.line_size // 2), np.uint16)
            rows[:, : len(values)] = values
            plane.update(rows.tobytes())
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    restored(clip, tmp_path / "out.mkv", 1, VideoOptions(codec="ffv1"))
    (after,) = frames_of(tmp_path / "out.mkv")
    assert after.format.name == "yuv420p10le"
    luma = np.frombuffer(after.planes[0], np.uint16).reshape(48, -1)[0, :64]
    assert np.abs(luma.astype(int) - ramp).max() <= 1
    restored(clip, tmp_path / "out.mp4", 1)
    assert frames_of(tmp_path / "out.mp4")[0].format.name == "yuv420p10le"


def test_lossless_codecs_agree(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mp4", 3)
    chosen = {"a.mkv": "ffv1", "b.mp4": "h264", "c.mkv": "hevc", "d.webm": "vp9"}
    for name, codec in chosen.items():
        restored(clip, tmp_path / name, 2, VideoOptions(codec=codec, crf=None if codec == "ffv1" else 0))
    wanted = [frame.to_ndarray() for frame in frames_of(tmp_path / "a.mkv")]
    for name in chosen:
        assert np.array_equal(wanted, [frame.to_ndarray() for frame in frames_of(tmp_path / name)]), name


def test_odd_sizes_lose_a_row_where_colours_are_shared(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mkv", 1, codec="ffv1", size=(31, 33), pixel_format="yuv444p")
    result = restored(clip, tmp_path / "out.mp4", 1, VideoOptions(pixel_format="yuv420p"))
    (frame,) = frames_of(tmp_path / "out.mp4")
    assert (frame.width, frame.height) == (32, 30)
    assert result.notices == ("33x31 becomes 32x30: yuv420p needs even sides",)
    restored(clip, tmp_path / "same.mkv", 1)
    (frame,) = frames_of(tmp_path / "same.mkv")
    assert (frame.width, frame.height, frame.format.name) == (33, 31, "yuv444p")


def test_the_shape_of_pixels_is_kept_or_reported(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mp4", 2, aspect=Fraction(16, 11))
    for name in ("out.mp4", "out.mkv"):
        assert restored(clip, tmp_path / name).notices == ()
        with av.open(str(tmp_path / name)) as container:
            assert container.streams.video[0].sample_aspect_ratio == Fraction(16, 11)
    assert "does not store pixels of 16:11" in restored(clip, tmp_path / "out.webm").notices[-1]
    restored(clip, tmp_path / "square.mp4", target_size=(128, 66), fit="stretch")  # 64 * 16 / 11 by 48
    with av.open(str(tmp_path / "square.mp4")) as container:
        assert container.streams.video[0].sample_aspect_ratio == 1


def test_a_part_starts_at_zero_with_its_sound(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mp4", 25, sounds=["aac"])
    result = restored(clip, tmp_path / "out.mp4", options=VideoOptions(start=0.4, stop=0.6))
    assert result.frames == 5
    assert [frame.pts for frame in frames_of(tmp_path / "out.mp4")] == [3600 * n for n in range(5)]
    wanted = {data for data, time in packets_of(clip, "audio") if Fraction(2, 5) <= time < Fraction(3, 5)}
    assert {data for data, _ in packets_of(tmp_path / "out.mp4", "audio")} == wanted
    assert restored(clip, tmp_path / "few.mp4", options=VideoOptions(frames=2)).frames == 2


def test_a_finished_result_is_kept_and_another_one_is_an_error(tmp_path: Path) -> None:
    clip, target = write_clip(tmp_path / "in.mp4", 2), tmp_path / "out.mp4"
    restored(clip, target)
    assert restored(clip, target).finished
    with pytest.raises(InvalidInputError, match="other settings"):
        restored(clip, target, options=VideoOptions(crf=30))
    assert not restored(clip, target, options=VideoOptions(crf=30), overwrite=True).finished
    target.write_bytes(b"mine")
    with pytest.raises(InvalidInputError, match="there already"):
        restored(clip, target)


def test_gifs_and_avis_are_read(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.gif", 4, codec="gif", pixel_format="rgb8", colors=None)
    result = restored(clip, tmp_path / "gif.mp4")
    assert result.frames == 4
    assert frames_of(tmp_path / "gif.mp4")[0].format.name == "yuv420p"
    clip = write_clip(tmp_path / "in.avi", 4, codec="mpeg4", colors=None)
    assert restored(clip, tmp_path / "avi.mkv").frames == 4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path / "missing.mp4", "no such file"),
        (lambda path: path, "is a folder"),
        (lambda path: (path / "a.png").write_bytes(b"") or path / "a.png", "not a video"),
        (lambda path: write_clip(path / "hdr.mp4", 1, colors=(9, 16, 9, 1)), "high dynamic range"),
    ],
)
def test_what_cannot_be_restored_is_one_sentence(tmp_path: Path, make, message: str) -> None:
    model = Enlarger()
    with pytest.raises(VideoError, match=message):
        upscale_video(make(tmp_path), tmp_path / "out.mp4", model=model)
    assert model.calls == 0


def test_arguments_are_checked_before_the_model(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mp4", 1)
    wrong = [
        ("out.xyz", VideoOptions(), "give one of these suffixes"),
        ("out.mp4", VideoOptions(codec="ffv1"), "cannot contain ffv1"),
        ("out.mp4", VideoOptions(crf=99), "must lie in 0"),
        ("out.mp4", VideoOptions(preset="quick"), "unknown preset"),
        ("out.mkv", VideoOptions(codec="ffv1", crf=3), "has no crf"),
        ("out.mp4", VideoOptions(pixel_format="rgb24"), "does not take the pixel format"),
        ("in.mp4", VideoOptions(), "overwrite the input"),
    ]
    for name, options, message in wrong:
        with pytest.raises(TSDSRError, match=message):
            restored(clip, tmp_path / name, options=options)
    for bad in ({"steady": 1.5}, {"codec": "x"}, {"start": 3.0, "stop": 2.0}, {"frames": 0}):
        with pytest.raises(InvalidInputError):
            VideoOptions(**bad)


def test_fields_become_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def woven(number: int, height: int, width: int) -> np.ndarray:
        image = picture(2 * number, height, width)
        image[1::2] = picture(2 * number + 1, height, width)[1::2]
        return image

    monkeypatch.setattr("tests.video.clips.picture", woven)
    clip = write_clip(tmp_path / "in.mp4", 6, options={"x264-params": "tff=1", "crf": "1"})
    combs = {}
    for deinterlace in (False, True):
        target = tmp_path / f"{deinterlace}.mkv"
        options = VideoOptions(codec="ffv1", deinterlace=deinterlace)
        result = upscale_video(clip, target, 1, model=Enlarger(), video_options=options)
        assert any("is interlaced" in notice for notice in result.notices) is not deinterlace
        frames = np.stack(pixels_of(target)).astype(float)
        assert len(frames) == 6
        combs[deinterlace] = np.abs(frames[:, 1:-1] - (frames[:, :-2] + frames[:, 2:]) / 2).mean()
    assert combs[True] < 0.5 * combs[False]
