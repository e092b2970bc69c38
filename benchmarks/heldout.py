"""Held-out photographs, degraded in five ways, and models scored on them: what `mini` is chosen by.

    python benchmarks/heldout.py make PHOTOS -o heldout
    python benchmarks/heldout.py score heldout old=bicubic new=mini    # pip install 'tsdsr[train,eval]'

The photographs are those the recipes hold out, so no training sees them. The sets:

    camera  sharp photographs, lens blur, little noise, some sharpening, mild JPEG
    soft    the same from photographs enlarged by 1.4, as soft as a camera's own pixels
    raw     "soft" behind a simulated sensor: blur in linear light, colour mosaic, photon noise, demosaicing
    twin    one scene taken twice, by a long and a short lens: the truth, too, went through a sensor, and the two do not
            quite meet; how benchmarks of real photographs are made
    harsh   the `osediff` preset

`twin` is made by what is known of such benchmarks, not fitted to any.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor

from tsdsr.data.camera import CameraDegradation
from tsdsr.data.datasets import CropSettings, cut_crop, decode
from tsdsr.data.degradation import Degradation
from tsdsr.data.settings import PRESETS
from tsdsr.data.sources import open_source
from tsdsr.pipeline.loading import load_pipeline
from tsdsr.recipes.mini import CAMERA, LONG_LENS
from tsdsr.resize import upsample_bicubic
from tsdsr.training.monitors import grid_excess
from tsdsr.training.setup import split_sources

EDGE, SCALE, SHARE = 512, 4, 0.06
SOFTENING = 1.4

SHORT_LENS = dataclasses.replace(LONG_LENS, blur_sigma=(1.2, 2.8))

Metric = Callable[..., Tensor]

Pair = tuple[Tensor, Tensor]
"""Low quality (3, 128, 128) and truth (3, 512, 512), in [0, 1]."""


def low(edge: int = EDGE) -> tuple[int, int]:
    return edge // SCALE, edge // SCALE


def softened(sharp: Tensor, rng: np.random.Generator) -> Tensor:
    """The middle of a crop enlarged by 1.4, with slight grain."""
    edge = round(EDGE / SOFTENING)
    begin = (EDGE - edge) // 2
    soft = upsample_bicubic(sharp[None, :, begin : begin + edge, begin : begin + edge], (EDGE, EDGE))[0]
    grain = torch.from_numpy(rng.standard_normal((3, EDGE, EDGE), dtype=np.float32))
    return (soft + grain * (rng.uniform(0.3, 1.5) / 255)).clamp(0, 1)


def camera(sharp: Tensor, rng: np.random.Generator) -> Pair:
    return CAMERA(sharp, low(), rng), sharp


def soft(sharp: Tensor, rng: np.random.Generator) -> Pair:
    truth = softened(sharp, rng)
    return CAMERA(truth, low(), rng), truth


def raw(sharp: Tensor, rng: np.random.Generator) -> Pair:
    truth = softened(sharp, rng)
    return CameraDegradation()(truth, low(), rng), truth


def twin(sharp: Tensor, rng: np.random.Generator) -> Pair:
    truth = LONG_LENS(softened(sharp, rng), (EDGE, EDGE), rng)
    return SHORT_LENS(shifted(softened(sharp, rng), rng), low(), rng), truth


def shifted(scene: Tensor, rng: np.random.Generator) -> Tensor:
    """A scene (3, H, W) moved by up to a pixel and sheared by up to a thousandth, as registration leaves it."""
    matrix = np.eye(2) + rng.uniform(-1e-3, 1e-3, (2, 2))
    move = rng.uniform(-1, 1, (2, 1)) * 2 / EDGE
    theta = torch.from_numpy(np.concatenate([matrix, move], 1)).float()[None]
    grid = F.affine_grid(theta, [1, 3, *scene.shape[-2:]], align_corners=False)
    moved = F.grid_sample(scene[None], grid, mode="bicubic", padding_mode="reflection", align_corners=False)
    return moved[0].clamp(0, 1)


def harsh(sharp: Tensor, rng: np.random.Generator) -> Pair:
    recipe = Degradation(PRESETS["osediff"])
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    return recipe.apply(sharp[None], [recipe.draw((EDGE, EDGE), generator, low())])[0], sharp


SETS: dict[str, Callable[[Tensor, np.random.Generator], Pair]] = {
    "camera": camera, "soft": soft, "raw": raw, "twin": twin, "harsh": harsh,
}  # fmt: skip


def make(photos: str, output: Path, count: int) -> None:
    """Write every set as ``<set>/lr`` and ``<set>/hr``."""
    _, held = split_sources([open_source(photos)], SHARE, limit=10_000)
    usable = [photo for photo in map(decode, held) if min(photo.shape[:2]) >= EDGE][:count]
    crops = CropSettings(size=EDGE, shrink_prob=0.0, rotate=False, flip=False, min_std=0.08)
    for name, degrade in SETS.items():
        for number, photo in enumerate(usable):
            sharp = cut_crop(lambda p=photo: p, crops, np.random.default_rng((7, number)))
            pair = degrade(sharp, np.random.default_rng((8, number, list(SETS).index(name))))
            for folder, image in zip(("lr", "hr"), pair, strict=True):
                save(image, output / name / folder / f"{number:02d}.png")
    print(f"{len(usable)} photographs in {len(SETS)} sets below {output}")


def score(root: Path, models: dict[str, str], sets: list[str], results: Path | None) -> None:
    """A table a set: PSNR (dB, RGB), LPIPS, DISTS, NIQE, grid of 4 and 8 pixels (dB) of every model."""
    import pyiqa

    metrics = {name: pyiqa.create_metric(name, device="cpu") for name in ("lpips", "dists", "niqe")}
    systems = {name: system(model) for name, model in models.items()}
    for which in sets:
        truths = {path.name: load(path) for path in sorted((root / which / "hr").glob("*.png"))}
        inputs = {name: load(root / which / "lr" / name) for name in truths}
        table = Table("", "PSNR", *(name.upper() for name in metrics), "grid 4", "grid 8", title=which)
        grids = grid_excess(truths.values(), (4, 8))
        table.add_row("truth", "", "", "", "", *(f"{grids[p]:.1f}" for p in (4, 8)))
        for name, enlarged in systems.items():
            restored = {file: rounded(enlarged(x)) for file, x in inputs.items()}
            rows = list(scored(restored, truths, metrics))
            grids = grid_excess(restored.values(), (4, 8))
            table.add_row(name, *(f"{v:.4f}" for v in np.mean(rows, 0)), *(f"{grids[p]:.1f}" for p in (4, 8)))
            for file, image in restored.items() if results else ():
                save(image[0], results / name / which / file)  # type: ignore[operator]
        Console(width=100).print(table)


def system(model: str) -> Callable[[Tensor], Tensor]:
    """What enlarges (1, 3, h, w): "bicubic", or a model."""
    if model == "bicubic":
        return lambda x: upsample_bicubic(x, (EDGE, EDGE))
    pipe = load_pipeline(model, "cpu", "fp32")
    return lambda x: tensor(pipe.upscale_pixels(pixels(x), SCALE))


def scored(
    restored: dict[str, Tensor], truths: dict[str, Tensor], metrics: dict[str, Callable]
) -> Iterator[list[float]]:  # type: ignore[type-arg]
    """PSNR and ``metrics`` of each pair."""
    for file, x in restored.items():
        truth = truths[file]
        with torch.no_grad():
            values = [float(m(x) if name == "niqe" else m(x, truth)) for name, m in metrics.items()]
        yield [-10 * math.log10(float((x - truth).square().mean())), *values]


def rounded(x: Tensor) -> Tensor:
    return x.clamp(0, 1).mul(255).round() / 255


def pixels(x: Tensor) -> np.ndarray:
    """(1, 3, H, W) or (3, H, W) in [0, 1] → (H, W, 3) uint8."""
    return x.reshape(-1, *x.shape[-2:]).mul(255).round().byte().permute(1, 2, 0).contiguous().numpy()


def tensor(array: np.ndarray) -> Tensor:
    """The inverse of :func:`pixels`, (1, 3, H, W)."""
    return torch.from_numpy(array).permute(2, 0, 1)[None].float() / 255


def save(image: Tensor, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(image)).save(path)


def load(path: Path) -> Tensor:
    with Image.open(path) as image:
        return tensor(np.array(image.convert("RGB")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    made = commands.add_parser("make")
    made.add_argument("photos")
    made.add_argument("-o", "--output", type=Path, required=True)
    made.add_argument("--count", type=int, default=14)
    tested = commands.add_parser("score")
    tested.add_argument("root", type=Path)
    tested.add_argument("models", nargs="+", metavar="NAME=MODEL")
    tested.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    tested.add_argument("--results", type=Path, help="keep the pictures here")
    args = parser.parse_args()
    if args.command == "make":
        make(args.photos, args.output, args.count)
    else:
        score(args.root, dict(m.split("=", 1) for m in args.models), args.sets, args.results)


if __name__ == "__main__":
    main()
