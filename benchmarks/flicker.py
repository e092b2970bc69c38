"""Flicker of restored clips, and what `--steady` takes from it: warping error, PSNR, sharpness, at several strengths.

Clips are made from scikit-image's public pictures: each frame is a shifted part of a picture, reduced four times, with
fresh noise. The motion is known, so the frame before can be moved onto the next: what differs then is flicker.

    python benchmarks/flicker.py [-o FOLDER]      # FOLDER gets frames and difference pictures to look at
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import shift as shifted
from skimage import data

from tsdsr import load_pipeline
from tsdsr.pipeline.steady import SteadyDetail
from tsdsr.resize import BicubicWindow

SCALE = 4
SIDE = 96
FRAMES = 8
STRENGTHS = (0.0, 0.5, 0.7, 0.8, 0.9)
BORDER = 24
"""Pixels of the result at its border that are not compared, because other content moves in."""


@dataclass(frozen=True)
class Clip:
    """A clip with known motion.

    Attributes:
        name (str): what it shows.
        truth (list of ndarray): frames before the reduction, float in [0, 1].
        frames (list of ndarray): inputs (SIDE, SIDE, 3), uint8.
        motion (tuple): pixels per frame of the truth, down and right.
        compared (ndarray | None): where frames are compared; None is everywhere but the border.
    """

    name: str
    truth: list[np.ndarray]
    frames: list[np.ndarray]
    motion: tuple[float, float]
    compared: np.ndarray | None = None


def make_clip(
    name: str,
    picture: np.ndarray,
    motion: tuple[float, float],
    noise: float,
    seed: int = 0,
    edit: Callable | None = None,
) -> Clip:
    """Make a clip of a picture (H, W, 3), uint8, that moves by ``motion`` pixels per frame, with noise in levels."""
    rng, side = np.random.default_rng(seed), SIDE * SCALE
    truth, frames = [], []
    for number in range(FRAMES):
        moved = np.stack(
            [
                shifted(picture[..., c].astype(float), (motion[0] * number, motion[1] * number), order=3, mode="mirror")
                for c in range(3)
            ],
            -1,
        )
        frame = (moved[48 : 48 + side, 48 : 48 + side] / 255).clip(0, 1)
        if edit is not None:
            frame = edit(frame, number)
        small = Image.fromarray(np.rint(frame * 255).astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        noisy = np.asarray(small).astype(float) + rng.normal(0, noise, (SIDE, SIDE, 3))
        truth.append(frame)
        frames.append(np.rint(noisy.clip(0, 255)).astype(np.uint8))
    return Clip(name, truth, frames, motion)


def clips() -> list[Clip]:
    """Return the clips: still, moving by whole and parts of a pixel, an object over a still scene, a cut."""
    astronaut, coffee, cat = data.astronaut(), data.coffee()[:400, :512], data.chelsea()
    cat = np.pad(cat, ((0, 180), (0, 60), (0, 0)), mode="reflect")
    coffee = np.pad(coffee, ((0, 112), (0, 0), (0, 0)), mode="reflect")

    def with_object(frame: np.ndarray, number: int) -> np.ndarray:
        top, left = 140, 60 + 14 * number
        frame = frame.copy()
        frame[top : top + 90, left : left + 90] = cat[80:170, 120:210] / 255
        return frame

    def cut(frame: np.ndarray, number: int) -> np.ndarray:
        side = SIDE * SCALE
        return frame if number < FRAMES // 2 else cat[20 : 20 + side, 20 : 20 + side] / 255

    return [
        make_clip("still, noise 6", astronaut, (0, 0), 6),
        make_clip("still, noise 2", coffee, (0, 0), 2),
        make_clip("1 pixel a frame, noise 4", astronaut, (0, 4), 4),
        make_clip("1/4 pixel a frame, noise 4", coffee, (1, 1), 4),
        make_clip("1/20 pixel a frame, noise 4", astronaut, (0, 0.2), 4),
        make_clip("object over a still scene, noise 4", coffee, (0, 0), 4, edit=with_object),
        make_clip("a cut, noise 4", astronaut, (0, 0), 4, edit=cut),
    ]


def enlarged(frame: np.ndarray) -> np.ndarray:
    """Return a frame enlarged with a bicubic filter, float in [0, 1]."""
    side = SIDE * SCALE
    window = BicubicWindow(np.arange(side), np.arange(side), (SIDE, SIDE), (side, side))
    return window.enlarge((frame / np.float32(255)).transpose(2, 0, 1)[None].astype(np.float32))[0].transpose(1, 2, 0)


def warping_error(frames: list[np.ndarray], clip: Clip) -> float:
    """Return the root mean square of what differs from the moved frame before, in levels of 255, beyond the truth's."""
    errors = []
    for number in range(1, FRAMES):
        parts = []
        for of in (frames, clip.truth):
            before = np.stack(
                [shifted(of[number - 1][..., c], clip.motion, order=3, mode="mirror") for c in range(3)], -1
            )
            parts.append((of[number] - before)[BORDER:-BORDER, BORDER:-BORDER])
        own, true = parts
        same = np.abs(true).max(-1) < 0.02  # not where an object moves over the scene
        if same.mean() > 0.2:
            errors.append(np.mean((own - true)[same] ** 2))
    return 255 * float(np.sqrt(np.mean(errors)))


def psnr(frames: list[np.ndarray], clip: Clip) -> float:
    """Return the mean PSNR against the truth."""
    return float(np.mean([-10 * np.log10(np.mean((a - b) ** 2)) for a, b in zip(frames, clip.truth, strict=True)]))


def sharpness(frames: list[np.ndarray], clip: Clip) -> float:
    """Return the gradient energy by that of the truth."""
    energy = [
        sum(np.sum(np.diff(frame, axis=axis) ** 2) for frame in of) for of in (frames, clip.truth) for axis in (0, 1)
    ]
    return float((energy[0] + energy[1]) / (energy[2] + energy[3]))


def steadied(clip: Clip, restored: list[np.ndarray], strength: float) -> list[np.ndarray]:
    """Return restored frames after the blend."""
    steady = SteadyDetail(strength)
    return [steady.blend(given, result) / 255 for given, result in zip(clip.frames, restored, strict=True)]


def save(folder: Path, clip: Clip, results: dict[float, list[np.ndarray]]) -> None:
    """Write frames side by side: truth, without and with the blend, and their difference eight times as strong."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in (FRAMES // 2, FRAMES - 1):
        plain, blended = results[0.0][number], results[0.8][number]
        difference = (0.5 + 4 * (blended - plain)).clip(0, 1)
        row = np.concatenate([clip.truth[number], plain, blended, difference], 1)
        name = clip.name.replace(" ", "-").replace(",", "").replace("/", "_")
        Image.fromarray(np.rint(row * 255).astype(np.uint8)).save(folder / f"{name}-{number}.png")


def main() -> None:
    """Print a Markdown table, and write pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, help="folder for pictures")
    parser.add_argument("--only", default="", help="clips whose name contains this")
    arguments = parser.parse_args()
    output = arguments.output
    pipe = load_pipeline("mini")
    print("| clip | | warping error | PSNR | gradient energy |\n|---|---|---|---|---|")
    for clip in (clip for clip in clips() if arguments.only in clip.name):
        inputs = [enlarged(frame) for frame in clip.frames]
        print(f"| {clip.name} | input, bicubic | {warping_error(inputs, clip):.2f} | {psnr(inputs, clip):.2f} | "
              f"{sharpness(inputs, clip):.3f} |")  # fmt: skip
        restored = [pipe.upscale_pixels(frame, SCALE) for frame in clip.frames]
        results = {strength: steadied(clip, restored, strength) for strength in STRENGTHS}
        for strength, frames in results.items():
            print(f"| | steady {strength:g} | {warping_error(frames, clip):.2f} | {psnr(frames, clip):.2f} | "
                  f"{sharpness(frames, clip):.3f} |", flush=True)  # fmt: skip
        if output is not None:
            save(output, clip, results)


if __name__ == "__main__":
    main()
