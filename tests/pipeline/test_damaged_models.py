"""Folders of models with a fault: each is refused before it runs, with a message that names file and tensor."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tsdsr.errors import ModelError, ModelNotFoundError, WeightsError
from tsdsr.optimize.fold import fold
from tsdsr.pipeline.convert import save_pipeline
from tsdsr.pipeline.diffusers_loading import load_diffusers_pipeline
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline

State = dict[str, Tensor]
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(mini_pipe: OneStepSRPipeline, tmp_path: Path) -> Path:
    save_pipeline(mini_pipe, tmp_path / "model", torch.float32)
    return tmp_path / "model"


def change_weights(folder: Path, change: Callable[[State], object]) -> Path:
    path = folder / WEIGHTS
    state = load_file(path)
    change(state)
    save_file(state, path, metadata={"format": "pt"})
    return path


def change_config(folder: Path, **values: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return path


def cast(dtype: torch.dtype) -> Callable[[State], None]:
    def change(state: State) -> None:
        state["conv_in.weight"] = state["conv_in.weight"].to(dtype)

    return change


def fill(value: float) -> Callable[[State], object]:
    return lambda state: state["conv_in.weight"].view(-1)[3:4].fill_(value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("conv_out.bias"), "conv_out.bias is missing"),
        (lambda state: [state.pop(key) for key in list(state)[:4]], "and 3 more tensors are missing"),
        (lambda state: state.update(extra=torch.zeros(1)), "extra is not part of MiniUNet"),
        (lambda state: state.update({"conv_in.weight": torch.zeros(8, 48, 1, 1)}), "conv_in.weight has shape"),
        (cast(torch.int8), "conv_in.weight is stored as int8, not as float32"),
        (cast(torch.uint8), "conv_in.weight is stored as uint8"),
        (cast(torch.float64), "conv_in.weight is stored as float64"),
        (cast(torch.float8_e4m3fn), "conv_in.weight is stored as F8_E4M3"),
        (fill(float("nan")), "conv_in.weight contains values that are not finite"),
        (fill(float("-inf")), "conv_in.weight contains values that are not finite"),
    ],
)
def test_weights_that_do_not_fit(folder: Path, change: Callable[[State], object], message: str) -> None:
    change_weights(folder / "denoiser", change)
    with pytest.raises(WeightsError, match=f"denoiser.*{re.escape(message)}"):
        load_diffusers_pipeline(folder, "cpu")


@pytest.mark.parametrize("size", [0, 4, 1000, -1])
def test_truncated_weights(folder: Path, size: int) -> None:
    path = folder / "denoiser" / WEIGHTS
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(WeightsError, match=re.escape(f"{path}: is damaged or incomplete")):
        load_diffusers_pipeline(folder, "cpu")


def test_missing_weights(folder: Path) -> None:
    path = folder / "vae" / WEIGHTS
    path.unlink()
    with pytest.raises(ModelNotFoundError, match=re.escape(f"{path}: is missing")):
        load_diffusers_pipeline(folder, "cpu")


@pytest.mark.parametrize(
    ("part", "values"),
    [
        ("denoiser", {"channels": "64"}),
        ("denoiser", {"channels": [8, 16, "16"]}),
        ("denoiser", {"channels": [8.0, 16.0, 16.0]}),
        ("denoiser", {"channels": None}),
        ("denoiser", {"channels": [8, 16]}),
        ("denoiser", {"channels": [8, 16, -16]}),
        ("denoiser", {"channels": [8, 16, 32]}),
        ("denoiser", {"embed_dim": float("nan")}),
        ("denoiser", {"embed_dim": 32}),
        ("denoiser", {"in_channels": 12}),
        ("denoiser", {"num_prompts": 5}),
        ("denoiser", {"learned_skip": True}),
        ("denoiser", {"fine_channels": 8}),
        ("denoiser", {"foo": 1}),
        ("denoiser", {"_class_name": "UNet2DConditionModel"}),
        ("vae", {"patch_size": 2}),
        ("vae", {"patch_size": "4"}),
        ("vae", {"scaling_factor": float("inf")}),
        ("vae", {"scaling_factor": "1.72"}),
        ("vae", {"scaling_factor": 0}),
        ("vae", {"scaling_factor": None}),
        ("prompt", {"shapes": {"labels": [2]}}),
        ("prompt", {"shapes": {"prompt_embeds": [1, 4, 8]}}),
        ("prompt", {"shapes": None}),
        ("prompt", {"shapes": {}}),
    ],
    ids=str,
)
def test_wrong_settings(folder: Path, part: str, values: dict[str, Any]) -> None:
    change_config(folder / part, **values)
    with pytest.raises(WeightsError, match=re.escape(str(folder))):
        load_diffusers_pipeline(folder, "cpu")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"'])
def test_settings_that_are_no_object(folder: Path, text: str) -> None:
    path = folder / "denoiser" / "config.json"
    path.write_text(text)
    with pytest.raises(WeightsError, match=re.escape(str(path))):
        load_diffusers_pipeline(folder, "cpu")


def test_a_prompt_that_the_denoiser_does_not_have(folder: Path) -> None:
    change_weights(folder / "prompt", lambda state: state["labels"].fill_(7))
    with pytest.raises(WeightsError, match="labels is 7, but the denoiser has 2"):
        load_diffusers_pipeline(folder, "cpu")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": "sd99"}, "'sd99'; known: mini"),
        ({"model": ["mini"]}, "known: mini"),
        ({"model": "sd3"}, "the one of sd3 is SD3Transformer2DModel or FoldedMMDiT"),
        ({"denoiser": ["os", "system"]}, "denoiser is 'system'"),
        ({"vae": [None, None]}, "vae is None"),
        ({"prompt": None}, "prompt is None"),
    ],
)
def test_wrong_entries_of_the_index(folder: Path, values: dict[str, Any], message: str) -> None:
    index = folder / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), **values}))
    with pytest.raises(ModelError, match=f"{re.escape(str(index))}.*{re.escape(message)}"):
        load_diffusers_pipeline(folder, "cpu")


def test_weights_of_another_architecture(folder: Path, sd21_pipe: OneStepSRPipeline, tmp_path: Path) -> None:
    save_pipeline(sd21_pipe, tmp_path / "other", torch.float32)
    shutil.copy(tmp_path / "other" / "denoiser" / WEIGHTS, folder / "denoiser")
    with pytest.raises(WeightsError, match="do not belong to this MiniUNet"):
        load_diffusers_pipeline(folder, "cpu")


@pytest.mark.parametrize(
    ("name", "part", "values", "message"),
    [
        ("sd3_pipe", "denoiser", {"joint_attention_dim": 16}, "context_embedder"),
        ("sd3_pipe", "denoiser", {"num_layers": 3}, "and 27 more tensors are missing"),
        ("sd3_pipe", "denoiser", {"attention_head_dim": "8"}, "does not describe a SD3Transformer2DModel"),
        ("sd3_pipe", "vae", {"latent_channels": 4}, "shape"),
        ("flux2_pipe", "denoiser", {"num_single_layers": 3}, "and 3 more tensors are missing"),
        ("flux2_pipe", "denoiser", {"joint_attention_dim": 16}, "context_embedder"),
        ("flux2_pipe", "denoiser", {"axes_dims_rope": [8, 8, 8, 8]}, "adds up to 32, but a head is 16 wide"),
        ("flux2_pipe", "denoiser", {"axes_dims_rope": [3, 5, 4, 4]}, "must be four even numbers"),
        ("flux2_pipe", "denoiser", {"rope_theta": -3}, "rope_theta must be a positive number"),
        ("flux2_pipe", "denoiser", {"eps": "x"}, "eps must be a positive number, not 'x'"),
        ("flux2_pipe", "vae", {"patch_size": [1, 1]}, "bn.running_mean has shape"),
        ("flux2_pipe", "vae", {"batch_norm_eps": None}, "batch_norm_eps must be a number from 0 to 1, not None"),
        ("flux2_pipe", "vae", {"batch_norm_eps": -5.0}, "batch_norm_eps must be a number from 0 to 1, not -5.0"),
        ("sd21_pipe", "denoiser", {"norm_num_groups": 3}, "does not describe a UNet2DConditionModel"),
        ("sd21_pipe", "denoiser", {"act_fn": "nope"}, "does not describe a UNet2DConditionModel"),
        ("sd21_pipe", "vae", {"scaling_factor": -1.0}, "scaling_factor must be a positive number"),
    ],
)
def test_wrong_settings_of_large_models(
    request: pytest.FixtureRequest, tmp_path: Path, name: str, part: str, values: dict[str, Any], message: str
) -> None:
    save_pipeline(request.getfixturevalue(name), tmp_path / "model", torch.float32)
    change_config(tmp_path / "model" / part, **values)
    with pytest.raises(WeightsError, match=message):
        load_diffusers_pipeline(tmp_path / "model", "cpu")


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("rope_theta", "rope_theta must be a positive number, not None"),
        ("attention_head_dim", "but a head is None wide"),
        ("joint_attention_dim", "prompt_embeds is 24 wide, but the denoiser takes None"),
        ("eps", "eps must be a positive number, not None"),
    ],
)
def test_missing_settings_of_a_folded_flux2(
    flux2_pipe: OneStepSRPipeline, tmp_path: Path, missing: str, message: str
) -> None:
    fold(flux2_pipe)
    network = {key: value for key, value in flux2_pipe.denoiser.config["network"].items() if key != missing}
    save_pipeline(flux2_pipe, tmp_path / "folded", torch.float32)
    change_config(tmp_path / "folded" / "denoiser", network=network)
    with pytest.raises(WeightsError, match=message):
        load_diffusers_pipeline(tmp_path / "folded", "cpu")


def test_variances_of_flux2_that_are_none(flux2_pipe: OneStepSRPipeline, tmp_path: Path) -> None:
    flux2_pipe.vae.bn.running_var[3] = -1
    save_pipeline(flux2_pipe, tmp_path / "model", torch.float32)
    with pytest.raises(WeightsError, match=r"vae: bn.running_var contains -1, which is not a variance"):
        load_diffusers_pipeline(tmp_path / "model", "cpu")


def test_a_network_that_takes_a_guidance_is_refused_before_its_weights_are_read(
    flux2_pipe: OneStepSRPipeline, tmp_path: Path
) -> None:
    save_pipeline(flux2_pipe, tmp_path / "model", torch.float32)
    change_config(tmp_path / "model" / "denoiser", guidance_embeds=True)
    (tmp_path / "model" / "denoiser" / WEIGHTS).unlink()
    with pytest.raises(ModelError, match=r"takes a guidance .* such as that of FLUX.2-klein-base"):
        load_diffusers_pipeline(tmp_path / "model", "cpu")


def test_two_prompts(flux2_pipe: OneStepSRPipeline, tmp_path: Path) -> None:
    save_pipeline(flux2_pipe, tmp_path / "model", torch.float32)
    change_config(tmp_path / "model" / "prompt", shapes={"prompt_embeds": [2, 5, 24]})
    change_weights(tmp_path / "model" / "prompt", lambda state: state.update(prompt_embeds=torch.ones(2, 5, 24)))
    with pytest.raises(WeightsError, match=r"shape \(2, 5, 24\), which is not a single prompt"):
        load_diffusers_pipeline(tmp_path / "model", "cpu")


@pytest.mark.parametrize(
    "values",
    [{"timestep": 500.0}, {"timestep": "x"}, {"prompt": {}}, {"prompt": {"labels": "x"}}, {"network": {}}],
    ids=str,
)
def test_wrong_settings_of_folded_models(mini_pipe: OneStepSRPipeline, tmp_path: Path, values: dict[str, Any]) -> None:
    fold(mini_pipe)
    save_pipeline(mini_pipe, tmp_path / "folded", torch.float32)
    change_config(tmp_path / "folded" / "denoiser", **values)
    with pytest.raises(WeightsError, match="folded"):
        load_diffusers_pipeline(tmp_path / "folded", "cpu")


@pytest.mark.parametrize("name", ["mini_pipe", "sd3_pipe", "sd21_pipe", "flux2_pipe"])
def test_a_sound_model_in_several_files_loads(request: pytest.FixtureRequest, tmp_path: Path, name: str) -> None:
    pipe: OneStepSRPipeline = request.getfixturevalue(name)
    pipe.save_pretrained(tmp_path / "model", max_shard_size="30KB")
    index = tmp_path / "model" / "denoiser" / f"{WEIGHTS}.index.json"
    assert index.is_file()
    loaded = load_diffusers_pipeline(tmp_path / "model", "cpu", "fp32").denoiser.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in pipe.denoiser.state_dict().items())
    part = min(index.parent.glob("*-of-*.safetensors"))
    part.unlink()
    with pytest.raises(ModelNotFoundError, match=part.name):
        load_diffusers_pipeline(tmp_path / "model", "cpu")
