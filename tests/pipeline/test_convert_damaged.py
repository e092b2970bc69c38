"""Released files with a fault: ``convert`` names it, and leaves nothing behind."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner

from tsdsr.cli import app
from tsdsr.errors import InvalidInputError, WeightsError
from tsdsr.pipeline.convert import convert_released, save_pipeline
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline

State = dict[str, Tensor]


@pytest.fixture
def released(reference: Path, tmp_path: Path) -> Path:
    """A copy of LoRA and embeddings, beside which the base model is linked."""
    folder = tmp_path / "released"
    folder.mkdir()
    for name in ("lora", "emb"):
        shutil.copytree(reference / "tiny_sd3" / name, folder / name)
    for name in ("transformer", "vae"):
        (folder / name).symlink_to(reference / "tiny_sd3" / name)
    return folder


def first(state: State, suffix: str = "lora_A.weight") -> str:
    return min(key for key in state if key.endswith(suffix) and state[key].ndim == 2)


def set_nan(state: State) -> None:
    state[first(state)][0, 0] = float("nan")


def cut_input(state: State) -> None:
    state[first(state)] = state[first(state)][:, :-1].contiguous()


def cut_rank(state: State) -> None:
    state[first(state)] = state[first(state)][:-1].contiguous()


def flatten(state: State) -> None:
    state[first(state)] = state[first(state)].flatten()


def to_integers(state: State) -> None:
    state[first(state)] = state[first(state)].to(torch.int8)


def rename(state: State) -> None:
    for suffix in ("lora_A.weight", "lora_B.weight"):
        key = first(state, suffix)
        state["transformer.nowhere." + suffix] = state.pop(key)


def overflow(state: State) -> None:
    for suffix in ("lora_A.weight", "lora_B.weight"):
        state[first(state, suffix)].fill_(3e38)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.clear(), "transformer.safetensors: contains no LoRA"),
        (set_nan, "values that are not finite"),
        (cut_input, "does not fit SD3Transformer2DModel"),
        (cut_rank, "have no common rank"),
        (flatten, "have no common rank"),
        (to_integers, "not as floating point"),
        (rename, "right base model?"),
        (overflow, "not finite"),
    ],
)
def test_a_damaged_lora(released: Path, tmp_path: Path, change: Callable[[State], object], message: str) -> None:
    path = released / "lora" / "transformer.safetensors"
    state = load_file(path)
    change(state)
    save_file(state, path)
    arguments = ["--base", released, "--lora", released / "lora", "--embeddings", released / "emb"]
    result = CliRunner().invoke(app, [str(a) for a in ("convert", *arguments, "-o", tmp_path / "model")])
    assert (result.exit_code, message in result.output) == (2, True), result.output
    assert [path.name for path in tmp_path.iterdir() if path.name != "reference"] == ["released"]


def test_the_loras_of_both_networks_swapped(released: Path) -> None:
    lora = released / "lora"
    shutil.move(lora / "vae.safetensors", lora / "x")
    shutil.move(lora / "transformer.safetensors", lora / "vae.safetensors")
    shutil.move(lora / "x", lora / "transformer.safetensors")
    with pytest.raises(WeightsError, match=r"right base model\?"):
        convert_released(released, lora, released / "emb")


def test_a_file_that_is_no_safetensors(released: Path) -> None:
    (released / "lora" / "vae.safetensors").write_text("<!DOCTYPE html><html>Access denied")
    with pytest.raises(WeightsError, match=r"vae\.safetensors: not a readable"):
        convert_released(released, released / "lora", released / "emb")


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("prompt_embeds", torch.randn(1, 6, 7), "prompt_embeds is 7 wide, but the denoiser takes"),
        ("pool_embeds", torch.randn(1, 7), "pooled_prompt_embeds is 7 wide, but the denoiser takes"),
        ("prompt_embeds", torch.full((1, 6, 32), float("nan")), "prompt_embeds contains values that are not finite"),
        ("prompt_embeds", torch.zeros(1, 0, 32), "which is not a single prompt"),
        ("prompt_embeds", torch.zeros(2, 6, 32), "expected one prompt"),
        ("pool_embeds", {"a": torch.zeros(1, 24)}, "expected one tensor, found dict"),
    ],
)
def test_damaged_embeddings(released: Path, name: str, tensor: object, message: str) -> None:
    torch.save(tensor, released / "emb" / f"{name}.pt")
    with pytest.raises(WeightsError, match=f"emb.*{re.escape(message)}"):
        convert_released(released, released / "lora", released / "emb")


def test_a_safetensors_file_of_embeddings_holds_one_tensor(released: Path) -> None:
    save_file({"a": torch.zeros(1), "b": torch.zeros(1)}, released / "emb" / "prompt_embeds.safetensors")
    with pytest.raises(WeightsError, match="expected one tensor, found dict"):
        convert_released(released, released / "lora", released / "emb")


def test_what_cannot_be_saved_is_said(mini_pipe: OneStepSRPipeline, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="got NoneType"):
        save_pipeline(None, tmp_path / "x")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="got MiniUNet"):
        save_pipeline(mini_pipe.denoiser, tmp_path / "x")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match=r"not in torch\.int8"):
        save_pipeline(mini_pipe, tmp_path / "x", torch.int8)
    with torch.no_grad():
        mini_pipe.denoiser.conv_in.weight[0, 0] = 1e6
    with pytest.raises(WeightsError, match=r"denoiser in float16: conv_in\.weight contains values that are not finite"):
        save_pipeline(mini_pipe, tmp_path / "x", torch.float16)
    assert not list(tmp_path.iterdir())
