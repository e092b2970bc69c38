"""The folder of a run: parts as they come, runs found again, damage to a part."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

import tsdsr.distributed.run_folder as run_folder
from tests.s3_server import S3Server, s3_server  # noqa: F401  (a fixture)
from tsdsr.distributed.records import STATUS, as_table, settings_hash, status_row
from tsdsr.distributed.run_folder import RunFolder, earlier_runs, read_parts
from tsdsr.errors import FileReadError
from tsdsr.remote_files import list_files


def test_statuses_are_written_when_rows_or_time_have_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_folder, "MOST_ROWS", 3)
    now = [0.0]
    monkeypatch.setattr(run_folder, "time", SimpleNamespace(monotonic=lambda: now[0]))
    run = RunFolder(str(tmp_path), {"formats": {}})
    parts: list[int] = []
    for step, rows in ((1.0, 2), (2.0, 1), (16.0, 1), (16.5, 1), (33.0, 0)):
        now[0] = step
        run.add(status_row(f"/in/{step}-{row}.png", "/out", "done") for row in range(rows))
        parts.append(len(list(tmp_path.rglob("status-*.parquet"))))
    assert parts == [0, 1, 1, 1, 2]
    run.add([status_row("/in/last.png", "/out", "failed", error="why")])
    run.finish({"done": 5, "failed": 1})
    (earlier,) = earlier_runs(str(tmp_path))
    assert earlier.finished
    tables = list(read_parts("status", earlier.statuses, pytest.fail))
    assert [table.num_rows for table in tables] == [3, 2, 1]
    assert tables[2].to_pylist()[0]["error"] == "why"
    assert json.loads(next(tmp_path.rglob("finished.json")).read_text(encoding="utf-8"))["done"] == 5


def test_a_run_in_object_storage_is_found_again(s3_server: S3Server) -> None:  # noqa: F811
    bucket = s3_server.bucket("runs")
    row = status_row("s3://in/ü.png", "s3://out/ü.png", "done", seconds=1.5, pixels=64, notices=["alpha dropped"])
    first = RunFolder(f"{bucket}/out", {"formats": {"PNG": {"scale": 4}}})
    first.add([row])
    first.flush()
    second = RunFolder(f"{bucket}/out/", {})
    second.finish({})
    runs = earlier_runs(f"{bucket}/out")
    assert [run.finished for run in runs] == [False, True]
    assert runs[0].settings == {"formats": {"PNG": {"scale": 4}}}
    assert [table.to_pylist() for table in read_parts("status", runs[0].statuses, pytest.fail)] == [[row]]
    assert len(list(list_files(f"{bucket}/out"))) == 4


def test_a_damaged_part_loses_only_itself(tmp_path: Path) -> None:
    run = RunFolder(str(tmp_path), {})
    for number in range(3):
        run.add([status_row(f"/in/{number}.png", "/out", "done")])
        run.flush()
    Path(run.part("status", 1)).write_bytes(b"PAR1 cut off")
    next(tmp_path.rglob("settings.json")).write_text("{", encoding="utf-8")
    messages: list[str] = []
    (earlier,) = earlier_runs(str(tmp_path))
    assert earlier.settings == {}
    tables = list(read_parts("status", earlier.statuses, messages.append))
    assert [table["input"][0].as_py() for table in tables] == ["/in/0.png", "/in/2.png"]
    assert len(messages) == 1
    assert messages[0].startswith(f"{run.part('status', 1)}: is damaged (")
    with pytest.raises(FileReadError, match="status-00009"):  # storage that does not answer is no damage
        list(read_parts("status", [run.part("status", 9)], pytest.fail))


@pytest.mark.parametrize(
    "content",
    ["[1]", '{"output": 7}', '{"formats": 5}', '{"formats": {"PNG": 5}}', '{"formats": {"PNG": {"a": 1e999}}}'],
)
def test_settings_that_hold_something_else_are_none(content: str, tmp_path: Path) -> None:
    RunFolder(str(tmp_path), {})
    next(tmp_path.rglob("settings.json")).write_text(content, encoding="utf-8")
    assert earlier_runs(str(tmp_path))[0].settings == {}


def test_rows_hold_any_name() -> None:
    table = as_table([status_row("/in/\udcff.png", "/out/ä.png", "done")], STATUS)
    assert table["input"][0].as_py() == "/in/\\udcff.png"
    assert table["output"][0].as_py() == "/out/ä.png"


def test_the_hash_of_settings_depends_on_their_values_only() -> None:
    assert settings_hash({"a": 1, "b": 2.0}) == settings_hash({"b": 2.0, "a": 1})
    assert settings_hash({"a": 1}) != settings_hash({"a": 2})
