"""Direction of TSM by time: its residual against the student's true error, in velocities and in noises.

    python benchmarks/directions.py --photos PHOTOS --teacher TEACHER [--student mini]

A cosine near 1 pulls the student's latent towards the ground truth, a negative one pushes it away. The script also
prints the errors of the teacher's clean estimates. It uses one 128-pixel crop of each held-out photograph and the
paper's degradation.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from tsdsr.data.datasets import PairSettings
from tsdsr.data.degradation_presets import PRESETS
from tsdsr.data.sources import open_source
from tsdsr.models.denoiser import as_denoiser, restore
from tsdsr.models.latents import encode_images
from tsdsr.models.zoo import MINI
from tsdsr.pipeline.model_files import resolve_model
from tsdsr.training.build import load_network, split_sources
from tsdsr.training.prompts import LabelPrompts
from tsdsr.training.validation import validation_pairs


def cosine(a: Tensor, b: Tensor) -> float:
    return F.cosine_similarity(a.flatten(1), b.flatten(1)).mean().item()


def rms(x: Tensor) -> float:
    return x.square().mean().sqrt().item()


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--student", default="mini")
    arguments = parser.parse_args()
    teacher = as_denoiser(load_network(arguments.teacher, MINI, "teacher"))
    student = as_denoiser(load_network(resolve_model(arguments.student), MINI, "denoiser"))
    _, held_out = split_sources([open_source(arguments.photos)], 0.06)
    pairs = list(validation_pairs(held_out, PairSettings(degradation=PRESETS["osediff"]), 128))
    vae, process, prompts = MINI.make_autoencoder(), MINI.process, LabelPrompts()
    z_lq, z_hq = (encode_images(vae, torch.cat([pair[i] for pair in pairs])) for i in (0, 1))
    z_hat = restore(student, process, z_lq, MINI.timestep, prompts.fixed())
    error, noise = z_hat - z_hq, torch.randn(z_hq.shape, generator=torch.Generator().manual_seed(0))
    print(f"{len(pairs)} crops, rms error of the student {rms(error):.3f}")
    print("| t | velocity: rms | cosine | noise: rms | cosine | teacher's x0 from z_hat | from z_hq |\n|" + "---|" * 7)
    for time in (50, 100, 200, 300, 400, 500, 600, 700, 800, 900, 950):
        t, c = torch.full((len(z_hq),), float(time)), prompts.of([""] * len(z_hq))
        hat_t, hq_t = process.add_noise(z_hat, noise, t), process.add_noise(z_hq, noise, t)
        hat, hq = teacher(hat_t, t, c), teacher(hq_t, t, c)
        dv, de = hat - hq, process.to_eps(hat_t, hat, t) - process.to_eps(hq_t, hq, t)
        x0 = [rms(process.to_x0(z, v, t) - z_hq) for z, v in ((hat_t, hat), (hq_t, hq))]
        cells = (rms(dv), cosine(dv, error), rms(de), cosine(de, error), *x0)
        print(f"| {time} | " + " | ".join(f"{value:.3f}" for value in cells) + " |", flush=True)


if __name__ == "__main__":
    main()
