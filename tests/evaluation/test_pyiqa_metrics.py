"""Real pyiqa metrics: known scores, equal values on the fast path, and reported absence. Needs pyiqa."""

from __future__ import annotations

import importlib
import importlib.util
import re
import warnings
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import skimage.data
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from PIL import Image
from torch import Tensor

from tests.images.unusual import write_unusual
from tsdsr.errors import MissingDependencyError, WeightsError
from tsdsr.evaluation import hub, pyiqa_metrics
from tsdsr.evaluation.metrics import METRICS, select_metrics
from tsdsr.evaluation.peers import load_peer
from tsdsr.evaluation.pyiqa_metrics import MetricUnavailableError, create, load_pyiqa, make_metric
from tsdsr.evaluation.scorer import Scorer, ScoringSettings
from tsdsr.evaluation.scoring import evaluate
from tsdsr.evaluation.system import System

REALSR = Path(__file__).resolve().parents[2].parent / "shared" / "bench" / "realsr"

KNOWN = {
    "astronaut": {"psnr": 25.50393, "ssim": 0.78758, "lpips": 0.35268, "dists": 0.3582, "niqe": 8.92276},
    "coffee": {"psnr": 27.41454, "ssim": 0.80249, "lpips": 0.2632, "dists": 0.30717, "niqe": 10.36509},
}
"""Scores of pyiqa 0.1.16 in a plain loop, without anything of this package."""


@pytest.fixture(scope="module", autouse=True)
def pyiqa() -> Any:
    try:
        return load_pyiqa()
    except MissingDependencyError as error:
        pytest.skip(str(error))


def ready(name: str, **options: Any) -> Any:
    """Create the metric, or skip the test if its weights are not available."""
    try:
        return make_metric(METRICS[name], **options)
    except MetricUnavailableError as error:
        pytest.skip(str(error))


def pair(name: str) -> tuple[np.ndarray, np.ndarray]:
    """A photograph of 256 pixels and its means over 4×4 pixels: integers, the same everywhere."""
    true = getattr(skimage.data, name)()[:256, 100:356]
    means = true.reshape(64, 4, 64, 4, 3).astype(int).sum((1, 3)) // 16
    return means.repeat(4, 0).repeat(4, 1).astype(np.uint8), true


def tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.copy()).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize("metric", ["psnr", "ssim", "lpips", "dists", "niqe"])
@pytest.mark.parametrize("name", KNOWN)
def test_known_scores(name: str, metric: str) -> None:
    x_hat, x_hq = (tensor(array) for array in pair(name))
    assert ready(metric)(x_hat, x_hq) == pytest.approx(KNOWN[name][metric], abs=2e-4)


@pytest.mark.parametrize("name", ["ssim", "dists"])
def test_the_fast_path_gives_the_same(name: str, monkeypatch: pytest.MonkeyPatch, pyiqa: Any) -> None:
    from pyiqa.archs import ssim_arch
    from pyiqa.matlab_utils import filter2

    x_hat, x_hq = (tensor(array) for array in pair("coffee"))
    monkeypatch.setattr(ssim_arch, "filter2", filter2)
    spec = METRICS[name]
    try:
        plain = create(spec, torch.device("cpu"), **spec.options)
    except MetricUnavailableError as error:
        pytest.skip(str(error))
    expected = [float(plain(a, b)) for a, b in ((x_hat, x_hq), (x_hq, x_hq))]
    fast = ready(name)
    assert [fast(x_hat, x_hq), fast(x_hq, x_hq)] == pytest.approx(expected, abs=1e-6)


def test_a_cropped_border_does_not_count() -> None:
    x_hat, x_hq = (tensor(array) for array in pair("coffee"))
    x_hat[..., :4, :] = 0
    inner = ready("psnr")(x_hat[..., 4:-4, 4:-4], x_hq[..., 4:-4, 4:-4])
    assert ready("psnr", border=4)(x_hat, x_hq) == pytest.approx(inner, abs=1e-5)


def write_pairs(folder: Path) -> tuple[Path, Path]:
    for name in KNOWN:
        for sub, array in zip(("out", "true"), pair(name), strict=True):
            (folder / sub).mkdir(exist_ok=True)
            Image.fromarray(array).save(folder / sub / f"{name}.png")
    return folder / "out", folder / "true"


def test_processes_give_the_same_as_one(tmp_path: Path) -> None:
    out, true = write_pairs(tmp_path)
    one, two = (
        evaluate({"s": out}, true, ScoringSettings(select_metrics(["psnr", "ssim"]), workers=workers))
        for workers in (0, 2)
    )
    assert one.systems == two.systems
    assert one.systems[0].scores["psnr"].values == pytest.approx([KNOWN[n]["psnr"] for n in one.images], abs=2e-4)
    assert one.settings["pyiqa"]


def test_unavailable_weights_are_tried_once_and_named(
    monkeypatch: pytest.MonkeyPatch, pyiqa: Any, tmp_path: Path
) -> None:
    tried: list[str] = []

    def no_network(name: str, **_: Any) -> Any:
        tried.append(name)
        if name == "clipiqa":
            raise ModuleNotFoundError("No module named 'pkg_resources'", name="pkg_resources")
        raise OSError(f"cannot download {name}\nlong story")

    monkeypatch.setattr(pyiqa, "create_metric", no_network)
    monkeypatch.setattr(pyiqa_metrics, "_failed", {})
    chosen = select_metrics(["musiq", "clipiqa", "psnr", "fid"])
    nothing = ScoringSettings(chosen[:2])
    for _ in range(2):
        with pytest.raises(MetricUnavailableError, match="no metric can be computed: pyiqa could not prepare 'musiq'"):
            Scorer(nothing)
    assert tried == ["musiq", "clipiqa"]
    monkeypatch.undo()
    monkeypatch.setattr(pyiqa_metrics, "_failed", dict.fromkeys([*tried, "fid"], "no") | {"musiq": "why"})
    out, true = write_pairs(tmp_path)
    said: list[str] = []
    found = evaluate({"s": out}, true, ScoringSettings(chosen), on_note=said.append)
    reasons = {name: scores.unavailable for name, scores in found.systems[0].scores.items()}
    assert reasons == {"musiq": "why", "clipiqa": "no", "psnr": None, "fid": "no"}
    assert said[0] == "MUSIQ will be missing: why"
    assert len(said) == 3


def test_a_missing_module_and_a_failed_download_say_what_to_do(monkeypatch: pytest.MonkeyPatch, pyiqa: Any) -> None:
    for error, message in (
        (OSError("no route\nlong story"), "could not be downloaded (OSError: no route); connect to the internet once"),
        (ModuleNotFoundError(name="pkg_resources"), "pkg_resources is missing; run pip install '.[eval]'"),
    ):
        monkeypatch.setattr(pyiqa_metrics, "_failed", {})
        monkeypatch.setattr(pyiqa, "create_metric", Mock(side_effect=error))
        with pytest.raises(MetricUnavailableError, match=re.escape(message)):
            create(METRICS["musiq"], torch.device("cpu"))


def test_the_hub_is_asked_once_and_not_again(monkeypatch: pytest.MonkeyPatch, pyiqa: Any) -> None:
    """A metric whose files are on the hub: found in its cache, or else looked for once."""
    asked = Mock(side_effect=OSError("no route"))
    monkeypatch.setattr(hub.urllib.request, "urlopen", asked)
    monkeypatch.setattr(pyiqa_metrics, "_failed", {})
    hub._problem.cache_clear()

    def from_hub(name: str, **_: Any) -> Any:
        if not hub.constants.HF_HUB_OFFLINE:
            raise AssertionError("the hub was asked for a file")
        if name == "psnr":
            return name
        raise LocalEntryNotFoundError("not in the cache")

    monkeypatch.setattr(pyiqa, "create_metric", from_hub)
    assert create(METRICS["psnr"], torch.device("cpu")) == "psnr"
    assert not asked.called
    for name in ("maniqa", "musiq"):
        with pytest.raises(MetricUnavailableError, match=r"cannot be reached: no route.*connect to the internet once"):
            create(METRICS[name], torch.device("cpu"))
    assert asked.call_count == 1
    assert not hub.constants.HF_HUB_OFFLINE
    hub._problem.cache_clear()


def test_the_published_row_of_osediff_comes_out(tmp_path: Path) -> None:
    """Four of the hundred images against the published log. NIQE has changed since in the second decimal; its mean over
    the hundred has not."""
    if not REALSR.is_dir():
        pytest.skip("the RealSR test set is not beside this checkout")
    names = ["Canon_001_LR4", "Canon_004_LR4", "Nikon_045_LR4", "Nikon_049_LR4"]
    log = (REALSR / "osediff_metrics.log").read_text()
    folders = {}
    for label in ("osediff", "hr"):
        folders[label] = tmp_path / label
        folders[label].mkdir()
        for name in names:
            (folders[label] / f"{name}.webp").symlink_to(REALSR / label / f"{name}.webp")
    chosen = select_metrics(["psnr", "ssim", "lpips", "dists", "niqe"])
    found = evaluate({"OSEDiff": folders["osediff"]}, folders["hr"], ScoringSettings(chosen))
    for spec in chosen:
        scores = found.systems[0].scores[spec.name]
        for name, value in zip([f"{stem}_LR4" for stem in found.images], scores.values, strict=False):
            published = float(log.split(f"{name}.png | ")[1].split(f"{spec.label}: ")[1].split(";")[0].split(" ")[0])
            assert value == pytest.approx(published, abs=0.03 if spec.name == "niqe" else 2e-4), (name, spec.name)


@pytest.fixture
def peer_file(tmp_path: Path) -> Path:
    """Real-ESRGAN's network, tiny, with random weights."""
    pytest.importorskip("spandrel")
    from spandrel.architectures.ESRGAN import ESRGAN

    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = ESRGAN(in_nc=3, out_nc=3, num_filters=8, num_blocks=1, scale=4)
    torch.save({"params_ema": network.state_dict()}, tmp_path / "peer.pth")
    return tmp_path / "peer.pth"


def test_peers_restore(peer_file: Path) -> None:
    system = load_peer(peer_file, 4)
    assert isinstance(system, System)
    assert (system.name, system.parameters > 1000) == ("peer", True)
    assert system.restore is not None
    result = system.restore(Image.new("RGB", (9, 7), "red"))
    assert (result.size, result.mode) == ((36, 28), "RGB")


@pytest.mark.parametrize("name", ["grey16.png", "grey_alpha.png", "transparent.png"])
def test_peers_see_what_the_image_shows(peer_file: Path, tmp_path: Path, name: str) -> None:
    restore = load_peer(peer_file, 4).restore
    path, shown = write_unusual(tmp_path, name)
    assert restore is not None
    with Image.open(path) as image:
        assert np.array_equal(np.asarray(restore(image)), np.asarray(restore(Image.fromarray(shown))))


def test_peers_that_do_not_fit_are_refused(peer_file: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"peer\.pth: is ESRGAN, scale 4.*scale 2 is needed"):
        load_peer(peer_file, 2)
    (tmp_path / "junk.pth").write_bytes(b"junk")
    with pytest.raises(WeightsError, match=r"junk\.pth: is damaged or contains more than weights"):
        load_peer(tmp_path / "junk.pth", 4)


def test_clipiqa_is_made_where_its_weights_are(monkeypatch: pytest.MonkeyPatch, pyiqa: Any) -> None:
    """Its package imports pkg_resources, which the extra ``eval`` brings. The CLIP of this test is tiny and random."""
    if importlib.util.find_spec("pkg_resources") is None:
        pytest.skip("this setuptools has no pkg_resources; the extra 'eval' brings one that has")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pkg_resources is deprecated
        clipiqa = importlib.import_module("pyiqa.archs.clipiqa_arch")
        clip_model = importlib.import_module("pyiqa.archs.clip_model")
    torch.manual_seed(0)
    tiny = clip_model.CLIP(8, 224, (1, 1, 1, 1), 8, 0, 77, 49408, 8, 1, 1).eval()
    monkeypatch.setattr(clipiqa, "load", lambda *_: tiny)
    monkeypatch.setattr(pyiqa_metrics, "_failed", {})
    metric = create(METRICS["clipiqa"], torch.device("cpu"))
    score = float(metric(torch.rand(1, 3, 224, 224)))
    assert 0 <= score <= 1
