from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.conftest import mini_prompt, tiny_mini
from tsdsr.errors import ConfigError, InvalidInputError
from tsdsr.models.autoencoder import SpaceToDepthAutoencoder
from tsdsr.models.denoiser import as_denoiser, restore
from tsdsr.models.mini import MiniUNet, expand_network
from tsdsr.models.zoo import MINI


def run(network: MiniUNet, z: Tensor, t: float = 1000.0) -> Tensor:
    labels = torch.zeros(len(z), dtype=torch.int64)
    with torch.no_grad():
        return network(z, torch.full((len(z),), t), labels)


def test_the_untrained_student_returns_its_input_exactly() -> None:
    z = torch.randn(2, 48, 8, 12)
    network = MiniUNet().eval()
    with torch.no_grad():
        assert torch.equal(restore(as_denoiser(network), MINI.process, z, 1000.0, mini_prompt()), z)


def test_full_size_weights_stay_within_the_limit() -> None:
    """At most 20 MB in fp16, the limit for packaged weights."""
    assert sum(p.numel() for p in MiniUNet().parameters()) * 2 < 20e6


def test_prediction_depends_on_time_and_prompt() -> None:
    network, z = tiny_mini(), torch.randn(1, 48, 8, 8)
    assert not torch.equal(run(network, z, 1000.0), run(network, z, 500.0))
    with torch.no_grad():
        other = network(z, torch.tensor([1000.0]), torch.tensor([1]))
    assert not torch.equal(run(network, z), other)


def test_the_receptive_field_is_bounded() -> None:
    """Without global statistics, a change in one corner leaves the opposite corner identical to the bit."""
    network, z = tiny_mini(fine_channels=8), torch.randn(1, 48, 64, 64)
    changed = z.clone()
    changed[..., :4, :4] += 10
    before, after = run(network, z), run(network, changed)
    assert not torch.equal(before[..., :8, :8], after[..., :8, :8])
    assert torch.equal(before[..., 48:, 48:], after[..., 48:, 48:])


def test_a_batch_equals_singles() -> None:
    network, z = tiny_mini(), torch.randn(3, 48, 8, 8)
    singles = torch.cat([run(network, z[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(run(network, z), singles, rtol=1e-5, atol=1e-5)


def test_a_saved_network_round_trips(tmp_path: Path) -> None:
    network, z = tiny_mini(), torch.randn(1, 48, 8, 8)
    network.save_pretrained(tmp_path)
    assert (tmp_path / "diffusion_pytorch_model.safetensors").is_file()
    torch.testing.assert_close(run(MiniUNet.from_pretrained(tmp_path), z), run(network, z), rtol=1e-4, atol=1e-4)


def test_the_autoencoder_is_lossless_and_orthonormal() -> None:
    vae, x = SpaceToDepthAutoencoder(), torch.rand(2, 3, 8, 12) * 2 - 1
    z = vae.encode(x).latent_dist.mode()
    assert z.shape == (2, 48, 2, 3)
    assert torch.equal(vae.decode(z).sample, x)
    assert torch.equal(vae.encode(x, return_dict=False)[0].sample(), z)
    torch.testing.assert_close(z.square().sum(), x.square().sum())


def test_each_latent_position_is_one_block_of_pixels() -> None:
    vae, x = SpaceToDepthAutoencoder(), torch.zeros(1, 3, 8, 8)
    x[0, 1, 4:, :4] = 1
    z = vae.encode(x).latent_dist.mode()
    assert z.sum(1).tolist() == [[[0, 0], [16, 0]]]


def test_the_autoencoder_refuses_odd_sizes() -> None:
    with pytest.raises(InvalidInputError, match="10x8"):
        SpaceToDepthAutoencoder().encode(torch.zeros(1, 3, 8, 10))


def test_a_learned_skip_starts_at_zero_and_adds_the_input() -> None:
    """The skip alone can produce the velocity of pure noise at t = 1000 with one weight per channel."""
    torch.manual_seed(0)
    plain = MiniUNet(channels=(8, 16), encoder_blocks=(1, 1), decoder_blocks=(1,))
    skipping = MiniUNet(channels=(8, 16), encoder_blocks=(1, 1), decoder_blocks=(1,), learned_skip=True)
    missing = skipping.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert missing == ["skip.weight", "skip.bias"]
    z, t, labels = torch.randn(2, 48, 8, 8), torch.tensor([1000.0, 1000.0]), torch.zeros(2, dtype=torch.int64)
    assert torch.equal(skipping(z, t, labels), plain(z, t, labels))
    with torch.no_grad():
        skipping.skip.bias.fill_(1.0)
    torch.testing.assert_close(skipping(z, t, labels), plain(z, t, labels) + z)


def test_a_grown_network_computes_the_same_function_before_training() -> None:
    z = torch.randn(2, 48, 8, 12)
    plain = MiniUNet(channels=(8, 16), encoder_blocks=(1, 1), decoder_blocks=(1,), embed_dim=16)
    for before, changes in (
        (plain, {"fine_channels": 8}),
        (plain, {"encoder_blocks": (3, 1), "decoder_blocks": (2,)}),
        (plain, {"learned_skip": True}),
    ):
        torch.nn.init.normal_(before.conv_out.weight, std=0.1)
        after = expand_network(before, changes)
        assert run(before, z).abs().max() > 0.1
        assert torch.equal(run(after, z), run(before, z))
        after.requires_grad_()
        after(z, torch.full((2,), 1000.0), torch.zeros(2, dtype=torch.int64)).square().mean().backward()
        new = dict(after.named_parameters()).keys() - dict(before.named_parameters()).keys()
        assert any(after.get_parameter(name).grad.abs().max() > 0 for name in new)  # and it can be trained


def test_a_network_neither_shrinks_nor_changes_its_width() -> None:
    network = MiniUNet(channels=(8, 16), encoder_blocks=(2, 1), decoder_blocks=(1,), embed_dim=16)
    with pytest.raises(ConfigError, match="cannot shrink"):
        expand_network(network, {"encoder_blocks": (1, 1)})
    with pytest.raises(ConfigError, match="cannot grow"):
        expand_network(network, {"channels": (12, 16)})
