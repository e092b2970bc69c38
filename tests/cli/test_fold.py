"""``tsdsr fold``, ``tsdsr convert --fold`` and ``tsdsr upscale --quantize``."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.cli.command import run
from tsdsr.models.folded import FoldedMMDiT
from tsdsr.pipeline.convert import save_pipeline
from tsdsr.pipeline.diffusers_loading import load_diffusers_pipeline
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline


@pytest.fixture
def small(photo: Image.Image, tmp_path: Path) -> Path:
    photo.resize((32, 32)).save(tmp_path / "small.png")
    return tmp_path / "small.png"


def test_fold_keeps_the_precision_and_the_pictures(sd3_pipe: OneStepSRPipeline, small: Path, tmp_path: Path) -> None:
    save_pipeline(sd3_pipe, tmp_path / "full", torch.float16)
    code, output = run("fold", tmp_path / "full", "-o", tmp_path / "folded")
    assert code == 0, output
    assert "denoiser: 0.21 M → 0.17 M values" in output
    assert "folder: " in output
    folded = load_diffusers_pipeline(tmp_path / "folded", "cpu", "fp32")
    assert isinstance(folded.denoiser, FoldedMMDiT)
    pictures = []
    for name in ("full", "folded"):
        target, model = tmp_path / f"{name}.png", tmp_path / name
        code, output = run("upscale", small, "-o", target, "--model", model, "--scale", 2, "--dtype", "fp32")
        assert code == 0, output
        pictures.append(np.asarray(Image.open(tmp_path / f"{name}.png"), dtype=int))
    assert np.abs(pictures[0] - pictures[1]).max() <= 1
    code, output = run("fold", tmp_path / "folded", "-o", tmp_path / "again")
    assert code == 2
    assert "folded already" in output


def test_convert_folds_on_request(reference: Path, tmp_path: Path) -> None:
    tiny = reference / "tiny_sd3"
    code, output = run(
        "convert", "--base", tiny, "--lora", tiny / "lora", "--embeddings", tiny / "emb", "-o", tmp_path / "p", "--fold"
    )
    assert code == 0, output
    assert "0.41 M → 0.36 M" in output
    assert isinstance(load_diffusers_pipeline(tmp_path / "p", "cpu").denoiser, FoldedMMDiT)


@pytest.mark.skipif(importlib.util.find_spec("torchao") is None, reason="torchao is not installed")
def test_upscale_quantised(sd3_pipe: OneStepSRPipeline, small: Path, tmp_path: Path) -> None:
    save_pipeline(sd3_pipe, tmp_path / "full")
    target, model = tmp_path / "out.png", tmp_path / "full"
    code, output = run("upscale", small, "-o", target, "--model", model, "--scale", 1, "--quantize", "int8")
    assert code == 0, output


def test_mini_has_nothing_to_quantise(small: Path, tmp_path: Path) -> None:
    code, output = run("upscale", small, "-o", tmp_path / "out.png", "--quantize", "int8-dynamic")
    assert code == 2
    assert "nothing to quantise in MiniUNet" in output
