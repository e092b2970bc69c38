"""Memory of a run's weights, computed without allocating them. Activations are not included."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from tsdsr.errors import ConfigError, WeightsError
from tsdsr.models.adapters import new_lora, train_adapters
from tsdsr.models.zoo import ModelSpec, get_spec
from tsdsr.training.build import DTYPES, new_network
from tsdsr.training.config import RunConfig, StudentConfig
from tsdsr.training.networks import FAKE, Parts, build_networks, enable_gradient_checkpointing
from tsdsr.training.provenance import TEACHER

_BYTES = {"weights": 4, "gradients": 4, "Adam's moments": 8, "average": 4}
"""Bytes per trained weight. Only student and teacher have a moving average."""


@dataclass(frozen=True)
class WeightMemory:
    """Memory of a run's weights and of what belongs to them, in bytes.

    Attributes:
        frozen (int): weights of the base, shared by the roles, and of the autoencoder.
        trained (mapping): role → its weights, gradients, moments and average.
        gathered (int): what a device with a part of all weights holds whole while a network runs: the largest two
            blocks, one of which is fetched ahead, and the layers outside of blocks.
    """

    frozen: int
    trained: dict[str, int]
    gathered: int

    @property
    def whole(self) -> int:
        """Bytes of one device that holds everything."""
        return self.frozen + sum(self.trained.values())

    def sharded(self, devices: int) -> int:
        """Bytes of one of several devices that hold a part each."""
        return -(-self.whole // devices) + self.gathered


def weight_memory(modules: Sequence[nn.Module], trained: Mapping[str, Sequence[Tensor]]) -> WeightMemory:
    """Add up the memory of networks; see :func:`networks_without_storage` for the arguments."""
    every = {id(p): p for module in modules for p in module.parameters()}
    frozen = sum(_bytes(p) for p in every.values() if not p.requires_grad)
    sizes = {role: sum(p.numel() for p in found) * sum(_held(role).values()) for role, found in trained.items()}
    networks = [part for module in modules for part in module.modules() if isinstance(part, ModelMixin)]
    return WeightMemory(frozen, sizes, max(map(_gathered, networks), default=0))


def _gathered(network: nn.Module) -> int:
    lists = [module for module in network.modules() if isinstance(module, nn.ModuleList)]
    inner = {id(part) for module in lists for part in module.modules() if part is not module}
    blocks = [block for module in lists if id(module) not in inner for block in module]
    sizes = sorted((sum(map(_bytes, block.parameters())) for block in blocks), reverse=True)
    return sum(map(_bytes, network.parameters())) - sum(sizes[2:])


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _held(role: str) -> dict[str, int]:
    return {name: size for name, size in _BYTES.items() if name != "average" or role != FAKE}


def estimate_memory(config: RunConfig) -> Iterator[str]:
    """Describe the memory of weights, gradients, moments and averages.

    Args:
        config (RunConfig): settings of a student or a teacher.

    Yields:
        str: one line each for the frozen weights, each trained role, and the sum, in GB of 1e9 bytes.
    """
    modules, roles = networks_without_storage(config)
    memory = weight_memory(modules, roles)
    frozen = {id(p): p for module in modules for p in module.parameters() if not p.requires_grad}
    yield f"frozen weights, shared by the roles: {_millions(list(frozen.values()))}, {memory.frozen / 1e9:.2f} GB"
    for role, size in memory.trained.items():
        yield f"{role}: {_millions(roles[role])} trained, {size / 1e9:.2f} GB for {', '.join(_held(role))}"
    yield f"together {memory.whole / 1e9:.2f} GB; activations come on top"


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
        if config.networks.gradient_checkpointing:
            enable_gradient_checkpointing(network)
    trained = [p for p in network.parameters() if p.requires_grad]
    return [network, spec.make_autoencoder().requires_grad_(False)], {TEACHER: trained}


def _base(config: RunConfig, spec: ModelSpec) -> nn.Module:
    # nn.Module's own `to`, because the one of diffusers warns about casting a loaded model.
    network: nn.Module = nn.Module.to(new_network(spec, config), dtype=DTYPES[config.networks.base_precision])
    return network


def _millions(parameters: Sequence[Tensor]) -> str:
    return f"{sum(p.numel() for p in parameters) / 1e6:.1f} M"
