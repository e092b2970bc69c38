"""Scoring with stand-ins for pyiqa: pairing, order, and messages."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import tsdsr.evaluation.scorer as scorer
import tsdsr.evaluation.scoring as scoring
from tests.images.unusual import UNUSUAL, write_float, write_unusual
from tsdsr.errors import DatasetError, InvalidInputError, MissingDependencyError
from tsdsr.evaluation.metrics import METRICS, select_metrics
from tsdsr.evaluation.pyiqa_metrics import MetricUnavailableError, remember_reference, separable_filter
from tsdsr.evaluation.scorer import Scorer, ScoringSettings
from tsdsr.evaluation.scoring import evaluate, summarise
from tsdsr.evaluation.set_metrics import gathered


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Outputs and true images; image ``k`` differs from its truth by ``k + 1`` grey levels everywhere."""
    for k in range(4):
        for folder, name, level in (("out", f"{k}_LR4.png", 100 + k + 1), ("true", f"{k}_HR.webp", 100)):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.new("RGB", (8, 6), (level,) * 3).save(tmp_path / folder / name, lossless=True)
    return tmp_path / "out", tmp_path / "true"


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """PSNR is the mean difference in grey levels, NIQE the mean level; LPIPS is unavailable."""

    def make_metric(spec: Any, device: Any, border: int) -> Any:
        if spec.name == "lpips":
            raise MetricUnavailableError("no network")
        if spec.name == "psnr":
            return lambda x_hat, x_hq: float((x_hat - x_hq).mean() * 255)
        return lambda x_hat, x_hq: float(x_hat.mean() * 255)

    monkeypatch.setattr(scorer, "make_metric", make_metric)
    monkeypatch.setattr(scoring, "versions", lambda *_: {"pyiqa": "stand-in"})


@pytest.mark.usefixtures("stand_in")
def test_every_output_meets_its_own_truth(folders: tuple[Path, Path]) -> None:
    seen: list[tuple[int, int]] = []
    settings = ScoringSettings(select_metrics(["psnr", "lpips", "niqe"]))
    found = evaluate({"a": folders[0]}, folders[1], settings, on_image=lambda *done: seen.append(done))
    assert found.images == ("0", "1", "2", "3")
    assert found.systems[0].scores["psnr"].values == pytest.approx((1, 2, 3, 4), abs=1e-3)
    assert found.systems[0].scores["niqe"].mean == pytest.approx(102.5, abs=1e-3)
    assert found.systems[0].scores["lpips"].unavailable == "no network"
    assert found.systems[0].scores["lpips"].mean is None
    assert list(found.systems[0].scores) == ["psnr", "lpips", "niqe"] == list(found.metrics)
    assert seen == [(k, 4) for k in range(1, 5)]
    assert found.settings["pyiqa"] == "stand-in"
    assert "ycbcr" in found.variants["psnr"].lower()


@pytest.mark.usefixtures("stand_in")
def test_several_systems_share_the_truth(folders: tuple[Path, Path]) -> None:
    found = evaluate({"a": folders[0], "b": folders[1]}, folders[1], ScoringSettings(select_metrics(["psnr"])))
    assert [s.scores["psnr"].mean for s in found.systems] == pytest.approx([2.5, 0], abs=1e-3)


@pytest.mark.usefixtures("stand_in")
def test_unmatched_files_are_listed(folders: tuple[Path, Path]) -> None:
    (folders[0] / "2_LR4.png").unlink()
    with pytest.raises(DatasetError, match="out lacks 2"):
        evaluate({"a": folders[0]}, folders[1], ScoringSettings(select_metrics(["psnr"])))


@pytest.mark.usefixtures("stand_in")
def test_sizes_are_compared_before_anything_is_scored(folders: tuple[Path, Path]) -> None:
    Image.new("RGB", (9, 6)).save(folders[0] / "3_LR4.png")
    with pytest.raises(DatasetError, match=r"1 of 4 pairs.*3_HR.webp is 8x6.*3_LR4.png is 9x6"):
        evaluate({"a": folders[0]}, folders[1], ScoringSettings(select_metrics(["psnr"])))


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("broken", ["out/3_LR4.png", "true/3_HR.webp"])
@pytest.mark.parametrize("keep", [0, 40])
def test_a_broken_image_is_named_and_the_rest_scored(
    folders: tuple[Path, Path], tmp_path: Path, broken: str, keep: int
) -> None:
    path = tmp_path / broken
    path.write_bytes(path.read_bytes()[:keep])
    found = evaluate({"a": folders[0]}, folders[1], ScoringSettings(select_metrics(["psnr", "niqe"])))
    assert found.images == ("0", "1", "2")
    assert found.systems[0].scores["psnr"].mean == pytest.approx(2, abs=1e-3)
    assert len(found.problems) == 1
    assert path.name in found.problems[0]
    assert found.problems[0].endswith("the image is left out")


@pytest.mark.usefixtures("stand_in")
def test_images_that_are_all_broken_are_an_error(folders: tuple[Path, Path]) -> None:
    for path in folders[0].iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"no image can be scored: .*0_LR4\.png"):
        evaluate({"a": folders[0]}, folders[1], ScoringSettings(select_metrics(["psnr"])))


def test_full_reference_metrics_need_ground_truth(folders: tuple[Path, Path]) -> None:
    with pytest.raises(InvalidInputError, match="ground truth is needed for psnr, fid"):
        evaluate({"a": folders[0]}, None, ScoringSettings(select_metrics(["psnr", "niqe", "fid"])))


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("nothing", [AssertionError("too small"), math.nan])
def test_a_metric_that_refuses_an_image_leaves_it_out_for_all(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, nothing: AssertionError | float
) -> None:
    """The second image of the first system: both means are over the other three."""

    def level(x_hat: torch.Tensor, x_hq: torch.Tensor | None) -> float:
        value = round(float(x_hat.mean() * 255))
        if value == 102:
            if isinstance(nothing, AssertionError):
                raise nothing
            return nothing
        return value

    monkeypatch.setattr(scorer, "make_metric", lambda *_: level)
    found = evaluate({"a": folders[0], "b": folders[1]}, None, ScoringSettings(select_metrics(["niqe", "psnr"])[:1]))
    assert [s.scores["niqe"].mean for s in found.systems] == [pytest.approx((101 + 103 + 104) / 3), 100]
    assert found.systems[1].scores["niqe"].values == pytest.approx((100, math.nan, 100, 100), nan_ok=True)
    assert found.systems[0].scores["niqe"].interval is not None
    assert len(found.problems) == 1
    assert found.problems[0] == f"{folders[0] / '1_LR4.png'}: no NIQE (needs 96x96 pixels, got 8x6)"


@pytest.mark.filterwarnings("ignore")
def test_reasons_say_what_is_wrong_with_the_image() -> None:
    pytest.importorskip("pyiqa")
    try:
        found = Scorer(ScoringSettings(select_metrics(["psnr", "ssim", "niqe"]), border=4))
    except MissingDependencyError as error:
        pytest.skip(str(error))
    flat, tiny = torch.full((1, 3, 128, 128), 0.5), torch.rand(1, 3, 8, 8)
    for image, expected in (
        (flat, {"niqe": "the picture is of a single colour"} if "niqe" in found.metrics else {}),
        (tiny, {"psnr": "needs 9x9 pixels, got 8x8", "ssim": "needs 19x19 pixels, got 8x8"}),
    ):
        problems = found._scores(image, image.flip(-1)).problems
        assert {name: problems.get(name) for name in expected} == expected


@pytest.mark.usefixtures("stand_in")
def test_a_border_larger_than_the_images_is_an_error_before_scoring(folders: tuple[Path, Path]) -> None:
    chosen = select_metrics(["psnr"])
    with pytest.raises(InvalidInputError, match=r"3 pixels on every side leaves nothing.*the largest is 8x6"):
        evaluate({"a": folders[0]}, folders[1], ScoringSettings(chosen, border=3))
    assert evaluate({"a": folders[0]}, folders[1], ScoringSettings(chosen, border=2)).images
    niqe = ScoringSettings(select_metrics(["niqe"]), border=99)
    assert evaluate({"a": folders[0]}, None, niqe).images  # it crops nothing


@pytest.mark.usefixtures("stand_in")
def test_set_metrics_see_the_matched_files_of_each_system(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def network(outputs: str, truth: str, **_: Any) -> float:
        levels = [
            np.mean([np.asarray(Image.open(path)).mean() for path in sorted(Path(folder).iterdir())])
            for folder in (outputs, truth)
        ]
        return float(levels[0] - levels[1])

    monkeypatch.setattr(scorer, "create", lambda *_, **__: network)
    found = evaluate({"a": folders[0], "b": folders[1]}, folders[1], ScoringSettings(select_metrics(["fid"])))
    assert [s.scores["fid"].mean for s in found.systems] == pytest.approx([2.5, 0])
    assert found.systems[0].scores["fid"].values == ()


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_files_are_scored_by_what_they_show(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, shown = write_unusual(tmp_path / "true", name)
    (tmp_path / "out").mkdir()
    Image.fromarray(np.ascontiguousarray(shown)).save(tmp_path / "out" / f"{Path(name).stem}.png")
    monkeypatch.setattr(scorer, "make_metric", lambda *_: lambda x_hat, x_hq: float((x_hat - x_hq).abs().max()))
    monkeypatch.setattr(scoring, "versions", lambda *_: {})

    def network(outputs: str, truth: str, **_: Any) -> float:
        """As pyiqa's, with a decoder of its own."""
        first, second = (
            np.asarray(Image.open(next(Path(folder).iterdir())).convert("RGB")) for folder in (outputs, truth)
        )
        return float(np.abs(first.astype(int) - second).max())

    monkeypatch.setattr(scorer, "create", lambda *_, **__: network)
    found = evaluate({"a": tmp_path / "out"}, tmp_path / "true", ScoringSettings(select_metrics(["psnr", "fid"])))
    assert [found.systems[0].scores[metric].mean for metric in ("psnr", "fid")] == [0, 0]


@pytest.mark.usefixtures("stand_in")
def test_floating_point_files_are_refused_by_name(tmp_path: Path) -> None:
    for folder in ("out", "true"):
        write_float(tmp_path / folder)
    with pytest.raises(DatasetError, match=r"float\.tif: contains floating-point values"):
        evaluate({"a": tmp_path / "out"}, tmp_path / "true", ScoringSettings(select_metrics(["psnr"])))


def test_gathered_files_keep_their_order_and_vanish(folders: tuple[Path, Path]) -> None:
    files = sorted(folders[0].iterdir(), reverse=True)
    with gathered(files) as folder:
        assert [p.resolve() for p in sorted(folder.iterdir())] == [p.resolve() for p in files]
    assert not folder.exists()
    assert all(path.exists() for path in files)


@pytest.mark.usefixtures("stand_in")
def test_images_are_decoded_once_for_all_metrics(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []
    original = Scorer.load
    monkeypatch.setattr(Scorer, "load", lambda self, path: (decoded.append(path.name), original(self, path))[1])
    evaluate({"a": folders[0]}, folders[1], ScoringSettings(select_metrics(["psnr", "niqe", "ssim"])))
    assert sorted(decoded) == sorted(p.name for folder in folders for p in folder.iterdir())


def test_interval_covers_the_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        low, high = summarise(rng.normal(3, 1, 50).tolist(), resamples=500).interval or (0, 0)
        hits += low < 3 < high
    assert 0.88 <= hits / 200 <= 0.99


@pytest.mark.parametrize("values", [[1.0], [1.0, float("inf")]])
def test_no_interval_where_it_means_nothing(values: list[float]) -> None:
    scores = summarise(values)
    assert scores.interval is None
    assert scores.mean == np.mean(values)


def test_unknown_metrics_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"sharpness.*choose from psnr"):
        select_metrics(["psnr", "sharpness"])
    for nothing in ([], [" "], "psnr"):
        with pytest.raises(InvalidInputError, match="psnr"):
            select_metrics(nothing)
    assert [spec.name for spec in select_metrics([" PSNR "])] == ["psnr"]
    assert [spec.name for spec in select_metrics(["niqe", "psnr", "niqe"])] == ["niqe", "psnr"]
    assert select_metrics() == tuple(METRICS.values())


def test_separable_filter_equals_the_window() -> None:
    column = torch.rand(11, 1, dtype=torch.float64)
    window = column @ column.T / column.sum() ** 2
    x = torch.rand(2, 3, 20, 24, dtype=torch.float64)
    expected = torch.nn.functional.conv2d(x, window.expand(3, 1, 11, 11), groups=3)
    torch.testing.assert_close(separable_filter(x, window.expand(3, 1, 11, 11)), expected, atol=1e-12, rtol=0)


def test_a_truth_is_analysed_once_for_all_systems() -> None:
    seen: list[float] = []

    class Network:
        def forward_once(self, x: torch.Tensor) -> list[torch.Tensor]:
            seen.append(x.mean().item())
            return [2 * x]

    network = Network()
    remember_reference(network)
    truths = [torch.full((1, 3, 4, 4), float(value)) for value in (100, 200)]
    for truth in truths:
        for system in range(3):
            restored = torch.full((1, 3, 4, 4), float(system))
            assert network.forward_once(restored)[0].mean() == 2 * system
            assert network.forward_once(truth)[0].mean() == 2 * truth.mean()
    assert seen == [0, 100, 1, 2, 0, 200, 1, 2]
