"""Quantised pipelines stay close to their originals; unsupported models and modes are refused."""

from __future__ import annotations

import importlib.util
import sys

import pytest
import torch

from tests.conftest import tiny_mmdit
from tsdsr.errors import InvalidInputError, MissingDependencyError, ModelError
from tsdsr.models.zoo import get_spec
from tsdsr.optimize.fold import fold
from tsdsr.optimize.quantize import quantizable_layers, quantize
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline

needs_torchao = pytest.mark.skipif(
    importlib.util.find_spec("torchao") is None, reason="torchao is not installed (the extra 'quantize')"
)


@needs_torchao
@pytest.mark.parametrize("mode", ["int8", "int8-dynamic"])
@pytest.mark.parametrize("folded", [False, True], ids=["full", "folded"])
@torch.no_grad()
def test_the_prediction_stays_close(sd3_pipe: OneStepSRPipeline, mode: str, folded: bool) -> None:
    x = torch.rand(1, 3, 32, 32)
    expected = sd3_pipe(x, 2, color_fix="none").images
    if folded:
        fold(sd3_pipe)
    report = quantize(sd3_pipe, mode)
    assert report.bytes_after * 4 == report.bytes_before
    error = (sd3_pipe(x, 2, color_fix="none").images - expected).abs()
    assert 0 < error.mean() < 0.02
    with pytest.raises(InvalidInputError, match="quantised already"):
        quantize(sd3_pipe, mode)
    with pytest.raises(InvalidInputError, match="folded already" if folded else "fold first"):
        fold(sd3_pipe)


def test_only_attention_and_feed_forward_layers_are_quantised() -> None:
    network = tiny_mmdit()
    chosen = set(map(id, quantizable_layers(network)))
    names = {name for name, module in network.named_modules() if id(module) in chosen}
    assert "transformer_blocks.0.attn.to_q" in names
    assert "transformer_blocks.1.ff.net.2" in names
    assert not [name for name in names if "norm" in name or "embed" in name or name == "proj_out"]


def test_nearly_all_of_sd3_is_quantised() -> None:
    with torch.device("meta"):
        network = get_spec("sd3").make_denoiser()
    layers = quantizable_layers(network)
    modulation = sum(p.numel() for name, p in network.named_parameters() if "linear" in name or "embed" in name)
    rest = sum(p.numel() for p in network.parameters()) - modulation
    assert sum(layer.weight.numel() for layer in layers) / rest > 0.99


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
