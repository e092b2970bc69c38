"""The mean of the weights of two pipelines of one kind, for example before and after fine-tuning.

Source: Wortsman et al., "Robust fine-tuning of zero-shot models" (2022).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from tsdsr.errors import InvalidInputError
from tsdsr.files import StrPath
from tsdsr.pipeline.diffusers_loading import read_pipeline
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline
from tsdsr.pipeline.model_files import resolve_model


def average_pipelines(first: StrPath, second: StrPath, share: float = 0.5) -> OneStepSRPipeline:
    """Average denoiser and autoencoder of two pipelines, weight by weight.

    The mean keeps what both have learned only if one was trained from the other, or both from a third.

    Args:
        first, second (str | PathLike): "mini", folders or hub ids, of the same networks and the same prompt.
        share (float): share of the second in the mean, in [0, 1].

    Returns:
        OneStepSRPipeline: in float32 on the CPU, with the configuration of the first.

    Raises:
        InvalidInputError: ``share`` lies outside its range, or networks or prompts differ.
        ModelNotFoundError, ModelError, WeightsError, OutOfMemoryError: see
            :func:`~tsdsr.pipeline.diffusers_loading.load_diffusers_pipeline`.
    """
    require_share(share)
    pipe, other = (read_pipeline(resolve_model(model), torch.float32) for model in (first, second))
    both = f"{first} and {second}"
    if pipe.spec.name != other.spec.name:
        raise InvalidInputError(f"{both}: the base models differ, {pipe.spec.name!r} and {other.spec.name!r}")
    prompts = (part.prompt.state_dict() for part in (pipe, other))
    if not _equal(*prompts):
        raise InvalidInputError(f"{both}: the prompts differ; a mean is for models with the same prompt")
    for name in ("denoiser", "vae"):
        _require_alike(getattr(pipe, name), getattr(other, name), f"{both}: {name}")
        _mix_in(getattr(pipe, name), getattr(other, name), share)
    return pipe


def require_share(share: float) -> None:
    """Raise InvalidInputError unless ``share`` is a number from 0 to 1."""
    if not 0 <= share <= 1:  # nor for NaN
        raise InvalidInputError(f"share must lie between 0 and 1, got {share}")


def _equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def _require_alike(a: Any, b: Any, what: str) -> None:
    """Check that two networks have the same class and configuration."""
    if type(a) is not type(b):
        raise InvalidInputError(f"{what} is {type(a).__name__} in one and {type(b).__name__} in the other")
    kept = [{key: value for key, value in net.config.items() if not key.startswith("_")} for net in (a, b)]
    different = [key for key in sorted(kept[0].keys() | kept[1].keys()) if kept[0].get(key) != kept[1].get(key)]
    if different:
        raise InvalidInputError(f"{what} has other settings in the second model: {', '.join(different)}")


@torch.no_grad()
def _mix_in(network: nn.Module, other: nn.Module, share: float) -> None:
    """Replace the values of ``network`` by the mean, in place; whole numbers stay."""
    values = other.state_dict()
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            value.lerp_(values[name], share)
