"""Recipes for the full-size models. The paper gives settings and hours but no step counts; these are chosen here."""

from __future__ import annotations

import dataclasses
from typing import Any

from tsdsr.data.datasets import CropSettings, PairSettings
from tsdsr.data.degradation_presets import PRESETS
from tsdsr.recipes.ablations import with_tsd
from tsdsr.training.config import NetworkSettings, Phase, Schedule, StudentConfig, TeacherConfig, TSDSettings

_PAIRS = PairSettings(
    crops=CropSettings(size=512, shrink_prob=0.0, rotate=False),
    degradation=PRESETS["osediff"],
    other_scale_prob=0.0,
)
_FAKE_LR = (1e-6, 1e-6)


def sd3_paper() -> StudentConfig:
    """TSD-SR on SD3-medium as in section 4.1, tables 1 and 2: expect LPIPS .2743, DISTS .2104, NIQE 5.13 on RealSR.

    Rank 64, AdamW 5e-6 and 1e-6, batch 16, guidance 7.5, positions 50 to 950, the fixed prompt for the student. Phase
    1: LPIPS, latent MSE and TSD with one point. Phase 2: DASM with N = 4 and s = 50, no MSE, the weight of TSD rising
    from 1 to 2. Not in the paper but chosen here: the step counts, the warm-up, and the cosine of phase 2.
    """
    shared: dict[str, Any] = {"batch_size": 16, "fake_lr": _FAKE_LR, "perceptual_weight": 1.0}
    return StudentConfig(
        phases=(
            Phase(steps=20_000, lr=(5e-6, 5e-6), warmup=500, latent_mse_weight=1.0, tsd=TSDSettings(), **shared),
            Phase(
                steps=20_000, lr=(5e-6, 5e-7), cycles=2, gamma_reg=(1.0, 2.0),
                tsd=TSDSettings(points=4, step_size=50, shift=25), **shared,
            ),
        ),
        networks=NetworkSettings(model="sd3", lora_rank=64, base_precision="bf16", gradient_checkpointing=True),
        pairs=_PAIRS,
        validation_share=0.0005,
        validation_crop=512,
        checkpoint_every=500,
    )  # fmt: skip


def sd3_gradual() -> StudentConfig:
    """`sd3_paper` with the released code's remedy for grid artefacts, which is not in the paper.

    Over the first 2,000 steps, the weight of VSD rises from 0 to 0.7, and the student's prompts change from the images'
    own to the fixed one.
    """
    config = sd3_paper()
    whole, *rest = config.phases
    assert whole.tsd is not None
    start = dataclasses.replace(
        whole, steps=2_000, diverse_prompts=(1.0, 0.0), tsd=dataclasses.replace(whole.tsd, lambda_vsd=(0.0, 0.7))
    )
    return dataclasses.replace(config, phases=(start, dataclasses.replace(whole, steps=18_000, warmup=0), *rest))


def sd3_24gb() -> StudentConfig:
    """`sd3_paper` for one GPU with 24 GB: micro-batches of 1, one prompt and one latent per pass.

    Memory in GB (see `docs/measurements/training-cost.md`): 4.43 for the frozen weights that all networks share
    (transformer in bf16, autoencoder), 2.43 for the LoRA of student and fake network with gradients, moments and
    average. The rest is activations.
    """
    return one_at_a_time(sd3_paper())


def one_at_a_time(config: StudentConfig) -> StudentConfig:
    """Change a recipe of batches of 16 to micro-batches of 1, with one prompt and one latent per pass."""
    change = with_tsd(batched=False)
    return dataclasses.replace(config, phases=tuple(change(phase) for phase in config.phases), accumulation=16)


def sd21() -> StudentConfig:
    """`sd3_paper` on SD2.1-base, table 5: expect LPIPS .2943, DISTS .2115, NIQE 5.79 on DRealSR."""
    config = sd3_paper()
    return dataclasses.replace(config, networks=dataclasses.replace(config.networks, model="sd21-base"))


def sd2() -> StudentConfig:
    """`sd3_paper` on SD2-base, table 5: expect LPIPS .3040, DISTS .2234, NIQE 6.22 on DRealSR."""
    config = sd3_paper()
    return dataclasses.replace(config, networks=dataclasses.replace(config.networks, model="sd2-base"))


def sd3_teacher() -> TeacherConfig:
    """Teacher LoRA of rank 64 on SD3-medium: the diffusion loss on HQ images, with SD3's logit-normal times."""
    return TeacherConfig(
        phases=(Schedule(steps=10_000, batch_size=16, lr=(5e-6, 5e-7), warmup=500),),
        networks=NetworkSettings(model="sd3", lora_rank=64, base_precision="bf16", gradient_checkpointing=True),
        crops=CropSettings(size=512, rotate=False),
        time_density="logit_normal",
        validation_share=0.0005,
        validation_crop=512,
        checkpoint_every=500,
    )


def sd21_teacher() -> TeacherConfig:
    """`sd3_teacher` for SD2.1-base, with uniform times."""
    config = sd3_teacher()
    networks = dataclasses.replace(config.networks, model="sd21-base")
    return dataclasses.replace(config, networks=networks, time_density="uniform")
