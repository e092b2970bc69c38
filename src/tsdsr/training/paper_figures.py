"""Figures 3 and 5 of the paper for a run: directions and score gaps at fixed times on held-out photographs."""

from __future__ import annotations

import csv
import importlib.util
import io
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tsdsr.diffusion.losses import Predictions
from tsdsr.diffusion.trajectory import paired_walk
from tsdsr.errors import ConfigError, MissingDependencyError, install_extra
from tsdsr.files import atomic_path, write_text
from tsdsr.models.latents import encode_images
from tsdsr.training.monitors import direction_cosines, score_gap
from tsdsr.training.precision import autocast
from tsdsr.training.student import StudentTrainer
from tsdsr.training.validation import validation_pairs

TIMES = tuple(range(50, 1000, 50))
"""Times of the figures, 0 clean, 1000 noise."""


@dataclass(frozen=True)
class TimeRow:
    """Measurements at one time, one value per image.

    Attributes:
        time (int): in (0, 1000).
        cosine_hat, cosine_hq (tuple of float): figure 3, from the synthetic and from the true latent.
        gap, gap_low, gap_high (tuple of float): figure 5, mean |teacher - fake| of the native prediction: the
            whole difference, its average over 4×4 latent positions, and the remainder.
    """

    time: int
    cosine_hat: tuple[float, ...]
    cosine_hq: tuple[float, ...]
    gap: tuple[float, ...]
    gap_low: tuple[float, ...]
    gap_high: tuple[float, ...]


FIGURES = {"figure3": ("cosine_hat", "cosine_hq"), "figure5": ("gap", "gap_low", "gap_high")}
"""File stem → columns of :class:`TimeRow`."""


@torch.no_grad()
def measure(
    trainer: StudentTrainer,
    times: Sequence[int] = TIMES,
    images: int | None = None,
    on_image: Callable[[int], None] | None = None,
) -> list[TimeRow]:
    """Measure student, teacher and fake of a run with the same noise for every latent and time of an image.

    Teacher and fake use the guidance of the run's last phase with TSD, as in eqs. 3 and 4 and in the run's own log.

    Args:
        trainer (StudentTrainer): trainer of a recipe with a teacher, resumed or at its start.
        times (sequence of int): in (0, 1000).
        images (int | None): number of held-out photographs to use; None uses all.
        on_image (callable | None): called with the number of finished images.

    Returns:
        list of TimeRow: one per time.

    Raises:
        ConfigError: the recipe has no teacher, a time is out of range, or no photograph is held out.
    """
    if trainer.scores is None:
        raise ConfigError("these figures compare with a teacher; choose a recipe with target score distillation")
    if not times or not all(0 < t < 1000 for t in times):
        raise ConfigError(f"times must lie between 0 and 1000, got {list(times)}")
    photos = trainer.data.validation[:images]
    if not photos:
        raise ConfigError("no photograph is held out; raise validation_share")
    found: dict[int, list[tuple[float, ...]]] = {t: [] for t in times}
    pairs = validation_pairs(photos, trainer.config.pairs, trainer.config.validation_crop)
    with trainer.averaged():
        for number, (x_lq, x_hq) in enumerate(pairs):
            noise = torch.Generator().manual_seed(trainer.config.seed * 1_000_003 + number)
            text = trainer.data.prompt(photos[number])
            for time, values in _measure_one(trainer, x_lq, x_hq, text, times, noise):
                found[time].append(values)
            if on_image is not None:
                on_image(number + 1)
    return [TimeRow(time, *zip(*values, strict=True)) for time, values in found.items()]


def _measure_one(
    trainer: StudentTrainer, x_lq: Tensor, x_hq: Tensor, text: str, times: Sequence[int], generator: torch.Generator
) -> Iterator[tuple[int, tuple[float, ...]]]:
    """Measure one image: for each time, the values in the order of :class:`TimeRow`."""
    scores = trainer.scores
    assert scores is not None
    device, dtype = trainer.device, trainer.dtype
    prompt = trainer.on_device(trainer.prompts.of([text]))
    with autocast(device, dtype):
        z_hat = trainer.networks.student(x_lq.to(device), trainer.fixed)[0].float()
        z_hq = encode_images(trainer.vae, x_hq.to(device))
    noise = torch.randn(z_hq.shape, generator=generator).to(device)
    guidance = next((p.tsd.guidance for p in reversed(trainer.config.phases) if p.tsd is not None), 1.0)

    def predict(z_hat_t: Tensor, z_hq_t: Tensor, t: Tensor) -> Predictions:
        with autocast(device, dtype):
            return scores.predictions(z_hat_t, z_hq_t, t, prompt, trainer.null, guidance, True)

    for time in times:
        t = torch.full((1, 1), float(time), device=device)
        point = next(paired_walk(trainer.process, predict, z_hat, z_hq, noise, t))
        hat, hq = direction_cosines(trainer.process, point, z_hq)
        difference = (point.predictions.teacher_hat - point.predictions.fake_hat).float()
        low = torch.nn.functional.avg_pool2d(difference, 4)
        low = low.repeat_interleave(4, -2).repeat_interleave(4, -1)
        rows, columns = low.shape[-2:]
        high = difference[..., :rows, :columns] - low
        yield (
            time,
            (hat.item(), hq.item(), score_gap(point).item(), low.abs().mean().item(), high.abs().mean().item()),
        )


def to_csv(rows: Sequence[TimeRow], columns: Sequence[str]) -> str:
    """Format as CSV: time, mean and standard deviation over images of every column, number of images."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["time", *(f"{name}_{what}" for name in columns for what in ("mean", "std")), "images"])
    for row in rows:
        cells = [figure for name in columns for figure in mean_and_std(getattr(row, name))]
        writer.writerow([row.time, *(f"{cell:.6g}" for cell in cells), len(row.gap)])
    return out.getvalue()


def mean_and_std(values: Sequence[float]) -> tuple[float, float]:
    """Return mean and standard deviation; the latter is 0 for a single value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Move numbers apart to at least ``gap``, in their order, as little as possible; equal ones keep theirs.

    Numbers that are too close form a group around their mean.
    """
    order = sorted(range(len(places)), key=lambda i: (places[i], -i))
    groups: list[list[int]] = []
    for i in order:
        groups.append([i])
        while len(groups) > 1 and _ends(groups[-1], places, gap)[0] - _ends(groups[-2], places, gap)[1] < gap:
            groups[-2:] = [groups[-2] + groups[-1]]
    result = list(places)
    for group in groups:
        lowest = _ends(group, places, gap)[0]
        for rank, i in enumerate(group):
            result[i] = lowest + rank * gap
    return result


def _ends(group: Sequence[int], places: Sequence[float], gap: float) -> tuple[float, float]:
    """Return where the first and the last of a group lie if it is spread around its mean."""
    middle, half = statistics.fmean(places[i] for i in group), (len(group) - 1) * gap / 2
    return middle - half, middle + half


def require_matplotlib() -> None:
    """Check that figures can be drawn.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingDependencyError(f"figures need matplotlib: {install_extra('eval')}")


def write_figure(name: str, rows: Sequence[TimeRow], folder: Path) -> list[Path]:
    """Write ``figure3`` or ``figure5`` as CSV and PNG.

    Args:
        name (str): key of :data:`FIGURES`.
        rows (sequence of TimeRow): see :func:`measure`.
        folder (Path): created if missing.

    Returns:
        list of Path: the files written.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    columns = FIGURES[name]
    axis_label = {"figure3": "cosine with the true direction", "figure5": "mean |teacher - fake|"}[name]
    labels = {
        "cosine_hat": "from the synthetic latent",
        "cosine_hq": "from the true latent",
        "gap": "all frequencies",
        "gap_low": "low",
        "gap_high": "high",
    }
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.add_subplot()
    times, ends = [row.time for row in rows], list[float]()
    for number, column in enumerate(columns):
        figures = [mean_and_std(getattr(row, column)) for row in rows]
        means = [mean for mean, _ in figures]
        axes.plot(times, means, color=f"C{number}", marker="o", markersize=3)
        lower, upper = ([m + side * s for m, s in figures] for side in (-1, 1))
        axes.fill_between(times, lower, upper, color=f"C{number}", alpha=0.15, linewidth=0)
        ends.append(means[-1])
    low, high = axes.get_ylim()
    for number, (column, place) in enumerate(zip(columns, spread(ends, 0.06 * (high - low)), strict=True)):
        axes.annotate(
            labels[column], (times[-1], place), xytext=(6, 0), textcoords="offset points", color=f"C{number}",
            va="center", annotation_clip=False,
        )  # fmt: skip
    axes.set_ylim(low, high)
    axes.set_xlabel("time (0 clean, 1000 noise)")
    axes.set_ylabel(axis_label)
    axes.spines[["top", "right"]].set_visible(False)
    paths = [folder / f"{name}.csv", folder / f"{name}.png"]
    write_text(paths[0], to_csv(rows, columns))
    with atomic_path(paths[1]) as temporary:
        figure.savefig(temporary, format="png", dpi=160)
    return paths
