"""Which file becomes which result."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unprivileged import unprivileged
from tsdsr.errors import InvalidInputError, MissingDependencyError
from tsdsr.pipeline import destinations
from tsdsr.pipeline.jobs import Job, check_targets, pending, plan_jobs, settle_jobs
from tsdsr.pipeline.options import RestoreOptions
from tsdsr.result_records import ResultRecords


def names(jobs: tuple[Job, ...], root: Path) -> list[str]:
    return [str(job.destination.relative_to(root)) for job in jobs]


def fill(folder: Path, *files: str) -> Path:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def test_a_folder_keeps_its_structure(photo_folder: Path, tmp_path: Path) -> None:
    (photo_folder / "notes.txt").write_text("not an image")
    out = tmp_path / "out"
    plan = plan_jobs([str(photo_folder)], out)
    assert names(plan.jobs, out) == ["astronaut.png", "cat.webp", "coffee.jpg", "more/rocket.bmp"]
    assert plan.skipped == {".txt": 1}
    assert names(plan_jobs([str(photo_folder)], out, ".png").jobs, out)[-1] == "more/rocket.png"


def test_patterns_and_files(photo_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert names(plan_jobs([f"{photo_folder}/*.jp*g"], out).jobs, out) == ["coffee.jpg"]
    assert names(plan_jobs([f"{photo_folder}/**/*.bmp"], out).jobs, out) == ["rocket.bmp"]
    file = str(photo_folder / "cat.webp")
    assert plan_jobs([file], tmp_path / "big.png").jobs[0].destination == tmp_path / "big.png"
    assert plan_jobs([file], tmp_path / "big").jobs[0].destination == tmp_path / "big" / "cat.webp"


def test_a_path_stands_for_a_list_of_one(photo_folder: Path, tmp_path: Path) -> None:
    expected = plan_jobs([str(photo_folder / "cat.webp")], tmp_path)
    assert plan_jobs(photo_folder / "cat.webp", str(tmp_path)) == expected
    assert plan_jobs(str(photo_folder / "cat.webp"), tmp_path) == expected


def test_results_never_overwrite_inputs_or_each_other(photo_folder: Path, tmp_path: Path) -> None:
    in_place = plan_jobs([str(photo_folder)], photo_folder).jobs
    assert len(in_place) == 4
    assert all("overwrite the input" in str(job.error) for job in in_place)
    (photo_folder / "astronaut.jpg").write_bytes((photo_folder / "coffee.jpg").read_bytes())
    clash = plan_jobs([str(photo_folder)], tmp_path / "out", ".png").jobs
    assert [job.source.name for job in clash if job.error is None] == [
        "astronaut.jpg", "cat.webp", "coffee.jpg", "rocket.bmp",
    ]  # fmt: skip
    assert [str(job.error).split(":")[-1] for job in clash if job.error] == [
        f" its result {tmp_path}/out/astronaut.png is already that of {photo_folder}/astronaut.jpg; rename one"
    ]


def test_an_input_is_not_overwritten_through_a_link(tmp_path: Path) -> None:
    fill(tmp_path, "photos/a.jpg")
    (tmp_path / "alias").symlink_to(tmp_path / "photos")
    (job,) = plan_jobs([str(tmp_path / "photos")], tmp_path / "alias").jobs
    assert "overwrite the input" in str(job.error)


def test_what_follows_a_dot_belongs_to_the_name_unless_it_is_a_known_suffix(tmp_path: Path) -> None:
    fill(tmp_path, "scan.page1", "scan.page2", "IMG.JPG", "old.jfif")
    inputs = [str(tmp_path / name) for name in ("scan.page1", "scan.page2", "IMG.JPG", "old.jfif")]
    out = tmp_path / "out"
    assert names(plan_jobs(inputs, out).jobs, out) == ["scan.page1.png", "scan.page2.png", "IMG.JPG", "old.jfif"]
    assert names(plan_jobs(inputs, out, ".webp").jobs, out) == [
        "scan.page1.webp", "scan.page2.webp", "IMG.webp", "old.webp",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("inputs", "output", "suffix", "message"),
    [
        (["a.jpg", "b.jpg"], "out.png", None, "several inputs need a folder"),
        (["*.jpg"], "out.png", None, "several inputs need a folder"),
        (["."], "out.png", None, "a folder's results need a folder"),
        (["a.jpg", "b.jpg"], "-", None, "several inputs need a folder"),
        (["a.jpg"], "out.gif", None, "out.gif: unknown image suffix"),
        (["a.jpg", "b.jpg"], "out.mov", None, "unknown image suffix"),
        (["a.jpg"], "out.jgp", None, "out.jgp: unknown image suffix"),
        (["a.jpg"], "x.jpg", ".png", "x.jpg: its suffix does not match the format png"),
        (["a.jpg"], "out", ".gif", "unknown output format '.gif'"),
        (["a.jpg"], "", None, "output: is empty"),
        ([""], "out", None, "input: is empty"),
        (["a.jpg", ""], "out", None, "input: is empty"),
        (["a.jpg"], "a.jpg/out", None, "a.jpg/out: cannot be written"),
        (["a.jpg"], "a.jpg/x.png", None, "cannot be written"),
        (["a.jpg"], "notes", None, "notes: is a file; give the name of a folder"),
        (["a.jpg"], "n" * 300, None, "cannot be written|longer than"),
        (["a.jpg"], "loop/x.jpg", None, "cannot be written"),
        (["x.png", "y.png"], "out", None, "x.png, y.png: no such file"),
        (["my", "c.jpg"], "out", None, "my, c.jpg: no such file; put a name with spaces in quotes: 'my c.jpg'"),
        (["*.jgp"], "out", None, r"\*\.jgp: no file matches this pattern"),
    ],
)
def test_mistakes_are_found_before_work(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    inputs: list[str],
    output: str,
    suffix: str | None,
    message: str,
) -> None:
    monkeypatch.chdir(fill(tmp_path, "a.jpg", "b.jpg", "my c.jpg", "notes"))
    (tmp_path / "loop").symlink_to("loop")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InvalidInputError, match=message):
        plan_jobs(inputs, output, suffix)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_suffix_that_is_no_images_or_a_slash_makes_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(fill(tmp_path, "a.jpg"))
    for output in ("v1.2", "holiday 2023.08", "out.gif/", "out.png/"):
        assert plan_jobs(["a.jpg"], output).jobs[0].destination == Path(output) / "a.jpg"
    (tmp_path / "there.png").mkdir()
    assert plan_jobs(["a.jpg"], "there.png").jobs[0].destination == Path("there.png/a.jpg")
    assert plan_jobs(["a.jpg"], "x.jpeg", ".jpg").jobs[0].destination == Path("x.jpeg")


def test_a_format_that_cannot_be_written_here_is_found_beforehand(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tsdsr.images.formats.codecs", lambda: {"PNG"})
    jobs = plan_jobs([str(photo_folder / "cat.webp"), str(photo_folder / "astronaut.png")], tmp_path).jobs
    assert f"{photo_folder / 'cat.webp'}: WEBP files cannot be used here" in str(jobs[0].error)
    assert jobs[1].error is None
    assert [job.source.name for job in pending(jobs)] == ["astronaut.png"]


def test_names_that_differ_in_case_or_composition_are_two_files_only_where_the_disk_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, "one/A.jpg", "two/a.jpg", "three/e\u0301.jpg", "four/\u00c9.jpg")
    folders = [str(tmp_path / name) for name in ("one", "two", "three", "four")]
    here = plan_jobs(folders, tmp_path / "out").jobs
    if not (tmp_path / "ONE").exists():
        assert [job.error for job in here] == [None] * 4
    monkeypatch.setattr("tsdsr.pipeline.jobs.are_one_name", lambda *_: True)
    jobs = plan_jobs(folders, tmp_path / "out").jobs
    assert ["are one file on this file system" in str(job.error) for job in jobs] == [False, True, False, True]
    assert not (tmp_path / "out").exists()


def test_the_disk_is_asked_and_left_as_it_was(tmp_path: Path) -> None:
    distinguishes = not (fill(tmp_path, "probe") / "PROBE").exists()
    first, second = tmp_path / "out" / "A.jpg", tmp_path / "out" / "a.jpg"
    assert destinations.are_one_name(first, second) is not distinguishes
    assert [path.name for path in tmp_path.iterdir()] == ["probe"]


def test_a_folder_in_the_place_of_a_result_is_an_error(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / "out" / "a.jpg").mkdir(parents=True)
    plan = plan_jobs([str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg")], tmp_path / "out")
    jobs = settle_jobs(plan.jobs, ResultRecords(), lambda _: {})
    assert [str(job.error) for job in jobs if job.error] == [
        f"{tmp_path / 'a.jpg'}: {tmp_path / 'out' / 'a.jpg'}: is a folder; give the name of a file"
    ]


def test_a_subfolder_that_cannot_be_written_fails_its_files(tmp_path: Path) -> None:
    fill(tmp_path, "in/a.jpg", "in/sub/b.jpg", "in/sub/" + "n" * 250 + ".x")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").write_text("a file")
    plan = plan_jobs([str(tmp_path / "in")], tmp_path / "out")
    jobs = settle_jobs(plan.jobs, ResultRecords(), lambda _: {})
    assert [job.source.name for job in pending(jobs)] == ["a.jpg"]
    assert "sub/b.jpg: cannot be written" in str(jobs[1].error)


def test_outputs_without_permission_are_found_first(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg")
    (tmp_path / "locked").mkdir(mode=0o555)
    with unprivileged(tmp_path):
        for output in ("locked/x", "locked/x.png", "locked/sub/x.png"):
            with pytest.raises(InvalidInputError, match=r"cannot be written \(Permission denied\)"):
                plan_jobs([str(tmp_path / "a.jpg")], tmp_path / output)


def test_limits_of_formats_are_found_from_the_header(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("L", (2100, 4)).save(tmp_path / "wide.png")
    for name, message in {"a.webp": "WebP can store at most", "b.jpg": "", "c.png": ""}.items():
        plan = plan_jobs([str(tmp_path / "wide.png")], tmp_path / name)
        (job,) = check_targets(plan.jobs, RestoreOptions(8))
        assert (message in str(job.error)) if message else job.error is None


def test_a_closed_standard_output_is_said(photo_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.__stdout__", None)  # what Python makes of a descriptor that is closed
    with pytest.raises(InvalidInputError, match="-o -: the standard output is closed"):
        plan_jobs(photo_folder / "cat.webp", "-")


def test_a_suffix_alone_names_nothing(photo_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"\.png: has no name before its suffix"):
        plan_jobs(photo_folder / "cat.webp", tmp_path / ".png")
    (tmp_path / ".png").mkdir()
    assert names(plan_jobs(photo_folder / "cat.webp", tmp_path / ".png").jobs, tmp_path) == [".png/cat.webp"]


@pytest.mark.parametrize(("output", "suffix"), [("big.heic", None), ("out", ".heic"), ("-", ".heic")])
def test_a_format_that_cannot_be_written_here_is_refused_once(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, suffix: str | None
) -> None:
    monkeypatch.setattr("tsdsr.images.formats.codecs", lambda: {"PNG"})
    where = output if output == "-" else tmp_path / output
    with pytest.raises(MissingDependencyError, match=r"HEIF files cannot be used here; run pip install '\.\[heif\]'"):
        plan_jobs(photo_folder / "astronaut.png", where, suffix)
