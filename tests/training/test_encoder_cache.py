from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from tests.conftest import tiny_vae
from tests.models.text_models import write_sd3_text
from tsdsr.errors import DatasetError, InvalidInputError, ModelNotFoundError
from tsdsr.models.text import assemble, encode_prompts
from tsdsr.models.zoo import MINI, get_spec
from tsdsr.training.encoder_cache import cache_prompts, read_conditioning, text_cache

SD3 = get_spec("sd3")
CPU, FP32 = "cpu", torch.float32


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = write_sd3_text(tmp_path / "base")
    tiny_vae(16).save_pretrained(folder / "vae")
    return folder


def test_cached_prompts_equal_fresh_ones(base: Path, tmp_path: Path) -> None:
    prompts = ["a cat.", "a dog.", "", "a cat."]
    assert cache_prompts(prompts, base, SD3, tmp_path / "cache", CPU, FP32, batch=2) == 3
    caches = {part.name: text_cache(tmp_path / "cache", part, SD3, base, FP32) for part in SD3.text_parts}
    read = read_conditioning(caches, prompts)
    fresh: dict[str, list[dict[str, torch.Tensor]]] = {part.name: [] for part in SD3.text_parts}
    for prompt in prompts:
        encode_prompts(base, SD3.text_parts, [prompt], lambda part, p, t: fresh[part.name].append(t))
    expected = assemble({n: {k: torch.stack([r[k] for r in rows]) for k in rows[0]} for n, rows in fresh.items()})
    torch.testing.assert_close(read.prompt_embeds, expected.prompt_embeds, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(read.pooled_prompt_embeds, expected.pooled_prompt_embeds, rtol=1e-5, atol=1e-5)
    with pytest.raises(DatasetError, match="a mouse"):
        read_conditioning(caches, ["a mouse"])


def test_an_interrupted_run_goes_on(base: Path, tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop(part: object, done: int, total: int) -> None:
        if done == 2 and getattr(part, "name", "") == "clip_g":
            raise StopError

    prompts = [f"prompt {c}" for c in "abcdef"]
    with pytest.raises(StopError):
        cache_prompts(prompts, base, SD3, tmp_path / "cache", CPU, FP32, batch=2, on_batch=stop)
    seen: list[tuple[str, int]] = []
    cache_prompts(
        prompts, base, SD3, tmp_path / "cache", CPU, FP32, batch=2, on_batch=lambda p, d, n: seen.append((p.name, n))
    )
    assert ("clip_l", 6) not in seen
    assert ("clip_g", 4) in seen
    assert ("t5", 6) in seen


def test_t5_is_optional(base: Path, tmp_path: Path) -> None:
    cache_prompts(["a"], base, SD3, tmp_path / "cache", CPU, FP32, t5=False)
    assert sorted(p.name for p in (tmp_path / "cache" / "text").iterdir()) == ["clip_g", "clip_l"]
    with pytest.raises(InvalidInputError, match="takes no text"):
        cache_prompts(["a"], base, MINI, tmp_path / "cache", CPU, FP32)


def test_a_cache_of_another_model_is_refused(base: Path, tmp_path: Path) -> None:
    cache_prompts(["a"], base, SD3, tmp_path / "cache", CPU, FP32)
    with pytest.raises(DatasetError, match=r"dtype 'torch.float32' instead of 'torch.bfloat16'"):
        cache_prompts(["b"], base, SD3, tmp_path / "cache", CPU, torch.bfloat16)
    with pytest.raises(DatasetError, match="model 'sd3' instead of 'sd35'"):
        cache_prompts(["b"], base, get_spec("sd35"), tmp_path / "cache", CPU, FP32)


def test_a_base_without_an_encoder_of_the_model_is_refused(base: Path, tmp_path: Path) -> None:
    shutil.rmtree(base / "tokenizer_2")
    with pytest.raises(ModelNotFoundError, match=r"has no tokenizer_2, which sd3 needs; .*or another --model"):
        cache_prompts([""], base, get_spec("sd3"), tmp_path / "cache", "cpu", torch.float32)
    assert not (tmp_path / "cache").exists()
