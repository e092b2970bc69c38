"""Recipes for FLUX.2-klein-base-4B, whose weights are under Apache-2.0 and not distilled."""

from __future__ import annotations

import dataclasses

from tsdsr.recipes.ablations import with_tsd
from tsdsr.recipes.stable_diffusion import one_at_a_time, sd3_paper, sd3_teacher
from tsdsr.training.config import ATTENTION, NetworkSettings, StudentConfig, TeacherConfig

_MODEL = "flux2-klein"

FAKE_TARGETS = (
    *ATTENTION,
    "to_qkv_mlp_proj",
    *(f"single_transformer_blocks.{i}.attn.to_out" for i in range(20)),
)
"""The attention projections of both kinds of blocks. In blocks of one stream they are one layer with the MLP's."""


def flux2_klein() -> StudentConfig:
    """TSD-SR on FLUX.2-klein-base-4B with `sd3_paper`'s settings; not run to its end, so no scores are expected yet.

    Differences from the paper: guidance is 4 instead of 7.5, because 4 is this base model's default for sampling in
    50 steps, as 7 is SD3's. The base model is not distilled, so guidance uses the empty prompt as usual. The fake
    network's LoRA also covers the single-stream blocks, which SD3 does not have.
    """
    config = sd3_paper()
    guided = with_tsd(guidance=4.0)
    networks = NetworkSettings(
        model=_MODEL, lora_rank=64, fake_targets=FAKE_TARGETS, base_precision="bf16", gradient_checkpointing=True
    )
    return dataclasses.replace(config, networks=networks, phases=tuple(guided(phase) for phase in config.phases))


def flux2_klein_24gb() -> StudentConfig:
    """`flux2_klein` for one GPU with 24 GB: micro-batches of 1, one prompt and one latent per pass, the same result.

    ``--dry-run --gpus 1`` counts 14.8 GB of memory: 8.19 for the frozen weights that all networks share (transformer
    in bf16, autoencoder), 3.30 for the LoRA of student and fake network with gradients, moments and average, and
    3.33 for activations at 512x512.
    """
    return one_at_a_time(flux2_klein())


def flux2_klein_teacher() -> TeacherConfig:
    """`sd3_teacher` for FLUX.2-klein-base-4B: a LoRA of rank 64, with logit-normal times.

    On a GPU with 24 GB, add ``--set accumulation=16``.
    """
    config = sd3_teacher()
    return dataclasses.replace(config, networks=dataclasses.replace(config.networks, model=_MODEL))
