"""Prompts of images, the student's fixed prompt, and the empty prompt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from tests.conftest import tiny_flux2, tiny_flux2_vae
from tsdsr.errors import ModelError
from tsdsr.hashing import hash_text
from tsdsr.models.conditioning import DEFAULT_PROMPT, NULL_PROMPT, Conditioning
from tsdsr.models.zoo import MINI, get_spec
from tsdsr.recipes import student_recipe
from tsdsr.training.build import make_prompts
from tsdsr.training.encoder_cache import text_cache
from tsdsr.training.prompts import CachedPrompts
from tsdsr.training.provenance import RunFiles


def test_an_image_without_a_text_has_the_fixed_prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def read(caches: object, prompts: Sequence[str]) -> Conditioning:
        asked.append(list(prompts))
        return Conditioning(labels=torch.tensor([len(text) for text in prompts]))

    monkeypatch.setattr("tsdsr.training.prompts.read_conditioning", read)
    prompts = CachedPrompts(tmp_path, MINI, tmp_path)  # a model without text encoders: nothing is looked for
    prompts.of(["a cat", ""])
    assert asked == [[DEFAULT_PROMPT], [NULL_PROMPT], ["a cat", DEFAULT_PROMPT]]
    assert prompts.fixed().labels == len(DEFAULT_PROMPT)
    assert prompts.null().labels == len(NULL_PROMPT)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("joint_attention_dim", 24, ""),
        ("joint_attention_dim", 32, "prompt_embeds is 24 wide, but the denoiser takes 32"),
        ("in_channels", 32, "the autoencoder has 16 latent channels, but the denoiser takes 32"),
        ("num_single_layers", 24, "has num_single_layers=24, flux2-klein has 20; it is another base model"),
        ("guidance_embeds", True, r"the network takes a guidance \(guidance_embeds\)"),
    ],
)
def test_a_base_whose_parts_do_not_fit_is_refused_before_weights_are_read(
    tmp_path: Path, setting: str, value: int, message: str
) -> None:
    """Of FLUX.2, other models have transformers of the same class; here no weights are there at all."""
    spec, base = get_spec("flux2-klein"), tmp_path / "base"
    denoiser = tiny_flux2()
    denoiser.register_to_config(**{setting: value})
    denoiser.save_config(base / "transformer")
    tiny_flux2_vae().save_config(base / "vae")
    (part,) = spec.text_parts
    for folder in (part.encoder, part.tokenizer):
        (base / folder).mkdir()
        (base / folder / "config.json").write_text("{}")
    with text_cache(tmp_path / "cache", part, spec, base, torch.float32) as cache:
        for prompt in (DEFAULT_PROMPT, NULL_PROMPT):
            cache.add(hash_text(prompt), {"hidden": torch.ones(512, 24)})
    config, files = student_recipe("flux2_klein"), RunFiles(base=base, cache=tmp_path / "cache")
    if not message:
        assert isinstance(make_prompts(config, files), CachedPrompts)
        return
    with pytest.raises(ModelError, match=message):
        make_prompts(config, files)
