"""Student, teacher and fake network of `mini` for the pictures of the documentation, and latents to show them on."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from panels import photograph
from safetensors.torch import load_file, save_file
from torch import Tensor

from tsdsr.data.datasets import CropSettings, PairDataset, PairSettings
from tsdsr.data.first_order import FirstOrderDegradation
from tsdsr.data.sources import open_source
from tsdsr.diffusion.losses import Predictions, WalkPoint, fake_loss
from tsdsr.diffusion.trajectory import paired_walk
from tsdsr.models.conditioning import Conditioning
from tsdsr.models.denoiser import Denoiser, as_denoiser, restore
from tsdsr.models.latents import decode_latents, encode_images
from tsdsr.models.zoo import MINI
from tsdsr.pipeline.model_files import resolve_model
from tsdsr.resize import upsample_bicubic
from tsdsr.training.build import load_network
from tsdsr.training.prompts import LabelPrompts

EDGE = 128
WINDOWS = (
    ("chelsea", 110, 50),
    ("astronaut", 160, 60),
    ("astronaut", 100, 290),
    ("coffee", 180, 60),
    ("rocket", 260, 230),
    ("grass", 96, 64),
)
"""Photographs of scikit-image with the left and top edges of a window."""

DEGRADATION = FirstOrderDegradation(
    blur_prob=1, blur_sigma=(1.0, 2.0), noise_prob=1, noise_sigma=(1, 5), jpeg_prob=1, jpeg_quality=(70, 95)
)


@dataclass
class Roles:
    """The networks by role; ``fake`` is the teacher itself until it is trained."""

    student: Denoiser
    teacher: Denoiser
    fake: Denoiser
    teacher_network: Any

    @classmethod
    def load(cls, teacher: Path, student: str) -> Roles:
        network = load_network(teacher, MINI, "teacher").requires_grad_(False)
        pupil = load_network(resolve_model(student), MINI, "denoiser").requires_grad_(False)
        return cls(as_denoiser(pupil), as_denoiser(network), as_denoiser(network), network)

    def restore(self, z_lq: Tensor) -> Tensor:
        """Take the student's single step."""
        return restore(self.student, MINI.process, z_lq, MINI.timestep, LabelPrompts().fixed())

    def predict(self, z_hat_t: Tensor, z_hq_t: Tensor, t: Tensor) -> Predictions:
        """Ask teacher and fake network without guidance, as `mini`'s recipes do."""
        teacher_hat, teacher_hq = self.teacher(torch.cat([z_hat_t, z_hq_t]), t.repeat(2), prompt(2 * len(t))).chunk(2)
        return Predictions(teacher_hat, self.fake(z_hat_t, t, prompt(len(t))), teacher_hq)

    def walk(self, z_hat: Tensor, z_hq: Tensor, noise: Tensor, times: Tensor) -> list[WalkPoint]:
        """Walk from one noise; ``times`` has the shape (N, B)."""
        return list(paired_walk(MINI.process, self.predict, z_hat, z_hq, noise, times))


def prompt(count: int) -> Conditioning:
    return LabelPrompts().of([""] * count)


def trained_fake(roles: Roles, photos: Sequence[str], steps: int, stored: Path) -> Denoiser:
    """Train a copy of the teacher on the student's latents of photographs (eq. 9), or load it if that was done."""
    network = copy.deepcopy(roles.teacher_network).requires_grad_(True)
    if stored.exists():
        network.load_state_dict(load_file(stored))
        return as_denoiser(network.requires_grad_(False))
    settings = PairSettings(crops=CropSettings(size=EDGE), degradation=DEGRADATION, other_scale_prob=0)
    pairs = PairDataset([open_source(source) for source in photos], 4 * steps, settings, seed=1)
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-4, weight_decay=0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps, eta_min=1e-5)
    generator = torch.Generator().manual_seed(1)
    vae, losses = MINI.make_autoencoder(), list[float]()
    for step in range(steps):
        x_lq = torch.stack([pairs[4 * step + i][0] for i in range(4)])
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            z_hat = roles.restore(encode_images(vae, x_lq)).float()
        noise = torch.randn(z_hat.shape, generator=generator)
        t = MINI.process.time_at(torch.randint(50, 1000, (4,), generator=generator))
        with torch.autocast("cpu", torch.bfloat16):
            prediction = as_denoiser(network)(MINI.process.add_noise(z_hat, noise, t), t, prompt(4))
        loss = fake_loss(MINI.process, prediction, z_hat, noise, t)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
        if (step + 1) % 50 == 0:
            print(f"fake: step {step + 1}, loss {np.mean(losses[-50:]):.3f}", flush=True)
    save_file(network.state_dict(), stored)
    return as_denoiser(network.requires_grad_(False))


def latents(roles: Roles) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``z_lq``, ``z_hat`` and ``z_hq`` of all windows."""
    vae, rng = MINI.make_autoencoder(), np.random.default_rng(0)
    truth = torch.stack([photograph(name, left, top, EDGE, EDGE) for name, left, top in WINDOWS])
    small = torch.stack([DEGRADATION(x, (EDGE // 4, EDGE // 4), rng) for x in truth])
    z_lq = encode_images(vae, upsample_bicubic(small, (EDGE, EDGE)))
    return z_lq, roles.restore(z_lq), encode_images(vae, truth)


def decoded(z: Tensor) -> Tensor:
    """Decode latents to images; `mini`'s autoencoder is linear, so this also shows differences of latents."""
    return decode_latents(MINI.make_autoencoder(), z)
