"""The mean of the weights of two pipelines, from Python and as ``tsdsr train average``."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.cli.command import run
from tests.conftest import tiny_mini
from tsdsr.errors import InvalidInputError
from tsdsr.models.conditioning import Conditioning
from tsdsr.models.fixed_prompt import FixedPrompt
from tsdsr.optimize.fold import fold
from tsdsr.pipeline import averaging
from tsdsr.pipeline.averaging import average_pipelines
from tsdsr.pipeline.convert import save_pipeline
from tsdsr.pipeline.diffusers_loading import load_diffusers_pipeline
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline


@pytest.fixture
def before(mini_pipe: OneStepSRPipeline, tmp_path: Path) -> Path:
    save_pipeline(mini_pipe, tmp_path / "before", torch.float32)
    return tmp_path / "before"


@pytest.fixture
def after(mini_pipe: OneStepSRPipeline, before: Path, tmp_path: Path) -> Path:
    """What another training would have made of ``before``."""
    torch.manual_seed(1)
    mini_pipe.register_modules(denoiser=tiny_mini())
    save_pipeline(mini_pipe, tmp_path / "after", torch.float32)
    return tmp_path / "after"


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = load_diffusers_pipeline(folder, "cpu", "fp32").denoiser.state_dict()
    return state


def test_every_weight_is_the_mean_with_the_share_of_the_second(before: Path, after: Path, tmp_path: Path) -> None:
    a, b = weights(before), weights(after)
    mixed = average_pipelines(before, after, 0.25)
    found = mixed.denoiser.state_dict()
    assert any(not torch.equal(a[key], b[key]) for key in a)
    for key in a:
        torch.testing.assert_close(found[key], 0.75 * a[key] + 0.25 * b[key])
    code, output = run("train", "average", before, after, "--share", 0.25, "-o", tmp_path / "mean")
    assert (code, output) == (0, f"{tmp_path / 'mean'}: ready for 'tsdsr upscale --model {tmp_path / 'mean'}'\n")
    for key, stored in weights(tmp_path / "mean").items():
        torch.testing.assert_close(stored, found[key].half().float(), rtol=0, atol=0)


def test_models_that_differ_in_more_than_their_weights_are_refused(
    before: Path, mini_pipe: OneStepSRPipeline, sd3_pipe: OneStepSRPipeline, tmp_path: Path
) -> None:
    save_pipeline(sd3_pipe, tmp_path / "sd3")
    code, output = run("train", "average", before, tmp_path / "sd3", "-o", tmp_path / "mean")
    assert (code, output) == (
        2,
        f"error: {before} and {tmp_path / 'sd3'}: the base models differ, 'mini' and 'sd3'\n",
    )
    with pytest.raises(InvalidInputError, match="denoiser has other settings in the second model: channels"):
        average_pipelines(before, "mini")
    mini_pipe.register_modules(prompt=FixedPrompt.from_conditioning(Conditioning(labels=torch.tensor([1]))))
    save_pipeline(mini_pipe, tmp_path / "prompted")
    with pytest.raises(InvalidInputError, match="the prompts differ"):
        average_pipelines(before, tmp_path / "prompted")
    assert not (tmp_path / "mean").exists()


def test_folded_models_are_refused(mini_pipe: OneStepSRPipeline, before: Path, tmp_path: Path) -> None:
    """What folding stores is no linear function of the weights: the mean would not be that of the models."""
    fold(mini_pipe)
    save_pipeline(mini_pipe, tmp_path / "folded")
    for first, second in ((tmp_path / "folded", before), (before, tmp_path / "folded")):
        with pytest.raises(InvalidInputError, match="folded: is folded; average the models before folding"):
            average_pipelines(first, second)


def test_models_that_differ_are_refused_before_weights_are_read(
    before: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(averaging, "read_pipeline", None)
    with pytest.raises(InvalidInputError, match="denoiser has other settings in the second model"):
        average_pipelines(before, "mini")


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_lies_between_none_and_all(before: Path, share: float) -> None:
    with pytest.raises(InvalidInputError, match="share must lie between 0 and 1"):
        average_pipelines(before, before, share)
