from __future__ import annotations

import torch

from tsdsr.diffusion.losses import pixel_reconstruction_loss


def test_terms_are_weighted_and_summed() -> None:
    x_hat = torch.full((2, 3, 4, 4), 0.75, requires_grad=True)
    x_hq = torch.full((2, 3, 4, 4), 0.25)
    terms = pixel_reconstruction_loss(x_hat, x_hq, lambda a, b: (a - b).square().mean(), 2.0, 4.0)
    assert terms.l1.item() == 0.5
    assert terms.perceptual.item() == 0.25
    assert terms.total.item() == 2 * 0.5 + 4 * 0.25
    terms.total.backward()
    # d/dx [2 |d| + 4 d^2] / n with d = 0.5
    torch.testing.assert_close(x_hat.grad, torch.full_like(x_hat, (2 + 4) / x_hat.numel()))


def test_without_perceptual_only_l1_remains() -> None:
    x = torch.rand(1, 3, 4, 4)
    terms = pixel_reconstruction_loss(x, x, None)
    assert terms.total.item() == terms.perceptual.item() == 0
