"""Quantised pipelines stay close to their originals; unsupported models and modes are refused."""

from __future__ import annotations

import importlib.util
import sys

import pytest
import torch

from tests.conftest import flux2_prompt, tiny_flux2, tiny_mmdit
from tsdsr.errors import InvalidInputError, MissingDependencyError, ModelError
from tsdsr.models.conditioning import default_conditioning
from tsdsr.models.zoo import get_spec
from tsdsr.optimize.fold import fold, fold_network
from tsdsr.optimize.quantize import quantizable_layers, quantize
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline

needs_torchao = pytest.mark.skipif(
    importlib.util.find_spec("torchao") is None, reason="torchao is not installed (the extra 'quantize')"
)


@needs_torchao
@pytest.mark.parametrize("mode", ["int8", "int8-dynamic"])
@pytest.mark.parametrize("folded", [False, True], ids=["full", "folded"])
@pytest.mark.parametrize("name", ["sd3_pipe", "flux2_pipe"])
@torch.no_grad()
def test_the_prediction_stays_close(name: str, mode: str, folded: bool, request: pytest.FixtureRequest) -> None:
    pipe: OneStepSRPipeline = request.getfixturevalue(name)
    x = torch.rand(1, 3, 32, 32)
    expected = pipe(x, 2, color_fix="none").images
    if folded:
        fold(pipe)
    report = quantize(pipe, mode)
    assert report.bytes_after * 4 == report.bytes_before
    error = (pipe(x, 2, color_fix="none").images - expected).abs()
    assert 0 < error.mean() < 0.02
    with pytest.raises(InvalidInputError, match="already quantised"):
        quantize(pipe, mode)
    with pytest.raises(InvalidInputError, match="already folded" if folded else "fold it first"):
        fold(pipe)


def test_only_attention_and_feed_forward_layers_are_quantised() -> None:
    network = tiny_mmdit()
    chosen = set(map(id, quantizable_layers(network)))
    names = {name for name, module in network.named_modules() if id(module) in chosen}
    assert "transformer_blocks.0.attn.to_q" in names
    assert "transformer_blocks.1.ff.net.2" in names
    assert not [name for name in names if "norm" in name or "embed" in name or name == "proj_out"]


def test_all_layers_of_a_folded_flux2_but_the_outermost_are_quantised() -> None:
    network = fold_network(tiny_flux2(), 1000.0, flux2_prompt())
    chosen = set(map(id, quantizable_layers(network)))
    left = {name for name, m in network.named_modules() if isinstance(m, torch.nn.Linear) and id(m) not in chosen}
    assert left == {"x_embedder", "proj_out"}


@pytest.mark.parametrize("name", ["sd3", "flux2-klein"])
def test_nearly_all_that_folding_leaves_is_quantised(name: str) -> None:
    spec = get_spec(name)
    with torch.device("meta"):
        full = spec.make_denoiser()
    network = fold_network(full, spec.timestep, default_conditioning(spec))
    layers = quantizable_layers(network)
    values = sum(p.numel() for p in network.parameters())
    assert sum(layer.weight.numel() for layer in layers) / values > 0.99


def test_models_and_modes_that_cannot_be_quantised_are_refused(
    mini_pipe: OneStepSRPipeline, sd3_pipe: OneStepSRPipeline
) -> None:
    with pytest.raises(InvalidInputError, match="nothing to quantise in MiniUNet"):
        quantize(mini_pipe, "int8")
    with pytest.raises(InvalidInputError, match="int8, int8-dynamic, fp8"):
        quantize(sd3_pipe, "int3")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"Hopper.*cpu"):
        quantize(sd3_pipe, "fp8")


def test_without_torchao_the_extra_is_named(sd3_pipe: OneStepSRPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(MissingDependencyError, match=r"\.\[quantize\]"):
        quantize(sd3_pipe, "int8")
