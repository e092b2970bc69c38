"""Tiny base models as diffusers folders, with the real classes of their networks and text encoders."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel

from tests.conftest import tiny_flux2, tiny_flux2_vae, tiny_vae
from tests.models.text_models import write_flux2_text, write_sd3_text


def write_sd3(folder: Path) -> Path:
    """Write a base model of the kind of SD3 and return its folder."""
    torch.manual_seed(0)
    SD3Transformer2DModel(
        sample_size=32, patch_size=2, in_channels=16, out_channels=16, num_layers=2, attention_head_dim=8,
        num_attention_heads=4, joint_attention_dim=48, caption_projection_dim=32, pooled_projection_dim=32,
        pos_embed_max_size=64,
    ).save_pretrained(folder / "transformer")  # fmt: skip
    tiny_vae(16).save_pretrained(folder / "vae")
    FlowMatchEulerDiscreteScheduler(shift=3.0).save_pretrained(folder / "scheduler")
    write_sd3_text(folder)
    return folder


def write_klein(folder: Path) -> Path:
    """Write a base model of the kind of FLUX.2 klein and return its folder."""
    write_flux2_text(folder)
    tiny_flux2().save_pretrained(folder / "transformer")
    tiny_flux2_vae().save_pretrained(folder / "vae")
    return folder
