from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.conftest import mini_prompt, sd3_prompt
from tsdsr.errors import InvalidInputError
from tsdsr.models.conditioning import Conditioning
from tsdsr.models.fixed_prompt import FixedPrompt


def test_expand_repeats_one_prompt_and_refuses_others() -> None:
    prompt = sd3_prompt().expand(3)
    assert prompt.batch_size == 3
    assert torch.equal(prompt.prompt_embeds[2], sd3_prompt().prompt_embeds[0])
    with pytest.raises(InvalidInputError, match="batch 3 to 2"):
        prompt.expand(2)


def test_tensors_are_required_and_have_one_batch_size() -> None:
    with pytest.raises(InvalidInputError):
        Conditioning(prompt_embeds=torch.zeros(1, 2, 3), pooled_prompt_embeds=torch.zeros(2, 3))
    with pytest.raises(InvalidInputError):
        Conditioning()


def test_moving_changes_the_dtype_of_embeddings_only() -> None:
    assert sd3_prompt().to("cpu", torch.float16).prompt_embeds.dtype == torch.float16
    assert mini_prompt().to("cpu", torch.float16).labels.dtype == torch.int64


@pytest.mark.parametrize("prompt", [sd3_prompt(), mini_prompt()], ids=["sd3", "mini"])
def test_a_stored_prompt_round_trips(prompt: Conditioning, tmp_path: Path) -> None:
    FixedPrompt.from_conditioning(prompt).save_pretrained(tmp_path)
    loaded = FixedPrompt.from_pretrained(tmp_path).conditioning()
    for name in ("prompt_embeds", "pooled_prompt_embeds", "labels"):
        before, after = getattr(prompt, name), getattr(loaded, name)
        assert (before is None) == (after is None)
        assert before is None or (torch.equal(before, after) and before.dtype == after.dtype)


def test_only_one_prompt_is_stored() -> None:
    with pytest.raises(InvalidInputError, match="batch 1"):
        FixedPrompt.from_conditioning(sd3_prompt().expand(2))
    with pytest.raises(InvalidInputError, match="fields among"):
        FixedPrompt(shapes={"text": [1, 2]})
