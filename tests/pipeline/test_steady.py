"""Less flicker in still areas; moving areas and new scenes as they are; folders of frames."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.command import run
from tsdsr.pipeline.jobs import Job, in_order_of_numbers
from tsdsr.pipeline.steady import SteadyDetail


def scene(shift: int = 0, side: int = 48) -> np.ndarray:
    """Return a textured picture, moved to the right by ``shift`` pixels."""
    y, x = np.mgrid[:side, :side].astype(float)
    wave = 120 + 50 * np.sin((x - shift) / 2.3) + 40 * np.cos(y / 3.1 + (x - shift) / 5)
    return np.stack([wave, wave * 0.9, wave * 0.8 + 20], -1).clip(0, 255)


def noisy(picture: np.ndarray, seed: int, sigma: float = 4) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, sigma, picture.shape)
    return np.rint((picture + noise).clip(0, 255)).astype(np.uint8)


def large(frame: np.ndarray) -> np.ndarray:
    """Return a stand-in for a restored frame: as noisy as the input."""
    return frame.repeat(2, 0).repeat(2, 1)


def flicker(frames: list[np.ndarray]) -> float:
    return float(np.mean([np.abs(a.astype(float) - b).mean() for a, b in pairwise(frames)]))


def test_still_areas_flicker_less_and_keep_their_detail() -> None:
    inputs = [noisy(scene(), seed) for seed in range(8)]
    plain = [large(frame) for frame in inputs]
    for strength, most in ((0.5, 0.7), (0.8, 0.5)):
        steady = SteadyDetail(strength)
        frames = [steady.blend(given, result) for given, result in zip(inputs, plain, strict=True)]
        assert np.array_equal(frames[0], plain[0])
        assert flicker(frames) < most * flicker(plain)
        truth = large(scene())
        assert np.abs(frames[-1] - truth).mean() < np.abs(plain[-1] - truth).mean()


def test_what_moves_stays_as_it_is() -> None:
    steady = SteadyDetail(0.9)
    for number in range(5):
        given = noisy(scene(number * 2), number, 1)
        assert np.array_equal(steady.blend(given, large(given)), large(given))


def test_a_moving_object_leaves_no_ghost() -> None:
    steady, box = SteadyDetail(0.9), 14
    for number in range(5):
        picture = scene()
        picture[10 : 10 + box, 4 + 6 * number : 4 + 6 * number + box] = (250, 30, 30)
        given = noisy(picture, number, 2)
        result = steady.blend(given, large(given)).astype(float)
        if number:
            left = 2 * (4 + 6 * (number - 1))
            uncovered = np.s_[22:46, left : left + 10]
            assert np.abs(result - large(given))[uncovered].max() <= 3  # the blend is off where it was
    still = np.abs(result - large(given))[60:]
    assert still.max() > 0


def test_a_new_scene_and_other_sizes_begin_anew() -> None:
    steady = SteadyDetail(0.9)
    steady.blend(noisy(scene(), 0), large(noisy(scene(), 0)))
    other = noisy(255 - scene().transpose(1, 0, 2), 1)
    assert np.array_equal(steady.blend(other, large(other)), large(other))
    small = other[:40]
    assert np.array_equal(steady.blend(small, large(small)), large(small))


def test_brightness_follows_the_input_at_once() -> None:
    steady = SteadyDetail(0.9)
    for level in (100, 101):
        given = np.full((48, 48, 3), level, np.uint8)
        result = steady.blend(given, large(given))
        assert (result == level).all()


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_sequence_continues_from_its_files(kind: type) -> None:
    factor = 257 if kind is np.uint16 else 1
    inputs = [noisy(scene(), seed).astype(kind) * factor for seed in range(4)]
    steady = SteadyDetail(0.8)
    frames = [steady.blend(given, large(given)) for given in inputs]
    assert frames[-1].dtype == kind
    later = SteadyDetail(0.8)
    later.resume(inputs[2], frames[2])
    assert np.array_equal(later.blend(inputs[3], large(inputs[3])), frames[3])


def test_numbers_sort_by_their_value() -> None:
    names = ["b/f2.png", "b/f10.png", "b/f1.png", "a/f3.png"]
    jobs = in_order_of_numbers(Job(Path(name), Path("x")) for name in names)
    assert [job.source.as_posix() for job in jobs] == ["a/f3.png", "b/f1.png", "b/f2.png", "b/f10.png"]


def test_a_folder_of_frames_continues_to_the_same_results(tmp_path: Path) -> None:
    folder, results = tmp_path / "frames", tmp_path / "results"
    folder.mkdir()
    for number in range(4):
        Image.fromarray(noisy(scene(side=24), number)).save(folder / f"f{number + 8}.png")
    command = ("upscale", folder, "-o", results, "--scale", 1, "--steady", 0.8)
    assert run(*command)[0] == 0
    whole = {path.name: path.read_bytes() for path in results.glob("*.png")}
    assert len(whole) == 4
    for name in ("f10.png", "f11.png"):
        (results / name).unlink()
    code, output = run(*command)
    assert (code, "2 upscaled, 2 skipped" in output) == (0, True)
    assert {path.name: path.read_bytes() for path in results.glob("*.png")} == whole
    plain = tmp_path / "plain"
    assert run("upscale", folder, "-o", plain, "--scale", 1)[0] == 0
    assert (plain / "f8.png").read_bytes() == whole["f8.png"]
    assert (plain / "f9.png").read_bytes() != whole["f9.png"]
    Image.fromarray(noisy(scene(side=24), 9)).save(folder / "f9.png")
    code, output = run(*command)
    assert (code, output.count("was made")) == (1, 3)  # this frame, and those after it
