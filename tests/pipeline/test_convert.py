"""Build pipelines from the released layout, and save pipelines to folders."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from tests.conftest import tiny_flux2
from tsdsr.errors import InvalidInputError, ModelNotFoundError, WeightsError
from tsdsr.pipeline.convert import convert_released, copy_in, save_pipeline
from tsdsr.pipeline.diffusers_loading import load_diffusers_pipeline
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline


def test_conversion_names_what_is_missing(reference: Path, tmp_path: Path) -> None:
    tiny = reference / "tiny_sd3"
    copy = shutil.copytree(tiny, tmp_path / "copy")
    (copy / "emb" / "pool_embeds.pt").unlink()
    with pytest.raises(ModelNotFoundError, match="pool_embeds"):
        convert_released(tiny, tiny / "lora", copy / "emb")
    (copy / "lora" / "vae.safetensors").unlink()
    with pytest.raises(ModelNotFoundError, match=r"vae\.safetensors"):
        convert_released(tiny, copy / "lora", tiny / "emb")
    shutil.copy(tiny / "lora" / "transformer.safetensors", copy / "lora" / "vae.safetensors")
    with pytest.raises(WeightsError, match="right base model"):
        convert_released(tiny, copy / "lora", tiny / "emb")
    (copy / "vae" / "config.json").unlink()
    with pytest.raises(ModelNotFoundError, match="diffusers folder"):
        convert_released(copy, tiny / "lora", tiny / "emb")
    with pytest.raises(InvalidInputError, match="mini"):
        convert_released(tiny, tiny / "lora", tiny / "emb", model="mini")


def test_another_base_model_is_told_before_files_that_only_the_named_one_has(tmp_path: Path) -> None:
    tiny_flux2().save_pretrained(tmp_path / "transformer")
    with pytest.raises(WeightsError, match="describes a Flux2Transformer2DModel, not a SD3Transformer2DModel"):
        convert_released(tmp_path, tmp_path, tmp_path, model="sd3")


def test_an_existing_folder_is_not_overwritten(mini_pipe: OneStepSRPipeline, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(InvalidInputError, match="already exists"):
        save_pipeline(mini_pipe, tmp_path / "there")
    save_pipeline(mini_pipe, tmp_path / "new", torch.float16)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    assert load_diffusers_pipeline(tmp_path / "new", "cpu", "fp16").dtype == torch.float16


def test_a_stored_folder_does_not_tell_where_its_parts_came_from(mini_pipe: OneStepSRPipeline, tmp_path: Path) -> None:
    save_pipeline(mini_pipe, tmp_path / "first")
    again = load_diffusers_pipeline(tmp_path / "first", "cpu", "fp32")
    save_pipeline(again, tmp_path / "second")
    configs = sorted((tmp_path / "second").rglob("*.json"))
    assert len(configs) == 4
    for path in configs:
        assert str(tmp_path) not in path.read_text()
    assert load_diffusers_pipeline(tmp_path / "second", "cpu", "fp32").spec.name == "mini"


def test_a_string_is_a_path(
    reference: Path, mini_pipe: OneStepSRPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_pipeline(mini_pipe, "x")
    assert load_diffusers_pipeline("x", "cpu").spec.name == "mini"
    tiny = str(reference / "tiny_sd3")
    assert convert_released(tiny, f"{tiny}/lora", f"{tiny}/emb").spec.name == "sd3"


@pytest.mark.parametrize("name", ["mini_pipe", "sd3_pipe"])
def test_training_goes_on_after_storing(request: pytest.FixtureRequest, name: str, tmp_path: Path) -> None:
    """The networks keep dtype, values, modes and gradients; so does the optimiser that holds their parameters."""
    pipe: OneStepSRPipeline = request.getfixturevalue(name)
    networks = [pipe.denoiser.train(), pipe.vae, pipe.prompt]
    trained = [p for p in pipe.denoiser.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)

    def step() -> None:
        loss = sum(p.square().sum() for p in trained)
        assert isinstance(loss, torch.Tensor)
        loss.backward()
        optimizer.step()

    step()
    before = [{key: tensor.clone() for key, tensor in network.state_dict().items()} for network in networks]
    gradient = trained[0].grad
    save_pipeline(pipe, tmp_path / "stored", torch.float16)
    for network, state in zip(networks, before, strict=True):
        after = network.state_dict()
        assert all(
            torch.equal(after[key], tensor) and after[key].dtype == tensor.dtype for key, tensor in state.items()
        )
    assert pipe.denoiser.training
    assert trained[0].grad is gradient
    step()
    stored = load_diffusers_pipeline(tmp_path / "stored", "cpu", "fp16").denoiser.state_dict()
    assert all(torch.equal(stored[key], tensor.half()) for key, tensor in before[0].items())


def test_a_copy_in_the_same_precision_shares_its_tensors() -> None:
    layer = torch.nn.BatchNorm1d(4)
    same, half = copy_in(layer, torch.float32), copy_in(layer, torch.float16)
    assert same.weight.data_ptr() == layer.weight.data_ptr()
    assert (half.weight.dtype, half.running_mean.dtype) == (torch.float16, torch.float16)
    assert half.num_batches_tracked.dtype == torch.int64
    assert layer.weight.dtype == torch.float32
    assert not same.weight.requires_grad
    assert layer.weight.requires_grad
