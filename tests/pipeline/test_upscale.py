"""Upscaling from file to file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from typer.testing import CliRunner

import tsdsr
from tests.images.pictures import deep, metadata, ramp, rgb
from tsdsr.cli import app
from tsdsr.errors import ImageReadError, ImageWriteError, InvalidInputError
from tsdsr.images.picture import Picture
from tsdsr.images.reading import read_picture
from tsdsr.images.writing import WriteOptions, write_picture
from tsdsr.pipeline.convert import save_pipeline
from tsdsr.pipeline.pipeline import OneStepSRPipeline
from tsdsr.pipeline.upscale import upscale_file


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """16 bits with transparency and every kind of metadata."""
    write_picture(Picture(deep(rgb()), deep(ramp()), metadata()), tmp_path / "a.png")
    return tmp_path / "a.png"


def test_everything_in_the_file_is_kept(mini_pipe: OneStepSRPipeline, source: Path) -> None:
    before = read_picture(source)
    target = source.with_name("b.tif")
    assert tsdsr.upscale_file(str(source), str(target), 2, model=mini_pipe) == ()
    kept = read_picture(target)
    assert (kept.max_value, kept.width, kept.height) == (65535, 2 * before.width, 2 * before.height)
    assert kept.alpha is not None
    assert (kept.metadata.icc, kept.metadata.dpi) == (before.metadata.icc, before.metadata.dpi)
    with Image.open(target) as after, Image.open(source) as first:
        assert after.getexif()[0x010F] == first.getexif()[0x010F]


def test_what_a_format_cannot_hold_is_said(mini_pipe: OneStepSRPipeline, source: Path) -> None:
    options = WriteOptions(quality=40)
    notices = upscale_file(source, source.with_name("b.jpg"), 1, model=mini_pipe, icc="srgb", write_options=options)
    assert "JPEG has no transparency: it is flattened onto white" in notices
    assert read_picture(source.with_name("b.jpg")).metadata.icc is None


def test_it_is_what_the_command_does(mini_pipe: OneStepSRPipeline, source: Path) -> None:
    folder, ours, theirs = (source.with_name(name) for name in ("model", "ours.png", "theirs.png"))
    save_pipeline(mini_pipe, folder, torch.float32)
    upscale_file(source, ours, 2.5, model=folder, dtype="fp32", device="cpu", detail=0.5, seed=3, tile=64)
    options = ["--scale", "2.5", "--dtype", "fp32", "--device", "cpu", "--detail", "0.5", "--seed", "3", "--tile", "64"]
    result = CliRunner().invoke(app, ["upscale", str(source), "-o", str(theirs), "--model", str(folder), *options])
    assert result.exit_code == 0, result.output
    assert ours.read_bytes() == theirs.read_bytes()


def test_arguments_are_checked_before_a_model_is_loaded(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tsdsr.pipeline.loading.load_pipeline", lambda *_: pytest.fail("the model was loaded"))
    target = source.with_name("b.png")
    with pytest.raises(InvalidInputError, match="scale must lie between 1 and 8"):
        upscale_file(source, target, 9)
    with pytest.raises(InvalidInputError, match="tile must be"):
        upscale_file(source, target, tile=5)
    with pytest.raises(InvalidInputError, match="icc must be"):
        upscale_file(source, target, icc="none")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="unknown image suffix"):
        upscale_file(source, source.with_name("b.gif"))
    with pytest.raises(ImageReadError, match="no such file"):
        upscale_file(source.with_name("missing.png"), target)
    with pytest.raises(ImageWriteError, match="would overwrite the input"):
        upscale_file(source, source)


def test_sixteen_bits_have_no_step_of_eight_in_between(mini_pipe: OneStepSRPipeline, tmp_path: Path) -> None:
    values = np.linspace(20000, 24000, 64 * 64).astype(np.uint16).reshape(64, 64, 1)
    for pixels in (values, values.repeat(3, 2)):
        for suffix in (".png", ".tif"):
            small, large = tmp_path / f"small{suffix}", tmp_path / f"large{suffix}"
            write_picture(Picture(pixels), small)
            assert len(np.unique(read_picture(small).pixels)) > 3000  # an 8-bit step would leave 17
            upscale_file(small, large, 2, model=mini_pipe)
            result = read_picture(large).pixels
            assert result.shape == (128, 128, pixels.shape[2])
            assert len(np.unique(result[..., 0])) > 2000
            assert int(result.max()) - int(result.min()) < 65535


def test_a_whole_run_keeps_everything(mini_pipe: OneStepSRPipeline, tmp_path: Path) -> None:
    alpha = np.asarray(Image.fromarray(ramp()[..., 0] if ramp().ndim == 3 else ramp()).resize((64, 48)))
    write_picture(Picture(skimage.data.astronaut()[:48, :64], alpha, metadata()), tmp_path / "a.png")
    assert upscale_file(tmp_path / "a.png", tmp_path / "b.webp", 2, model=mini_pipe) == ()
    found = read_picture(tmp_path / "b.webp")
    assert (found.width, found.height, found.alpha is None) == (128, 96, False)
    assert found.metadata.icc == metadata().icc
    assert found.metadata.dpi == (300.0, 150.0)
    assert replace(found, notices=()).notices == ()


def test_cover_crops_colours_and_transparency_alike(mini_pipe: OneStepSRPipeline, tmp_path: Path) -> None:
    """Of the stripes red, green and blue, only the middle one is left; alpha ends at the same rows."""
    pixels = np.zeros((96, 32, 3), np.uint8)
    for stripe in range(3):
        pixels[32 * stripe : 32 * stripe + 32, :, stripe] = 255
    alpha = np.where(np.arange(96) < 48, 0, 255).astype(np.uint8)[:, None].repeat(32, 1)
    write_picture(Picture(pixels, alpha), tmp_path / "a.png")
    upscale_file(tmp_path / "a.png", tmp_path / "b.png", model=mini_pipe, target_size=(64, 64), fit="cover", detail=0)
    found = read_picture(tmp_path / "b.png")
    assert (found.height, found.width) == (64, 64)
    assert found.alpha is not None
    assert (int(found.alpha[:28].max()), int(found.alpha[36:].min())) == (0, 255)
    assert found.pixels[36:60, 4:60].argmax(-1).min() == found.pixels[36:60, 4:60].argmax(-1).max() == 1


def test_contain_keeps_the_aspect(mini_pipe: OneStepSRPipeline, tmp_path: Path) -> None:
    write_picture(Picture(rgb(48, 64)), tmp_path / "portrait.png")
    for fit, size in {"contain": (72, 96), "cover": (192, 96), "stretch": (192, 96)}.items():
        upscale_file(
            tmp_path / "portrait.png",
            tmp_path / "b.png",
            model=mini_pipe,
            target_size=(192, 96),
            fit=fit,  # type: ignore[arg-type]
        )
        found = read_picture(tmp_path / "b.png")
        assert (found.width, found.height) == size
