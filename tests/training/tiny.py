"""Tiny runs for training tests."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.conftest import (
    randomise,
    sd2_prompt,
    sd3_prompt,
    tiny_flux2,
    tiny_flux2_vae,
    tiny_mmdit,
    tiny_unet,
    tiny_vae,
)
from tsdsr.data.datasets import CropSettings, PairSettings
from tsdsr.data.shard_index import open_shards
from tsdsr.data.shards import write_shards
from tsdsr.data.sources import Source, list_photos
from tsdsr.models.conditioning import Conditioning
from tsdsr.models.mini import MiniUNet
from tsdsr.models.zoo import MINI, get_spec
from tsdsr.recipes.flux2 import FAKE_TARGETS
from tsdsr.training.build import DTYPES, split_sources
from tsdsr.training.config import NetworkSettings, Phase, StudentConfig, TSDSettings
from tsdsr.training.networks import Networks, Parts, build_networks
from tsdsr.training.run_log import make_accelerator
from tsdsr.training.samples import TrainingData
from tsdsr.training.student import StudentTrainer

NETWORK: dict[str, Any] = {"channels": [8, 16, 16], "encoder_blocks": [1, 1, 1], "decoder_blocks": [1, 1]}
TSD = TSDSettings(guidance=1.5, points=2, step_size=40, shift=10)
LORA = NetworkSettings(model="sd3", lora_rank=2)
FLUX2 = NetworkSettings(model="flux2-klein", lora_rank=2, fake_targets=FAKE_TARGETS)


def config(steps: int = 3, **changes: Any) -> StudentConfig:
    """Two phases: reconstruction, then TSD with a walk."""
    shared: dict[str, Any] = {"batch_size": 2, "l1_weight": 1.0, "fake_lr": (1e-3, 1e-3)}
    base = StudentConfig(
        phases=(
            Phase(steps=steps, lr=(2e-3, 1e-3), warmup=1, **shared),
            Phase(steps=steps, lr=(1e-3, 1e-4), perceptual_weight=0.5, perceptual_crop=16, tsd=TSD, **shared),
        ),
        networks=NetworkSettings(config=NETWORK),
        pairs=PairSettings(crops=CropSettings(size=32)),
        validation_share=0.3,
        validation_crop=64,
        ema_decay=0.9,
        log_every=1,
        validate_every=100,
        checkpoint_every=100,
        monitor_every=2,
    )
    return dataclasses.replace(base, **changes)


def distance(x_hat: Tensor, x_hq: Tensor) -> Tensor:
    """A stand-in for LPIPS that needs no weights."""
    return (x_hat.diff(dim=-1) - x_hq.diff(dim=-1)).square().mean()


def mini_networks(seed: int = 0, scores: bool = True) -> Networks:
    """A tiny `mini` with a teacher; every weight is random, so that gradients reach all of them."""
    torch.manual_seed(seed)
    student, teacher = MiniUNet(**NETWORK), randomise(MiniUNet(**NETWORK))
    parts = Parts(student, MINI.make_autoencoder(), teacher)
    return build_networks(parts, MINI, NetworkSettings(config=NETWORK), seed, scores)


def sd3_networks(settings: NetworkSettings = LORA, scores: bool = True) -> Networks:
    """A tiny SD3 with LoRA on student and fake."""
    return build_networks(Parts(tiny_mmdit(), tiny_vae(16)), get_spec("sd3"), settings, 0, scores)


def flux2_networks(settings: NetworkSettings = FLUX2, scores: bool = True) -> Networks:
    """A tiny FLUX.2 klein with LoRA on student and fake."""
    base = nn.Module.to(tiny_flux2(), DTYPES[settings.base_precision])
    return build_networks(Parts(base, tiny_flux2_vae()), get_spec("flux2-klein"), settings, 0, scores)


def sd2_networks(model: str) -> Networks:
    """A tiny SD2 with LoRA on student and fake."""
    settings = NetworkSettings(model=model, lora_rank=2)
    return build_networks(Parts(tiny_unet(), tiny_vae(4)), get_spec(model), settings, 0, scores=True)


class TinyPrompts:
    """Random text embeddings for the tiny SD3, or another prompt's.

    Args:
        fixed (Conditioning | None): the student's prompt; the others are made of it.
    """

    def __init__(self, fixed: Conditioning | None = None) -> None:
        self._fixed = fixed or sd3_prompt()

    def fixed(self) -> Conditioning:
        return self._fixed

    def null(self) -> Conditioning:
        return Conditioning(**{name: -tensor for name, tensor in self._fixed.tensors().items()})

    def of(self, texts: Sequence[str]) -> Conditioning:
        return Conditioning(**{k: 0.5 * v for k, v in self._fixed.expand(len(texts)).tensors().items()})


SD2_PROMPTS = TinyPrompts(sd2_prompt())


def data(photos: Path) -> TrainingData:
    """Photographs of a folder, or of shards in it, split as the trainer's command splits them."""
    packed = (photos / "index.json").exists()
    source = open_shards(photos, photos) if packed else Source("photos", tuple(list_photos(photos)))
    return TrainingData(*split_sources([source], 0.3))


def packed(photos: Path, out: Path, prompts: Path | None = None) -> Path:
    """The photographs of a folder in shards of three."""
    list(write_shards(list_photos(photos), out, photos, 3, prompts))
    return out


def trainer(photos: Path, out: Path, cfg: StudentConfig | None = None, **arguments: Any) -> StudentTrainer:
    cfg = cfg or config()
    networks = arguments.pop("networks", None) or mini_networks(cfg.seed)
    arguments.setdefault("accelerator", make_accelerator(out, "cpu"))
    found = arguments.pop("data", None) or data(photos)
    return StudentTrainer(cfg, networks, found, out, perceptual=distance, **arguments)


def sd3_config(**changes: Any) -> StudentConfig:
    """One step of everything for the tiny SD3."""
    phase = Phase(
        steps=2, batch_size=2, lr=(1e-3, 1e-3), fake_lr=(1e-3, 1e-3), perceptual_weight=1.0, latent_mse_weight=1.0,
        diverse_prompts=0.5, tsd=dataclasses.replace(TSD, guidance=7.5),
    )  # fmt: skip
    return config(phases=(phase,), networks=LORA, **changes)


def weights(t: StudentTrainer) -> dict[str, Tensor]:
    """Everything a run trains, the averaged weights too."""
    state = {f"{name}.{k}": v for name, role in t.roles.items() for k, v in role.named.items()}
    assert t.ema is not None
    state |= {f"ema.{i}": v for i, v in enumerate(t.ema.shadow_params)}
    return {k: copy.deepcopy(v.detach()) for k, v in state.items()}


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [k for k in a if not torch.equal(a[k], b[k])] == []
