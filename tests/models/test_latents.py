"""Images ↔ scaled latents."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import tiny_flux2_vae, tiny_vae
from tsdsr.models.latents import compute_dtype, decode_latents, encode_images
from tsdsr.models.zoo import MINI

SOURCE = Path(__file__).resolve().parents[2] / "src" / "tsdsr"
X = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_the_mode_is_scaled_and_not_shifted() -> None:
    vae = tiny_vae(16)
    mean = vae.encode(X * 2 - 1).latent_dist.mean
    z = encode_images(vae, X)
    assert z.shape == (2, 16, 4, 6)
    torch.testing.assert_close(z, 1.5305 * mean)
    torch.testing.assert_close(decode_latents(vae, z), vae.decode(mean).sample / 2 + 0.5, rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_batch_norm_takes_the_place_of_a_scaling_factor() -> None:
    vae = tiny_flux2_vae()
    z = encode_images(vae, X)
    vae.register_to_config(scaling_factor=0.5)  # diffusers keeps settings that a class does not know, and ignores them
    assert torch.equal(encode_images(vae, X), z)


def test_minis_latents_are_the_pixels_themselves() -> None:
    vae = MINI.make_autoencoder()
    z = encode_images(vae, X)
    assert z.shape == (2, 48, 8, 12)
    torch.testing.assert_close(z.square().sum(), 1.72**2 * (X * 2 - 1).square().sum())
    torch.testing.assert_close(decode_latents(vae, z), X)


@torch.no_grad()
def test_a_draw_adds_noise_times_the_posteriors_deviation() -> None:
    vae = tiny_vae(4)
    noise = torch.randn(2, 4, 4, 6)
    shapes: list[tuple[int, ...]] = []

    def draw(shape: Sequence[int]) -> np.ndarray:
        shapes.append(tuple(shape))
        return noise.numpy()

    std = vae.encode(X * 2 - 1).latent_dist.std
    torch.testing.assert_close(encode_images(vae, X, draw) - encode_images(vae, X), 1.5305 * std * noise)
    assert shapes == [tuple(noise.shape)]


@torch.no_grad()
@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_gives_float32_close_to_the_exact_values(autocast: bool) -> None:
    vae = tiny_vae(16)
    z, x = encode_images(vae, X), decode_latents(vae, encode_images(vae, X))
    if not autocast:
        vae.to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        half_z, half_x = encode_images(vae, X), decode_latents(vae, z)
    assert (half_z.dtype, half_x.dtype) == (torch.float32, torch.float32)
    assert not torch.equal(half_z, z)
    torch.testing.assert_close(half_z, z, rtol=0, atol=0.05 * float(z.abs().max()))
    torch.testing.assert_close(half_x, x, rtol=0, atol=0.05 * float(x.abs().max()))


def test_the_dtype_of_a_module() -> None:
    assert compute_dtype(torch.nn.Linear(1, 1, dtype=torch.float16)) == torch.float16
    assert compute_dtype(torch.nn.Identity()) == torch.float32


def test_no_other_module_applies_the_scaling_factor() -> None:
    uses = re.compile(r"[*/]\s*[^\s,)]*scaling_factor|scaling_factor\W{0,3}\s*[*/][^/]")
    found = {
        str(path.relative_to(SOURCE))
        for path in SOURCE.rglob("*.py")
        if any(uses.search(line) for line in path.read_text().splitlines() if "``" not in line)
    }
    assert found == {"models/latents.py", "runtimes/exported_pipeline.py"}  # on tensors, and on arrays
