"""Comparisons: systems are run, timed and scored on the same images, and existing outputs are kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from tests.images.unusual import UNUSUAL, write_unusual
from tsdsr.errors import DatasetError, InvalidInputError, TSDSRError
from tsdsr.evaluation.compare import compare
from tsdsr.evaluation.cost import measure
from tsdsr.evaluation.metrics import select_metrics
from tsdsr.evaluation.peers import interpolation
from tsdsr.evaluation.scorer import ScoringSettings
from tsdsr.evaluation.system import System

SETTINGS = ScoringSettings(select_metrics(["psnr"]))


pytestmark = pytest.mark.usefixtures("rgb_psnr")


@pytest.fixture
def pairs(tmp_path: Path) -> tuple[Path, Path]:
    """Two photographs and their quarter-size versions."""
    for name, array in (("cat", skimage.data.chelsea()), ("face", skimage.data.astronaut())):
        image = Image.fromarray(array).crop((100, 20, 228, 148))
        for folder, size in (("lr", 32), ("hr", 128)):
            (tmp_path / folder).mkdir(exist_ok=True)
            image.resize((size, size), Image.Resampling.BICUBIC).save(tmp_path / folder / f"{name}.png")
    return tmp_path / "lr", tmp_path / "hr"


def nearest(image: Image.Image) -> Image.Image:
    return image.resize((image.width * 4, image.height * 4), Image.Resampling.NEAREST)


def test_systems_are_run_timed_and_scored(pairs: tuple[Path, Path], tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    ready = tmp_path / "ready"
    ready.mkdir()
    for path in pairs[1].iterdir():
        nearest(Image.open(pairs[0] / path.name)).save(ready / path.name)
    systems = [interpolation("bicubic", 4), System("nearest", nearest), System("ready", folder=ready)]
    found = compare(
        systems, pairs[0], pairs[1], tmp_path / "out", SETTINGS, runs=2, on_image=lambda *done: seen.append(done)
    )
    psnr = {s.name: s.scores["psnr"].values for s in found.systems}
    assert psnr["nearest"] == psnr["ready"]
    assert all(b > n for b, n in zip(psnr["bicubic"], psnr["nearest"], strict=True))
    costs = {s.name: s.cost for s in found.systems}
    assert costs["ready"] is None
    cost = costs["bicubic"]
    assert cost is not None
    assert (cost.runs, cost.input_size, cost.seconds_network) == (2, (32, 32), None)
    assert 0 < cost.seconds < 1
    assert len(found.lr_files) == 2
    assert {what for what, *_ in seen} == {"bicubic", "nearest", "scores"}


@pytest.mark.parametrize("name", UNUSUAL)
def test_systems_see_what_the_file_shows(tmp_path: Path, name: str) -> None:
    path, shown = write_unusual(tmp_path / "lr", name)
    compare([System("copy", lambda image: image)], path.parent, path.parent, tmp_path / "out", SETTINGS, runs=0)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "copy" / f"{path.stem}.png")), shown)


def test_results_in_other_modes_are_stored_as_they_look(tmp_path: Path) -> None:
    path, shown = write_unusual(tmp_path / "lr", "grey16.png")
    deep = System("deep", lambda image: Image.fromarray(np.asarray(image)[..., 0].astype(np.uint16) * 257))
    compare([deep], path.parent, path.parent, tmp_path / "out", SETTINGS, runs=0)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "deep" / "grey16.png")), shown)


class Counted:
    """Nearest-neighbour upscaling that counts its calls and adds a level, so that outputs tell who made them."""

    def __init__(self, level: int = 0) -> None:
        self.calls, self.level = 0, level

    def __call__(self, image: Image.Image) -> Image.Image:
        self.calls += 1
        return nearest(image).point(lambda v: v // 2 + self.level)

    def system(self, name: str = "s", **made_from: object) -> System:
        return System(name, self, made_from=made_from)


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_outputs_of_the_same_system_and_input_are_kept(pairs: tuple[Path, Path], tmp_path: Path) -> None:
    restore = Counted()
    for overwrite, expected in ((False, 2), (False, 2), (True, 4)):
        arguments = ([restore.system(weights="w")], *pairs, tmp_path / "out", SETTINGS)
        compare(*arguments, runs=0, overwrite=overwrite)
        assert restore.calls == expected


@pytest.mark.parametrize("made_from", [{"weights": "other"}, {"weights": "w", "scale": 2}, {}])
def test_outputs_of_another_system_are_made_again(
    pairs: tuple[Path, Path], tmp_path: Path, made_from: dict[str, object]
) -> None:
    """The scores beside a label are those of the system that runs under it now."""
    first, second, notes = Counted(), Counted(90), list[str]()
    before = compare([first.system(weights="w")], *pairs, tmp_path / "out", SETTINGS, runs=0)
    found = compare([second.system(**made_from)], *pairs, tmp_path / "out", SETTINGS, runs=0, on_note=notes.append)
    fresh = compare([Counted(90).system(**made_from)], *pairs, tmp_path / "fresh", SETTINGS, runs=0)
    scores = [run.systems[0].scores["psnr"].values for run in (before, found, fresh)]
    assert scores[1] == scores[2] != scores[0]
    assert second.calls == 2
    assert "2 outputs" in notes[0]
    assert "made again" in notes[0]


def test_outputs_of_a_changed_input_are_made_again(pairs: tuple[Path, Path], tmp_path: Path) -> None:
    restore = Counted()
    compare([restore.system()], *pairs, tmp_path / "out", SETTINGS, runs=0)
    Image.open(pairs[0] / "cat.png").transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(pairs[0] / "cat.png")
    compare([restore.system()], *pairs, tmp_path / "out", SETTINGS, runs=0)
    assert restore.calls == 3
    shown = Counted()(Image.open(pairs[0] / "cat.png"))
    assert np.array_equal(pixels(tmp_path / "out" / "s" / "cat.png"), np.asarray(shown))


def test_outputs_of_an_undescribed_system_are_never_reused(pairs: tuple[Path, Path], tmp_path: Path) -> None:
    restore = Counted()
    for expected in (2, 4):
        compare([System("s", restore)], *pairs, tmp_path / "out", SETTINGS, runs=0)
        assert restore.calls == expected


def test_foreign_files_stay_unless_overwritten(pairs: tuple[Path, Path], tmp_path: Path) -> None:
    folder = tmp_path / "out" / "s"
    folder.mkdir(parents=True)
    Image.new("RGB", (128, 128), "red").save(folder / "cat.png")
    before, restore = (folder / "cat.png").read_bytes(), Counted()
    arguments = ([restore.system()], *pairs, tmp_path / "out", SETTINGS)
    with pytest.raises(InvalidInputError, match=r"cat\.png: exists, but no record says what made it.*--overwrite"):
        compare(*arguments)
    assert ((folder / "cat.png").read_bytes(), restore.calls) == (before, 0)
    compare(*arguments, runs=0, overwrite=True)
    assert restore.calls == 2


def test_an_image_that_fails_is_named_and_the_rest_scored(pairs: tuple[Path, Path], tmp_path: Path) -> None:
    def restore(image: Image.Image) -> Image.Image:
        if image.getpixel((0, 0)) == (1, 2, 3):
            raise ZeroDivisionError("too dark")
        return nearest(image)

    Image.new("RGB", (32, 32), (1, 2, 3)).save(pairs[0] / "a_dark.png")
    Image.new("RGB", (128, 128)).save(pairs[1] / "a_dark.png")
    (pairs[0] / "broken.png").write_bytes((pairs[0] / "cat.png").read_bytes()[:200])
    Image.new("RGB", (128, 128)).save(pairs[1] / "broken.png")
    found = compare([System("s", restore), interpolation("bicubic", 4)], *pairs, tmp_path / "out", SETTINGS, runs=1)
    assert found.images == ("cat", "face")
    assert any("s failed on" in line and "a_dark.png: too dark" in line for line in found.problems)
    assert any("broken.png" in line for line in found.problems)
    assert found.systems[0].cost is not None


def test_results_below_the_inputs_are_no_inputs(pairs: tuple[Path, Path], tmp_path: Path) -> None:
    output = pairs[0] / "compared"
    for _ in range(2):
        found = compare([interpolation("bicubic", 4)], *pairs, output, SETTINGS, runs=0)
        assert found.images == ("cat", "face")


def test_stems_that_repeat_in_subfolders_are_told_apart(pairs: tuple[Path, Path], tmp_path: Path) -> None:
    for folder in pairs:
        for name in ("cat", "face"):
            (folder / name).mkdir()
            (folder / f"{name}.png").rename(folder / name / "1.png")
    found = compare([interpolation("bicubic", 4)], *pairs, tmp_path / "out", SETTINGS, runs=0)
    assert found.images == ("cat/1", "face/1")
    assert (tmp_path / "out" / "bicubic" / "cat" / "1.png").is_file()


def test_sizes_are_checked_before_anything_is_run(pairs: tuple[Path, Path], tmp_path: Path) -> None:
    restore = Counted()
    arguments = ([restore.system()], *pairs, tmp_path / "out", SETTINGS)
    with pytest.raises(DatasetError, match=r"cat\.png is 128x128, but 2 times .*cat\.png is 64x64; check --scale"):
        compare(*arguments, scale=2)
    (pairs[1] / "face.png").unlink()
    with pytest.raises(DatasetError, match="hr lacks face"):
        compare(*arguments)
    assert restore.calls == 0


def test_nobody_writes_where_another_is_scored(pairs: tuple[Path, Path], tmp_path: Path) -> None:
    compare([interpolation("bicubic", 4)], *pairs, tmp_path / "out", SETTINGS, runs=0)
    theirs = System("theirs", folder=tmp_path / "out" / "bicubic")
    with pytest.raises(InvalidInputError, match="is scored as theirs, but bicubic writes its outputs there"):
        compare([interpolation("bicubic", 4), theirs], *pairs, tmp_path / "out", SETTINGS)


def test_failures_name_the_system_and_the_image(pairs: tuple[Path, Path], tmp_path: Path) -> None:
    def fail(image: Image.Image) -> Image.Image:
        raise RuntimeError("no memory left")

    with pytest.raises(TSDSRError, match=r"broken failed on .*cat\.png: no memory left"):
        compare([System("broken", fail)], pairs[0], pairs[1], tmp_path / "out", SETTINGS)


@pytest.mark.parametrize("name", ["../x", ".hidden", "a/b", ""])
def test_names_stay_inside_the_output_folder(name: str) -> None:
    with pytest.raises(InvalidInputError, match="cannot name a folder"):
        System(name, nearest)


def test_systems_need_unique_names(pairs: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="two systems are called A, a"):
        compare([System("a", nearest), System("A", nearest)], *pairs, tmp_path, SETTINGS)
    with pytest.raises(InvalidInputError, match="two systems are called a"):
        compare([System("a", nearest), System("a", nearest)], *pairs, tmp_path, SETTINGS)
    with pytest.raises(InvalidInputError, match="either restores or is a folder"):
        System("a")


def test_network_alone_is_timed_apart() -> None:
    image = Image.new("RGB", (8, 8))
    seconds = iter([3.0, 1.0, 2.0])
    cost = measure(nearest, image, network=lambda: next(seconds), parameters=7, runs=3)
    assert (cost.seconds_network, cost.parameters) == (2.0, 7)
