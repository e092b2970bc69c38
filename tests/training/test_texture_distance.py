"""The perceptual distance that compares distributions of VGG features."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import Tensor, nn

from tsdsr.errors import MissingDependencyError
from tsdsr.training.perceptual_choice import perceptual_distance
from tsdsr.training.texture_distance import TERMS, LayerTerms, TextureDistance, distribution_distance
from tsdsr.training.weave import without_finest_detail


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def layers() -> nn.Sequential:
    """Two convolutions with an in-place ReLU, as torchvision's, and a pooling."""
    torch.manual_seed(0)
    relu = nn.ReLU(inplace=True)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), relu, nn.MaxPool2d(2), nn.Conv2d(4, 8, 3, padding=1))


def test_the_distance_of_distributions_compares_sorted_values_square_by_square() -> None:
    x, y = random(2, 4, 7, 9), random(2, 4, 7, 9, seed=1)
    differences = []
    for image, channels in ((0, (0, 2)), (1, (1, 3))):
        for c in channels:
            for top in (0, 3):
                for left in (0, 3, 6):
                    ours, theirs = (
                        sorted(z[image, c, top : top + 3, left : left + 3].flatten().tolist()) for z in (x, y)
                    )
                    differences += [(a - b) ** 2 for a, b in zip(ours, theirs, strict=True)]
    assert len(differences) == 2 * 2 * 6 * 9
    assert distribution_distance(x, y, 3).item() == pytest.approx(sum(differences) / len(differences), rel=1e-5)


def test_moving_values_within_a_square_costs_nothing_and_beyond_it_does() -> None:
    x = random(2, 2, 8, 8)
    turned = x.reshape(2, 2, 2, 4, 2, 4).flip(3, 5).reshape(2, 2, 8, 8)
    assert distribution_distance(turned, x, 4).item() == 0
    assert distribution_distance(x.flip(-1), x, 4).item() > 0.01


def test_a_window_is_at_most_as_large_as_the_features() -> None:
    x, y = random(2, 2, 3, 4), random(2, 2, 3, 4, seed=1)
    assert distribution_distance(x, y, 10) == distribution_distance(x, y, 3) > 0


def test_a_line_in_a_wrong_place_is_nearer_than_the_mean_of_all_places() -> None:
    column = torch.arange(8.0).expand(1, 2, 8, 8)
    lines = [(column == place).float() for place in (2, 3, 4)]
    mean = torch.stack(lines).mean(0)
    assert sum(distribution_distance(lines[0], line, 8).item() for line in lines) == 0
    assert distribution_distance(mean, lines[1], 8).item() == pytest.approx((2 / 3) ** 2 / 8 + 2 * (1 / 3) ** 2 / 8)
    by_position = [sum(float((x - line).square().mean()) for line in lines) for x in (mean, lines[0])]
    assert by_position[0] < by_position[1]


def test_the_gradient_is_the_difference_of_the_partners() -> None:
    x = random(1, 2, 4, 4).requires_grad_()
    y = random(1, 2, 4, 4, seed=1).requires_grad_()
    distribution_distance(x, y, 4).backward()
    values, places = x.detach()[0, 0].flatten().sort()
    expected = torch.zeros(16)
    expected[places] = 2 * (values - y.detach()[0, 0].flatten().sort().values) / 16
    assert x.grad is not None
    torch.testing.assert_close(x.grad[0, 0].flatten(), expected)
    assert x.grad[0, 1].abs().max() == 0
    assert y.grad is None


def test_terms_are_weighted_and_features_scaled_and_without_the_finest_detail() -> None:
    terms = {0: LayerTerms(2.0, 0.5, 0.0, 4), 3: LayerTerms(3.0, 0.0, 2.0, 4)}
    distance = TextureDistance(layers(), terms)
    x_hat, x_hq = (random(2, 3, 16, 16, seed=seed).sigmoid() for seed in (2, 3))
    found, target = (distance.features(without_finest_detail(x)) for x in (x_hat, x_hq))
    aligned = (found[0] - target[0]).abs().mean() / 2
    distribution = distribution_distance(found[3], target[3], 4) / 9
    torch.testing.assert_close(distance(x_hat, x_hq), 0.5 * aligned + 2 * distribution)
    assert distance(x_hq, x_hq).item() == 0


def test_gradients_reach_the_restored_images_only() -> None:
    distance = TextureDistance(layers(), {3: LayerTerms(1.0, 1.0, 1.0, 4)})
    x_hat, x_hq = (random(2, 3, 16, 16, seed=seed).sigmoid().requires_grad_() for seed in (2, 3))
    distance(x_hat, x_hq).backward()
    assert x_hat.grad is not None
    assert x_hat.grad.abs().sum() > 0
    assert x_hq.grad is None
    assert all(p.grad is None for p in distance.parameters())


def test_its_layers_are_convolutions_of_vgg16() -> None:
    torchvision = pytest.importorskip("torchvision")
    network = torchvision.models.vgg16(weights=None).features
    distance = TextureDistance(network)
    features = distance.features(torch.rand(1, 3, 80, 80))
    assert {number: f.shape[1:] for number, f in features.items()} == {
        7: (128, 40, 40),
        14: (256, 20, 20),
        21: (512, 10, 10),
    }
    assert all(features[number].shape[-1] % term.window == 0 for number, term in TERMS.items())
    assert all(isinstance(distance.layers[number], nn.Conv2d) for number in TERMS)


def test_its_absence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(MissingDependencyError, match=r"\.\[train\]"):
        perceptual_distance("texture")
