"""Difference between tiled and untiled results of an autoencoder with GroupNorm, by source of the statistics.

    python benchmarks/normalisation.py --steps 500 --size 768 --tile 256

A small ``AutoencoderKL`` of the real class is trained for a few minutes on photographs of scikit-image, because random
weights turn any image into noise. It then encodes and decodes other images, whole and in tiles, without a denoiser.
The statistics are those of each tile; of the image reduced to the area of a tile (as in the pipeline); or of the whole
image (the best result of fixed statistics).
"""

from __future__ import annotations

import argparse
import json
import math
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import skimage.data
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from tsdsr.devices import TorchDevice
from tsdsr.models.groupnorm import SharedGroupNorms
from tsdsr.pipeline.options import ColorFix
from tsdsr.pipeline.stream import EnlargedImage, TileStream
from tsdsr.pipeline.tile_plan import TilePlan
from tsdsr.pixels import to_tensor

TRAINING = (skimage.data.rocket, skimage.data.cat, skimage.data.retina, skimage.data.immunohistochemistry)
TEST = {"astronaut": skimage.data.astronaut, "coffee": skimage.data.coffee}


def train(steps: int) -> AutoencoderKL:
    """Train a small autoencoder (downsampling by 8) for ``steps`` steps on four crops of 96 pixels."""
    torch.manual_seed(0)
    vae = AutoencoderKL(
        block_out_channels=(16, 16, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=16,
        norm_num_groups=8,
    )
    photos, rng = [to_tensor(load())[None] * 2 - 1 for load in TRAINING], np.random.default_rng(0)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for _ in range(steps):
        crops = []
        for photo in (photos[i] for i in rng.integers(len(photos), size=4)):
            y, x = (int(rng.integers(length - 96)) for length in photo.shape[-2:])
            crops.append(photo[..., y : y + 96, x : x + 96])
        batch = torch.cat(crops)
        loss = F.l1_loss(vae.decode(vae.encode(batch).latent_dist.mode()).sample, batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return vae.eval()


@torch.no_grad()
def compare(
    vae: AutoencoderKL, x: Tensor, size: int, tile: int, overlap: int, color_fix: ColorFix
) -> dict[str, tuple[float, float]]:
    """Return PSNR in dB between tiled and untiled results and the largest difference in grey levels, by statistics."""

    def restore(windows: Tensor) -> Tensor:
        decoded: Tensor = vae.decode(vae.encode(windows * 2 - 1).latent_dist.mode()).sample / 2 + 0.5
        return decoded

    image = EnlargedImage(x, (size, size), 16, TorchDevice(torch.device("cpu")))
    norms = SharedGroupNorms(vae)

    def run(plan: TilePlan, held: bool) -> Tensor:
        canvas = torch.empty(1, 3, size, size)
        with norms.held() if held else nullcontext():
            tiles = TileStream(image, canvas, plan, color_fix)
            for group in tiles:
                tiles.put(group, restore(group.windows))
            tiles.close()
        return canvas

    plan, found = TilePlan(tile, overlap, 1, tile), {}
    whole = run(TilePlan(), False)
    for name in ("own", "reduced", "whole"):
        if name == "reduced":
            with norms.measured():
                restore(image.reduced(tile))
        elif name == "whole":
            with norms.measured():
                run(TilePlan(), False)
        error = run(plan, name != "own") - whole
        psnr = -10 * math.log10(float(error.square().mean()))
        found[name] = (round(psnr, 1), round(255 * float(error.abs().max()), 1))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--size", type=int, default=768)
    parser.add_argument("--tile", type=int, default=256)
    parser.add_argument("--overlap", type=int, default=96)
    parser.add_argument("--autoencoder", type=Path, help="a folder of a trained one, instead of training")
    args = parser.parse_args()
    vae = AutoencoderKL.from_pretrained(args.autoencoder) if args.autoencoder else train(args.steps)
    edge = args.size // 4
    images = {name: to_tensor(load()[60 : 60 + edge, 100 : 100 + edge])[None] for name, load in TEST.items()}
    images["gradient"] = torch.linspace(0.1, 0.9, edge).expand(1, 3, edge, edge) * torch.linspace(0.6, 1, edge)[:, None]
    images["flat"] = torch.full((1, 3, edge, edge), 0.5)
    for name, x in images.items():
        for color_fix in ("none", "wavelet"):
            found = compare(vae, x, args.size, args.tile, args.overlap, color_fix)
            print(json.dumps({"image": name, "color_fix": color_fix, "psnr_and_largest": found}), flush=True)


if __name__ == "__main__":
    main()
