"""FLUX.2 klein equals diffusers' own pipeline and scheduler: text, latents, velocity, noising, the single step."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, Flux2KleinPipeline
from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu
from transformers import AutoTokenizer, Qwen3ForCausalLM

from tests.conftest import flux2_prompt, tiny_flux2, tiny_flux2_vae
from tests.models.text_models import write_flux2_text
from tsdsr.errors import WeightsError
from tsdsr.models.conditioning import DEFAULT_PROMPT, NULL_PROMPT
from tsdsr.models.denoiser import as_denoiser, restore
from tsdsr.models.flux2_tokens import from_tokens, image_positions, text_positions, to_tokens
from tsdsr.models.latents import decode_latents, encode_images
from tsdsr.models.text import assemble, encode_prompts
from tsdsr.models.text_parts import FLUX2_KLEIN_TEXT
from tsdsr.models.zoo import get_spec
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline

SPEC = get_spec("flux2-klein")
X = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
PROMPTS = ["a cat, on a table.", NULL_PROMPT, "ab " * 900, DEFAULT_PROMPT.lower()]


def reference(text: Path | None = None) -> Flux2KleinPipeline:
    scheduler = FlowMatchEulerDiscreteScheduler(
        shift=3.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15, max_image_seq_len=4096
    )
    encoder = tokenizer = None
    if text is not None:
        encoder = Qwen3ForCausalLM.from_pretrained(text / "text_encoder").eval()
        tokenizer = AutoTokenizer.from_pretrained(text / "tokenizer")
    pipe = Flux2KleinPipeline(scheduler, tiny_flux2_vae(), encoder, tokenizer, tiny_flux2())
    pipe.set_progress_bar_config(disable=True)
    return pipe


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_text_embeddings(tmp_path: Path) -> None:
    folder, stored = write_flux2_text(tmp_path), {}
    encode_prompts(folder, FLUX2_KLEIN_TEXT, PROMPTS, lambda _, prompt, found: stored.update({prompt: found}))
    ours = assemble({"qwen3": {"hidden": torch.stack([stored[p]["hidden"] for p in PROMPTS])}}).prompt_embeds
    with torch.no_grad():
        theirs, _ = reference(folder).encode_prompt(PROMPTS)
    assert ours.shape == (4, 512, 24)
    assert theirs.std() > 0.1
    close(ours, theirs)


def test_a_text_encoder_with_too_few_layers_is_refused(tmp_path: Path) -> None:
    folder = write_flux2_text(tmp_path, layers=3)
    with pytest.raises(WeightsError, match="has 3 layers, but layer 27 is needed"):
        encode_prompts(folder, FLUX2_KLEIN_TEXT, ["a"], lambda *_: None)


def test_a_tokenizer_without_a_chat_template_is_refused(tmp_path: Path) -> None:
    folder = write_flux2_text(tmp_path)
    for template in (folder / "tokenizer").glob("chat_template*"):
        template.unlink()
    with pytest.raises(WeightsError, match="no chat template"):
        encode_prompts(folder, FLUX2_KLEIN_TEXT, ["a"], lambda *_: None)


@torch.no_grad()
def test_latents() -> None:
    pipe = reference()
    z = encode_images(pipe.vae, X)
    assert z.shape == (2, 16, 4, 6)
    close(z, pipe._encode_vae_image(X * 2 - 1, None))
    # The pipeline's decoding, without its transformer: what it does with the last latents.
    back = z * torch.sqrt(pipe.vae.bn.running_var + 1e-4)[None, :, None, None] + pipe.vae.bn.running_mean[:, None, None]
    images = pipe.image_processor.postprocess(pipe.vae.decode(pipe._unpatchify_latents(back)).sample, "pt")
    close(decode_latents(pipe.vae, z).clamp(0, 1), images)


@torch.no_grad()
def test_a_draw_has_noise_in_the_shape_of_the_latents() -> None:
    vae, noise = tiny_flux2_vae(), torch.randn(2, 16, 4, 6)
    posterior = vae.encode(X * 2 - 1).latent_dist
    drawn = Flux2KleinPipeline._patchify_latents(posterior.std) * noise
    scale = torch.sqrt(vae.bn.running_var + 1e-4)[:, None, None]
    close(encode_images(vae, X, lambda _: noise.numpy()) - encode_images(vae, X), drawn / scale)


def test_tokens_and_positions() -> None:
    z = torch.randn(2, 16, 3, 5)
    torch.testing.assert_close(to_tokens(z), Flux2KleinPipeline._pack_latents(z))
    torch.testing.assert_close(from_tokens(to_tokens(z), 3, 5), z)
    cpu = torch.device("cpu")
    torch.testing.assert_close(image_positions(3, 5, cpu), Flux2KleinPipeline._prepare_latent_ids(z)[0])
    torch.testing.assert_close(text_positions(7, cpu), Flux2KleinPipeline._prepare_text_ids(torch.zeros(1, 7, 2))[0])


@torch.no_grad()
def test_the_single_step_is_the_pipelines() -> None:
    """One step of diffusers' pipeline starts at pure noise, T = 1000, at every shift, and ends at the clean latent."""
    pipe, prompt = reference(), flux2_prompt()
    z_lq = torch.randn(2, 16, 4, 6)
    theirs = pipe(
        latents=z_lq, prompt_embeds=prompt.expand(2).prompt_embeds, num_inference_steps=1, guidance_scale=1.0,
        height=64, width=96, output_type="pt",
    ).images  # fmt: skip
    assert float(pipe.scheduler.timesteps[0]) == SPEC.timestep
    z_hat = restore(as_denoiser(pipe.transformer), SPEC.process, z_lq, SPEC.timestep, prompt)
    assert (z_hat - z_lq).abs().mean() > 0.1
    close(decode_latents(pipe.vae, z_hat).clamp(0, 1), theirs)


@torch.no_grad()
def test_velocity_noising_and_steps_at_the_schedulers_times(flux2_pipe: OneStepSRPipeline) -> None:
    pipe, prompt = reference(), flux2_prompt()
    denoiser = as_denoiser(flux2_pipe.denoiser)
    pipe.scheduler.set_timesteps(4, mu=0.63)
    z, noise = torch.randn(2, 16, 4, 6), torch.randn(2, 16, 4, 6)
    times = [*pipe.scheduler.timesteps, torch.tensor(0.0)]
    z_t = SPEC.process.add_noise(z, noise, times[1].expand(2))
    close(z_t, pipe.scheduler.scale_noise(z, times[1].expand(2), noise))
    tokens, ids = to_tokens(z_t), image_positions(4, 6, z.device)
    velocity = pipe.transformer(
        tokens, prompt.expand(2).prompt_embeds, times[1].expand(2) / 1000, ids, text_positions(5, z.device)
    ).sample
    ours = denoiser(z_t, times[1].expand(2), prompt)
    close(to_tokens(ours), velocity)
    stepped = pipe.scheduler.step(velocity, times[1], tokens, return_dict=False)[0]
    close(to_tokens(SPEC.process.step(z_t, ours, times[1], times[2])), stepped)


def test_the_shift_is_that_of_many_steps_at_512_pixels() -> None:
    mu = compute_empirical_mu((512 // SPEC.vae_scale_factor) ** 2, num_steps=200)
    assert SPEC.process_arguments["shift"] == pytest.approx(math.exp(mu), abs=1e-4)


def test_full_size_networks_load_from_the_published_configuration() -> None:
    """The row's arguments are the network's whole configuration, so a folder of the base model fits it."""
    with torch.device("meta"):
        network, vae = SPEC.make_denoiser(), SPEC.make_autoencoder()
    assert network.inner_dim == 3072
    assert network.context_embedder.in_features == SPEC.prompt_shapes["prompt_embeds"][1]
    assert vae.bn.num_features == network.config["in_channels"] == 128
