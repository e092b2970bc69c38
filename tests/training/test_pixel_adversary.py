"""The discriminator of decoded images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.training.tiny import assert_same, config, mini_networks, trainer, weights
from tsdsr.errors import ConfigError
from tsdsr.models.latents import encode_images
from tsdsr.models.zoo import MINI, SPECS, get_spec
from tsdsr.training.adversarial import discriminator_loss
from tsdsr.training.config import Phase
from tsdsr.training.pixel_adversary import PixelAdversary, PixelDiscriminator
from tsdsr.training.prompts import LabelPrompts


def test_every_pixel_has_a_logit() -> None:
    head = PixelDiscriminator(4)
    assert head(torch.rand(2, 3, 24, 16)).shape == (2, 24 * 16)


def test_crops_of_every_model_can_be_halved_three_times() -> None:
    assert all(get_spec(name).size_multiple % 2**3 == 0 for name in SPECS)


def test_a_logit_depends_on_its_pixel_and_on_its_surroundings() -> None:
    torch.manual_seed(0)
    x = torch.rand(1, 3, 64, 64, requires_grad=True)
    logits = PixelDiscriminator(4)(x).reshape(64, 64)
    (gradient,) = torch.autograd.grad(logits[32, 32], x)
    reached = gradient.abs().sum((0, 1)) > 0
    assert reached[32, 32]
    assert reached[32, 47]


def test_fine_features_reach_the_logits_directly() -> None:
    """Without the coarse path the logits still depend on the image."""
    head = PixelDiscriminator(4)
    head.down[0].register_forward_hook(lambda module, inputs, output: torch.zeros_like(output))
    x = torch.rand(2, 3, 16, 16)
    one, two = head(x)
    assert (one - two).abs().max() > 1e-4


def test_the_adversary_sees_the_decoded_image() -> None:
    vae = MINI.make_autoencoder()
    x = torch.rand(1, 3, 32, 32)
    seen = PixelAdversary(vae, 0, width=4).features(encode_images(vae, x), [0], LabelPrompts().fixed())
    torch.testing.assert_close(seen, x)


def test_equal_seeds_make_equal_heads_and_leave_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    one, two = (PixelAdversary(MINI.make_autoencoder(), 3, width=4).head.state_dict() for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_it_learns_to_see_a_faint_checkerboard() -> None:
    torch.manual_seed(0)
    head = PixelDiscriminator(8)
    optimizer = torch.optim.AdamW(head.parameters(), 2e-3)
    board = (torch.arange(16)[:, None] + torch.arange(16)) % 2 - 0.5
    for _ in range(60):
        smooth = torch.rand(4, 3, 1, 1).expand(4, 3, 16, 16)
        loss = discriminator_loss(*head(torch.cat([smooth, smooth + 0.05 * board])).chunk(2))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.7  # 1.39 by guessing


def test_it_trains_without_a_teacher_and_resumes_to_the_bit(photo_folder: Path, tmp_path: Path) -> None:
    phase = Phase(
        steps=4,
        batch_size=2,
        lr=(1e-3, 1e-3),
        l1_weight=1.0,
        perceptual_weight=0.1,
        perceptual=("vgg",),
        sharpen_truth=0.5,
        adversarial_weight=(0.0, 0.5),
        adversary="pixel",
    )
    cfg = config(phases=(phase,))
    assert not cfg.needs_scores
    whole = trainer(photo_folder, tmp_path / "whole", cfg, networks=mini_networks(scores=False))
    whole.run()
    for _ in range(2):
        halves = trainer(photo_folder, tmp_path / "halves", cfg, networks=mini_networks(scores=False))
        halves.run(until=2 if halves.step == 0 else None)
    assert halves.step == 4
    expected = weights(whole)
    assert {name.split(".")[0] for name in expected} == {"student", "discriminator", "ema"}
    assert_same(expected, weights(halves))
    record = json.loads((tmp_path / "whole" / "log.jsonl").read_text().splitlines()[-1])
    assert record["loss/adversarial"] > 0
    assert record["loss/discriminator"] > 0


def test_a_truth_is_not_blurred() -> None:
    with pytest.raises(ConfigError, match="sharpen_truth"):
        Phase(steps=1, batch_size=1, lr=(1e-3, 1e-3), sharpen_truth=-0.5)
