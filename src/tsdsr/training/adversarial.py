"""An optional adversarial loss in latent space: a light discriminator on the fake network's features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
import torch.nn.functional as F
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from tsdsr.diffusion.process import NoiseProcess
from tsdsr.errors import ModelError
from tsdsr.models.conditioning import Conditioning
from tsdsr.models.denoiser import as_denoiser
from tsdsr.models.mini import MiniUNet
from tsdsr.training.draws import Draws
from tsdsr.training.networks import Scores

_STREAM = 21


class Adversary:
    """The discriminator and what it looks at: features of noised latents inside the fake network.

    Args:
        scores (Scores): holds the fake network.
        process (NoiseProcess): noises the latents.
        seed (int): of the head's initial weights and of the noise.
    """

    def __init__(self, scores: Scores, process: NoiseProcess, seed: int) -> None:
        self.scores, self.process, self.seed = scores, process, seed
        self.layer, channels = feature_layer(scores.fake)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.head = Discriminator(channels)

    def features(self, z: Tensor, items: Sequence[int], prompt: Conditioning) -> Tensor:
        """What the fake network makes of latents (B, C, h, w), noised at moderate times of the samples' own.

        The fake network must be the active role: switching to it here would thaw it within :meth:`held`.
        """
        draws = Draws(self.seed, _STREAM, items)
        t = self.process.time_at(draws.integers(400, 950)).to(z.device)
        z_t = self.process.add_noise(z, draws.normal(z.shape[1:], z), t)
        with captured(self.layer) as outputs:
            as_denoiser(self.scores.fake)(z_t, t, prompt)
        return outputs[0]

    def generator_loss(self, z_hat: Tensor, items: Sequence[int], prompt: Conditioning) -> Tensor:
        """The student's part; call within :meth:`held`."""
        return generator_loss(self.head(self.features(z_hat, items, prompt)))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Gradients pass through fake network and head without being collected in them; holds for the backward too,
        which may compute activations anew.
        """
        with ExitStack() as stack:
            stack.enter_context(frozen(self.scores.network("fake")))
            stack.enter_context(frozen(self.head))
            yield


class Discriminator(nn.Module):
    """A small head on feature maps or tokens: normalise, mix channels, judge every position.

    Args:
        channels (int): width of the features.
        hidden (int): width inside.
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
        """Features (B, C, h, w) or (B, tokens, C) → logits of "real", (B, positions)."""
        tokens = features.flatten(2).transpose(1, 2) if features.ndim == 4 else features
        logits: Tensor = self.head(tokens.float())[..., 0]
        return logits


def feature_layer(network: nn.Module) -> tuple[nn.Module, int]:
    """The module whose output the discriminator looks at, and its width.

    Raises:
        ModelError: unknown kind of network.
    """
    if isinstance(network, SD3Transformer2DModel):
        blocks = network.transformer_blocks
        return blocks[len(blocks) // 2], int(network.inner_dim)
    if isinstance(network, UNet2DConditionModel):
        return network.mid_block, int(network.config["block_out_channels"][-1])
    if isinstance(network, MiniUNet):
        return network.encoder[-1], int(network.config["channels"][-1])
    raise ModelError(f"no discriminator features are known for {type(network).__name__}")


@contextmanager
def captured(layer: nn.Module) -> Iterator[list[Tensor]]:
    """Collect a layer's outputs within the block; of several outputs the last, which is the image stream of MMDiT."""
    outputs: list[Tensor] = []

    def hook(module: nn.Module, inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
        outputs.append(output if isinstance(output, Tensor) else output[-1])

    handle = layer.register_forward_hook(hook)
    try:
        yield outputs
    finally:
        handle.remove()


def generator_loss(fake_logits: Tensor) -> Tensor:
    """Non-saturating: ``mean softplus(-D(z_hat))``; gradients reach ``z_hat`` through the features."""
    return F.softplus(-fake_logits).mean()


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """``mean softplus(-D(z_hq)) + mean softplus(D(z_hat))``."""
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Within the block gradients pass through the module without being collected in it."""
    kept = [p for p in module.parameters() if p.requires_grad]
    for parameter in kept:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in kept:
            parameter.requires_grad_(True)
