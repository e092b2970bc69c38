"""Memory and time on paper: three base models on four layouts of GPUs, as tables in Markdown.

    python benchmarks/training_memory.py            # takes minutes on a CPU; needs no weights and no GPU
    python benchmarks/training_memory.py check      # the one step of SD3 whose memory was measured

Activations and operations are counted over the real networks (``tsdsr.training.step_cost``), for `sd3_paper`: 512²
crops, bf16, LoRA of rank 64, activation checkpointing, one pass of teacher and of fake a point. Times assume that a GPU
reaches a share of its peak; communication is not in them.
"""

from __future__ import annotations

import argparse
import dataclasses
import warnings
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLFlux2, Flux2Transformer2DModel
from torch import Tensor, nn

from tsdsr.models import denoiser as denoisers
from tsdsr.models.conditioning import Conditioning
from tsdsr.models.zoo import ModelSpec, get_spec
from tsdsr.recipes import student_recipe
from tsdsr.training.config import NetworkSettings, Phase, TSDSettings
from tsdsr.training.networks import Networks, Parts, build_networks
from tsdsr.training.step_cost import StepCost, student_step_cost
from tsdsr.training.weight_memory import WeightMemory, weight_memory

UTILISATION = 0.35
RESERVED = 2e9
"""Bytes of a GPU left to CUDA, its libraries and gaps between tensors."""

LAYOUTS = ((1, 24, 165e12), (8, 24, 165e12), (8, 80, 989e12), (64, 80, 989e12))
"""Number of GPUs, GB of each, its peak in bf16 without sparsity, of an RTX 4090 and an H100 SXM (vendor's tables)."""

RECIPE = student_recipe("sd3_paper")

SD35_LARGE = dataclasses.replace(
    get_spec("sd35"),
    name="sd35-large",
    denoiser_config={
        **get_spec("sd3").denoiser_config, "num_layers": 38, "num_attention_heads": 38, "caption_projection_dim": 2432,
        "pos_embed_max_size": 192, "qk_norm": "rms_norm",
    },
)  # fmt: skip

# Configuration of black-forest-labs/FLUX.2-klein-base-4B: transformer/config.json of its copy in diffusers' layout,
# huggingface.co/YuCollection/FLUX.2-klein-base-4B-Diffusers.
KLEIN_SINGLE = 20
KLEIN_TARGETS = (
    "to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out",
    "to_qkv_mlp_proj", *(f"single_transformer_blocks.{i}.attn.to_out" for i in range(KLEIN_SINGLE)),
)  # fmt: skip
KLEIN = dataclasses.replace(
    get_spec("sd3"),
    name="flux2-klein-base-4b",
    vae_scale_factor=16,
    prompt_shapes={"prompt_embeds": (512, 7680)},
    denoiser_path="diffusers:Flux2Transformer2DModel",
    denoiser_config={
        "in_channels": 128, "num_layers": 5, "num_single_layers": KLEIN_SINGLE, "num_attention_heads": 24,
        "attention_head_dim": 128, "joint_attention_dim": 7680, "mlp_ratio": 3.0, "guidance_embeds": False,
    },
    lora_targets=(*KLEIN_TARGETS, "linear_in", "linear_out"),
)  # fmt: skip


class KleinDenoiser(denoisers.NetworkDenoiser):
    """Adapter for ``diffusers.Flux2Transformer2DModel``: latents (B, 128, h, w) as tokens."""

    def predict(self, z_t: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        prompt = Conditioning.require(cond.prompt_embeds, "prompt_embeds")
        tokens = z_t.flatten(2).transpose(1, 2)
        image, text = (torch.zeros(x.shape[1], 4) for x in (tokens, prompt))
        answer: Tensor = self.network(tokens, prompt, t / 1000, image, text, return_dict=False)[0]
        return answer.transpose(1, 2).unflatten(2, z_t.shape[2:])


class KleinAutoencoder(AutoencoderKLFlux2):  # type: ignore[misc]
    """FLUX.2's autoencoder with its 2×2 blocks of latents as channels."""

    def encode(self, x: Tensor) -> Any:
        latent = F.pixel_unshuffle(super().encode(x).latent_dist.mode(), 2)
        return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: latent))

    def decode(self, z: Tensor, return_dict: bool = False) -> Any:
        return super().decode(F.pixel_shuffle(z, 2), return_dict=return_dict)


def klein_autoencoder() -> KleinAutoencoder:
    vae = KleinAutoencoder()
    vae.register_to_config(scaling_factor=1.0)
    return vae


def build(spec: ModelSpec, precision: torch.dtype) -> tuple[Networks, WeightMemory]:
    """Networks of a student on the meta device, and their memory."""
    settings = RECIPE.networks
    if spec is KLEIN:
        settings = dataclasses.replace(settings, fake_targets=KLEIN_TARGETS)
    if precision == torch.float32:
        settings = NetworkSettings(model="sd3", lora_rank=64, gradient_checkpointing=True)
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = nn.Module.to(spec.make_denoiser(), dtype=precision)
        vae = klein_autoencoder() if spec is KLEIN else spec.make_autoencoder()
        networks = build_networks(Parts(network, vae), spec, settings, 0, scores=True)
    assert networks.scores is not None
    trained = {role: list(weights.values()) for role, weights in networks.trained().items()}
    return networks, weight_memory([networks.student, networks.scores, networks.vae], trained)


def activations(costs: tuple[StepCost, StepCost], batch: int) -> float:
    """Peak of a micro-batch, from those of one and of two images: each part grows linearly."""
    one, two = (cost.peaks for cost in costs)
    return max(one[part] + (batch - 1) * (two[part] - one[part]) for part in one)


def rows(spec: ModelSpec) -> list[str]:
    networks, weights = build(spec, torch.bfloat16)
    phase = RECIPE.phases[-1]
    costs = tuple(student_step_cost(networks, spec, phase, 512, batch, torch.bfloat16) for batch in (1, 2))
    one = costs[0]
    millions = sum(p.numel() for p in networks.student.denoiser.parameters() if not p.requires_grad) / 1e6
    parts = ", ".join(
        f"{part} {one.peaks[part] / 1e9:.2f} GB, {one.flops[part] / 1e12:.1f} TFLOP" for part in one.peaks
    )
    print(f"{spec.name}: transformer {millions:,.0f} M; weights and their state {weights.whole / 1e9:.2f} GB, "
          f"gathered {weights.gathered / 1e9:.2f} GB; one image: {parts}", flush=True)  # fmt: skip
    found = []
    for gpus, gigabytes, peak in LAYOUTS:
        held = weights.whole if gpus == 1 else weights.sharded(gpus)
        fit = 0
        while fit < 256 and held + activations(costs, fit + 1) <= gigabytes * 1e9 - RESERVED:
            fit += 1
        layout = f"| {spec.name} | {gpus} x {gigabytes} GB |"
        if not fit:
            short = held + activations(costs, 1)
            found.append(f"{layout} {short / 1e9:.1f} needed for 1 | | | | | | |")
            continue
        batch = max(RECIPE.phases[0].batch_size, gpus)
        share = batch // gpus
        at_once = max(n for n in range(1, fit + 1) if share % n == 0)
        memory = held + activations(costs, at_once)
        flops = [one.operations(p.tsd.points if p.tsd else 1) * share for p in RECIPE.phases]
        seconds = [f / (peak * UTILISATION) for f in flops]
        hours = sum(s * p.steps for s, p in zip(seconds, RECIPE.phases, strict=True)) / 3600
        found.append(
            f"{layout} {fit} | {batch} | {share // at_once} x {at_once} | {memory / 1e9:.1f} | "
            f"{flops[0] / 1e12:,.0f} / {flops[1] / 1e12:,.0f} | {seconds[0]:.1f} / {seconds[1]:.1f} | "
            f"{hours:,.0f} ({hours * gpus:,.0f}) |"
        )
    return found


def check() -> None:
    """The measured step: SD3 in fp32, N = 1, batch 1, a pass for each answer, without LPIPS."""
    spec = get_spec("sd3")
    networks, weights = build(spec, torch.float32)
    tsd = TSDSettings(points=1, batched=False)
    phase = Phase(steps=1, batch_size=1, lr=(0, 0), l1_weight=1.0, latent_mse_weight=1.0, tsd=tsd)
    cost = student_step_cost(networks, spec, phase, 512, 1, torch.float32)
    trained = {role: sum(p.numel() for p in found.values()) for role, found in networks.trained().items()}
    built = weights.frozen + 4 * sum(trained.values()) + 4 * trained["student"]
    print(f"after building {built / 1e9:.2f} GB (measured 10.5 GB of the process), "
          f"peak {(weights.whole + cost.activations) / 1e9:.2f} GB (measured 16.2 GB)")  # fmt: skip
    print({part: f"{size / 1e9:.2f} GB" for part, size in cost.peaks.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("tables", "check"), nargs="?", default="tables")
    denoisers._ADAPTERS[Flux2Transformer2DModel.__name__] = KleinDenoiser
    if parser.parse_args().what == "check":
        check()
        return
    table = [row for spec in (get_spec("sd3"), SD35_LARGE, KLEIN) for row in rows(spec)]
    print("\n| model | GPUs | images that fit at a time | batch | micro-batches x images, each GPU | GB, each GPU |"
          " TFLOP a step, phase 1 / 2 | seconds a step | hours (GPU-hours) |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|", *table, sep="\n")


if __name__ == "__main__":
    main()
