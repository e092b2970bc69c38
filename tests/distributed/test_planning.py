"""What becomes of each input: restored, skipped, compared or refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from fsspec.core import url_to_fs

from tests.distributed.archives import Archive, name_below, rows
from tsdsr.errors import InvalidInputError, MissingDependencyError
from tsdsr.images import formats
from tsdsr.remote_files import find_file


@pytest.fixture(params=["local", "memory"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Archive:
    root = str(tmp_path / "root") if request.param == "local" else f"memory://{tmp_path.name}"
    made = Archive(root, tmp_path)
    for name in ("a.png", "b.jpg", "deep/c.tif"):
        made.put(f"in/{name}", name.encode())
    return made


def test_what_is_recorded_is_skipped(archive: Archive) -> None:
    first = archive.plan()
    assert (first.pending, first.skipped, first.failed) == (3, 0, 0)
    planned = {name_below(archive, row["input"]): name_below(archive, row["output"]) for row in rows(first)}
    assert planned == {"in/a.png": "out/a.png", "in/b.jpg": "out/b.jpg", "in/deep/c.tif": "out/deep/c.tif"}
    assert archive.restore(first) == 3
    again = archive.plan()
    assert (again.pending, again.skipped, again.failed, again.parts) == (0, 3, 0, ())
    fs, inner = url_to_fs(f"{archive.output}/deep/c.tif")
    fs.rm(inner)
    archive.put("in/new.png")
    more = archive.plan()
    assert (more.pending, more.skipped) == (2, 2)
    assert sorted(name_below(archive, row["input"]) for row in rows(more)) == ["in/deep/c.tif", "in/new.png"]


def test_a_touched_input_is_compared_by_content(archive: Archive) -> None:
    archive.restore(archive.plan())
    archive.put("in/a.png", b"a.png")
    archive.put("in/b.jpg", b"another picture")
    plan = archive.plan()
    assert (plan.pending, plan.skipped) == (2, 1)
    assert all(row["input_hash"] and row["replaces"] for row in rows(plan))
    assert archive.restore(plan) == 0
    last = archive.plan()
    assert (last.pending, last.skipped) == (1, 2)  # the first has its new stamp, the other was refused


def test_results_of_others_are_not_replaced(archive: Archive) -> None:
    archive.put("out/a.png", b"mine")
    plan = archive.plan()
    assert (plan.pending, plan.failed) == (2, 1)
    assert archive.failures == [
        f"{archive.input}/a.png: {archive.output}/a.png is there already; --overwrite replaces it, or choose another -o"
    ]
    archive.restore(plan)
    assert archive.plan(scale=2.0).failed == 3
    assert sum("was made with other settings (scale)" in message for message in archive.failures) == 2
    archive.put("out/b.jpg", b"changed since")
    assert archive.plan().failed == 2
    assert sum("b.jpg is there already" in message for message in archive.failures) == 1
    over = archive.plan(overwrite=True)
    assert (over.pending, over.failed) == (3, 0)
    assert all(row["replaces"] and not row["input_hash"] for row in rows(over))


def test_a_model_that_is_not_known_is_never_the_same(archive: Archive) -> None:
    archive.restore(archive.plan(model=None))
    assert archive.plan(model=None).failed == 3


def test_results_of_a_lost_driver_are_made_again(archive: Archive) -> None:
    archive.put("out/a.png", b"mine")
    lost = archive.plan()
    archive.restore(lost, record=False, finish=False)
    assert archive.plan(scale=2.0).failed == 3
    plan = archive.plan()
    assert (plan.pending, plan.failed) == (2, 1)  # what stood there before the lost run is still not its own
    archive.restore(plan, record=False, finish=False)  # lost again
    last = archive.plan()
    assert (last.pending, last.failed) == (2, 1)
    archive.restore(last)
    assert archive.plan().skipped == 2


def test_a_finished_run_owns_only_what_it_recorded(archive: Archive) -> None:
    archive.restore(archive.plan(), record=False)
    assert archive.plan().failed == 3


def test_a_run_lost_while_it_replaced_leaves_the_decision_to_the_user(archive: Archive) -> None:
    archive.put("out/a.png", b"mine")
    archive.restore(archive.plan(overwrite=True), record=False, finish=False)
    assert archive.plan().failed == 1
    assert "out/a.png is there already" in archive.failures[0]


def test_failures_are_tried_again(archive: Archive) -> None:
    plan = archive.plan([f"{archive.input}/gone.png", archive.input])
    assert (plan.pending, plan.failed) == (3, 1)
    assert archive.failures == [f"{archive.input}/gone.png: no such file"]
    archive.restore(plan)
    archive.put("in/gone.png")
    assert archive.plan(f"{archive.input}/gone.png").pending == 1


def test_two_inputs_with_one_result(archive: Archive) -> None:
    archive.put("in/a.webp")
    plan = archive.plan([f"{archive.input}/{name}" for name in ("a.png", "a.webp", "a.p*", "b.jpg")], suffix=".png")
    assert (plan.pending, plan.failed, plan.left_out) == (2, 1, {"repeated input": 1})
    url = f"{archive.input}/a"
    assert archive.failures == [
        f"{url}.webp: its result {archive.output}/a.png is already that of {url}.png; rename one"
    ]


def test_a_result_never_replaces_an_input(archive: Archive) -> None:
    plan = archive.plan(output=archive.input)
    assert plan.failed == 3
    assert all("the result would overwrite the input" in message for message in archive.failures)
    archive.put("in/e.webp")
    plan = archive.plan(output=archive.input, suffix=".avif")
    assert plan.pending == 4
    archive.restore(plan)
    again = archive.plan(output=archive.input, suffix=".avif")
    assert (again.skipped, again.failed, again.left_out) == (4, 0, {"earlier result": 4})


def test_results_below_the_inputs_are_left_out(archive: Archive) -> None:
    output = f"{archive.input}/results"
    archive.restore(archive.plan(output=output))
    again = archive.plan(output=output)
    assert (again.pending, again.skipped, again.failed, again.left_out) == (0, 3, 0, {})


def test_a_folder_of_results_can_be_moved(archive: Archive) -> None:
    archive.restore(archive.plan())
    moved = Archive(f"{archive.root}-moved", archive.scratch)
    fs, _ = url_to_fs(archive.root)
    fs.mv(archive.output, moved.output, recursive=True)
    plan = archive.plan(output=moved.output)
    assert plan.skipped == 3


def test_a_damaged_part_of_the_statuses(archive: Archive) -> None:
    plan = archive.plan()
    archive.restore(plan)
    archive.put(name_below(archive, plan.run.part("status", 0)), b"cut off")
    assert archive.plan().failed == 3
    assert len(archive.notices) == 1
    assert "is damaged" in archive.notices[0]


def test_formats_that_cannot_be_written(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    archive.put("in/d.jxl")
    monkeypatch.setattr(formats, "codecs", lambda: {"PNG", "JPEG", "TIFF"})
    assert archive.plan().failed == 1
    assert "d.jxl: JPEG XL files cannot be used here" in archive.failures[0]
    with pytest.raises(MissingDependencyError, match="JPEG XL"):
        archive.plan(suffix=".jxl")


def test_outputs_that_are_refused(archive: Archive) -> None:
    for output, reason in {
        "": "output: is empty",
        "-": "need a folder",
        f"{archive.output}/a.png": "is the name of a file, but the results of an archive need a folder",
        f"{archive.output}/a.gif": "unknown image suffix",
    }.items():
        with pytest.raises(InvalidInputError, match=reason):
            archive.plan(output=output)
    with pytest.raises(InvalidInputError, match="unknown output format"):
        archive.plan(suffix=".gif")
    assert find_file(f"{archive.output}/.tsdsr-runs") is None


def test_failures_found_in_planning_are_statuses_of_the_run(archive: Archive) -> None:
    from tsdsr.distributed.run_folder import earlier_runs, read_parts

    archive.put("out/a.png", b"mine")
    archive.plan()
    (run,) = earlier_runs(archive.output)
    (table,) = read_parts("status", run.statuses, pytest.fail)
    (row,) = table.to_pylist()
    assert (row["status"], row["error"]) == ("failed", archive.failures[0])
