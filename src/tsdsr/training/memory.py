"""How much memory the weights of a run take, by arithmetic; activations come on top."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from tsdsr.models.zoo import get_spec
from tsdsr.training.config import RunConfig, StudentConfig, TeacherConfig
from tsdsr.training.networks import STUDENT, Parts, build_networks
from tsdsr.training.setup import DTYPES

_TRAINED_BYTES = {"weights": 4, "gradients": 4, "Adam's moments": 8, "average": 4}


def estimate_memory(config: RunConfig) -> Iterator[str]:
    """Lines that say what is held in memory besides activations, from networks without storage.

    Args:
        config (RunConfig): of a student or a teacher.
    """
    spec = get_spec(config.networks.model)
    dtype = DTYPES[config.networks.base_precision]
    with torch.device("meta"):
        denoiser = spec.denoiser_class(**{**spec.denoiser_config, **config.networks.config})
        nn.Module.to(denoiser, dtype=dtype)
        vae = spec.make_autoencoder()
        if isinstance(config, TeacherConfig):
            yield _line("denoiser", denoiser.parameters())
            return
        full = config.networks.lora_rank is None
        teacher = spec.denoiser_class(**{**spec.denoiser_config, **config.networks.config}) if full else None
        assert isinstance(config, StudentConfig)
        networks = build_networks(Parts(denoiser, vae, teacher), spec, config.networks, 0, config.needs_scores)
    trained = [p for p in networks.student.parameters() if p.requires_grad]
    fake = [p for p in networks.scores.parameters() if p.requires_grad] if networks.scores else []
    every = {id(p): p for m in (networks.student, networks.scores, networks.vae) if m for p in m.parameters()}
    frozen = [p for p in every.values() if not p.requires_grad]
    yield _line("frozen weights, shared by the roles", frozen)
    total = _size(frozen)
    for role, parameters, parts in ((STUDENT, trained, 20), ("fake", fake, 16)):
        count = sum(p.numel() for p in parameters)
        total += count * parts
        what = ", ".join(name for name in _TRAINED_BYTES if role == STUDENT or name != "average")
        yield f"{role}: {count / 1e6:.1f} M trained, {count * parts / 1e9:.2f} GB for {what}"
    yield f"together {total / 1e9:.2f} GB; activations come on top"


def _size(parameters: Iterable[Tensor]) -> int:
    return sum(p.numel() * p.element_size() for p in parameters)


def _line(what: str, parameters: Iterable[Tensor]) -> str:
    kept = list(parameters)
    return f"{what}: {sum(p.numel() for p in kept) / 1e6:.1f} M, {_size(kept) / 1e9:.2f} GB"
