"""Text embeddings equal those of diffusers' own pipelines, with one encoder in memory at a time."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer, T5EncoderModel, T5Tokenizer

from tests.conftest import tiny_mmdit, tiny_vae
from tests.models.text_models import write_sd2_text, write_sd3_text
from tsdsr.errors import ModelNotFoundError, WeightsError
from tsdsr.models import text
from tsdsr.models.conditioning import DEFAULT_PROMPT, NULL_PROMPT, Conditioning
from tsdsr.models.text import assemble, encode_prompts
from tsdsr.models.text_parts import SD2_TEXT, SD3_TEXT, TextPart

PROMPTS = ["a cat, on a table.", NULL_PROMPT, "ab " * 300, DEFAULT_PROMPT.lower()]


@pytest.fixture(scope="module")
def sd3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sd3_text(tmp_path_factory.mktemp("sd3"))


def encode(
    folder: Path, parts: tuple[TextPart, ...], prompts: list[str], batch: int = 3
) -> dict[str, dict[str, Tensor]]:
    stored: dict[tuple[str, str], dict[str, Tensor]] = {}
    encode_prompts(folder, parts, prompts, lambda part, p, t: stored.update({(part.name, p): t}), batch=batch)
    return {
        part.name: {
            key: torch.stack([stored[part.name, p][key] for p in prompts]) for key in stored[part.name, prompts[0]]
        }
        for part in parts
    }


def reference(folder: Path, t5: bool) -> Conditioning:
    pipe = StableDiffusion3Pipeline(
        transformer=tiny_mmdit(),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=tiny_vae(16),
        text_encoder=CLIPTextModelWithProjection.from_pretrained(folder / "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        text_encoder_2=CLIPTextModelWithProjection.from_pretrained(folder / "text_encoder_2"),
        tokenizer_2=CLIPTokenizer.from_pretrained(folder / "tokenizer_2"),
        text_encoder_3=T5EncoderModel.from_pretrained(folder / "text_encoder_3") if t5 else None,
        tokenizer_3=T5Tokenizer.from_pretrained(folder / "tokenizer_3"),
    )
    with torch.no_grad():
        embeds, _, pooled, _ = pipe.encode_prompt(PROMPTS, None, None, do_classifier_free_guidance=False)
    return Conditioning(prompt_embeds=embeds, pooled_prompt_embeds=pooled)


def test_sd3_equals_the_diffusers_pipeline(sd3: Path) -> None:
    ours, theirs = assemble(encode(sd3, SD3_TEXT, PROMPTS)), reference(sd3, t5=True)
    assert ours.prompt_embeds.shape == (4, 77 + 256, 48)
    torch.testing.assert_close(ours.prompt_embeds, theirs.prompt_embeds, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.pooled_prompt_embeds, theirs.pooled_prompt_embeds, rtol=1e-5, atol=1e-5)


def test_without_t5_its_place_holds_zeros(sd3: Path) -> None:
    ours = assemble(encode(sd3, SD3_TEXT[:2], PROMPTS), joint_dim=48)
    full = assemble(encode(sd3, SD3_TEXT, PROMPTS))
    assert ours.prompt_embeds.shape == full.prompt_embeds.shape
    torch.testing.assert_close(ours.prompt_embeds[:, :77], full.prompt_embeds[:, :77])
    assert ours.prompt_embeds[:, 77:].abs().max() == 0


def test_sd2_is_the_last_hidden_state(tmp_path: Path) -> None:
    folder = write_sd2_text(tmp_path)
    ours = assemble(encode(folder, SD2_TEXT, PROMPTS)).prompt_embeds
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    ids = tokenizer(PROMPTS, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
    with torch.no_grad():
        expected = CLIPTextModel.from_pretrained(folder / "text_encoder")(ids).last_hidden_state
    assert ours.shape == (4, 77, 32)
    torch.testing.assert_close(ours, expected)


def test_distinct_prompts_are_encoded_once_and_finished_ones_skipped(sd3: Path) -> None:
    stored: list[tuple[str, str]] = []
    encode_prompts(sd3, SD3_TEXT, ["a", "b", "a"], lambda part, p, t: stored.append((part.name, p)))
    assert stored == [(part.name, p) for part in SD3_TEXT for p in "ab"]
    again: list[tuple[str, str]] = []
    encode_prompts(
        sd3, SD3_TEXT, ["a", "b", "c"], lambda part, p, t: again.append((part.name, p)),
        missing=lambda part, p: (part.name, p) not in stored,
    )  # fmt: skip
    assert again == [(part.name, "c") for part in SD3_TEXT]


def test_encoders_are_loaded_one_after_the_other(sd3: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[object] = []
    most = 0
    original = text.load_text_encoder

    class Watched:
        def __init__(self, encode: text.Encode) -> None:
            self.encode = encode
            alive.append(self.name)

        name = "encoder"

        def __call__(self, prompts: list[str]) -> dict[str, Tensor]:
            nonlocal most
            most = max(most, len(alive))
            return self.encode(prompts)

        def __del__(self) -> None:
            alive.pop()

    monkeypatch.setattr(text, "load_text_encoder", lambda *args: Watched(original(*args)))
    encode_prompts(sd3, SD3_TEXT, ["a"], lambda *args: None)
    assert most == 1
    assert alive == []


def test_errors_name_the_folder(sd3: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(sd3, tmp_path / "copy")
    (copy / "text_encoder_2" / "config.json").unlink()
    with pytest.raises(ModelNotFoundError, match="text_encoder_2"):
        encode(copy, SD3_TEXT, ["a"])
    shutil.rmtree(copy / "tokenizer")
    with pytest.raises(ModelNotFoundError, match="tokenizer: missing"):
        encode(copy, SD3_TEXT, ["a"])


def test_the_fixed_prompt_is_the_released_one() -> None:
    assert DEFAULT_PROMPT.startswith("Cinematic, High Contrast, highly detailed, taken using a Canon EOS R camera")
    assert DEFAULT_PROMPT.endswith("perfect without deformations.")
    assert NULL_PROMPT == ""


def test_an_encoder_of_another_kind_is_refused(sd3: Path, tmp_path: Path) -> None:
    """transformers would load it, and draw the weights that it lacks at random."""
    shutil.copytree(sd3, tmp_path / "base")
    shutil.rmtree(tmp_path / "base" / "text_encoder")
    shutil.copytree(sd3 / "text_encoder_3", tmp_path / "base" / "text_encoder")
    with pytest.raises(WeightsError, match="text_encoder: is a text encoder of kind 't5', not 'clip_text_model'"):
        encode(tmp_path / "base", SD3_TEXT[:1], ["a"])


@pytest.mark.parametrize(
    ("subfolder", "lost"), [("text_encoder", "text_projection.weight"), ("text_encoder_3", "shared.weight")]
)
def test_an_encoder_that_lacks_weights_is_refused(sd3: Path, tmp_path: Path, subfolder: str, lost: str) -> None:
    shutil.copytree(sd3, tmp_path / "base")
    path = tmp_path / "base" / subfolder / "model.safetensors"
    weights = load_file(path)
    del weights[lost]
    save_file(weights, path, {"format": "pt"})
    part = next(part for part in SD3_TEXT if part.encoder == subfolder)
    with pytest.raises(WeightsError, match=rf"{subfolder}: lacks [12] tensors? of a \w+ \(.*weight …\)"):
        encode(tmp_path / "base", (part,), ["a"])
