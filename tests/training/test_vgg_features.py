"""The perceptual distance on raw VGG features."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import Tensor, nn

from tsdsr.errors import MissingDependencyError
from tsdsr.training.perceptual_choice import perceptual_distance
from tsdsr.training.vgg_features import FeatureDistance
from tsdsr.training.weave import without_finest_detail


def layers() -> nn.Sequential:
    """Two convolutions with in-place ReLUs, as torchvision's, and a pooling."""
    torch.manual_seed(0)
    relu = nn.ReLU(inplace=True)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), relu, nn.MaxPool2d(2), nn.Conv2d(4, 8, 3, padding=1), relu)


def pictures() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(2, 3, 16, 16, generator=generator), torch.rand(2, 3, 16, 16, generator=generator)


def test_features_come_before_the_relu() -> None:
    distance = FeatureDistance(layers(), {0: 1.0, 3: 1.0})
    x = pictures()[0]
    found = distance.features(x)
    normal = (x - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[
        :, None, None
    ]
    torch.testing.assert_close(found[0], distance.layers[0](normal))
    assert found[0].min() < 0
    assert found[3].shape == (2, 8, 8, 8)


def test_the_distance_is_the_weighted_mean_difference_without_the_finest_detail() -> None:
    distance = FeatureDistance(layers(), {0: 0.5, 3: 2.0})
    x_hat, x_hq = pictures()
    found, target = (distance.features(without_finest_detail(x)) for x in (x_hat, x_hq))
    expected = 0.5 * (found[0] - target[0]).abs().mean() + 2 * (found[3] - target[3]).abs().mean()
    torch.testing.assert_close(distance(x_hat, x_hq), expected)
    assert distance(x_hq, x_hq).item() == 0


def test_layers_after_the_last_weighted_one_are_dropped() -> None:
    assert len(FeatureDistance(layers(), {0: 1.0}).layers) == 1


def test_gradients_reach_the_restored_images_only() -> None:
    distance = FeatureDistance(layers(), {3: 1.0})
    x_hat, x_hq = (x.requires_grad_() for x in pictures())
    distance(x_hat, x_hq).backward()
    assert x_hat.grad is not None
    assert x_hat.grad.abs().sum() > 0
    assert x_hq.grad is None
    assert all(p.grad is None for p in distance.parameters())


def test_its_absence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(MissingDependencyError, match=r"\.\[train\]"):
        perceptual_distance("vgg")
