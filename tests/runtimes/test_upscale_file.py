"""Upscaling from file to file."""

from __future__ import annotations

import os
import threading
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
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline
from tsdsr.processor import multiplies_int8
from tsdsr.runtimes.upscale_file import upscale_file


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
    monkeypatch.setattr("tsdsr.runtimes.upscale_file.load_pipeline", lambda *_, **__: pytest.fail("loaded"))
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source": b"a.png"}, "source: takes a path, got bytes"),
        ({"source": None}, "source: takes a path"),
        ({"source": ""}, "source: is empty"),
        ({"target": b"b.png"}, "target: takes a path"),
        ({"target": ""}, "target: is empty"),
        ({"scale": "4"}, "scale must lie between 1 and 8, got '4'"),
        ({"scale": None}, "scale must lie"),
        ({"scale": True}, "scale must lie"),
        ({"target_size": (80.5, 64.0)}, "target_size is width and height in pixels"),
        ({"target_size": 80}, "target_size is width and height"),
        ({"write_options": {"quality": 90}}, "write_options must be a WriteOptions, got dict"),
        ({"model": None}, "model must be a pipeline, a name or a folder, got NoneType"),
        ({"model": 3}, "model must be a pipeline"),
        ({"model": ""}, "model: is empty"),
        ({"device": 0}, "device must be a name"),
        ({"dtype": 16}, "dtype must be a name"),
        ({"seed": "1"}, "seed must be a whole number from 0"),
        ({"seed": 1.5}, "seed must be a whole number"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"seed": 2**64}, "seed must be a whole number"),
        ({"icc": None}, "icc must be 'keep' or 'srgb'"),
        ({"icc": ["keep"]}, "icc must be"),
        ({"max_pixels": "many"}, "max_pixels must be None or a whole number"),
        ({"max_pixels": 0}, "max_pixels must be None or a whole number"),
        ({"on_tile": 3}, "on_tile must be callable"),
        ({"fit": None}, "unknown fit None"),
        ({"color_fix": 1}, "unknown color_fix 1"),
        ({"detail": "x"}, "detail must lie"),
        ({"tile": "big"}, "tile must be"),
    ],
)
def test_arguments_of_wrong_types_are_named(
    source: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, object], message: str
) -> None:
    monkeypatch.setattr("tsdsr.runtimes.upscale_file.load_pipeline", lambda *_, **__: pytest.fail("loaded"))
    given = {"source": source, "target": source.with_name("b.png"), **arguments}
    with pytest.raises(InvalidInputError, match=message):
        upscale_file(**given)  # type: ignore[arg-type]
    assert not source.with_name("b.png").exists()


@pytest.mark.parametrize(
    "field",
    [
        {"quality": "90"},
        {"quality": 1.5},
        {"quality": True},
        {"subsampling": 444},
        {"lossless": "yes"},
        {"compression": None},
        {"compression": "x"},
    ],
)
def test_write_options_check_the_types_of_their_values(field: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError, match=f"{next(iter(field))} must"):
        WriteOptions(**field)  # type: ignore[arg-type]


def test_places_that_cannot_be_used_are_found_before_a_model_is_loaded(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tsdsr.runtimes.upscale_file.load_pipeline", lambda *_, **__: pytest.fail("loaded"))
    (source.parent / "folder.png").mkdir()
    with pytest.raises(ImageReadError, match="is a folder, not a file"):
        upscale_file(source.parent, source.with_name("b.png"))
    with pytest.raises(InvalidInputError, match=r"folder\.png: is a folder; give the name of a file"):
        upscale_file(source, source.parent / "folder.png")
    with pytest.raises(InvalidInputError, match="cannot be written"):
        upscale_file(source, source / "b.png")
    Image.new("L", (2100, 2)).save(source.with_name("wide.png"))
    with pytest.raises(ImageWriteError, match="WebP can store at most 16383 pixels"):
        upscale_file(source.with_name("wide.png"), source.with_name("b.webp"), 8)


def test_a_folder_records_what_its_results_were_made_from(mini_pipe: OneStepSRPipeline, source: Path) -> None:
    """The command knows a result of the same model and settings, and no result of a model that it cannot name."""
    folder, target = source.with_name("model"), source.with_name("b.png")
    save_pipeline(mini_pipe, folder, torch.float32)
    arguments = ["upscale", str(source), "-o", str(target), "--model", str(folder), "--scale", "2"]
    upscale_file(source, target, 2, model=folder)
    result = CliRunner().invoke(app, arguments)
    assert "0 upscaled, 1 skipped" in result.output
    upscale_file(source, target, 2, model=mini_pipe)
    result = CliRunner().invoke(app, arguments)
    assert (result.exit_code, "was made with other settings (model" in result.output) == (1, True), result.output


@pytest.mark.skipif(not multiplies_int8(), reason="the processor does not multiply 8-bit integers")
def test_fast_is_what_the_command_does(source: Path) -> None:
    target = source.with_name("b.png")
    upscale_file(source, target, 2, fast=True)
    arguments = ["upscale", str(source), "-o", str(target), "--scale", "2"]
    assert "0 upscaled, 1 skipped" in CliRunner().invoke(app, [*arguments, "--fast"]).output
    result = CliRunner().invoke(app, arguments)
    assert (result.exit_code, "fast or quantize" in result.output) == (1, True), result.output


def test_numbers_of_numpy_are_numbers(mini_pipe: OneStepSRPipeline, source: Path) -> None:
    folder, target = source.with_name("model"), source.with_name("b.png")
    save_pipeline(mini_pipe, folder, torch.float32)
    upscale_file(
        source,
        target,
        np.float32(2),
        model=folder,
        seed=np.int64(3),
        detail=np.float32(1),
        tile=np.int32(64),  # type: ignore[arg-type]
    )
    arguments = ["upscale", str(source), "-o", str(target), "--model", str(folder), "--scale", "2", "--seed", "3"]
    assert "0 upscaled, 1 skipped" in CliRunner().invoke(app, [*arguments, "--tile", "64"]).output


def test_a_result_can_go_into_a_pipe(mini_pipe: OneStepSRPipeline, source: Path) -> None:
    pipe, folder = source.with_name("pipe.png"), source.with_name("model")
    os.mkfifo(pipe)
    save_pipeline(mini_pipe, folder, torch.float32)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()), daemon=True)
    reader.start()
    result = CliRunner().invoke(app, ["upscale", str(source), "-o", str(pipe), "--model", str(folder)])
    assert result.exit_code == 0, result.output
    reader.join(10)
    upscale_file(source, source.with_name("b.png"), model=folder)
    assert received == [source.with_name("b.png").read_bytes()]
    assert pipe.is_fifo()


def test_phone_portraits_stand_upright_in_files_and_in_python(mini_pipe: OneStepSRPipeline, tmp_path: Path) -> None:
    """Both examples of the README on a portrait that is stored lying on its side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.fromarray(skimage.data.astronaut()[:24, :32])
    stored.save(tmp_path / "photo.png", exif=exif)
    upscale_file(tmp_path / "photo.png", tmp_path / "x2.png", 2, model=mini_pipe)
    mini_pipe(Image.open(tmp_path / "photo.png"), scale=2).images[0].save(tmp_path / "python.png")
    with Image.open(tmp_path / "x2.png") as ours, Image.open(tmp_path / "python.png") as python:
        assert ours.size == python.size == (48, 64)
        assert np.abs(np.asarray(ours, int) - np.asarray(python, int)).max() <= 1
        assert ours.getexif().get(0x0112, 1) == python.getexif().get(0x0112, 1) == 1


def test_one_small_file_does_not_wait_for_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on the command line, also where torch would be faster for more pixels."""
    from tsdsr.runtimes import open_model

    used: list[str] = []
    monkeypatch.setattr(open_model, "multiplies_bf16", lambda: True)
    monkeypatch.setattr(open_model, "_load_in_torch", lambda *_: pytest.fail("torch"))
    load = open_model.load_onnx_mini
    monkeypatch.setattr(open_model, "load_onnx_mini", lambda *given: used.append("onnx") or load(*given))
    write_picture(Picture(rgb()), tmp_path / "a.png")
    upscale_file(tmp_path / "a.png", tmp_path / "b.png", 2)
    assert used == ["onnx"]
