"""spandrel's own ModelLoader takes mini's safetensors file and gives what the pipeline gives."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tsdsr.errors import MissingDependencyError, WeightsError
from tsdsr.models.mini import MiniUNet
from tsdsr.models.network_config import WEIGHTS
from tsdsr.optimize.fold import fold
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline
from tsdsr.pipeline.model_files import resolve_model
from tsdsr.pipeline.torch_pipeline import load_torch_mini

spandrel = pytest.importorskip("spandrel", reason="the extra 'eval' is not installed", exc_type=ImportError)

from tsdsr.integrations.spandrel import MiniArchitecture, network_arguments, register  # noqa: E402

PACKAGED = resolve_model("mini") / "denoiser" / WEIGHTS


def load(path: Path) -> Any:
    register()
    loader = spandrel.ModelLoader()
    return loader.load_from_state_dict(loader.load_state_dict_from_file(path))


@pytest.fixture(scope="module")
def model() -> Any:
    return load(PACKAGED).eval()


def test_the_descriptor_says_what_a_host_needs(model: Any) -> None:
    assert isinstance(model, spandrel.ImageModelDescriptor)
    assert (model.architecture.id, model.architecture.name) == ("TSDSRMini", "TSD-SR mini")
    assert (model.purpose, model.scale, model.input_channels, model.output_channels) == ("SR", 4, 3, 3)
    assert (model.tiling, model.size_requirements.none) == (spandrel.ModelTiling.INTERNAL, True)
    assert (model.tags, model.supports_half, model.supports_bfloat16) == (["8.1M"], True, True)
    assert (model.dtype, model.device.type) == (torch.float32, "cpu")


def test_the_picture_is_that_of_the_pipeline(model: Any) -> None:
    x = torch.rand(1, 3, 37, 22, generator=torch.Generator().manual_seed(0))
    expected = load_torch_mini(resolve_model("mini"), "cpu", "fp32").upscale(x, 4)
    found = model(x)
    assert found.shape == (1, 3, 148, 88)
    assert float((found - expected).abs().max()) < 1e-6


def test_16_bits_change_little_and_are_returned(model: Any) -> None:
    x = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    exact, rounded = model(x), load(PACKAGED).bfloat16()(x.bfloat16())
    assert rounded.dtype == torch.bfloat16
    assert float((rounded.float() - exact).abs().max()) < 0.05


def test_no_other_architecture_takes_the_file_for_its_own(model: Any) -> None:
    weights = load_file(PACKAGED)
    assert [entry.architecture.id for entry in spandrel.MAIN_REGISTRY if entry.detect(weights)] == ["TSDSRMini"]


def test_registering_twice_changes_nothing() -> None:
    registry = spandrel.ArchRegistry()
    register(registry)
    register(registry)
    assert [entry.architecture.id for entry in registry] == ["TSDSRMini"]


@pytest.mark.parametrize(
    "shape",
    [
        {"channels": (8, 16, 16), "encoder_blocks": (1, 2, 1), "decoder_blocks": (2, 0), "fine_channels": 8},
        {"channels": (8,), "encoder_blocks": (2,), "decoder_blocks": (), "num_prompts": 3, "learned_skip": True},
    ],
    ids=["three levels and a fine one", "one level"],
)
def test_the_shape_is_read_from_the_tensors(shape: dict[str, Any]) -> None:
    network = MiniUNet(**shape, embed_dim=16, fine_blocks=1)
    found = MiniUNet(**network_arguments(network.state_dict()))
    assert found.state_dict().keys() == network.state_dict().keys()
    assert MiniArchitecture().load(network.state_dict()).model(torch.rand(1, 3, 8, 8)).shape == (1, 3, 32, 32)


def test_incomplete_weights_are_named() -> None:
    weights = load_file(PACKAGED)
    del weights["conv_out.bias"]
    register()
    with pytest.raises(WeightsError, match=r"not a complete file of mini.*conv_out\.bias"):
        spandrel.ModelLoader().load_from_state_dict(weights)


def test_a_folded_network_is_not_taken(mini_pipe: OneStepSRPipeline) -> None:
    fold(mini_pipe)
    register()
    with pytest.raises(spandrel.UnsupportedModelError):
        spandrel.ModelLoader().load_from_state_dict(mini_pipe.denoiser.state_dict())


def test_without_spandrel_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spandrel", None)
    monkeypatch.delitem(sys.modules, "tsdsr.integrations.spandrel")
    with pytest.raises(MissingDependencyError, match=r"spandrel: run pip install '\.\[eval\]'"):
        importlib.import_module("tsdsr.integrations.spandrel")
