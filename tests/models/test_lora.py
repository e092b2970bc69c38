from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers.models.modeling_utils import ModelMixin
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
from safetensors.torch import save_file
from torch import Tensor

from tests.conftest import randomise, sd3_prompt, tiny_mmdit, tiny_vae
from tsdsr.errors import ModelNotFoundError, WeightsError
from tsdsr.models.denoiser import as_denoiser
from tsdsr.models.lora import merge_lora, read_embeddings, read_released_lora
from tsdsr.models.zoo import get_spec


def with_lora(model: ModelMixin, targets: tuple[str, ...]) -> dict[str, Tensor]:
    """Inject random LoRA of rank 4 into ``model`` and return it in the released layout."""
    inject_adapter_in_model(LoraConfig(r=4, lora_alpha=4, target_modules=list(targets), init_lora_weights=False), model)
    return {f"transformer.{k}": v.clone() for k, v in get_peft_model_state_dict(model).items()}


def released_file(tmp_path: Path, state: dict[str, Tensor]) -> Path:
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "transformer.safetensors")
    return tmp_path / "transformer.safetensors"


@torch.no_grad()
def test_merged_equals_unmerged_for_linear_and_convolution(tmp_path: Path) -> None:
    adapted = tiny_mmdit()
    state = with_lora(adapted, get_spec("sd3").lora_targets)
    assert any(v.ndim == 4 for v in state.values())  # the patch embedding is a convolution
    merged = tiny_mmdit()
    names = {n for n, _ in merged.named_parameters()}
    merge_lora(merged, read_released_lora(released_file(tmp_path, state)))
    assert {n for n, _ in merged.named_parameters()} == names
    z, t = torch.randn(1, 16, 8, 8), torch.tensor([1000.0])
    expected, plain = as_denoiser(adapted)(z, t, sd3_prompt()), as_denoiser(tiny_mmdit())(z, t, sd3_prompt())
    torch.testing.assert_close(as_denoiser(merged)(z, t, sd3_prompt()), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(plain, expected, atol=1e-3)


@torch.no_grad()
def test_the_autoencoders_encoder_takes_lora_too(tmp_path: Path) -> None:
    targets = tuple(t for t in get_spec("sd3").vae_lora_targets if t != "quant_conv")
    targets = tuple(
        t for t in targets if "conv_shortcut" not in t
    )  # all levels of the tiny autoencoder are equally wide
    adapted, merged = tiny_vae(16), tiny_vae(16)
    merge_lora(merged, read_released_lora(released_file(tmp_path, with_lora(adapted, targets))))
    x = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(
        merged.encode(x).latent_dist.mode(), adapted.encode(x).latent_dist.mode(), rtol=1e-4, atol=1e-4
    )


@torch.no_grad()
def test_scale_zero_is_the_base_model() -> None:
    adapted, merged = tiny_mmdit(), tiny_mmdit()
    state = {k.removeprefix("transformer."): v for k, v in with_lora(adapted, ("to_q",)).items()}
    merge_lora(merged, state, scale=0.0)
    for (name, a), b in zip(merged.named_parameters(), tiny_mmdit().parameters(), strict=True):
        assert torch.equal(a, b), name


def test_ranks_may_differ_between_modules() -> None:
    model, base = tiny_mmdit(), tiny_mmdit()
    name = "transformer_blocks.0.attn.to_q"
    other = "transformer_blocks.1.attn.to_k"
    state = {
        f"{name}.lora_A.weight": torch.randn(2, 32),
        f"{name}.lora_B.weight": torch.randn(32, 2),
        f"{other}.lora_A.weight": torch.randn(5, 32),
        f"{other}.lora_B.weight": torch.randn(32, 5),
    }
    merge_lora(model, state)
    for module in (name, other):
        expected = (
            base.get_submodule(module).weight + state[f"{module}.lora_B.weight"] @ state[f"{module}.lora_A.weight"]
        )
        torch.testing.assert_close(model.get_submodule(module).weight, expected, rtol=1e-5, atol=1e-5)


def test_lora_that_does_not_match_the_model_is_refused(tmp_path: Path) -> None:
    a, b = torch.randn(2, 32), torch.randn(32, 2)
    with pytest.raises(WeightsError, match="1 of 1 modules do not exist"):
        merge_lora(tiny_mmdit(), {"nowhere.lora_A.weight": a, "nowhere.lora_B.weight": b})
    wrong = {
        "transformer_blocks.0.attn.to_q.lora_A.weight": torch.randn(2, 31),
        "transformer_blocks.0.attn.to_q.lora_B.weight": b,
    }
    with pytest.raises(WeightsError, match=r"\(32, 32\), not \(32, 31\)"):
        merge_lora(tiny_mmdit(), wrong)
    with pytest.raises(WeightsError, match="only one of"):
        read_released_lora(released_file(tmp_path, {"transformer.x.lora_A.weight": a}))
    with pytest.raises(WeightsError, match="neither"):
        read_released_lora(released_file(tmp_path, {"transformer.x.weight": a}))
    (tmp_path / "broken.safetensors").write_bytes(b"no such format")
    with pytest.raises(WeightsError, match=r"broken\.safetensors"):
        read_released_lora(tmp_path / "broken.safetensors")
    with pytest.raises(ModelNotFoundError):
        read_released_lora(tmp_path / "missing.safetensors")


def test_embeddings_are_read_safely(tmp_path: Path) -> None:
    tensor = torch.randn(1, 3, 4)
    torch.save(tensor, tmp_path / "good.pt")
    assert torch.equal(read_embeddings(tmp_path / "good.pt"), tensor)
    torch.save({"a": tensor}, tmp_path / "dict.pt")
    with pytest.raises(WeightsError, match="found dict"):
        read_embeddings(tmp_path / "dict.pt")
    torch.save(randomise, tmp_path / "code.pt")  # a pickle that names a function
    with pytest.raises(WeightsError, match="not a readable file with one tensor"):
        read_embeddings(tmp_path / "code.pt")
    with pytest.raises(ModelNotFoundError):
        read_embeddings(tmp_path / "missing.pt")
