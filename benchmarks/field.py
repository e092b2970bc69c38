"""Make the field set: held-out photographs, damaged as people's pictures are, with the truth, for blind votes.

    python benchmarks/field.py make PHOTOS -o field    # pip install '.[eval,train,video]'
    python benchmarks/field.py score field NAME=FOLDER…

"make" writes ``hr/KIND_NUMBER.png`` (512×512) and ``lr/KIND_NUMBER.png`` (128×128, the decoded damage), eight of each
kind:

    phone       lens blur in linear light (sigma 0.8 to 2.4), a small sensor's colour mosaic and noise (400 to 5,000
                photons), a guided filter that smears faint detail, sharpening by 0.5 to 1.3, JPEG 80 to 92
    messenger   shrunk by one filter to 1.3 to 2.2 times the final size, JPEG 30 to 60; by another to the final size,
                JPEG 30 to 60 again
    scan        an old print: soft (sigma 1.5 to 2.6), grain of sigma 1.2 to 2.2, strongest in midtones, faint fibres of
                paper, JPEG 75. Colours and contrast stay as they are: a model is not expected to change them
    blur        out of focus: a disc or Gaussian, sigma 2 to 6, in linear light; little noise, JPEG 85 to 95
    video       the last of eight frames of a moving scene, with motion blur, as H.264 with 4:2:0 colour at a low rate
                (rate factor 26 to 34)
    screenshot  moved by up to a pixel, shrunk to 0.85 to 1.5 times the final size (half of them with aliasing),
                sharpened by 0.4 to 1.3 for halos, then brought to the final size by the nearest pixel, which doubles or
                drops rows, or bilinearly; half of them as JPEG 60

Blur, grain and motion are in pixels of the truth, sharpening and rate factors act on the small picture.

The photographs are those that the recipes hold out. Where there are fewer than 48, the largest give two crops, one from
each half and of different kinds. Each crop is the most detailed of six, of original pixels or shrunk by up to 2. Kinds
take turns over the photographs, so that each kind gets every sort of scene. Everything follows from fixed seeds.

"score" prints metrics of folders of restored pictures, and two figures for what metrics miss, in levels of 255: grain
is the mean strength of the finest luma detail where the truth is smooth, fringes that of the finest chroma detail.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from heldout import EDGE, SMALL, held_out, load, save
from tsdsr.data.camera import CameraDegradation, defocus_kernel, smeared, to_linear, to_srgb
from tsdsr.data.first_order import draw_ellipse, gaussian_kernel, sharpened
from tsdsr.data.operators import RESIZE_MODES, ResizeMode, filter2d, jpeg_pillow, luminance, quantise, resize
from tsdsr.errors import InvalidInputError
from tsdsr.evaluation.metrics import select_metrics
from tsdsr.evaluation.scorer import ScoringSettings
from tsdsr.evaluation.scoring import evaluate
from tsdsr.pixels import to_tensor, to_uint8
from tsdsr.training.weave import smoothness, without_finest_detail
from tsdsr.video.codecs import CODECS, require_av

COUNT, DRAWN, LONGEST_SHRINK = 48, 6, 2.0
FRAMES, EXPOSURES = 8, 5
METRICS = ("psnr", "ssim", "lpips", "dists", "niqe")

SMALL_SENSOR = CameraDegradation(
    blur_sigma=(0.8, 2.4),
    photons=(400.0, 5000.0),
    read_noise=(0.001, 0.005),
    gradient_prob=1.0,
    sharpen_prob=0.0,
    jpeg_prob=0.0,
)


def phone(sharp: Tensor, rng: np.random.Generator) -> Tensor:
    taken = SMALL_SENSOR(sharp, SMALL, rng)[None]
    smooth = smeared(taken, rng.uniform(0.02, 0.06))
    return jpeg_pillow(sharpened(smooth, rng.uniform(0.5, 1.3))[0], int(rng.integers(80, 93)))


def messenger(sharp: Tensor, rng: np.random.Generator) -> Tensor:
    first, second = (RESIZE_MODES[i] for i in rng.permutation(len(RESIZE_MODES))[:2])
    between = (round(SMALL[0] * rng.uniform(1.3, 2.2)),) * 2
    sent = jpeg_pillow(shrunk(sharp[None], between, first)[0], int(rng.integers(30, 61)))
    return jpeg_pillow(shrunk(sent[None], SMALL, second)[0], int(rng.integers(30, 61)))


def shrunk(x: Tensor, size: tuple[int, int], mode: ResizeMode = "area") -> Tensor:
    return resize(x, size, mode, antialias=True)


def scan(sharp: Tensor, rng: np.random.Generator) -> Tensor:
    x = blurred(sharp[None], gaussian_kernel(*[rng.uniform(1.5, 2.6)] * 2))
    sigma = rng.uniform(1.2, 2.2)
    grain = filtered_noise([gaussian_kernel(sigma, sigma)], rng)
    angles = rng.uniform(0, np.pi, 3)
    paper = filtered_noise([gaussian_kernel(9.0, 1.5, float(angle)) for angle in angles], rng)
    grey = luminance(x)
    midtones = 0.4 + 2.4 * grey * (1 - grey)
    x = x + grain * midtones * rng.uniform(0.02, 0.045) + paper * rng.uniform(0.006, 0.014)
    return jpeg_pillow(shrunk(x, SMALL)[0], 75)


def filtered_noise(kernels: list[Tensor], rng: np.random.Generator) -> Tensor:
    """Filter white noise by each of the kernels; return the sum (1, 1, EDGE, EDGE) with mean 0 and deviation 1."""
    layers = [filter2d(white(1, (EDGE, EDGE), rng), kernel[None]) for kernel in kernels]
    noise = torch.stack(layers).sum(0)
    return (noise - noise.mean()) / noise.std()


def white(channels: int, size: tuple[int, int], rng: np.random.Generator) -> Tensor:
    return torch.from_numpy(rng.standard_normal((1, channels, *size), dtype=np.float32))


def blurred(x: Tensor, kernel: Tensor) -> Tensor:
    """Blur sRGB images (1, 3, H, W) in linear light."""
    return to_srgb(filter2d(to_linear(x), kernel[None]).clamp(0, 1))


def blur(sharp: Tensor, rng: np.random.Generator) -> Tensor:
    sigma = float(np.exp(rng.uniform(*np.log((2.0, 6.0)))))
    kernel = (
        defocus_kernel(sigma, sigma) if rng.random() < 0.5 else gaussian_kernel(*draw_ellipse((sigma,) * 2, 1, rng))
    )
    x = shrunk(blurred(sharp[None], kernel), SMALL)
    x = x + white(3, SMALL, rng) * (rng.uniform(0.5, 2.5) / 255)
    return jpeg_pillow(x[0], int(rng.integers(85, 96)))


def video(sharp: Tensor, rng: np.random.Generator) -> Tensor:
    angle, speed, shutter = rng.uniform(0, 2 * np.pi), rng.uniform(1, 6), rng.uniform(0.4, 0.9)
    step = speed * np.array([np.sin(angle), np.cos(angle)])
    light = to_linear(sharp[None])
    frames = []
    for number in range(FRAMES):
        moments = number - (FRAMES - 1) + shutter * np.linspace(-0.5, 0.5, EXPOSURES)
        seen = torch.stack([moved_by(light, moment * step) for moment in moments]).mean(0)
        frames.append(to_uint8(to_srgb(shrunk(seen, SMALL))[0]))
    return to_tensor(last_frame(frames, crf=int(rng.integers(26, 35))))


def moved_by(x: Tensor, by: np.ndarray) -> Tensor:
    """Move an image (1, C, H, W) down and right by whole pixels, with its mirror image beyond the border."""
    down, right = (int(v) for v in np.rint(by))
    pad = max(abs(down), abs(right))
    wide = F.pad(x, (pad, pad, pad, pad), mode="reflect")
    return wide[..., pad - down :, pad - right :][..., : x.shape[-2], : x.shape[-1]]


def last_frame(frames: list[np.ndarray], crf: int) -> np.ndarray:
    """Encode frames (H, W, 3) uint8 with x264 in 4:2:0 and return the last one decoded."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        options = {**CODECS["h264"].options(crf, "veryfast"), "threads": "1"}
        stream = container.add_stream("libx264", rate=Fraction(25), options=options)
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as container:
        *_, last = container.decode(video=0)
        pixels: np.ndarray = last.to_ndarray(format="rgb24")
        return pixels


def screenshot(sharp: Tensor, rng: np.random.Generator) -> Tensor:
    down, right = (int(v) for v in rng.integers(-1, 2, 2))
    moved = F.pad(sharp[None], (1, 1, 1, 1), mode="reflect")[..., 1 - down :, 1 - right :][..., :EDGE, :EDGE]
    shown = (round(SMALL[0] * rng.uniform(0.85, 1.5)),) * 2
    x = resize(moved, shown, "bilinear", antialias=bool(rng.random() < 0.5))
    x = sharpened(x, rng.uniform(0.4, 1.3)).clamp(0, 1)
    if rng.random() < 0.5:
        x = F.interpolate(x, SMALL, mode="nearest-exact")
    else:
        x = resize(x, SMALL, "bilinear", antialias=False)
    return jpeg_pillow(x[0], 60) if rng.random() < 0.5 else quantise(x[0])


KINDS: dict[str, Callable[[Tensor, np.random.Generator], Tensor]] = {
    "phone": phone, "messenger": messenger, "scan": scan, "blur": blur, "video": video, "screenshot": screenshot,
}  # fmt: skip
"""Each makes the small picture (3, 128, 128) on the 8-bit grid of [0, 1] from the truth (3, 512, 512)."""


def places(photos: list[np.ndarray], count: int) -> Iterator[tuple[str, np.ndarray]]:
    """Choose ``count`` kinds and photographs (H, W, 3); the largest photographs come in halves if there are too few.

    Kinds take turns. The two halves of a photograph have different kinds.

    Raises:
        InvalidInputError: the photographs do not suffice.
    """
    kinds = [list(KINDS)[i % len(KINDS)] for i in range(count)]
    used = photos[:count]
    halves: list[np.ndarray] = []
    rest = sorted((i for i, p in enumerate(used) if max(p.shape[:2]) >= 2 * EDGE), key=lambda i: -used[i].size)
    for kind in kinds[len(used) :]:
        chosen = next((i for i in rest if kinds[i] != kind), None)
        if chosen is None:
            raise InvalidInputError(
                f"{len(photos)} photographs are held out and large enough, too few for {count} crops"
            )
        rest.remove(chosen)
        axis = int(np.argmax(used[chosen].shape[:2]))
        used[chosen], half = np.array_split(used[chosen], 2, axis)
        halves.append(half)
    yield from zip(kinds, [*used, *halves], strict=True)


def detailed_crop(photo: np.ndarray, rng: np.random.Generator) -> Tensor:
    """Draw crops (3, EDGE, EDGE) of original or shrunk pixels and return the one with the most detail.

    Detail is the mean absolute difference of the luminance from itself blurred by a Gaussian of 2 pixels.
    """
    crops = []
    height, width = photo.shape[:2]
    for _ in range(DRAWN):
        side = round(EDGE * rng.uniform(1, min(LONGEST_SHRINK, min(height, width) / EDGE)))
        y, x = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
        cut = to_tensor(photo[y : y + side, x : x + side])[None]
        crops.append(shrunk(cut, (EDGE, EDGE), "bicubic").clamp(0, 1)[0])
    return max(crops, key=lambda crop: detail(crop[None]))


def detail(x: Tensor) -> float:
    grey = luminance(x)
    return float((grey - filter2d(grey, gaussian_kernel(2.0, 2.0)[None])).abs().mean())


def make(photos: str, output: Path, count: int = COUNT) -> None:
    """Write ``lr`` and ``hr``."""
    require_av()
    numbers = dict.fromkeys(KINDS, 0)
    for number, (kind, photo) in enumerate(places(list(held_out(photos)), count)):
        sharp = detailed_crop(photo, np.random.default_rng((21, number)))
        name = f"{kind}_{numbers[kind]}.png"
        numbers[kind] += 1
        save(sharp, output / "hr" / name)
        save(KINDS[kind](quantise(sharp), np.random.default_rng((22, number))), output / "lr" / name)
    print(f"{count} pictures below {output}")


def score(root: Path, systems: dict[str, Path]) -> None:
    """Print a row per folder of restored pictures, and grain and fringes of the truth."""
    truth = root / "hr"
    found = evaluate(systems, truth, ScoringSettings(select_metrics(METRICS)))
    table = Table("", *METRICS, "grain", "fringes")
    table.add_row("truth", *("" for _ in METRICS), *(f"{value:.3f}" for value in weave(truth, truth)))
    for scores in found.systems:
        means = (f"{scores.scores[metric].mean:.4f}" for metric in METRICS)
        table.add_row(scores.name, *means, *(f"{value:.3f}" for value in weave(systems[scores.name], truth)))
    Console().print(table)


def weave(folder: Path, truth: Path) -> tuple[float, float]:
    """Measure grain and fringes, averaged over pictures; the weight of grain is the truth's smoothness."""
    grain, fringes = [], []
    for path in sorted(truth.glob("*.png")):
        restored = load(folder / path.name)
        finest = restored - without_finest_detail(restored)
        luma, weight = luminance(finest), smoothness(load(path))
        grain.append(float((weight * luma.abs()).sum() / weight.sum()) * 255)
        fringes.append(float((finest - luma).abs().mean()) * 255)
    return float(np.mean(grain)), float(np.mean(fringes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    made = commands.add_parser("make")
    made.add_argument("photos")
    made.add_argument("-o", "--output", type=Path, required=True)
    tested = commands.add_parser("score")
    tested.add_argument("root", type=Path)
    tested.add_argument("systems", nargs="+", metavar="NAME=FOLDER")
    args = parser.parse_args()
    if args.command == "make":
        make(args.photos, args.output)
    else:
        score(args.root, {name: Path(folder) for name, folder in (s.split("=", 1) for s in args.systems)})


if __name__ == "__main__":
    main()
