"""Figures 3 and 5: known values on tiny networks, and the files."""

from __future__ import annotations

import csv
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from tests.training.tiny import config, mini_networks
from tsdsr.data.sources import list_photos
from tsdsr.errors import ConfigError
from tsdsr.models.latents import encode_images
from tsdsr.training.paper_figures import TimeRow, mean_and_std, measure, spread, to_csv, write_figure
from tsdsr.training.samples import TrainingData
from tsdsr.training.student import StudentTrainer
from tsdsr.training.validation import validation_pairs


@pytest.fixture
def trainer(photo_folder: Path, tmp_path: Path) -> StudentTrainer:
    photos = list_photos(photo_folder)
    return StudentTrainer(
        config(validation_crop=32),
        mini_networks(),
        TrainingData((), tuple(photos[:2])),
        tmp_path / "run",
        perceptual=lambda x_hat, x_hq: x_hat.sum() * 0,
    )


def test_a_fake_that_is_the_teacher_leaves_no_gap(trainer: StudentTrainer) -> None:
    rows = measure(trainer, (200, 800))
    assert [row.time for row in rows] == [200, 800]
    for row in rows:
        assert len(row.gap) == 2
        for gap in (row.gap, row.gap_low, row.gap_high):
            assert gap == pytest.approx((0, 0), abs=1e-5)
        assert all(-1 <= c <= 1 for c in (*row.cosine_hat, *row.cosine_hq))


def test_gaps_add_up_by_frequency(trainer: StudentTrainer) -> None:
    assert trainer.scores is not None
    with torch.no_grad():
        trainer.scores.fake.conv_out.bias += 0.5  # a difference without high frequencies
    (row,) = measure(trainer, (500,), images=1)
    assert row.gap == pytest.approx((0.5,), abs=1e-5)
    assert row.gap_low == pytest.approx((0.5,), abs=1e-5)
    assert row.gap_high == pytest.approx((0.0,), abs=1e-5)


class Oracle(nn.Module):
    """Knows the true latent: its velocity leads there from anywhere."""

    def __init__(self, z_hq: Tensor) -> None:
        super().__init__()
        self.z_hq = z_hq

    def forward(self, z_t: Tensor, t: Tensor, *_: object) -> Tensor:
        return (z_t - self.z_hq) / (t / 1000).reshape(-1, 1, 1, 1)


def test_an_exact_teacher_points_the_true_way(trainer: StudentTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    _, x_hq = next(validation_pairs(trainer.data.validation, trainer.config.pairs, 32))
    oracle = Oracle(encode_images(trainer.vae, x_hq))
    monkeypatch.setattr("tsdsr.training.networks.as_denoiser", lambda network: oracle)
    (row,) = measure(trainer, (700,), images=1)
    assert row.cosine_hat == pytest.approx((1.0,), abs=1e-5)
    assert row.cosine_hq == pytest.approx((1.0,), abs=1e-5)


def test_what_cannot_be_measured_is_refused(trainer: StudentTrainer, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="between 0 and 1000"):
        measure(trainer, (0,))
    with pytest.raises(ConfigError, match="no photograph is held out"):
        measure(trainer, images=0)
    trainer.scores = None
    with pytest.raises(ConfigError, match="compare with a teacher"):
        measure(trainer)


def test_files(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rows = [TimeRow(t, (0.1, 0.3), (0.8, 0.8), (0.2, 0.2), (0.1, 0.1), (0.1, 0.1)) for t in (100, 500, 900)]
    table, picture = write_figure("figure3", rows, tmp_path / "out")
    cells = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["time"] for row in cells] == ["100", "500", "900"]
    assert float(cells[0]["cosine_hat_mean"]) == pytest.approx(0.2)
    assert float(cells[0]["cosine_hat_std"]) == pytest.approx(0.1414, abs=1e-4)
    assert cells[0]["images"] == "2"
    with Image.open(picture) as image:
        assert image.format == "PNG"
    assert "gap_high_std" in to_csv(rows, ("gap", "gap_high")).splitlines()[0]
    assert mean_and_std([2.0]) == (2.0, 0.0)


def test_labels_of_close_lines_are_moved_apart() -> None:
    assert spread([0.0, 1.0, 2.0], 0.5) == [0.0, 1.0, 2.0]
    assert spread([1.0, 1.0], 0.5) == pytest.approx([1.25, 0.75])  # the first line's label is above
    for places in ([0.21, 0.20, 0.19], [0.5, 0.5, 0.5], [0.0, 0.3, 0.31], [0.31, 0.0, 0.05, 0.3]):
        moved = sorted(spread(places, 0.1))
        assert all(b - a >= 0.1 - 1e-9 for a, b in pairwise(moved))
        assert sum(moved) == pytest.approx(sum(places))
