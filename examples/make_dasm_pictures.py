r"""Create the figures of docs/explanation/dasm.md and method.md: what teacher and fake network say along a walk.

    tsdsr train teacher --recipe mini_teacher --photos PHOTOS -o TEACHER --dtype bf16 \
        --set phases.0.steps=3000 --set phases.0.batch_size=4 --until 2000
    python examples/make_dasm_pictures.py --teacher TEACHER/teacher --photos PHOTOS

The student is the packaged `mini`. The fake network starts as a copy of the teacher and is trained on the student's
latents of PHOTOS (eq. 9). Everything drawn and measured is of photographs of scikit-image (CC0 and public domain),
degraded with a fixed seed. Prints the measurements. The fake network is kept beside the teacher for the next time.
"""

from __future__ import annotations

import argparse
from itertools import combinations
from pathlib import Path

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from panels import IMAGES, grid, panel, save
from PIL import Image
from roles import Roles, decoded, latents, trained_fake
from torch import Tensor

from tsdsr.diffusion.losses import WalkPoint, in_space, omega, tsd_gradient
from tsdsr.diffusion.trajectory import walk_positions
from tsdsr.models.zoo import MINI
from tsdsr.training.monitors import direction_cosines

PROCESS = MINI.process
POINTS, STEP = 4, 50
WEIGHTS = (1.0, 0.3, 0.3, 0.3)
SEEDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--student", default="mini")
    parser.add_argument("--photos", action="append", required=True, help="what the fake network is trained on")
    parser.add_argument("--fake-steps", type=int, default=250)
    arguments = parser.parse_args()
    roles = Roles.load(arguments.teacher, arguments.student)
    roles.fake = trained_fake(
        roles, arguments.photos, arguments.fake_steps, arguments.teacher.parent / "fake.safetensors"
    )
    count_weights()
    with torch.no_grad():
        _, z_hat, z_hq = latents(roles)
        draw_walk(roles, z_hat[:1], z_hq[:1])
        draw_directions(roles, z_hat, z_hq)
        draw_agreement(roles, z_hat, z_hq)


def times_from(start: float, count: int) -> Tensor:
    """Return the times (N, B) of a walk of ``count`` samples that begins at a time."""
    positions = walk_positions(torch.full((count,), 1000.0 - start), POINTS, STEP)
    return PROCESS.time_at(positions)


def count_weights() -> None:
    """Print where the weight of one point and of a walk lies, over all starting positions from 50 to 950."""
    times = PROCESS.time_at(walk_positions(torch.arange(50, 951), POINTS, STEP))
    walk = torch.tensor(WEIGHTS)[:, None].expand_as(times)
    one = torch.tensor([1.0, 0, 0, 0])[:, None].expand_as(times)
    print("| | mean time | below 300 | below 300, with omega | sum, with omega |\n|" + "---|" * 5)
    for name, plain in (("one point", one), ("walk", walk)):
        weighted = plain * (times / 1000).square()
        mean = (plain * times).sum() / plain.sum()
        below = [(w * (times < 300)).sum() / w.sum() for w in (plain, weighted)]
        print(f"| {name} | {mean:.0f} | {below[0]:.3f} | {below[1]:.4f} | {weighted.sum() / one.sum():.3f} |")


def noise_like(z: Tensor, seed: int) -> Tensor:
    return torch.randn(z.shape, generator=torch.Generator().manual_seed(seed))


def anew(roles: Roles, z_hat: Tensor, z_hq: Tensor, times: Tensor, seed: int) -> list[WalkPoint]:
    """Return the points of a walk at the same times, each with noise of its own."""
    noises = (noise_like(z_hat, 1000 * seed + k) for k in range(len(times)))
    return [roles.walk(z_hat, z_hq, noise, t[None])[0] for noise, t in zip(noises, times, strict=True)]


def draw_walk(roles: Roles, z_hat: Tensor, z_hq: Tensor, start: float = 500) -> None:
    """Draw, for each point of a walk: latent, clean estimates of teacher and fake, and what the student is told."""
    times = times_from(start, 1)
    walk, fresh = roles.walk(z_hat, z_hq, noise_like(z_hat, 7), times), anew(roles, z_hat, z_hq, times, 7)
    rows = [[shown(p.z_hat_t) for p in walk]]
    for which in ("teacher_hat", "fake_hat"):
        rows.append([shown(PROCESS.to_x0(p.z_hat_t, getattr(p.predictions, which), p.t)) for p in walk])
    rows += [[update(p) for p in points] for points in (walk, fresh)]
    names = ["walk of\nthe result", "teacher's\nestimate", "fake's\nestimate", "VSD,\nalong walk", "VSD,\nnoise anew"]
    save(grid(rows, [f"t = {t:.0f}" for t in times[:, 0].tolist()], names), "dasm-walk")


def shown(z: Tensor) -> Image.Image:
    return panel(decoded(z)[0], 128)


def update(point: WalkPoint, gain: float = 4) -> Image.Image:
    """Show what VSD asks to change: the teacher's clean estimate minus the fake network's, magnified, on grey."""
    teacher, fake = (PROCESS.to_x0(point.z_hat_t, p, point.t) for p in point.predictions[:2])
    return panel(0.5 + gain * (decoded(teacher) - decoded(fake))[0], 128)


def cosine(a: Tensor, b: Tensor) -> float:
    return F.cosine_similarity(a.flatten(1), b.flatten(1)).mean().item()


def draw_directions(roles: Roles, z_hat: Tensor, z_hq: Tensor) -> None:
    """Draw figure 3 of the paper for this teacher, and whether VSD and TSM point from the result to the truth."""
    times, found = range(50, 1000, 100), dict[str, list[float]]()
    for time in times:
        t = torch.full((1, len(z_hat)), float(time))
        samples = dict[str, list[float]]()
        for seed in range(SEEDS):
            (point,) = roles.walk(z_hat, z_hq, noise_like(z_hat, seed), t)
            hat, hq = direction_cosines(PROCESS, point, z_hq)
            native, noises = (in_space(PROCESS, point, space) for space in ("native", "eps"))
            gap = native.teacher_hat - native.fake_hat
            for name, value in (
                ("teacher, from the result", hat.mean().item()),
                ("teacher, from the truth", hq.mean().item()),
                ("VSD", cosine(gap, z_hat - z_hq)),
                ("TSM, velocities", cosine(native.teacher_hat - native.teacher_hq, z_hat - z_hq)),
                ("TSM, noises", cosine(noises.teacher_hat - noises.teacher_hq, z_hat - z_hq)),
                ("gap", gap.abs().mean().item()),
            ):
                samples.setdefault(name, []).append(value)
        for name, values in samples.items():
            found.setdefault(name, []).append(sum(values) / len(values))
    table("t", times, found)
    draw_charts(
        times,
        [
            ({name: found[name] for name in found if name.startswith("teacher")}, "cosine with the true direction"),
            ({name: found[name] for name in ("VSD", "TSM, velocities", "TSM, noises")}, "cosine with the error"),
        ],
        "directions",
    )


def draw_agreement(roles: Roles, z_hat: Tensor, z_hq: Tensor) -> None:
    """Draw how well gradients of different noises agree, and how large the residual is, along walks and anew."""
    starts, found = (900, 700, 500, 300), dict[str, list[float]]()
    for start in starts:
        times = times_from(start, len(z_hat))
        ways: dict[str, list[Tensor]] = {"one point": [], "walk": [], "noise anew": []}
        sizes: dict[str, list[float]] = {"walk": [], "noise anew": []}
        shares = []
        for seed in range(SEEDS):
            walk = roles.walk(z_hat, z_hq, noise_like(z_hat, seed), times)
            fresh = anew(roles, z_hat, z_hq, times, seed)
            for name, points in (("one point", walk[:1]), ("walk", walk), ("noise anew", fresh)):
                ways[name].append(tsd_gradient(PROCESS, points, WEIGHTS).tsd)
            for name, points in (("walk", walk), ("noise anew", fresh)):
                gap = points[-1].predictions.teacher_hat - points[-1].predictions.fake_hat
                sizes[name].append(gap.square().mean().sqrt().item())
            shares.append(share_of_first(walk))
        for name, gradients in ways.items():
            pairs = [cosine(a, b) for a, b in combinations(gradients, 2)]
            found.setdefault(f"agreement, {name}", []).append(sum(pairs) / len(pairs))
            found.setdefault(f"fine detail, {name}", []).append(sum(map(fine_share, gradients)) / SEEDS)
        for name, values in sizes.items():
            found.setdefault(f"gap at the last point, {name}", []).append(sum(values) / SEEDS)
        found.setdefault("share of the first point", []).append(sum(shares) / SEEDS)
    table("start", starts, found)
    draw_charts(
        starts,
        [
            ({name: found[f"agreement, {name}"] for name in ways}, "agreement of two draws (cosine)"),
            ({name: found[f"fine detail, {name}"] for name in ways}, "share of fine detail in the gradient"),
        ],
        "dasm-agreement",
    )


def share_of_first(walk: list[WalkPoint]) -> float:
    """Return the share of the first point in the lengths of the weighted VSD residuals of a walk."""
    lengths = [
        (w * omega(PROCESS, p.t, p.z_hat_t) * (p.predictions.teacher_hat - p.predictions.fake_hat)).norm()
        for w, p in zip(WEIGHTS, walk, strict=True)
    ]
    return float(lengths[0] / sum(lengths))


def fine_share(gradient: Tensor) -> float:
    """Return the share of a gradient's energy that averaging over 4×4 pixels removes."""
    pixels = decoded(gradient) - decoded(torch.zeros_like(gradient))
    coarse = F.interpolate(F.avg_pool2d(pixels, 4), scale_factor=4)
    return float((pixels - coarse).square().sum() / pixels.square().sum())


def table(first: str, rows: range | tuple[int, ...], found: dict[str, list[float]]) -> None:
    """Print measurements as a table."""
    print(f"| {first} | " + " | ".join(found) + " |\n|" + "---|" * (1 + len(found)))
    for i, row in enumerate(rows):
        print(f"| {row} | " + " | ".join(f"{values[i]:.3f}" for values in found.values()) + " |")


def draw_charts(x: range | tuple[int, ...], charts: list[tuple[dict[str, list[float]], str]], name: str) -> None:
    """Draw line charts side by side over time, noise to the left as a sampler walks."""
    figure = Figure(figsize=(8.4, 3.2), layout="constrained")
    for axes, (lines, label) in zip(figure.subplots(1, len(charts)), charts, strict=True):
        for line, values in lines.items():
            axes.plot(x, values, marker="o", markersize=3, label=line)
        axes.axhline(0, color="0.8", linewidth=0.8, zorder=0)
        axes.invert_xaxis()
        axes.set_xlabel("time (1000 noise, 0 clean)")
        axes.set_title(label, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        low, high = axes.get_ylim()
        axes.set_ylim(low, high + 0.15 * (high - low))
        axes.legend(frameon=False, fontsize=8, loc="upper center", ncols=3, columnspacing=1)
    figure.savefig(IMAGES / f"{name}.webp", dpi=110, pil_kwargs={"quality": 85, "method": 6})
    print(f"{name}.webp: {(IMAGES / f'{name}.webp').stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
