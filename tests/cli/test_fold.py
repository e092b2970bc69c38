"""``tsdsr fold``, ``tsdsr convert --fold`` and ``tsdsr upscale --quantize``."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.cli.command import run
from tests.conftest import flux2_prompt, tiny_flux2, tiny_flux2_vae
from tsdsr.models.adapters import adapter_state, attach_lora, new_lora
from tsdsr.models.fixed_prompt import FixedPrompt
from tsdsr.models.folded import FoldedMMDiT
from tsdsr.models.folded_flux2 import FoldedFlux2
from tsdsr.models.lora import read_released_lora, write_released_lora
from tsdsr.models.zoo import get_spec
from tsdsr.pipeline.convert import save_pipeline
from tsdsr.pipeline.diffusers_loading import load_diffusers_pipeline
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline

FLUX2 = get_spec("flux2-klein")


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
    assert "already folded" in output


def test_convert_folds_on_request(reference: Path, tmp_path: Path) -> None:
    tiny = reference / "tiny_sd3"
    code, output = run(
        "convert", "--base", tiny, "--lora", tiny / "lora", "--embeddings", tiny / "emb", "-o", tmp_path / "p", "--fold"
    )
    assert code == 0, output
    assert "0.41 M → 0.36 M" in output
    assert isinstance(load_diffusers_pipeline(tmp_path / "p", "cpu").denoiser, FoldedMMDiT)


def write_flux2_base(folder: Path) -> None:
    """Write `base`, a tiny FLUX.2 klein, `lora` for its networks, and `emb`, laid out as released files are."""
    for part, network, targets in (
        ("transformer", tiny_flux2(), FLUX2.lora_targets),
        ("vae", tiny_flux2_vae(), FLUX2.vae_lora_targets),
    ):
        network.save_pretrained(folder / "base" / part)
        new_lora(network, targets, 2, "student", torch.Generator().manual_seed(1))
        state = adapter_state(network, "student")
        write_released_lora(folder / "lora" / f"{part}.safetensors", {k: v + 0.05 for k, v in state.items()})
    (folder / "emb").mkdir()
    torch.save(flux2_prompt().prompt_embeds, folder / "emb" / "prompt_embeds.pt")


def test_a_flux2_student_from_base_and_lora_to_a_picture(small: Path, tmp_path: Path) -> None:
    """Merged, folded, stored and loaded, it restores as the unmerged networks do."""
    write_flux2_base(tmp_path)
    base = ["--base", tmp_path / "base", "--lora", tmp_path / "lora", "--embeddings", tmp_path / "emb"]
    code, output = run("convert", *base, "-o", tmp_path / "p", "--model", "flux2-klein", "--dtype", "fp32", "--fold")
    assert code == 0, output
    assert isinstance(load_diffusers_pipeline(tmp_path / "p", "cpu").denoiser, FoldedFlux2)
    upscale = ["upscale", small, "-o", tmp_path / "out.png", "--model", tmp_path / "p", "--scale", 3]
    code, output = run(*upscale, "--dtype", "fp32")
    assert code == 0, output
    network, vae = tiny_flux2(), tiny_flux2_vae()
    plain = OneStepSRPipeline(network, vae, FixedPrompt.from_conditioning(flux2_prompt()), model="flux2-klein")
    pixels = plain(Image.open(small), 3).images[0]
    found = np.asarray(Image.open(tmp_path / "out.png"), dtype=int)
    assert np.abs(found - np.asarray(pixels)).max() > 5, "the LoRA must matter for this test to mean much"
    for part, module in (("transformer", network), ("vae", vae)):
        attach_lora(module, read_released_lora(tmp_path / "lora" / f"{part}.safetensors"), "student")
    assert np.abs(found - np.asarray(plain(Image.open(small), 3).images[0])).max() <= 1
    code, output = run(*upscale, "--overwrite", "--preset", "upstream", "--scale", 2)
    assert (code, "exists for SD3 models, not for 'flux2-klein'" in output) == (2, True)


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


@pytest.mark.parametrize(
    ("index", "content", "message"),
    [
        ("tsdsr.json", "{}", "is an exported model, which runs as it is"),
        ("model_index.json", '{"_class_name": "Flux2KleinPipeline"}', "a multi-step base model"),
    ],
)
def test_folders_that_cannot_be_folded(tmp_path: Path, index: str, content: str, message: str) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / index).write_text(content)
    code, output = run("fold", tmp_path / "model", "-o", tmp_path / "folded")
    assert code == 2
    assert message in output
    assert "is missing" not in output
