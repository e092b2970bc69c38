"""PIL images as people open them: the API gives what the command gives for the same file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tsdsr.errors import InvalidInputError
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline
from tsdsr.runtimes.upscale_file import upscale_file

ORIENTATION = 0x0112


def save(image: Image.Image, path: Path, orientation: int) -> Path:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image.save(path, exif=exif)
    return path


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"), dtype=int)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tiff"])
def test_every_orientation_comes_out_upright_as_from_the_command(
    mini_pipe: OneStepSRPipeline, photo: Image.Image, tmp_path: Path, suffix: str
) -> None:
    paths = [save(photo.resize((20, 12)), tmp_path / f"{i}{suffix}", i) for i in range(1, 9)]
    results = mini_pipe([Image.open(path) for path in paths], 2).images
    for path, result, orientation in zip(paths, results, range(1, 9), strict=True):
        assert result.size == ((24, 40) if orientation > 4 else (40, 24))
        assert result.getexif().get(ORIENTATION, 1) == 1
        upscale_file(path, tmp_path / "out.png", 2, model=mini_pipe)
        with Image.open(tmp_path / "out.png") as stored:
            assert np.array_equal(pixels(stored), pixels(result))
    assert np.array_equal(pixels(results[2]), pixels(mini_pipe(Image.open(paths[0]).rotate(180), 2).images[0]))


@pytest.mark.parametrize("change", ["load", "copy", "convert"])
def test_an_image_that_was_loaded_before_keeps_its_orientation(
    mini_pipe: OneStepSRPipeline, photo: Image.Image, tmp_path: Path, change: str
) -> None:
    image = Image.open(save(photo.resize((20, 12)), tmp_path / "a.jpg", 6))
    image.load()
    image = {"load": image, "copy": image.copy(), "convert": image.convert("RGB")}[change]
    assert mini_pipe(image, 2).images[0].size == (24, 40)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P"])
def test_colours_below_transparent_pixels_do_not_show(mini_pipe: OneStepSRPipeline, mode: str) -> None:
    samples = np.full((16, 16, 4), (10, 10, 10, 255), np.uint8)
    samples[:, 8:] = (200, 200, 200, 0) if mode == "LA" else (255, 0, 0, 0)
    image = Image.fromarray(samples).convert(mode if mode != "P" else "RGBA")
    if mode == "P":
        image = image.quantize(4)
    white = samples.copy()
    white[:, 8:] = 255
    expected = mini_pipe(Image.fromarray(white[..., :3]), 2).images[0]
    assert np.array_equal(pixels(mini_pipe(image, 2).images[0]), pixels(expected))


def test_images_without_a_defined_range_are_refused(mini_pipe: OneStepSRPipeline) -> None:
    grey = Image.fromarray(np.full((8, 8), 200, np.uint8))
    for mode in ("I", "F"):
        with pytest.raises(InvalidInputError, match="no defined range"):
            mini_pipe(grey.convert(mode))
    deep = Image.fromarray(np.full((8, 8), 51400, np.uint16))
    assert deep.mode == "I;16"
    assert pixels(mini_pipe(deep, 2).images[0]).min() == pixels(mini_pipe(grey, 2).images[0]).min() == 200
