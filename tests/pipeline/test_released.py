"""Parity with the output of the released code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import reference_windows
from tsdsr.errors import InvalidInputError
from tsdsr.models.zoo import SPECS
from tsdsr.pipeline.convert import convert_released, save_pipeline
from tsdsr.pipeline.diffusers_loading import load_diffusers_pipeline
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline
from tsdsr.pipeline.upstream import check_upstream_model, upscale_like_upstream


@pytest.fixture(scope="module")
def converted(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> OneStepSRPipeline:
    tiny, folder = reference / "tiny_sd3", tmp_path_factory.mktemp("converted") / "pipeline"
    save_pipeline(convert_released(tiny, tiny / "lora", tiny / "emb"), folder, torch.float32)
    assert sorted(p.name for p in folder.iterdir()) == ["denoiser", "model_index.json", "prompt", "vae"]
    return load_diffusers_pipeline(folder, "cpu", "fp32")


@pytest.mark.parametrize(("method", "folder"), [("none", "nofix"), ("adain", "adain"), ("wavelet", "wavelet")])
@pytest.mark.parametrize("name", ["sq128", "small101x77", "big210x150"])
def test_the_released_codes_pictures_are_reproduced(
    converted: OneStepSRPipeline, reference: Path, method: str, folder: str, name: str
) -> None:
    """99 % of the values within one grey level and 99.9 % within two: what is left is rounding of float32."""
    source = Image.open(reference / "inference" / "inputs" / f"{name}.png")
    expected = np.asarray(Image.open(reference / "inference" / folder / f"{name}.png"), dtype=int)
    error = np.abs(reference_windows(upscale_like_upstream(converted, source, 4, method)) - expected)
    histogram = dict(zip(*np.unique(error, return_counts=True), strict=True))
    assert (error <= 1).mean() >= 0.99, histogram
    assert (error <= 2).mean() >= 0.999, histogram


def test_without_quirks_the_default_agrees_with_the_released_code(
    converted: OneStepSRPipeline, reference: Path
) -> None:
    """On an image that needs neither padding nor tiles only the last rounding differs."""
    source = Image.open(reference / "inference" / "inputs" / "sq128.png").convert("RGB")
    ours = reference_windows(converted(source, color_fix="none").images[0])
    theirs = np.asarray(Image.open(reference / "inference" / "nofix" / "sq128.png"), dtype=int)
    assert (np.abs(ours - theirs) <= 1).mean() >= 0.995


def test_the_upstream_preset_is_for_sd3_and_whole_scales(
    mini_pipe: OneStepSRPipeline, sd3_pipe: OneStepSRPipeline
) -> None:
    image = Image.new("RGB", (8, 8))
    with pytest.raises(InvalidInputError, match="mini"):
        upscale_like_upstream(mini_pipe, image)
    for name in ("sd21-base", "sd21", "flux2-klein"):
        with pytest.raises(InvalidInputError, match=f"for SD3 models, not for '{name}'"):
            check_upstream_model(SPECS[name])
    with pytest.raises(InvalidInputError, match="whole"):
        upscale_like_upstream(sd3_pipe, image, 2.5)


def test_the_upstream_preset_turns_photographs_upright(sd3_pipe: OneStepSRPipeline, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (24, 16)).save(tmp_path / "phone.png", exif=exif)
    with Image.open(tmp_path / "phone.png") as image:
        assert upscale_like_upstream(sd3_pipe, image, 2).size == (32, 48)
