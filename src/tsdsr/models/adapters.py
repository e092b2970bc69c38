"""LoRA adapters on a shared frozen base, selected by name, and module copies that share their tensors."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import TypeVar

import torch
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from tsdsr.errors import WeightsError

LORA_A, LORA_B = ".lora_A.weight", ".lora_B.weight"
M = TypeVar("M", bound=nn.Module)


def share_tensors(model: M) -> M:
    """Copy a module tree without copying its parameters and buffers.

    Adapters added to one tree do not affect the other. Two roles can therefore share one frozen base, each with its
    own active adapter and its own gradients.

    Args:
        model (nn.Module): a module without adapters.
    """
    kept = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return copy.deepcopy(model, memo=kept)


def new_lora(model: nn.Module, targets: Sequence[str], rank: int, adapter: str, generator: torch.Generator) -> None:
    """Add a new LoRA adapter: A is Gaussian with standard deviation 1 / rank, B is zero, alpha equals the rank.

    The adapter is float32 for every dtype of the base, because small updates would be lost to rounding.

    Args:
        model (nn.Module): base model; this call freezes it.
        targets (sequence of str): suffixes of module names.
        rank (int): rank of the update.
        adapter (str): name of the adapter.
        generator (torch.Generator): CPU generator that draws A.

    Raises:
        WeightsError: no module matches.
    """
    model.requires_grad_(False)
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(targets), init_lora_weights="gaussian")
    try:
        _inject(model, config, adapter)
    except ValueError as error:
        raise WeightsError(f"no module of {type(model).__name__} is called {', '.join(targets)}") from error
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if f".lora_A.{adapter}." in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / rank)
    _in_float32(model, adapter)


def attach_lora(model: nn.Module, state: Mapping[str, Tensor], adapter: str) -> None:
    """Add a LoRA adapter with the given weights, in float32; alpha equals the rank.

    Args:
        model (nn.Module): base model.
        state (mapping): ``<module>.lora_A.weight`` and ``<module>.lora_B.weight``.
        adapter (str): name of the adapter.

    Raises:
        WeightsError: a module does not exist in the model, cannot carry LoRA, or has another shape.
    """
    ranks = {key.removesuffix(LORA_A): value.shape[0] for key, value in state.items() if key.endswith(LORA_A)}
    _check_fit(model, state, ranks)
    rank = max(ranks.values())
    other = {f"^{name}$": r for name, r in ranks.items() if r != rank}
    config = LoraConfig(
        r=rank, lora_alpha=rank, target_modules=sorted(ranks), rank_pattern=other, alpha_pattern=dict(other)
    )
    _inject(model, config, adapter)
    _in_float32(model, adapter)
    result = set_peft_model_state_dict(model, dict(state), adapter)
    if result.unexpected_keys:
        raise WeightsError(f"the LoRA does not fit {type(model).__name__}: {result.unexpected_keys[0]!r} has no place")


def _inject(model: nn.Module, config: LoraConfig, adapter: str) -> None:
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():  # peft draws from the global generator
        warnings.filterwarnings("ignore", message="Already found a `peft_config`")  # several adapters are intended
        inject_adapter_in_model(config, model, adapter)


def _in_float32(model: nn.Module, adapter: str) -> None:
    for name, parameter in model.named_parameters():
        if ".lora_" in name and f".{adapter}." in name:
            parameter.data = parameter.data.float()


def use_adapter(model: nn.Module, adapter: str | None, trainable: Collection[str] = ()) -> None:
    """Activate one adapter, or none to run the base model alone.

    Args:
        model (nn.Module): a model with adapters.
        adapter (str | None): name of the adapter to activate.
        trainable (collection of str): adapters that receive gradients when active; all others are frozen.
    """
    for layer in model.modules():
        if not isinstance(layer, BaseTunerLayer):
            continue
        known = adapter is not None and any(adapter in getattr(layer, names) for names in layer.adapter_layer_names)
        if not known:  # the layer has no such adapter and runs as the base
            layer.enable_adapters(False)
            continue
        layer.enable_adapters(True)
        layer.set_adapter(adapter, inference_mode=adapter not in trainable)


def adapter_state(model: nn.Module, adapter: str) -> dict[str, Tensor]:
    """Return an adapter's ``<module>.lora_A.weight`` and ``<module>.lora_B.weight``, detached, on the CPU."""
    state = get_peft_model_state_dict(model, adapter_name=adapter)
    return {key: value.detach().cpu().contiguous() for key, value in state.items()}


def _check_fit(model: nn.Module, state: Mapping[str, Tensor], ranks: Mapping[str, int]) -> None:
    """Raise unless every named module exists and its weight has the shape of ``B A``."""
    modules = dict(model.named_modules())
    missing = sorted(set(ranks) - set(modules))
    if missing:
        raise WeightsError(
            f"the LoRA does not fit {type(model).__name__}: {len(missing)} of {len(ranks)} modules do not exist, "
            f"e.g. {missing[0]!r}; is this the right base model?"
        )
    for name in ranks:
        module = modules[name]
        weight = getattr(module.get_base_layer() if isinstance(module, BaseTunerLayer) else module, "weight", None)
        wanted = (state[name + LORA_B].shape[0], *state[name + LORA_A].shape[1:])
        found = tuple(weight.shape) if isinstance(weight, Tensor) else type(module).__name__
        if found != wanted:
            raise WeightsError(f"the LoRA does not fit {type(model).__name__}: {name!r} is {found}, not {wanted}")
