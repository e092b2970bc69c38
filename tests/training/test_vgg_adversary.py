"""The discriminator of VGG features, here of an untrained VGG."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.training.tiny import assert_same, config, mini_networks, trainer, weights
from tsdsr.models.latents import encode_images
from tsdsr.models.zoo import MINI
from tsdsr.training import adversary_choice
from tsdsr.training.adversarial import discriminator_loss
from tsdsr.training.config import Phase
from tsdsr.training.prompts import LabelPrompts
from tsdsr.training.vgg_adversary import EDGE, SHIFT, VGGAdversary, VGGDiscriminator
from tsdsr.training.vgg_features import ADVERSARY_LAYERS, VGGMaps

WIDTHS = [channels for channels, _ in ADVERSARY_LAYERS.values()]


@pytest.fixture
def vgg(monkeypatch: pytest.MonkeyPatch) -> nn.Sequential:
    """VGG16's layers with random weights in the place of torchvision's."""
    models = pytest.importorskip("torchvision.models", exc_type=ImportError)
    torch.manual_seed(0)
    layers = models.vgg16(weights=None).features
    monkeypatch.setattr(adversary_choice, "vgg_layers", lambda: layers)
    return layers


def halved(x: Tensor) -> list[Tensor]:
    return [x, F.avg_pool2d(x, 2), F.avg_pool2d(x, 4)]


def adversary(seed: int = 0) -> VGGAdversary:
    return VGGAdversary(MINI.make_autoencoder(), halved, [3, 3, 3], seed)


def seen(x: Tensor, items: list[int], seed: int = 0) -> Tensor:
    made = adversary(seed)
    found: Tensor = made.features(encode_images(made.vae, x), items, LabelPrompts().fixed())[0]
    return found


def test_maps_are_those_after_activation_at_four_resolutions(vgg: nn.Sequential) -> None:
    x = torch.rand(2, 3, 16, 24)
    maps = VGGMaps(vgg)(x)
    assert [tuple(m.shape) for m in maps] == [(2, c, 16 // 2**k, 24 // 2**k) for k, c in enumerate(WIDTHS)]
    normal = (x - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[
        :, None, None
    ]
    torch.testing.assert_close(maps[1] * 1.76, vgg[:9](normal), rtol=1e-4, atol=1e-5)
    assert all(m.min() >= 0 for m in maps)
    assert not any(p.requires_grad for p in VGGMaps(vgg).parameters())


def test_all_heads_end_at_the_coarsest_resolution() -> None:
    features = [torch.rand(2, width, 32 // 2**k, 16 // 2**k) for k, width in enumerate(WIDTHS)]
    assert VGGDiscriminator(WIDTHS, hidden=4)(features).shape == (2, 4 * (4 * 2))


def test_each_sample_has_its_own_square_in_any_batch() -> None:
    x = torch.rand(4, 3, 32, 24)
    squares = seen(x, [5, 6, 7, 8])
    assert squares.shape == (4, 3, 32 - SHIFT, 24 - SHIFT)
    places = []
    for image, square in zip(x, squares, strict=True):
        places += [
            (y, x)
            for y in range(SHIFT + 1)
            for x in range(SHIFT + 1)
            if torch.allclose(image[:, y : y + 24, x : x + 16], square, atol=1e-5)
        ]
    assert len(places) == 4
    assert len(set(places)) > 1
    torch.testing.assert_close(seen(x[2:3], [7]), squares[2:3])
    assert not torch.equal(seen(x, [5, 6, 7, 8], seed=1), squares)


def test_places_reach_both_ends() -> None:
    rows = torch.arange(16.0).reshape(1, 1, 16, 1).expand(300, 3, 16, 16) / 16
    first = (seen(rows, list(range(300)))[:, 0, 0, 0] * 16).round()
    assert set(first.tolist()) == set(range(SHIFT + 1))


def test_a_square_of_a_large_crop_is_limited() -> None:
    columns = torch.arange(128.0).expand(300, 3, 16, 128) / 128
    squares = seen(columns, list(range(300)))
    assert squares.shape == (300, 3, 16 - SHIFT, EDGE)
    first = (squares[:, 0, 0, 0] * 128).round()
    assert (first.min().item(), first.max().item()) == (0, 128 - EDGE)


def test_it_learns_to_see_a_faint_checkerboard() -> None:
    torch.manual_seed(0)
    head = VGGDiscriminator([3, 3, 3], hidden=8)
    optimizer = torch.optim.AdamW(head.parameters(), 2e-3)
    board = (torch.arange(16)[:, None] + torch.arange(16)) % 2 - 0.5
    for _ in range(150):
        smooth = torch.rand(4, 3, 1, 1).expand(4, 3, 16, 16)
        loss = discriminator_loss(*head(halved(torch.cat([smooth, smooth + 0.2 * board]))).chunk(2))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1.1  # 1.39 by guessing; one of the three heads can see it


def test_it_trains_without_a_teacher_and_resumes_to_the_bit(
    photo_folder: Path, tmp_path: Path, vgg: nn.Sequential
) -> None:
    phase = Phase(steps=4, batch_size=2, lr=(1e-3, 1e-3), l1_weight=1.0, adversarial_weight=(0.0, 0.5), adversary="vgg")
    cfg = config(phases=(phase,))
    whole = trainer(photo_folder, tmp_path / "whole", cfg, networks=mini_networks(scores=False))
    assert isinstance(whole.adversary, VGGAdversary)
    whole.run()
    for _ in range(2):
        halves = trainer(photo_folder, tmp_path / "halves", cfg, networks=mini_networks(scores=False))
        halves.run(until=2 if halves.step == 0 else None)
    assert halves.step == 4
    expected = weights(whole)
    assert not any("layers" in name for name in expected)  # the frozen network is not part of a checkpoint
    assert_same(expected, weights(halves))


def test_bfloat16(photo_folder: Path, tmp_path: Path, vgg: nn.Sequential) -> None:
    phase = Phase(steps=1, batch_size=2, lr=(1e-3, 1e-3), l1_weight=1.0, adversarial_weight=0.5, adversary="vgg")
    cfg = config(phases=(phase,))
    run = trainer(photo_folder, tmp_path / "run", cfg, networks=mini_networks(scores=False), dtype=torch.bfloat16)
    run.run()
    assert run.step == 1
    assert run.skipped == 0
