"""Score models on held-out photographs with five kinds of degradation; `mini` is selected by these scores.

    python benchmarks/heldout.py make PHOTOS -o heldout
    python benchmarks/heldout.py score heldout plain=bicubic new=mini --results restored    # pip install '.[eval]'

The photographs are those that the recipes hold out, so no training uses them. The sets:

    camera  sharp photographs with lens blur, little noise, some sharpening and mild JPEG compression
    soft    the same from photographs enlarged by 1.4, which are as soft as a camera's own pixels
    raw     "soft" through a simulated sensor: blur in linear light, colour mosaic, photon noise, demosaicing
    twin    one scene taken twice, with a long and a short lens; the ground truth has passed through a sensor too, and
            the two are slightly misaligned, as in benchmarks of real photographs
    harsh   the `osediff` preset

`twin` follows what is known about such benchmarks; it is not fitted to any of them.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor

from recipes.mini_trials import LONG_LENS
from tsdsr.data.camera import CameraDegradation
from tsdsr.data.datasets import CropSettings, cut_crop
from tsdsr.data.degradation_presets import PRESETS
from tsdsr.data.second_order import SecondOrderDegradation
from tsdsr.data.sources import open_source
from tsdsr.evaluation.metrics import select_metrics
from tsdsr.evaluation.scorer import ScoringSettings
from tsdsr.evaluation.scoring import evaluate
from tsdsr.images.reading import read_rgb
from tsdsr.pipeline.diffusers_loading import load_diffusers_pipeline
from tsdsr.pixels import to_tensor, to_uint8
from tsdsr.recipes.mini import CAMERA, mini_v2
from tsdsr.resize import upsample_bicubic
from tsdsr.training.build import split_sources
from tsdsr.training.monitors import grid_excess

EDGE, SCALE, SOFTENING = 512, 4, 1.4
SMALL = (EDGE // SCALE, EDGE // SCALE)
METRICS = ("psnr", "lpips", "dists", "niqe")

SHORT_LENS = dataclasses.replace(LONG_LENS, blur_sigma=(1.2, 2.8))

Pair = tuple[Tensor, Tensor]
"""LQ image (3, 128, 128) and ground truth (3, 512, 512), in [0, 1]."""


def softened(sharp: Tensor, rng: np.random.Generator) -> Tensor:
    """Return the centre of a crop enlarged by 1.4, with slight grain."""
    edge = round(EDGE / SOFTENING)
    begin = (EDGE - edge) // 2
    soft = upsample_bicubic(sharp[None, :, begin : begin + edge, begin : begin + edge], (EDGE, EDGE))[0]
    grain = torch.from_numpy(rng.standard_normal((3, EDGE, EDGE), dtype=np.float32))
    return (soft + grain * (rng.uniform(0.3, 1.5) / 255)).clamp(0, 1)


def camera(sharp: Tensor, rng: np.random.Generator) -> Pair:
    return CAMERA(sharp, SMALL, rng), sharp


def soft(sharp: Tensor, rng: np.random.Generator) -> Pair:
    truth = softened(sharp, rng)
    return CAMERA(truth, SMALL, rng), truth


def raw(sharp: Tensor, rng: np.random.Generator) -> Pair:
    truth = softened(sharp, rng)
    return CameraDegradation()(truth, SMALL, rng), truth


def twin(sharp: Tensor, rng: np.random.Generator) -> Pair:
    truth = LONG_LENS(softened(sharp, rng), (EDGE, EDGE), rng)
    return SHORT_LENS(shifted(softened(sharp, rng), rng), SMALL, rng), truth


def shifted(scene: Tensor, rng: np.random.Generator) -> Tensor:
    """Shift a scene (3, H, W) by up to a pixel and shear it by up to a thousandth, like imperfect registration."""
    matrix = np.eye(2) + rng.uniform(-1e-3, 1e-3, (2, 2))
    move = rng.uniform(-1, 1, (2, 1)) * 2 / EDGE
    theta = torch.from_numpy(np.concatenate([matrix, move], 1)).float()[None]
    grid = F.affine_grid(theta, [1, 3, *scene.shape[-2:]], align_corners=False)
    moved = F.grid_sample(scene[None], grid, mode="bicubic", padding_mode="reflection", align_corners=False)
    return moved[0].clamp(0, 1)


def harsh(sharp: Tensor, rng: np.random.Generator) -> Pair:
    recipe = SecondOrderDegradation(PRESETS["osediff"])
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    return recipe.apply(sharp[None], [recipe.draw((EDGE, EDGE), generator, SMALL)])[0], sharp


SETS: dict[str, Callable[[Tensor, np.random.Generator], Pair]] = {
    "camera": camera, "soft": soft, "raw": raw, "twin": twin, "harsh": harsh,
}  # fmt: skip


def held_out(photos: str) -> Iterator[np.ndarray]:
    """Read the photographs (H, W, 3) that the recipes hold out, in order of name, without those that are too small."""
    _, held = split_sources([open_source(photos)], mini_v2().validation_share, limit=10_000)
    return (photo for photo in map(read_rgb, held) if min(photo.shape[:2]) >= EDGE)


def make(photos: str, output: Path, count: int) -> None:
    """Write every set as ``<set>/lr`` and ``<set>/hr``."""
    usable = list(islice(held_out(photos), count))
    crops = CropSettings(size=EDGE, shrink_prob=0.0, rotate=False, flip=False, min_std=0.08)
    for name, degrade in SETS.items():
        for number, photo in enumerate(usable):
            sharp = cut_crop(lambda p=photo: p, crops, np.random.default_rng((7, number)))
            pair = degrade(sharp, np.random.default_rng((8, number, list(SETS).index(name))))
            for folder, image in zip(("lr", "hr"), pair, strict=True):
                save(image, output / name / folder / f"{number:02d}.png")
    print(f"{len(usable)} photographs in {len(SETS)} sets below {output}")


def score(root: Path, models: dict[str, str], sets: list[str], results: Path) -> None:
    """Restore every set with every model into ``results/<model>/<set>``; print a table per set with 4/8-pixel grids."""
    for which in sets:
        folders = {name: results / name / which for name in models}
        for name, model in models.items():
            enlarged = enlargement(model)
            for path in sorted((root / which / "lr").glob("*.png")):
                save(enlarged(load(path))[0], folders[name] / path.name)
        truth = root / which / "hr"
        found = evaluate(folders, truth, ScoringSettings(select_metrics(METRICS)))
        table = Table("", *METRICS, "grid 4, dB", "grid 8, dB", title=which)
        table.add_row("truth", *("" for _ in METRICS), *grids(truth))
        for scores in found.systems:
            means = (f"{scores.scores[metric].mean:.4f}" for metric in METRICS)
            table.add_row(scores.name, *means, *grids(folders[scores.name]))
        Console().print(table)


def enlargement(model: str) -> Callable[[Tensor], Tensor]:
    """Return a function that enlarges (1, 3, h, w) to (1, 3, 4h, 4w): "bicubic", or a model."""
    if model == "bicubic":
        return lambda x: upsample_bicubic(x, (SCALE * x.shape[-2], SCALE * x.shape[-1])).clamp(0, 1)
    pipe = load_diffusers_pipeline(model, "cpu", "fp32")
    return lambda x: pipe(x, scale=SCALE).images


def grids(folder: Path) -> list[str]:
    found = grid_excess(map(load, sorted(folder.glob("*.png"))), (4, 8))
    return [f"{excess:.1f}" for excess in found.values()]


def save(image: Tensor, path: Path) -> None:
    """Write (3, H, W) in [0, 1] with 8 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(to_uint8(image)).save(path)


def load(path: Path) -> Tensor:
    """Read an image as (1, 3, H, W) in [0, 1]."""
    return to_tensor(read_rgb(path))[None]


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
    tested.add_argument("--results", type=Path, required=True, help="where restored pictures go")
    args = parser.parse_args()
    if args.command == "make":
        make(args.photos, args.output, args.count)
    else:
        score(args.root, dict(m.split("=", 1) for m in args.models), args.sets, args.results)


if __name__ == "__main__":
    main()
