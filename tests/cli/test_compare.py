"""``tsdsr evaluate`` and ``tsdsr compare`` on what people's folders, terminals and arguments are, without pyiqa."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from tests.images.unusual import write_unusual
from tsdsr.cli import app
from tsdsr.cli.evaluate import open_system
from tsdsr.errors import InvalidInputError, WeightsError
from tsdsr.evaluation.results import Evaluation

runner = CliRunner()

pytestmark = pytest.mark.usefixtures("rgb_psnr")


@pytest.fixture
def pairs(tmp_path: Path, photo: Image.Image, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``lr`` and ``hr`` with two crops of a photograph, 16 and 64 pixels; the current folder."""
    monkeypatch.chdir(tmp_path)
    for k in range(2):
        crop = photo.crop((150 + 64 * k, 60, 214 + 64 * k, 124))
        for folder, size in (("lr", 16), ("hr", 64)):
            (tmp_path / folder).mkdir(exist_ok=True)
            crop.resize((size, size), Image.Resampling.BICUBIC).save(tmp_path / folder / f"{k}.png")
    return tmp_path


def run(*arguments: object, code: int = 0) -> str:
    result = runner.invoke(app, list(map(str, arguments)))
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result.output


def compared(*systems: str, code: int = 0, output: str = "C", more: tuple[object, ...] = ()) -> str:
    common = ("--lr", "lr", "--gt", "hr", "--metrics", "psnr", "--runs", 0)
    return run("compare", *systems, "-o", output, *common, *more, code=code)


def psnr(*systems: str, output: str = "C") -> float:
    compared(*systems, output=output, more=("--json", "c.json"))
    mean = Evaluation.load(Path("c.json")).systems[0].scores["psnr"].mean
    assert mean is not None
    return mean


def test_a_label_used_again_shows_the_new_system(pairs: Path) -> None:
    first, second = psnr("M=lanczos"), psnr("M=bicubic")
    assert second == psnr("M=bicubic", output="fresh") != first
    assert "made again" in compared("M=lanczos")
    assert "made again" not in compared("M=lanczos")
    foreign = pairs / "C" / "N" / "1.png"
    foreign.parent.mkdir()
    foreign.write_bytes(b"mine")
    assert "--overwrite" in compared("N=lanczos", code=2)
    assert foreign.read_bytes() == b"mine"
    compared("N=lanczos", more=("--overwrite",))
    with Image.open(foreign) as made:
        assert made.size == (64, 64)


def test_weights_with_other_content_are_another_system(pairs: Path) -> None:
    spandrel = pytest.importorskip("spandrel.architectures.ESRGAN")
    scores = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        network = spandrel.ESRGAN(in_nc=3, out_nc=3, num_filters=8, num_blocks=1, scale=4)
        torch.save(network.state_dict(), pairs / "peer.pth")
        scores.append(psnr("peer.pth"))
    assert scores[0] == scores[1] != scores[2]
    assert "scale 2 is needed" in compared("peer.pth", code=2, more=("--scale", 2))


def test_the_name_ends_at_the_first_equals_sign(pairs: Path) -> None:
    for name in ("run=3/out", "a,b #1", "x.pth"):
        folder = pairs / name
        folder.mkdir(parents=True)
        for path in (pairs / "hr").iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        system = open_system(f"X={name}", 4, "cpu", "fp32")
        assert (system.name, system.folder) == ("X", Path(name))
        assert open_system(name, 4, "cpu", "fp32").folder == Path(name)
    assert "X" in compared("X=run=3/out", "run=3/out")
    (pairs / "bad.pth").mkdir()
    with pytest.raises(InvalidInputError, match="give a system, or NAME=SYSTEM"):
        open_system("X= ", 4, "cpu", "fp32")
    with pytest.raises(InvalidInputError, match="cannot name a folder"):
        open_system("a/b=bicubic", 4, "cpu", "fp32")


@pytest.mark.parametrize("engine", ["onnx", "torch"])
def test_engines_are_compared_and_recorded(pairs: Path, engine: str) -> None:
    system = open_system(f"light=mini,engine={engine}", 4, "cpu", "fp32")
    assert system.made_from is not None
    assert (system.name, system.made_from["engine"], system.made_from["fast"]) == ("light", engine, False)
    assert (system.device, system.dtype) == ("cpu", "float32")
    mini = open_system("mini", 4, "cpu", "fp32")
    assert abs(system.parameters - mini.parameters) <= 1  # the autoencoder stores a number that is no weight
    assert mini.made_from is not None
    assert "engine" not in mini.made_from
    assert open_system(f"mini,engine={engine}", 4, "cpu", "fp32").name == "mini"
    assert engine in compared(f"{engine}=mini,engine={engine}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bicubic,fast", "only pipelines have engines"),
        ("hr,engine=onnx", "only pipelines have engines"),
        ("mini,engine=tflite", "unknown engine 'tflite'"),
        ("mini,engine=torch,fast", "'fast' is for mini in ONNX Runtime"),
    ],
)
def test_options_that_do_not_go_with_the_system(pairs: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        open_system(f"X={text}", 4, "cpu", "fp32")


def test_torchscript_is_refused_before_it_is_loaded(pairs: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("TorchScript was loaded"))
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.jit.trace(torch.nn.Identity(), torch.zeros(1)).save(pairs / "evil.pt")  # type: ignore[no-untyped-call]
        with pytest.raises(WeightsError, match="TorchScript"):
            open_system("X=evil.pt", 4, "cpu", "fp32")


class _RunsCode:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch ran",)


@pytest.mark.parametrize("name", ["evil.pth", "evil.pt", "evil.ckpt"])
def test_a_pickle_with_code_is_refused_without_advice_to_run_it(pairs: Path, name: str) -> None:
    torch.save({"weight": _RunsCode()}, pairs / name)
    with pytest.raises(WeightsError, match=f"^{name}: .*contains more than weights") as refused:
        open_system(f"X={name}", 4, "cpu", "fp32")
    assert "weights_only" not in str(refused.value)
    assert not (pairs / "ran").exists()


@pytest.mark.parametrize("name", ["net.pt2", "net.onnx", "net.bin", "hr/1.png"])
def test_a_file_that_is_no_system_is_not_looked_for_on_the_hub(pairs: Path, name: str) -> None:
    (pairs / name).touch()
    with pytest.raises(InvalidInputError, match=f"^{name}: is not a weight file; weight files end in"):
        open_system(f"X={name}", 4, "cpu", "fp32")


@pytest.mark.parametrize("option", ["json", "markdown", "latex", "csv", "html"])
def test_figures_do_not_replace_a_picture(pairs: Path, option: str) -> None:
    before = (pairs / "hr" / "1.png").read_bytes()
    command = ["evaluate", "--pred", "hr", "--gt", "hr", "--metrics", "psnr", f"--{option}"]
    assert f"--{option} hr/1.png: is the name of a picture" in run(*command, "hr/1.png", code=2)
    assert "is the name of a picture" in run(*command, "new.JPG", code=2)
    assert "is the name of a picture" in run("bench", "mini", "--json", "hr/1.png", code=2)
    assert (pairs / "hr" / "1.png").read_bytes() == before


def test_one_bad_image_is_named_and_the_rest_scored(pairs: Path) -> None:
    (pairs / "hr" / "0.png").rename(pairs / "hr" / "2.png")
    (pairs / "out").mkdir()
    for name in ("1.png", "2.png"):
        (pairs / "out" / name).write_bytes((pairs / "hr" / name).read_bytes())
    whole = (pairs / "out" / "1.png").read_bytes()
    (pairs / "out" / "1.png").write_bytes(whole[: len(whole) // 2])
    output = run(
        "evaluate", "--pred", "out", "--gt", "hr", "--metrics", "psnr", "--json", "r.json", "--html", "r.html", code=1
    )
    assert "1.png" in output
    assert Evaluation.load(Path("r.json")).images == ("2",)
    assert "picture-0-gt" in Path("r.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", ["evaluate", "compare"])
@pytest.mark.parametrize("option", ["--json", "--markdown", "--latex", "--csv", "--html"])
def test_outputs_are_checked_before_work(pairs: Path, command: str, option: str) -> None:
    (pairs / "file").touch()
    system = ("bicubic", "--lr", "lr", "-o", "C") if command == "compare" else ("--pred", "hr")
    for wrong in ("file/x", "hr", "x" * 300):
        output = run(command, *system, "--gt", "hr", "--metrics", "psnr", option, wrong, code=2)
        assert output.startswith("error: ")
        assert output.count("\n") == 1
    assert not (pairs / "C").exists()
    assert "is given for" in run(
        command, *system, "--gt", "hr", "--metrics", "psnr", "--json", "same", "--csv", "./same", code=2
    )


def test_wrong_arguments_are_one_error_before_work(pairs: Path) -> None:
    evaluate = ("evaluate", "--pred", "hr", "--gt", "hr")
    assert "no metrics were given" in run(*evaluate, "--metrics", " , ", code=2)
    assert "unknown metrics beauty" in run(*evaluate, "--metrics", "psnr, beauty", code=2)
    assert "leaves nothing" in run(*evaluate, "--metrics", "psnr", "--crop-border", 999, code=2)
    assert "no published figures" in run(*evaluate, "--metrics", "psnr", "--compare", "set5", code=2)
    assert "give --gt" in run("evaluate", "--pred", "hr", "--metrics", "psnr", code=2)
    assert "no such folder" in run("evaluate", "--pred", "hr", "--gt", "none", code=2)
    run(*evaluate, "--metrics", " PSNR ,")
    assert "is a file" in compared("bicubic", code=2, output="hr/0.png")
    assert "two systems" in compared("a=bicubic", "A=lanczos", code=2)
    assert "4 times" in compared("bicubic", code=2, more=("--gt", "lr"))


def test_formats_that_tsdsr_writes_are_scored(pairs: Path) -> None:
    (pairs / "out").mkdir()
    for path in (pairs / "hr").iterdir():
        Image.open(path).save(pairs / "out" / f"{path.stem}.avif", quality=95)
    assert "images" in run("evaluate", "--pred", "out", "--gt", "hr", "--metrics", "psnr")


def test_files_are_read_as_they_show(pairs: Path) -> None:
    for name in ("grey16.png", "transparent.png"):
        path, shown = write_unusual(pairs / "true", name)
        (pairs / "seen").mkdir(exist_ok=True)
        Image.fromarray(np.ascontiguousarray(shown)).save(pairs / "seen" / f"{path.stem}.png")
    run("evaluate", "--pred", "seen", "--gt", "true", "--metrics", "psnr", "--json", "r.json")
    assert set(Evaluation.load(Path("r.json")).systems[0].scores["psnr"].values) == {float("inf")}


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_nothing_printed_ends_a_run(pairs: Path, encoding: str) -> None:
    """Arrows, emoji and bytes that are not UTF-8, in labels and file names, on a stream of any encoding."""
    name = os.fsdecode(b"caf\xe9 \xf0\x9f\x98\x80")
    for folder in ("lr", "hr"):
        (pairs / folder / "0.png").rename(pairs / folder / f"{name}.png")
    whole = (pairs / "lr" / f"{name}.png").read_bytes()
    outputs = {kind: f"r.{kind}" for kind in ("json", "markdown", "latex", "csv", "html")}
    options = [part for kind, file in outputs.items() for part in (f"--{kind}", file)]
    arguments = [
        "compare",
        f"{name}=bicubic",
        "--lr",
        "lr",
        "--gt",
        "hr",
        "-o",
        "C",
        "--metrics",
        "psnr",
        "--runs",
        "0",
    ]
    for code, content in ((0, whole), (1, whole[:50])):
        (pairs / "lr" / f"{name}.png").write_bytes(content)
        result = CliRunner(charset=encoding).invoke(app, [*arguments, *options])
        assert result.exit_code == code, result.stdout_bytes
    for file in outputs.values():
        (pairs / file).read_text(encoding="utf-8")
    assert json.loads((pairs / "r.json").read_text(encoding="utf-8"))["images"] == ["1"]
