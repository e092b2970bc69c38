"""``tsdsr data cache``, ``train`` and ``upscale`` with a tiny FLUX.2 klein, as in docs/how-to/open-weights.md."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.cli.command import run
from tests.models.base_models import write_klein
from tsdsr.models.network_folders import stored_dtype
from tsdsr.models.zoo import get_spec
from tsdsr.pipeline.diffusers_loading import load_diffusers_pipeline
from tsdsr.training.prompts import CachedPrompts

SMALL = [
    "--tracker", "none", "--device", "cpu", "--dtype", "fp32", "--set", "networks.lora_rank=2",
    "--set", "networks.base_precision=fp32",
    "--set", "validation_share=0.3", "--set", "validation_crop=64",
]  # fmt: skip


def phases(*numbers: int) -> list[str]:
    settings = ("steps=1", "batch_size=2", "warmup=0")
    return [f"--set=phases.{i}.{setting}" for i in numbers for setting in settings]


def ok(*arguments: object) -> str:
    code, output = run(*arguments)
    assert code == 0, output
    return output


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_klein(tmp_path / "base")


def test_from_a_base_to_an_upscaled_photo(photo_folder: Path, base: Path, tmp_path: Path) -> None:
    """Everything but the size is the recipes': recomputed activations, DASM, guidance."""
    cache, teacher, student = tmp_path / "cache", tmp_path / "teacher", tmp_path / "student"
    (tmp_path / "prompts" / "more").mkdir(parents=True)
    for name in ("astronaut", "coffee", "cat", "more/rocket"):
        (tmp_path / "prompts" / f"{name}.txt").write_text("a cat" if name == "cat" else "a thing")
    caching = ["data", "cache", photo_folder, "-o", cache, "--base", base, "--model", "flux2-klein", "--device", "cpu"]
    assert "4 prompts in" in ok(*caching, "--prompts", tmp_path / "prompts")
    fixed = CachedPrompts(cache, get_spec("flux2-klein"), base).fixed().prompt_embeds
    assert fixed is not None
    assert (fixed.shape, fixed.dtype) == ((1, 512, 24), torch.bfloat16)
    given = ["--base", base, "--cache", cache, "--prompts", tmp_path / "prompts", "--photos", photo_folder]
    out = ok(
        "train", "teacher", "--recipe", "flux2_klein_teacher", *given, "-o", teacher, *SMALL, *phases(0),
        "--set", "crops.size=64",
    )  # fmt: skip
    assert "teacher.safetensors" in out
    training = [
        "train", "student", "--recipe", "flux2_klein_24gb", *given, "--teacher", teacher / "teacher.safetensors",
        "-o", student, *SMALL, *phases(0, 1), "--set", "pairs.crops.size=64", "--set", "accumulation=2",
        "--set", "phases.0.perceptual_weight=0", "--set", "phases.1.perceptual_weight=0",
    ]  # fmt: skip
    ok(*training)
    lora, result = student / "lora-00000002", student / "pipeline-00000002"
    assert sorted(p.name for p in lora.iterdir()) == [
        f"{part}.safetensors" for part in ("prompt_embeds", "transformer", "vae")
    ]
    assert stored_dtype(result / "denoiser") == torch.bfloat16
    vae = load_diffusers_pipeline(result).vae
    statistics = load_file(base / "vae" / "diffusion_pytorch_model.safetensors")
    assert torch.equal(vae.bn.running_mean, statistics["bn.running_mean"].to(vae.bn.running_mean.dtype))
    with Image.open(photo_folder / "astronaut.png") as photo:
        photo.resize((32, 24)).save(tmp_path / "small.png")
    ok(
        "upscale",
        tmp_path / "small.png",
        "-o",
        tmp_path / "out.png",
        "--model",
        result,
        "--device",
        "cpu",
        "--scale",
        2,
    )
    with Image.open(tmp_path / "out.png") as found:
        assert found.size == (64, 48)
