r"""Create the pictures of docs/explanation/one-step.md: a teacher with 1 to 20 steps, the student, and a regression.

    tsdsr train teacher --recipe mini_teacher --photos PHOTOS -o TEACHER --dtype bf16 \
        --set phases.0.steps=3000 --set phases.0.batch_size=4 --until 2000
    tsdsr train student --recipe mini_v0 --init src/tsdsr/weights/mini --photos PHOTOS -o L1 --dtype bf16 \
        --set phases.0.batch_size=4 --set "phases.0.lr=[3e-4,1e-4]" --set ema_decay=0.98 --until 400
    python examples/make_one_step_pictures.py --teacher TEACHER/teacher --regression L1/pipeline-00000400

The teacher knows no low-quality image, so it starts from the enlarged one with noise added, and removes that noise in
1 to 20 steps. The photograph is scikit-image's, degraded with a fixed seed. Prints seconds of processor time and PSNR.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from panels import grid, panel, photograph, psnr, save
from roles import DEGRADATION, Roles, decoded, prompt
from torch import Tensor

from tsdsr.models.latents import encode_images
from tsdsr.models.zoo import MINI
from tsdsr.resize import upsample_bicubic

STEPS = (1, 2, 4, 20)
WINDOW = ("chelsea", 90, 40, 192, 192)
SHOWN = (slice(None), slice(16, 144), slice(16, 144))


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--regression", required=True, help="a student trained with L1 alone")
    parser.add_argument("--student", default="mini")
    parser.add_argument("--start", type=float, default=500, help="time at which the teacher starts, 0 to 1000")
    arguments = parser.parse_args()
    roles, regression = (Roles.load(arguments.teacher, name) for name in (arguments.student, arguments.regression))
    truth = photograph(*WINDOW)
    height, width = truth.shape[-2:]
    small = DEGRADATION(truth, (height // 4, width // 4), np.random.default_rng(3))
    x_lq = upsample_bicubic(small[None], (height, width))
    z_lq = encode_images(MINI.make_autoencoder(), x_lq)
    pictures = {"enlarged": x_lq[0]}
    for count in STEPS:
        name = "1 step" if count == 1 else f"{count} steps"
        pictures[name] = timed(name, lambda count=count: sampled(roles, z_lq, arguments.start, count), truth)
    pictures["student"] = timed("student", lambda: roles.restore(z_lq), truth)
    first = [panel(x[SHOWN], 160) for x in pictures.values()]
    save(grid([first], list(pictures)), "one-step")
    blurred = timed("L1 alone", lambda: regression.restore(z_lq), truth)
    second = [panel(x[SHOWN], 240) for x in (x_lq[0], blurred, pictures["student"], truth)]
    save(grid([second], ["enlarged", "L1 alone", "mini", "photograph"]), "one-step-regression")


def sampled(roles: Roles, z_lq: Tensor, start: float, count: int) -> Tensor:
    """Add noise to the input up to a time and remove it with the teacher in equal steps."""
    noise = torch.randn(z_lq.shape, generator=torch.Generator().manual_seed(0))
    times = torch.linspace(start, 0, count + 1)[:, None]
    z = MINI.process.add_noise(z_lq, noise, times[0])
    for now, following in pairwise(times):
        z = MINI.process.step(z, roles.teacher(z, now, prompt(1)), now, following)
    return z


def timed(name: str, make: Callable[[], Tensor], truth: Tensor) -> Tensor:
    """Make a latent, print its processor time and PSNR, and return the decoded image."""
    began = time.process_time()
    z = make()
    seconds = time.process_time() - began
    image = decoded(z)[0].clamp(0, 1)
    print(f"{name}: {seconds:.2f} s, {psnr(image, truth):.2f} dB", flush=True)
    return image


if __name__ == "__main__":
    main()
