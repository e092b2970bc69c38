"""Many files through one model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from tsdsr.errors import OutOfMemoryError, TSDSRError
from tsdsr.images.picture import Picture
from tsdsr.images.writing import WriteOptions
from tsdsr.pipeline.batch import JobResult, Restore, run_jobs
from tsdsr.pipeline.jobs import plan_jobs, settle_jobs
from tsdsr.pipeline.made_from import BatchSettings, is_restored
from tsdsr.pipeline.options import RestoreOptions
from tsdsr.result_records import ResultRecords


def double(picture: Picture) -> Picture:
    return replace(picture, pixels=picture.pixels.repeat(2, 0).repeat(2, 1))


def run(
    inputs: list[Path],
    output: Path,
    restore: Restore = double,
    overwrite: bool = False,
    written: WriteOptions = WriteOptions(),  # noqa: B008
    model: str | None = "m",
    **options: object,
) -> list[JobResult]:
    """Run a batch as the command does."""
    records = ResultRecords()
    settings = BatchSettings(model, RestoreOptions(**options), written)  # type: ignore[arg-type]
    plan = plan_jobs([str(path) for path in inputs], output, None, lambda path: is_restored(path, records))
    jobs = settle_jobs(plan.jobs, records, settings.made_from, overwrite)
    return list(run_jobs(jobs, restore, records, settings.made_from, options=written))


def statuses(results: list[JobResult]) -> list[str]:
    return [result.status for result in results]


def test_a_bad_file_does_not_stop_the_rest(photo_folder: Path, tmp_path: Path) -> None:
    (photo_folder / "broken.png").write_bytes(b"x")
    results = {r.job.source.name: r for r in run([photo_folder, tmp_path / "missing.png"], tmp_path / "out")}
    assert {n: r.status for n, r in results.items()} == {
        "astronaut.png": "done",
        "broken.png": "failed",
        "cat.webp": "done",
        "coffee.jpg": "done",
        "rocket.bmp": "done",
        "missing.png": "failed",
    }
    assert "broken.png" in str(results["broken.png"].error)
    assert "no such file" in str(results["missing.png"].error)
    with Image.open(tmp_path / "out" / "more" / "rocket.bmp") as image:
        assert image.size == (1280, 854)


def test_a_batch_that_was_cut_off_is_resumed(photo_folder: Path) -> None:
    out = photo_folder / "out"  # within the input folder
    assert statuses(run([photo_folder], out)) == ["done"] * 4
    (out / "cat.webp").unlink()
    before = (out / "coffee.jpg").stat().st_mtime_ns
    again = run([photo_folder], out)
    assert {r.job.source.name: r.status for r in again} == {
        "astronaut.png": "skipped", "cat.webp": "done", "coffee.jpg": "skipped", "rocket.bmp": "skipped",
    }  # fmt: skip
    assert (out / "coffee.jpg").stat().st_mtime_ns == before
    assert not (out / "out").exists()


def test_results_beside_the_originals_are_no_inputs(photo_folder: Path) -> None:
    def beside() -> list[JobResult]:
        records = ResultRecords()
        settings = BatchSettings("m", RestoreOptions(), WriteOptions())
        inputs = [*sorted(photo_folder.glob("[!.]*.*")), photo_folder]  # as a shell expands "*.* ."
        plan = plan_jobs(inputs, photo_folder, ".tif", lambda path: is_restored(path, records))
        jobs = settle_jobs(plan.jobs, records, settings.made_from)
        return list(run_jobs(jobs, double, records, settings.made_from))

    assert statuses(beside()) == ["done"] * 4
    assert statuses(beside()) == ["skipped"] * 4
    assert len(list(photo_folder.rglob("*.tif"))) == 4


def test_another_picture_of_the_same_name_is_not_skipped(tmp_path: Path) -> None:
    for folder, colour in {"c1": "red", "c2": "blue"}.items():
        (tmp_path / folder).mkdir()
        Image.new("RGB", (8, 8), colour).save(tmp_path / folder / "x.png")
    out = tmp_path / "out"
    assert statuses(run([tmp_path / "c1" / "x.png"], out)) == ["done"]
    red = (out / "x.png").read_bytes()
    (failed,) = run([tmp_path / "c2" / "x.png"], out)
    assert str(failed.error) == (
        f"{tmp_path / 'c2' / 'x.png'}: {out / 'x.png'} was made from another picture; --overwrite replaces it, or "
        "choose another -o"
    )
    assert (out / "x.png").read_bytes() == red
    assert statuses(run([tmp_path / "c2" / "x.png"], out, overwrite=True)) == ["done"]
    assert (out / "x.png").read_bytes() != red
    assert statuses(run([tmp_path / "c2" / "x.png"], out)) == ["skipped"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model": "another"}, "model"),
        ({"scale": 2}, "scale"),
        ({"target_size": (20, 20)}, "fit, scale, target"),
        ({"color_fix": "none"}, "color_fix"),
        ({"detail": 0.5}, "detail"),
        ({"tile": 64}, "tile"),
        ({"written": WriteOptions(quality=50)}, "quality"),
    ],
)
def test_other_settings_are_not_skipped(tmp_path: Path, changes: dict[str, object], named: str) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg")
    assert statuses(run([tmp_path / "a.jpg"], tmp_path / "out")) == ["done"]
    (failed,) = run([tmp_path / "a.jpg"], tmp_path / "out", **changes)  # type: ignore[arg-type]
    assert f"was made with other settings ({named}); --overwrite replaces it" in str(failed.error)
    for unimportant in ({"tile_batch": 2}, {"written": WriteOptions(quality=95, compression=9)}):
        assert statuses(run([tmp_path / "a.jpg"], tmp_path / "out", **unimportant)) == ["skipped"]  # type: ignore[arg-type]


def test_a_model_that_is_not_known_counts_as_another_even_beside_itself(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg")
    assert statuses(run([tmp_path / "a.jpg"], tmp_path / "out", model=None)) == ["done"]
    assert statuses(run([tmp_path / "a.jpg"], tmp_path / "out", model="m")) == ["failed"]


def test_a_file_of_unknown_origin_is_not_touched(photo_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "cat.webp").write_bytes(b"mine")
    (failed,) = run([photo_folder / "cat.webp"], out)
    assert f"{out / 'cat.webp'} is there already; --overwrite replaces it" in str(failed.error)
    assert (out / "cat.webp").read_bytes() == b"mine"
    assert statuses(run([photo_folder / "cat.webp"], out, overwrite=True)) == ["done"]
    (out / "cat.webp").write_bytes(b"cut off")
    assert statuses(run([photo_folder / "cat.webp"], out)) == ["failed"]


def test_a_result_is_recorded_even_if_an_interruption_follows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    from tsdsr.images.writing import write_picture

    def interrupted(*arguments: object) -> tuple[str, ...]:
        write_picture(*arguments)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("tsdsr.pipeline.batch.write_picture", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run([tmp_path / "a.png"], tmp_path / "out")
    assert statuses(run([tmp_path / "a.png"], tmp_path / "out")) == ["skipped"]


@pytest.mark.parametrize("before", [True, False])
def test_an_interruption_while_a_result_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    add, calls = ResultRecords.add, []

    def interrupted(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) > 1 or not before:
            add(*arguments)  # type: ignore[arg-type]
        if len(calls) == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ResultRecords, "add", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run([tmp_path / "a.png"], tmp_path / "out")
    assert statuses(run([tmp_path / "a.png"], tmp_path / "out")) == ["skipped"]


def test_a_result_that_cannot_be_recorded_is_still_a_result(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "out" / ".tsdsr-results.jsonl").mkdir(parents=True)
    (result,) = run([tmp_path / "a.png"], tmp_path / "out")
    assert result.status == "done"
    assert "the next run will not know what" in result.notices[0]


def test_notices_are_reported_and_options_reach_the_file(photo_folder: Path, tmp_path: Path) -> None:
    with Image.open(photo_folder / "astronaut.png") as image:
        image.quantize(16).save(photo_folder / "few.png", transparency=3)
    sizes = []
    for quality in (30, 90):
        target = tmp_path / f"{quality}.jpg"
        (result,) = run([photo_folder / "few.png"], target, lambda picture: picture, written=WriteOptions(quality))
        assert result.notices == (
            "the palette is converted to RGB",
            "JPEG has no transparency: it is flattened onto white",
        )
        sizes.append(target.stat().st_size)
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_out_of_memory_fails_one_file(photo_folder: Path, tmp_path: Path, error: Exception) -> None:
    def restore(picture: Picture) -> Picture:
        if picture.width == 451:  # the cat
            raise error
        return picture

    failed, done = run([photo_folder / name for name in ("cat.webp", "coffee.jpg")], tmp_path / "out", restore)
    assert isinstance(failed.error, OutOfMemoryError)
    assert "cat.webp: out of memory; free some" in str(failed.error)
    assert done.status == "done"


def test_failures_of_the_system_fail_one_file(photo_folder: Path, tmp_path: Path) -> None:
    def restore(picture: Picture) -> Picture:
        if picture.width == 451:  # the cat
            raise OSError(28, "No space left on device")
        return picture

    failed, done = run([photo_folder / name for name in ("cat.webp", "coffee.jpg")], tmp_path / "out", restore)
    assert str(failed.error) == f"{photo_folder / 'cat.webp'}: No space left on device"
    assert done.status == "done"


def test_mistakes_of_the_program_are_not_swallowed(photo_folder: Path, tmp_path: Path) -> None:
    def restore(picture: Picture) -> Picture:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        run([photo_folder / "cat.webp"], tmp_path / "out", restore)
    assert not issubclass(RuntimeError, TSDSRError)
