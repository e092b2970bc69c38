"""Pipelines with random weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from PIL import Image

import tsdsr.benchmark.random_weights as random_weights
from tests.conftest import tiny_flux2, tiny_flux2_vae, tiny_mmdit, tiny_vae
from tsdsr.benchmark.entries import BenchPipeline, Entry, open_entry
from tsdsr.benchmark.random_weights import fill_with_noise, random_pipeline, released_pipeline
from tsdsr.benchmark.runner import example_image
from tsdsr.errors import InvalidInputError
from tsdsr.models.folded_parts import FoldedNetwork
from tsdsr.models.zoo import get_spec

CPU = torch.device("cpu")


@pytest.fixture
def tiny_specs(monkeypatch: pytest.MonkeyPatch) -> None:
    """`sd3` and `flux2-klein` at the size of the tests' tiny ones."""
    parts = {
        "sd3": (tiny_mmdit(), tiny_vae(16), {"prompt_embeds": (6, 32), "pooled_prompt_embeds": (24,)}),
        "flux2-klein": (tiny_flux2(), tiny_flux2_vae(), {"prompt_embeds": (5, 24)}),
    }
    tiny = {
        name: dataclasses.replace(
            get_spec(name), denoiser_config=dict(network.config), vae_config=dict(vae.config), prompt_shapes=shapes
        )
        for name, (network, vae, shapes) in parts.items()
    }
    monkeypatch.setattr(random_weights, "get_spec", tiny.__getitem__)


@pytest.mark.usefixtures("tiny_specs")
@pytest.mark.parametrize("name", ["sd3", "flux2-klein"])
def test_a_random_pipeline_runs_in_its_precision(name: str) -> None:
    before = torch.get_default_dtype()
    pipe = random_pipeline(name, CPU, torch.bfloat16)
    assert {p.dtype for m in (pipe.denoiser, pipe.vae) for p in m.parameters()} == {torch.bfloat16}
    assert torch.get_default_dtype() is before
    result = pipe(torch.rand(1, 3, 16, 16), scale=2).images
    assert result.shape == (1, 3, 32, 32)
    assert result.std() > 0


@pytest.mark.usefixtures("tiny_specs")
@pytest.mark.parametrize("name", ["sd3", "flux2-klein"])
def test_a_random_pipeline_is_timed_folded_in_8_bits(name: str, tmp_path: Path) -> None:
    pytest.importorskip("torchao", reason="needs the extra 'quantize'")
    example_image(16).save(tmp_path / "in.png")
    model = open_entry(Entry("mini", "cpu", "bf16").parsed(f"random:{name},fold,quantize=int8"))
    assert isinstance(model, BenchPipeline)
    assert isinstance(model.pipe.denoiser, FoldedNetwork)
    model.run(tmp_path / "in.png", tmp_path / "out.png", 2)
    with Image.open(tmp_path / "out.png") as image:
        assert image.size == (32, 32)


@pytest.mark.usefixtures("tiny_specs")
def test_the_released_way_keeps_its_lora_apart() -> None:
    pipe = released_pipeline("sd3", CPU)
    for network in (pipe.denoiser, pipe.vae):
        adapted = [m for m in network.modules() if isinstance(m, BaseTunerLayer)]
        assert adapted
        assert not any(layer.merged for layer in adapted)
        assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert {layer.lora_A["default"].weight.shape[0] for layer in adapted} == {64}


def test_only_what_was_released() -> None:
    with pytest.raises(InvalidInputError, match="no released LoRA"):
        released_pipeline("mini", CPU)


def test_noise_keeps_activations_in_range() -> None:
    layers = torch.nn.Sequential(torch.nn.Conv2d(8, 64, 3), torch.nn.GroupNorm(4, 64), torch.nn.Conv2d(64, 8, 3))
    fill_with_noise(layers)
    assert not layers[0].bias.any()
    assert bool((layers[1].weight == 1).all())
    with torch.no_grad():
        assert 0.5 < float(layers(torch.randn(1, 8, 16, 16)).std()) < 2
