"""Memory of a run's weights, computed without allocating them. Activations are not included."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from tsdsr.errors import ConfigError, WeightsError
from tsdsr.models.adapters import new_lora, train_adapters
from tsdsr.models.zoo import ModelSpec, get_spec
from tsdsr.training.build import DTYPES, new_network
from tsdsr.training.config import RunConfig, StudentConfig
from tsdsr.training.networks import Parts, build_networks
from tsdsr.training.provenance import TEACHER

_BYTES = {"weights": 4, "gradients": 4, "Adam's moments": 8, "average": 4}
"""Bytes per trained weight. Only student and teacher have a moving average."""


def estimate_memory(config: RunConfig) -> Iterator[str]:
    """Describe the memory of weights, gradients, moments and averages.

    Args:
        config (RunConfig): settings of a student or a teacher.

    Yields:
        str: one line each for the frozen weights, each trained role, and the sum, in GB of 1e9 bytes.
    """
    modules, roles = networks_without_storage(config)
    every = {id(p): p for module in modules for p in module.parameters()}
    frozen = [p for p in every.values() if not p.requires_grad]
    total = sum(p.numel() * p.element_size() for p in frozen)
    yield f"frozen weights, shared by the roles: {_millions(frozen)}, {total / 1e9:.2f} GB"
    for role, trained in roles.items():
        held = {name: size for name, size in _BYTES.items() if name != "average" or role != "fake"}
        size = sum(p.numel() for p in trained) * sum(held.values())
        total += size
        yield f"{role}: {_millions(trained)} trained, {size / 1e9:.2f} GB for {', '.join(held)}"
    yield f"together {total / 1e9:.2f} GB; activations come on top"


def networks_without_storage(config: RunConfig) -> tuple[list[nn.Module], dict[str, list[nn.Parameter]]]:
    """Build all networks of a run on the meta device, to check the network settings without loading weights.

    Returns:
        tuple: all modules, and the trained weights by role.

    Raises:
        ConfigError: ``networks.config`` or a LoRA target does not fit the network.
    """
    build = _student if isinstance(config, StudentConfig) else _teacher
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of layers without elements; what does not work raises
            return build(config, get_spec(config.networks.model))
    except (WeightsError, TypeError, ValueError, LookupError, RuntimeError, ArithmeticError) as error:
        settings = config.networks
        name = "config" if settings.lora_rank is None else "fake_targets"
        raise ConfigError(
            f"networks.{name}={getattr(settings, name)!r}: {settings.model} cannot be built with it ({error})"
        ) from error


def _student(config: RunConfig, spec: ModelSpec) -> tuple[list[nn.Module], dict[str, list[nn.Parameter]]]:
    assert isinstance(config, StudentConfig)
    teacher = new_network(spec, config) if config.networks.lora_rank is None else None
    parts = Parts(_base(config, spec), spec.make_autoencoder(), teacher)
    networks = build_networks(parts, spec, config.networks, 0, config.needs_scores)
    modules = [networks.student, *filter(None, [networks.scores]), networks.vae]
    return modules, {role: list(trained.values()) for role, trained in networks.trained().items()}


def _teacher(config: RunConfig, spec: ModelSpec) -> tuple[list[nn.Module], dict[str, list[nn.Parameter]]]:
    network = _base(config, spec)
    if config.networks.lora_rank is not None:
        new_lora(network, spec.lora_targets, config.networks.lora_rank, TEACHER, torch.Generator())
        train_adapters(network, {TEACHER})
    trained = [p for p in network.parameters() if p.requires_grad]
    return [network, spec.make_autoencoder().requires_grad_(False)], {TEACHER: trained}


def _base(config: RunConfig, spec: ModelSpec) -> nn.Module:
    # nn.Module's own `to`, because the one of diffusers warns about casting a loaded model.
    network: nn.Module = nn.Module.to(new_network(spec, config), dtype=DTYPES[config.networks.base_precision])
    return network


def _millions(parameters: Sequence[Tensor]) -> str:
    return f"{sum(p.numel() for p in parameters) / 1e6:.1f} M"
