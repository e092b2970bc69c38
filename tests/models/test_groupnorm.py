from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.conftest import tiny_flux2_vae, tiny_vae
from tsdsr.models.groupnorm import SharedGroupNorms


def network() -> nn.Sequential:
    layers = nn.Sequential(nn.Conv2d(3, 8, 1), nn.GroupNorm(4, 8), nn.SiLU(), nn.Conv2d(8, 8, 1), nn.GroupNorm(2, 8))
    with torch.no_grad():
        for p in layers.parameters():
            p.normal_()
    return layers.requires_grad_(False)


def test_held_statistics_make_tiles_equal_to_the_whole() -> None:
    net, x = network(), torch.rand(1, 3, 32, 48) * torch.linspace(0, 1, 48)
    norms, whole = SharedGroupNorms(net), net(x)
    with norms.measured():
        torch.testing.assert_close(net(x), whole)
    with norms.held():
        tiles = torch.cat([net(tile) for tile in x.split(16, dim=-1)], dim=-1)
    torch.testing.assert_close(tiles, whole, rtol=0, atol=1e-5)
    assert not torch.allclose(net(x[..., :16]), whole[..., :16], atol=0.1)  # outside the context nothing changes


def test_a_batch_is_measured_as_one_image() -> None:
    net, x = network(), torch.rand(1, 3, 32, 48)
    norms = SharedGroupNorms(net)
    with norms.measured():
        parts = net(torch.cat(x.split(16, dim=-1)))
    torch.testing.assert_close(torch.cat(parts[:, None].unbind(), dim=-1), net(x), rtol=0, atol=1e-5)


def test_sixteen_bit_networks_keep_exact_statistics() -> None:
    net, x = network().bfloat16(), torch.rand(1, 3, 32, 32).bfloat16()
    norms, usual = SharedGroupNorms(net), net(x)
    with norms.measured():
        result = net(x)
    assert result.dtype == torch.bfloat16
    assert all(mean.dtype == torch.float32 for mean, _ in norms.statistics.values())
    torch.testing.assert_close(result, usual, rtol=0.02, atol=0.05)


@pytest.mark.parametrize("vae", [tiny_vae(4), tiny_flux2_vae()], ids=["sd", "flux2"])
def test_every_layer_of_a_real_autoencoder_is_measured(vae: nn.Module) -> None:
    vae.requires_grad_(False)
    norms = SharedGroupNorms(vae)
    x = torch.rand(1, 3, 64, 64)
    before = vae(x).sample
    with norms.measured():
        torch.testing.assert_close(vae(x).sample, before, rtol=0, atol=2e-4)
    assert set(norms.statistics) == set(norms.layers)
    assert torch.equal(vae(x).sample, before)


def test_networks_without_group_norms_are_false() -> None:
    assert not SharedGroupNorms(nn.Conv2d(3, 3, 1))
