"""Folded networks: equality with the full ones, saving and loading, refusal of another time or prompt."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import SD3Transformer2DModel
from PIL import Image
from torch import Tensor, nn

from tests.conftest import (
    flux2_prompt,
    mini_prompt,
    randomise,
    reference_windows,
    sd2_prompt,
    sd3_prompt,
    tiny_flux2,
    tiny_mini,
    tiny_mmdit,
    tiny_unet,
)
from tsdsr.errors import InvalidInputError, ModelError
from tsdsr.models import folded_parts
from tsdsr.models.adapters import new_lora
from tsdsr.models.conditioning import Conditioning
from tsdsr.models.denoiser import as_denoiser
from tsdsr.models.folded import FoldedMini, FoldedMMDiT, FoldedUNet
from tsdsr.models.folded_flux2 import FoldedFlux2
from tsdsr.models.network_folders import load_part
from tsdsr.optimize.fold import Footprint, fold, fold_network
from tsdsr.pipeline.convert import convert_released, save_pipeline
from tsdsr.pipeline.diffusers_loading import load_diffusers_pipeline
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline
from tsdsr.pipeline.upstream import upscale_like_upstream


def lively(network: nn.Module) -> nn.Module:
    """Set weights large enough for every gate, scale and shift to have an effect."""
    return randomise(network, 0.15)


def changed(network: nn.Module, **changes: Any) -> Any:
    """Build a network of the same class with some settings changed."""
    settings = {key: value for key, value in network.config.items() if not key.startswith("_")}
    return type(network)(**{**settings, **changes}).eval()


def tiny_sd35() -> SD3Transformer2DModel:
    return changed(tiny_mmdit(), num_layers=3, dual_attention_layers=(0, 1), qk_norm="rms_norm")


def tiny_skipping_mini() -> nn.Module:
    return randomise(changed(tiny_mini(), learned_skip=True))


def distance(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference relative to the largest value."""
    return float((found - expected).abs().max() / expected.abs().max())


CASES = {
    "sd3": (tiny_mmdit, sd3_prompt, 16, FoldedMMDiT),
    "sd35": (tiny_sd35, sd3_prompt, 16, FoldedMMDiT),
    "sd35-large": (lambda: changed(tiny_mmdit(), qk_norm="rms_norm"), sd3_prompt, 16, FoldedMMDiT),
    "flux2": (tiny_flux2, flux2_prompt, 16, FoldedFlux2),
    "sd2": (tiny_unet, sd2_prompt, 4, FoldedUNet),
    "mini": (tiny_mini, mini_prompt, 48, FoldedMini),
    "mini with a fine level": (lambda: tiny_mini(fine_channels=8), mini_prompt, 48, FoldedMini),
    "mini with a skip": (tiny_skipping_mini, mini_prompt, 48, FoldedMini),
}
each_network = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
Case = tuple[Callable[[], nn.Module], Callable[[], Conditioning], int, type[nn.Module]]
TIME = 999.0


@each_network
@torch.no_grad()
def test_a_folded_network_gives_the_same_prediction(case: Case, tmp_path: Path) -> None:
    network, prompt, folded_class = lively(case[0]()), case[1](), case[3]
    z, t = torch.randn(3, case[2], 8, 16), torch.full((3,), TIME)
    expected = as_denoiser(network)(z, t, prompt)
    other_time = as_denoiser(network)(z, t - 300, prompt)
    before = Footprint.of(network)
    folded = fold_network(network, TIME, prompt)
    assert type(folded) is folded_class
    assert Footprint.of(folded).values < before.values
    assert distance(as_denoiser(folded)(z, t, prompt), expected) < 1e-5
    assert distance(other_time, expected) > 1e-2, "time must matter for this test to mean much"
    folded.save_pretrained(tmp_path)
    torch.testing.assert_close(
        as_denoiser(folded_class.from_pretrained(tmp_path))(z, t, prompt),
        as_denoiser(folded)(z, t, prompt),
        rtol=0,
        atol=0,
    )


@each_network
@torch.no_grad()
def test_folding_in_half_precision_adds_no_error(case: Case) -> None:
    """In bfloat16, the folded network is as close to the float32 result as the full one."""
    network, prompt = case[0](), case[1]()
    z, t = torch.randn(2, case[2], 8, 8), torch.full((2,), TIME)
    rounded = copy.deepcopy(network).bfloat16()
    exact = as_denoiser(copy.deepcopy(rounded).float())(z, t, prompt)
    unfolded = distance(as_denoiser(rounded)(z, t, prompt), exact)
    folded = fold_network(rounded, TIME, prompt)
    assert {tensor.dtype for tensor in folded.state_dict().values()} == {torch.bfloat16}
    assert distance(as_denoiser(folded)(z, t, prompt), exact) < 1.5 * unfolded + 1e-3


@each_network
def test_no_second_copy_of_the_weights_is_made(case: Case) -> None:
    network = case[0]()
    large = {p.untyped_storage().data_ptr() for p in network.parameters() if p.ndim > 1}
    folded = fold_network(network, TIME, case[1]())
    weights = [p for name, p in folded.named_parameters() if p.ndim > 1 and name.endswith("weight")]
    kept = [p.untyped_storage().data_ptr() in large for p in weights]
    assert kept
    assert all(kept)


@each_network
def test_another_time_or_prompt_is_refused(case: Case) -> None:
    network, prompt = case[0](), case[1]()
    denoiser = as_denoiser(fold_network(network, TIME, prompt))
    z, t = torch.randn(2, case[2], 8, 8), torch.full((2,), TIME)
    denoiser(z, t, prompt.expand(2).to("cpu", torch.bfloat16))  # the same prompt, rounded
    with pytest.raises(InvalidInputError, match=r"folded at time 999 and cannot run at \[500"):
        denoiser(z, torch.tensor([999.0, 500.0]), prompt)
    other = {k: v + 1 if v.dtype == torch.int64 else v.flip(-1) for k, v in prompt.tensors().items()}
    with pytest.raises(InvalidInputError, match="cannot take another"):
        denoiser(z, t, Conditioning(**other))
    with pytest.raises(InvalidInputError, match="cannot take another"):
        denoiser(z, t, Conditioning(labels=torch.zeros(1, dtype=torch.int64), prompt_embeds=torch.zeros(1, 3, 4)))


def test_a_prompt_is_compared_again_only_when_it_was_changed(
    sd3_pipe: OneStepSRPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold(sd3_pipe)
    calls: list[Conditioning] = []
    compute = folded_parts.prompt_signature
    monkeypatch.setattr(folded_parts, "prompt_signature", lambda given: calls.append(given) or compute(given))
    z = torch.rand(1, 16, 8, 8)
    for _ in range(3):
        sd3_pipe.denoise(z)
    assert len(calls) == 1
    sd3_pipe.prompt.prompt_embeds.mul_(2)
    with pytest.raises(InvalidInputError, match="cannot take another"):
        sd3_pipe.denoise(z)
    sd3_pipe.prompt.prompt_embeds.div_(2)
    with torch.inference_mode():
        sd3_pipe.denoise(z)
        given = sd3_pipe.prompt.conditioning().to("cpu", torch.float64)
        as_denoiser(sd3_pipe.denoiser)(z, torch.full((1,), 1000.0), given)
        given.prompt_embeds.zero_()  # type: ignore[union-attr]
        with pytest.raises(InvalidInputError, match="cannot take another"):
            as_denoiser(sd3_pipe.denoiser)(z, torch.full((1,), 1000.0), given)


@pytest.mark.parametrize("name", ["mini_pipe", "sd3_pipe", "sd21_pipe", "flux2_pipe"])
def test_a_folded_pipeline_is_saved_loaded_and_refused_by_training(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    pipe: OneStepSRPipeline = request.getfixturevalue(name)
    x = torch.rand(1, 3, 20, 24)
    expected = pipe(x, 2).images
    report = fold(pipe)
    assert report.after.values < report.before.values
    torch.testing.assert_close(pipe(x, 2).images, expected, rtol=0, atol=1e-4)
    save_pipeline(pipe, tmp_path / "folded", torch.float32)
    loaded = load_diffusers_pipeline(tmp_path / "folded", "cpu", "fp32")
    torch.testing.assert_close(loaded(x, 2).images, expected, rtol=0, atol=1e-4)
    with pytest.raises(InvalidInputError, match="already folded"):
        fold(loaded)
    with pytest.raises(ModelError, match="folded"):
        load_part(loaded.spec.denoiser_class, tmp_path / "folded" / "denoiser")


def test_models_that_cannot_be_folded_are_refused_with_a_reason(sd3_pipe: OneStepSRPipeline) -> None:
    new_lora(sd3_pipe.denoiser, ("to_q",), 2, "student", torch.Generator())
    with pytest.raises(InvalidInputError, match="merge"):
        fold(sd3_pipe)
    with pytest.raises(InvalidInputError, match="Linear cannot be folded"):
        fold_network(nn.Linear(2, 2), TIME, mini_prompt())
    one_kind = tiny_flux2()
    one_kind.single_transformer_blocks = nn.ModuleList()
    with pytest.raises(InvalidInputError, match="double-stream and single-stream blocks"):
        fold_network(one_kind, TIME, flux2_prompt())
    unet = changed(tiny_unet(), resnet_time_scale_shift="scale_shift")
    with pytest.raises(InvalidInputError, match=r"resnets\.0"):
        fold_network(unet, TIME, sd2_prompt())


@pytest.mark.parametrize("name", ["sq128", "small101x77", "big210x150"])
def test_the_released_codes_pictures_are_reproduced_folded(
    folded_reference: OneStepSRPipeline, reference: Path, name: str
) -> None:
    """Within the tolerance of the unfolded model in ``tests/pipeline/test_released.py``, before colour alignment."""
    source = Image.open(reference / "inference" / "inputs" / f"{name}.png")
    expected = np.asarray(Image.open(reference / "inference" / "nofix" / f"{name}.png"), dtype=int)
    error = np.abs(reference_windows(upscale_like_upstream(folded_reference, source, 4, "none")) - expected)
    assert (error <= 1).mean() >= 0.995, dict(zip(*np.unique(error, return_counts=True), strict=True))


@pytest.fixture(scope="module")
def folded_reference(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> OneStepSRPipeline:
    tiny, folder = reference / "tiny_sd3", tmp_path_factory.mktemp("folded") / "pipeline"
    pipe = convert_released(tiny, tiny / "lora", tiny / "emb")
    fold(pipe)
    save_pipeline(pipe, folder, torch.float32)
    return load_diffusers_pipeline(folder, "cpu", "fp32")
