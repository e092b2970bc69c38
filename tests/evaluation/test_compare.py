"""Comparisons: systems are run, timed and scored on the same images, and existing outputs are kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from tests.images.unusual import UNUSUAL, write_unusual
from tsdsr.errors import InvalidInputError, TSDSRError
from tsdsr.evaluation.compare import System, compare
from tsdsr.evaluation.cost import measure
from tsdsr.evaluation.metrics import select_metrics
from tsdsr.evaluation.peers import interpolation
from tsdsr.evaluation.scoring import ScoringSettings

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


def test_existing_outputs_are_kept(pairs: tuple[Path, Path], tmp_path: Path) -> None:
    calls = []
    system = System("s", lambda image: (calls.append(1), nearest(image))[1])
    for overwrite, expected in ((False, 2), (False, 2), (True, 4)):
        compare([system], pairs[0], pairs[1], tmp_path / "out", SETTINGS, runs=0, overwrite=overwrite)
        assert len(calls) == expected


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
    with pytest.raises(InvalidInputError, match="two systems are called a"):
        compare([System("a", nearest), System("a", nearest)], *pairs, tmp_path, SETTINGS)
    with pytest.raises(InvalidInputError, match="either restores or is a folder"):
        System("a")


def test_network_alone_is_timed_apart() -> None:
    image = Image.new("RGB", (8, 8))
    seconds = iter([3.0, 1.0, 2.0])
    cost = measure(nearest, image, network=lambda: next(seconds), parameters=7, runs=3)
    assert (cost.seconds_network, cost.parameters) == (2.0, 7)
