"""Optional adversarial loss in latent space: a small discriminator on latents or on the fake network's features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from tsdsr.diffusion.process import NoiseProcess
from tsdsr.errors import ModelError
from tsdsr.models.conditioning import Conditioning
from tsdsr.models.denoiser import as_denoiser
from tsdsr.training.network_layouts import layout_of
from tsdsr.training.networks import ScoreNetworks
from tsdsr.training.sample_rng import SampleRNG
from tsdsr.training.sharding import keep_gathered

_STREAM = 21


class Adversary(ABC):
    """A discriminator and the features it classifies.

    Args:
        head (nn.Module): computes logits from :meth:`features`.
    """

    def __init__(self, head: nn.Module) -> None:
        self.head = head

    @abstractmethod
    def features(self, z: Tensor, items: Sequence[int], prompt: Conditioning) -> Tensor | tuple[Tensor, ...]:
        """Compute the head's input from latents (B, C, h, w); ``items`` are the sample numbers."""

    def generator_loss(self, z_hat: Tensor, items: Sequence[int], prompt: Conditioning) -> Tensor:
        """Compute the student's adversarial loss."""
        return generator_loss(self.head(self.features(z_hat, items, prompt)))


class FeatureAdversary(Adversary):
    """Classify the fake network's features of noised latents.

    Args:
        scores (ScoreNetworks): contains the fake network.
        process (NoiseProcess): adds noise to the latents.
        seed (int): seed for the head's initial weights and for the noise.
    """

    def __init__(self, scores: ScoreNetworks, process: NoiseProcess, seed: int) -> None:
        self.scores, self.process, self.seed = scores, process, seed
        self.layer, channels, self.text_first = feature_layer(scores.fake)
        with seeded(seed):
            super().__init__(Discriminator(channels))

    def features(self, z: Tensor, items: Sequence[int], prompt: Conditioning) -> Tensor:
        """Add noise at a moderate time drawn per sample, and compute the fake network's features.

        The fake is the active role afterwards, as the backward pass needs it.
        """
        draws = SampleRNG(self.seed, _STREAM, items)
        t = self.process.time_at(draws.integers(400, 950)).to(z.device)
        z_t = self.process.add_noise(z, draws.normal(z.shape[1:], z), t)
        network = self.scores.network("fake")
        with captured(self.layer) as outputs:
            as_denoiser(network)(z_t, t, prompt)
        if z.requires_grad:
            keep_gathered(network)  # the backward pass does not begin at its end, where it would be gathered again
        if self.text_first:
            return outputs[0][:, Conditioning.require(prompt.prompt_embeds, "prompt_embeds").shape[1] :]
        return outputs[0]


class LatentAdversary(Adversary):
    """Classify the latents themselves, without noise. Needs neither teacher nor fake network.

    In a space-to-depth latent space the head sees every pixel; the channel gives its position in the grid.

    Args:
        channels (int): latent channels.
        seed (int): seed for the head's initial weights.
    """

    def __init__(self, channels: int, seed: int) -> None:
        with seeded(seed):
            super().__init__(LatentDiscriminator(channels))

    def features(self, z: Tensor, items: Sequence[int], prompt: Conditioning) -> Tensor:
        return z


class LatentDiscriminator(nn.Module):
    """Patch discriminator on latents: convolutions with spectral normalisation (Miyato et al. 2018).

    Args:
        channels (int): latent channels.
        hidden (int): width of the first half; the second half is twice as wide.
    """

    def __init__(self, channels: int, hidden: int = 96) -> None:
        super().__init__()
        widths = ((channels, hidden, 1), (hidden, hidden, 1), (hidden, 2 * hidden, 2), (2 * hidden, 2 * hidden, 1))
        layers: list[nn.Module] = []
        for before, after, stride in widths:
            layers += [spectral_norm(nn.Conv2d(before, after, 3, stride, padding=1)), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers)
        self.out = nn.Conv2d(2 * hidden, 1, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """Map latents (B, C, h, w) to logits of "real", (B, positions)."""
        logits: Tensor = self.out(self.layers(z)).flatten(1).float()
        return logits


class Discriminator(nn.Module):
    """Small head on feature maps or tokens: normalise, mix channels, classify every position.

    Args:
        channels (int): width of the features.
        hidden (int): width of the hidden layer.
    """

    def __init__(self, channels: int, hidden: int = 128) -> None:
        super().__init__()
        self.head = nn.Sequential(
            nn.LayerNorm(channels, elementwise_affine=False),
            nn.Linear(channels, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, 1),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, C, h, w) or (B, tokens, C) to logits of "real", (B, positions)."""
        tokens = features.flatten(2).transpose(1, 2) if features.ndim == 4 else features
        logits: Tensor = self.head(tokens.float())[..., 0]
        return logits


def feature_layer(network: nn.Module) -> tuple[nn.Module, int, bool]:
    """Return the module whose output the discriminator receives, its width, and whether text tokens come first in it.

    Raises:
        ModelError: unknown kind of network.
    """
    layout = layout_of(network)
    if layout is None or layout.features is None:
        raise ModelError(f"no discriminator features are known for {type(network).__name__}")
    return *layout.features(network), layout.text_first


@contextmanager
def captured(layer: nn.Module) -> Iterator[list[Tensor]]:
    """Collect a layer's outputs within the block. Of several outputs, keep the last: the image stream of MMDiT."""
    outputs: list[Tensor] = []

    def hook(module: nn.Module, inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
        outputs.append(output if isinstance(output, Tensor) else output[-1])

    handle = layer.register_forward_hook(hook)
    try:
        yield outputs
    finally:
        handle.remove()


def generator_loss(fake_logits: Tensor) -> Tensor:
    """Non-saturating loss ``mean softplus(-D(z_hat))``; gradients reach ``z_hat`` through the features."""
    return F.softplus(-fake_logits).mean()


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Discriminator loss ``mean softplus(-D(z_hq)) + mean softplus(D(z_hat))``."""
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def with_gradient(loss: Tensor, z_hat: Tensor, gradient: Tensor, relative: bool = False) -> Tensor:
    """Return a scalar with the value of ``loss`` and the given gradient at ``z_hat``, both without a graph.

    If relative, the gradient is scaled to the norm of that of ``z_hat.abs().mean()``.
    """
    if relative:
        gradient = gradient / (gradient.norm() * z_hat.numel() ** 0.5).clamp(min=1e-12)
    return loss + ((z_hat - z_hat.detach()) * gradient).sum()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's global generator within the block and restore its state afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
