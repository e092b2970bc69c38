"""Fixtures: tiny models of the real classes, photographs from scikit-image, outputs of the released code."""

from __future__ import annotations

import gc
import multiprocessing
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    Flux2Transformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
)
from PIL import Image
from safetensors.torch import load_file, save_file

import tsdsr.evaluation.scorer as scorer
from tests.chromium import browser  # noqa: F401  (a fixture)
from tsdsr.models.conditioning import Conditioning
from tsdsr.models.fixed_prompt import FixedPrompt
from tsdsr.models.mini import MiniUNet
from tsdsr.models.zoo import MINI
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline
from tsdsr.pixels import to_tensor

collect_ignore = ["light"]
"""Tests for an environment without torch: ``make test-light``."""

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # its reports leave processes behind a test

REFERENCE = Path(__file__).resolve().parent / "reference"


def pytest_collection_finish() -> None:
    """Take what is imported out of garbage collections: it stays, and each full one takes a second of it."""
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what is marked `cuda` on machines without such a device."""
    if item.get_closest_marker("cuda") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from tests.sharing_out import SharingOut

    return SharingOut(config, log)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _no_process_left() -> Iterator[None]:
    """A forked process holds the pipes that were open here. While it lives, who waits for their end waits for ever."""
    yield
    assert not (left := multiprocessing.active_children()), f"the test leaves processes behind: {left}"


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the released code's outputs on a tiny model, see tests/reference/README.md."""
    return complete_reference(tmp_path_factory.mktemp("reference") / "reference")


def complete_reference(folder: Path) -> Path:
    """Copy tests/reference to a new folder, with the constant that its transformer lacks."""
    shutil.copytree(REFERENCE, folder)
    transformer = folder / "tiny_sd3" / "transformer"
    weights = transformer / "diffusion_pytorch_model.safetensors"
    made = SD3Transformer2DModel.from_config(SD3Transformer2DModel.load_config(transformer))
    embedding = {"pos_embed.pos_embed": made.pos_embed.pos_embed.contiguous()}
    save_file(load_file(weights) | embedding, weights, metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="session")
def photo() -> Image.Image:
    """A public-domain photograph, 512x512 RGB."""
    return Image.fromarray(skimage.data.astronaut())


@pytest.fixture
def photo_folder(tmp_path: Path) -> Path:
    """Four photographs, one of them in a subfolder."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for name, array in {
        "astronaut.png": skimage.data.astronaut(),
        "coffee.jpg": skimage.data.coffee(),
        "cat.webp": skimage.data.chelsea(),
        "more/rocket.bmp": skimage.data.rocket(),
    }.items():
        Image.fromarray(np.asarray(array)).save(folder / name)
    return folder


@pytest.fixture
def rgb_psnr(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace every metric by PSNR on RGB, without pyiqa."""

    def make_metric(*_: object) -> Callable[[torch.Tensor, torch.Tensor], float]:
        return lambda x_hat, x_hq: float(-10 * torch.log10((x_hat - x_hq).square().mean()))

    monkeypatch.setattr(scorer, "make_metric", make_metric)


def as_batch(image: Image.Image) -> torch.Tensor:
    """Convert a PIL image to a batch (1, 3, H, W), float32 in [0, 1]."""
    return to_tensor(np.asarray(image.convert("RGB")))[None]


def reference_windows(image: Image.Image, edge: int = 112) -> np.ndarray:
    """Cut the top left, centre and bottom right out of a picture, side by side, as the reference stores them."""
    pixels = np.asarray(image, dtype=int)
    last = [length - edge for length in pixels.shape[:2]]
    places = [(y * part // 2, x * part // 2) for y, x in [last] for part in range(3)]
    return np.concatenate([pixels[y : y + edge, x : x + edge] for y, x in places], axis=1)


def randomise(module: torch.nn.Module, std: float = 0.05) -> torch.nn.Module:
    """Add small random values to every parameter, including zero-initialised ones."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * std)
    return module


def tiny_mini(random: bool = True, fine_channels: int = 0) -> MiniUNet:
    network = MiniUNet(
        channels=[8, 16, 16],
        encoder_blocks=[1, 1, 1],
        decoder_blocks=[1, 1],
        embed_dim=16,
        fine_channels=fine_channels,
        fine_blocks=1,
    )
    if random:
        randomise(network)
    return network.eval()


def tiny_vae(channels: int) -> AutoencoderKL:
    torch.manual_seed(2)
    return AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=channels,
        norm_num_groups=4,
        scaling_factor=1.5305,
        shift_factor=0.0609,
    ).eval()


def tiny_mmdit() -> SD3Transformer2DModel:
    torch.manual_seed(3)
    return SD3Transformer2DModel(
        sample_size=32,
        patch_size=2,
        in_channels=16,
        out_channels=16,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=32,
        caption_projection_dim=32,
        pooled_projection_dim=24,
        pos_embed_max_size=64,
    ).eval()


def tiny_flux2(blocks: int = 2) -> Flux2Transformer2DModel:
    """Build a transformer with so many blocks of two streams, and as many of one."""
    torch.manual_seed(7)
    return Flux2Transformer2DModel(
        in_channels=16,
        num_layers=blocks,
        num_single_layers=blocks,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=24,
        timestep_guidance_channels=16,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=False,
    ).eval()


def tiny_flux2_vae(layers: int = 2) -> AutoencoderKLFlux2:
    """Build an autoencoder of 4 channels, ``layers`` blocks a level, whose batch norm has seen something."""
    torch.manual_seed(8)
    vae = AutoencoderKLFlux2(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=layers,
        latent_channels=4,
        norm_num_groups=4,
    )
    vae.bn.running_mean.normal_()
    vae.bn.running_var.uniform_(0.2, 2.0)
    return vae.eval()


def tiny_unet(**changes: Any) -> UNet2DConditionModel:
    """Build a U-Net with two levels and attention at the finest; ``changes`` replace arguments."""
    torch.manual_seed(4)
    settings: dict[str, Any] = {
        "sample_size": 16,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": (8, 16),
        "norm_num_groups": 4,
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "attention_head_dim": 4,
        "cross_attention_dim": 32,
    }
    return UNet2DConditionModel(**settings | changes).eval()


def sd3_prompt() -> Conditioning:
    generator = torch.Generator().manual_seed(5)
    return Conditioning(
        prompt_embeds=torch.randn(1, 6, 32, generator=generator),
        pooled_prompt_embeds=torch.randn(1, 24, generator=generator),
    )


def flux2_prompt() -> Conditioning:
    return Conditioning(prompt_embeds=torch.randn(1, 5, 24, generator=torch.Generator().manual_seed(9)))


def sd2_prompt() -> Conditioning:
    return Conditioning(prompt_embeds=torch.randn(1, 7, 32, generator=torch.Generator().manual_seed(6)))


def mini_prompt() -> Conditioning:
    return Conditioning(labels=torch.zeros(1, dtype=torch.int64))


@pytest.fixture
def mini_pipe() -> OneStepSRPipeline:
    """A tiny `mini` with random weights."""
    return OneStepSRPipeline(tiny_mini(), MINI.make_autoencoder(), FixedPrompt.from_conditioning(mini_prompt()))


@pytest.fixture
def sd3_pipe() -> OneStepSRPipeline:
    """A tiny SD3 with random weights."""
    return OneStepSRPipeline(tiny_mmdit(), tiny_vae(16), FixedPrompt.from_conditioning(sd3_prompt()), model="sd3")


@pytest.fixture
def sd21_pipe() -> OneStepSRPipeline:
    """A tiny SD2.1-base with random weights."""
    return OneStepSRPipeline(tiny_unet(), tiny_vae(4), FixedPrompt.from_conditioning(sd2_prompt()), model="sd21-base")


@pytest.fixture
def flux2_pipe() -> OneStepSRPipeline:
    """A tiny FLUX.2 klein with random weights."""
    prompt = FixedPrompt.from_conditioning(flux2_prompt())
    return OneStepSRPipeline(tiny_flux2(), tiny_flux2_vae(), prompt, model="flux2-klein")
