"""Several LoRA adapters on one frozen base, selected by name."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from tsdsr.errors import WeightsError

LORA_A, LORA_B = ".lora_A.weight", ".lora_B.weight"


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
        raise WeightsError(
            f"the LoRA does not fit {type(model).__name__}: it has no module for {result.unexpected_keys[0]!r}"
        )


def _inject(model: nn.Module, config: LoraConfig, adapter: str) -> None:
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():  # peft draws from the global generator
        warnings.filterwarnings("ignore", message="Already found a `peft_config`")  # several adapters are intended
        inject_adapter_in_model(config, model, adapter)


def _in_float32(model: nn.Module, adapter: str) -> None:
    for name, parameter in model.named_parameters():
        if belongs_to(name, adapter):
            parameter.data = parameter.data.float()


def belongs_to(name: str, adapter: str) -> bool:
    """Whether a parameter of this name is one of an adapter's."""
    return ".lora_" in name and f".{adapter}." in name


def use_adapter(model: nn.Module, adapter: str | None) -> None:
    """Activate one adapter, or none to run the base model alone. Which weights are trained does not change.

    Args:
        model (nn.Module): a model with adapters; without any, nothing happens.
        adapter (str | None): name of the adapter to activate.
    """
    for layer in model.modules():
        if isinstance(layer, BaseTunerLayer):
            # Peft's own methods for this also freeze the other adapters, which a sharded module does not allow at any
            # time, and take longer.
            layer._disable_adapters = not _carries(layer, adapter)  # without the adapter it runs as the base
            if adapter is not None:
                layer._active_adapter = [adapter]


def train_adapters(model: nn.Module, adapters: Collection[str]) -> None:
    """Let these adapters receive gradients whenever they are active, and freeze all other weights."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(any(belongs_to(name, adapter) for adapter in adapters))


def activity(model: nn.Module, adapter: str) -> Callable[[], bool]:
    """Return a function that says whether an adapter is the active one."""
    layer = next(m for m in model.modules() if isinstance(m, BaseTunerLayer) and _carries(m, adapter))
    return lambda: not layer.disable_adapters and layer.active_adapters == [adapter]


def _carries(layer: BaseTunerLayer, adapter: str | None) -> bool:
    return adapter is not None and any(adapter in getattr(layer, names) for names in layer.adapter_layer_names)


def adapter_state(
    model: nn.Module, adapter: str, whole: Callable[[Tensor], Tensor] = Tensor.detach
) -> dict[str, Tensor]:
    """Return an adapter's ``<module>.lora_A.weight`` and ``<module>.lora_B.weight``, on the CPU, not copied there.

    Args:
        model (nn.Module): a model with adapters.
        adapter (str): name of the adapter.
        whole (callable): gathers a tensor, if the model is sharded.
    """
    state = get_peft_model_state_dict(model, adapter_name=adapter)
    return {key: whole(value).detach().cpu().contiguous() for key, value in state.items()}


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
