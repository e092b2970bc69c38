"""Every command and option that needs more than the core says what to install, before any work."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.cli.command import run


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with two photographs in ``photos``."""
    (tmp_path / "photos").mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (64, 64), "olive").save(tmp_path / "photos" / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("convert --base b --lora l --embeddings e -o new", "converting needs PyTorch: run pip install '.[torch]'"),
        ("fold mini -o new", "folding needs PyTorch: run pip install '.[torch]'"),
        ("export -o new", "exporting needs PyTorch: run pip install '.[onnx]'"),
        ("export --to openvino -o new", "exporting needs PyTorch: run pip install '.[openvino]'"),
        ("bench random:sd3", "timing models needs PyTorch: run pip install '.[torch]'"),
        ("evaluate --pred photos", "scoring needs PyTorch: run pip install '.[eval]'"),
        ("compare mini --lr photos -o new", "comparing needs PyTorch: run pip install '.[eval]'"),
        ("figures --run photos -o new", "measuring needs PyTorch: run pip install '.[eval]'"),
        ("train list", "the list of recipes needs PyTorch: run pip install '.[train]'"),
        ("train student --photos photos -o new", "training needs PyTorch: run pip install '.[train]'"),
        ("train teacher --photos photos -o new", "training needs PyTorch: run pip install '.[train]'"),
        ("train average mini mini -o new", "averaging needs PyTorch: run pip install '.[torch]'"),
        ("data degrade photos -o new", "degrading needs PyTorch: run pip install '.[train]'"),
        ("data caption photos -o new --model a/b", "captioning needs PyTorch: run pip install '.[torch]'"),
        (
            "video photos -o new.mp4",
            "videos need PyAV 18 or newer, on Python 3.11 or newer: run pip install '.[video]'",
        ),
        ("data cache photos -o new --base photos", "caching needs PyTorch: run pip install '.[torch]'"),
    ],
)
def test_a_command_names_its_extra(arguments: str, message: str, photos: Path) -> None:
    code, output = run(*arguments.split())
    assert (code, output) == (2, f"error: {message} in the folder of tsdsr\n")
    assert not Path("new").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("evaluate --pred nowhere", "nowhere: no such folder"),
        ("evaluate --pred photos --metrics sharpness", "unknown metric"),
        ("evaluate --pred photos --compare nothing", "'nothing'"),
        ("compare mini --lr nowhere -o new", "nowhere: no such folder"),
        ("data degrade nowhere -o new", "nowhere: no such folder"),
        ("data degrade photos -o new --seed -1", "the seed must lie between"),
        ("data degrade photos -o new --crop 130", "a crop of 130 is not a multiple of the scale 4"),
        ("data caption nowhere -o new --model a/b", "nowhere: no such folder"),
        ("data cache photos -o new --base b --no-text", "--no-text leaves nothing to cache"),
        ("train student --photos nowhere -o new", "nowhere: no such folder or file of photographs"),
        ("train teacher --photos photos -o photos/a.png", "a.png"),
        ("export -o photos", "photos: already exists"),
    ],
)
def test_mistakes_in_arguments_are_reported_first(arguments: str, message: str, photos: Path) -> None:
    code, output = run(*arguments.split())
    assert code == 2
    assert message in output
    assert "pip install" not in output


@pytest.mark.parametrize(("name", "extra"), [("a.heic", "heif"), ("a.jxl", "jxl")])
def test_a_format_names_its_extra(name: str, extra: str, photos: Path) -> None:
    code, output = run("upscale", photos / "a.png", "-o", name)
    assert code == 2
    assert f"run pip install '.[{extra}]' in the folder of tsdsr" in output
