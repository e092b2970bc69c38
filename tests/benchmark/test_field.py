"""benchmarks/field.py: every kind gives a small picture from seeds alone, and no place is shown twice."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from tsdsr.errors import InvalidInputError
from tsdsr.images.reading import read_rgb
from tsdsr.pixels import to_tensor

ROOT = Path(__file__).parents[2]
KINDS = ("phone", "messenger", "scan", "blur", "video", "screenshot")


@pytest.fixture
def field(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, for truths of 64 pixels."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    script = importlib.import_module("field")
    monkeypatch.setattr(script, "EDGE", 64)
    monkeypatch.setattr(script, "SMALL", (16, 16))
    return script


def photo(height: int, width: int, seed: int = 0) -> Any:
    """A wave with grain, stronger to the right."""
    rows, columns = np.mgrid[:height, :width]
    wave = 128 + 60 * np.sin(rows / 5)[..., None] * np.array([1, 0.6, -0.5])
    grain = np.random.default_rng(seed).normal(0, 1, (height, width, 1)) * 30 * columns[..., None] / width
    return (wave + grain).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_keeps_size_place_and_brightness(field: ModuleType, kind: str) -> None:
    if kind == "video":
        pytest.importorskip("av", reason="the clips need PyAV")
    sharp = to_tensor(photo(64, 64))
    small, again, other = (field.KINDS[kind](sharp, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert small.shape == (3, 16, 16)
    assert torch.equal(small, again)
    assert not torch.equal(small, other)
    torch.testing.assert_close(small * 255, (small * 255).round(), atol=1e-3, rtol=0)
    clean = field.shrunk(sharp[None], (16, 16))[0]
    assert (small - clean).mean((1, 2)).abs().max() < 0.04
    assert torch.corrcoef(torch.stack([small[0].flatten(), clean[0].flatten()]))[0, 1] > 0.8
    assert not torch.equal(small, clean)


def test_few_photographs_give_two_places_of_different_kinds(field: ModuleType) -> None:
    large = [np.full((70, 130, 3), 1, np.uint8), np.full((140, 70, 3), 2, np.uint8)]
    large[0][:, 65:] += 10
    large[1][70:] += 10
    small = [np.full((64, 64, 3), 3 + i, np.uint8) for i in range(4)]
    found = list(field.places([*large, *small], 8))
    assert [kind for kind, _ in found] == [*KINDS, "phone", "messenger"]
    assert [set(np.unique(part)) for _, part in found] == [{1}, {2}, {3}, {4}, {5}, {6}, {12}, {11}]
    with pytest.raises(InvalidInputError, match="too few for 9 crops"):
        list(field.places([*large, *small], 9))


def test_enough_photographs_stay_whole(field: ModuleType) -> None:
    found = list(field.places([photo(70, 130)] * 7, 6))
    assert [part.shape for _, part in found] == [(70, 130, 3)] * 6


def test_the_most_detailed_crop_is_taken(field: ModuleType) -> None:
    crop = field.detailed_crop(photo(64, 400), np.random.default_rng(0))
    middle = to_tensor(photo(64, 400)[:, 168:232])
    assert crop.shape == (3, 64, 64)
    assert field.detail(crop[None]) > field.detail(middle[None])


def test_frames_move_by_whole_pixels(field: ModuleType) -> None:
    x = torch.arange(48.0).reshape(1, 1, 6, 8)
    moved = field.moved_by(x, np.array([1.2, -1.9]))
    assert torch.equal(moved[..., 1:, :-2], x[..., :-1, 2:])
    assert torch.equal(field.moved_by(x, np.zeros(2)), x)


def test_a_set_is_written_with_its_truth(field: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("av", reason="the clips need PyAV")
    monkeypatch.setattr(field, "held_out", lambda photos: iter([photo(64 + 3 * i, 140, i) for i in range(7)]))
    for folder in ("one", "two"):
        field.make("photos", tmp_path / folder, 8)
    names = sorted([f"{kind}_0.png" for kind in KINDS] + ["phone_1.png", "messenger_1.png"])
    for folder, edge in (("lr", 16), ("hr", 64)):
        files = sorted((tmp_path / "one" / folder).iterdir())
        assert [path.name for path in files] == names
        for path in files:
            assert read_rgb(path).shape == (edge, edge, 3)
            assert path.read_bytes() == (tmp_path / "two" / folder / path.name).read_bytes()


def test_grain_counts_where_the_truth_is_smooth_and_fringes_in_colour(field: ModuleType, tmp_path: Path) -> None:
    flat = torch.full((3, 64, 64), 0.5)
    rough = torch.from_numpy(np.random.default_rng(0).random((1, 64, 64), dtype=np.float32)).expand(3, -1, -1)
    board = (torch.arange(64)[:, None] + torch.arange(64)) % 2 * 2.0 - 1
    tint = torch.tensor([1.0, -1.0, 1.0])[:, None, None]
    pictures = {
        "truth": (flat, rough),
        "grey": (flat + board * 10 / 255, rough),
        "tinted": (flat + tint * board * 10 / 255, rough),
    }
    for name, both in pictures.items():
        for number, picture in enumerate(both):
            field.save(picture, tmp_path / name / f"{number}.png")
    measured = {name: field.weave(tmp_path / name, tmp_path / "truth") for name in pictures}
    grain, fringes = measured["truth"]
    assert measured["grey"][0] == pytest.approx(grain + 5, rel=0.1)  # half of the pictures have all of it
    assert measured["grey"][1] == pytest.approx(fringes, abs=0.01)
    assert measured["tinted"][1] > fringes + 3
    assert measured["tinted"][0] < grain + 2
