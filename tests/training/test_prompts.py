"""Prompts of images, the student's fixed prompt, and the empty prompt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from tsdsr.models.conditioning import DEFAULT_PROMPT, NULL_PROMPT, Conditioning
from tsdsr.models.zoo import MINI
from tsdsr.training.prompts import CachedPrompts


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
