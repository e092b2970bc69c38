"""The mean of the weights of two pipelines of one kind, for example before and after fine-tuning.

Source: Wortsman et al., "Robust fine-tuning of zero-shot models" (2022).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from tsdsr.errors import InvalidInputError
from tsdsr.files import StrPath
from tsdsr.models.folded_parts import FoldedNetwork
from tsdsr.models.network_folders import full_config, load_part
from tsdsr.pipeline.diffusers_loading import check_pipeline_folder, read_pipeline
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline
from tsdsr.pipeline.model_files import resolve_model

_AVERAGED = ("denoiser", "vae")
"""Parts of a pipeline whose weights are averaged."""


def average_pipelines(first: StrPath, second: StrPath, share: float = 0.5) -> OneStepSRPipeline:
    """Average denoiser and autoencoder of two pipelines, weight by weight.

    The mean keeps what both have learned only if one was trained from the other, or both from the same third model.

    Args:
        first (str | PathLike): "mini", a folder or a hub ID.
        second (str | PathLike): another model with the same networks and the same prompt.
        share (float): share of the second in the mean, in [0, 1].

    Returns:
        OneStepSRPipeline: in float32 on the CPU, with the configuration of the first.

    Raises:
        InvalidInputError: ``share`` lies outside its range, a model is folded, or networks or prompts differ.
        ModelNotFoundError, ModelError, WeightsError, OutOfMemoryError: see
            :func:`~tsdsr.pipeline.diffusers_loading.load_diffusers_pipeline`.
    """
    require_share(share)
    folders = [Path(resolve_model(model)) for model in (first, second)]
    _require_alike(folders[0], folders[1], f"{first} and {second}")
    pipe, other = (read_pipeline(folder, torch.float32) for folder in folders)
    for name in _AVERAGED:
        _mix_in(getattr(pipe, name), getattr(other, name), share)
    return pipe


def require_share(share: float) -> None:
    """Raise InvalidInputError unless ``share`` is a number from 0 to 1."""
    if not 0 <= share <= 1:  # nor for NaN
        raise InvalidInputError(f"share must lie between 0 and 1, got {share}")


def _require_alike(first: Path, second: Path, both: str) -> None:
    """Check that two pipelines differ in the weights of their networks only. Of the weights, none are read.

    Args:
        first, second (Path): their folders.
        both (str): their names, for messages.
    """
    (spec, classes), (other, others) = (check_pipeline_folder(folder) for folder in (first, second))
    if spec.name != other.name:
        raise InvalidInputError(f"{both}: the base models differ, {spec.name!r} and {other.name!r}")
    for folder, denoiser in ((first, classes["denoiser"]), (second, others["denoiser"])):
        if issubclass(denoiser, FoldedNetwork):
            # What folding stores is no linear function of the weights.
            raise InvalidInputError(f"{folder}: is folded; average the models before folding, and fold the mean")
    for part in _AVERAGED:
        kept = [
            {key: value for key, value in full_config(classes[part], folder / part).items() if not key.startswith("_")}
            for folder in (first, second)
        ]
        different = [key for key in sorted(kept[0].keys() | kept[1].keys()) if kept[0].get(key) != kept[1].get(key)]
        if different:
            raise InvalidInputError(f"{both}: {part} has other settings in the second model: {', '.join(different)}")
    prompts = [load_part(classes["prompt"], folder / "prompt").state_dict() for folder in (first, second)]
    if prompts[0].keys() != prompts[1].keys() or not all(map(torch.equal, prompts[0].values(), prompts[1].values())):
        raise InvalidInputError(f"{both}: the prompts differ; a mean is for models with the same prompt")


@torch.no_grad()
def _mix_in(network: nn.Module, other: nn.Module, share: float) -> None:
    """Replace the values of ``network`` by the mean, in place; whole numbers stay."""
    values = other.state_dict()
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            value.lerp_(values[name], share)
