"""Restoring a batch, in this process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from tests.distributed.restorers import doubling, write_pictures
from tsdsr.distributed.ledger import Ledger
from tsdsr.distributed.records import STATUS
from tsdsr.distributed.restoring import FileRestorer, RestoreBatch, RestoreTask, pack, unpack
from tsdsr.errors import InvalidInputError, ModelError, ModelNotFoundError, TSDSRError
from tsdsr.hashing import hash_file
from tsdsr.images.picture import Picture
from tsdsr.images.writing import WriteOptions
from tsdsr.pipeline.batch import Restore
from tsdsr.pipeline.made_from import BatchSettings
from tsdsr.pipeline.model_files import hash_of_model
from tsdsr.pipeline.options import RestoreOptions
from tsdsr.remote_files import exists, read_bytes, write_file
from tsdsr.runtimes.open_restorer import ModelSource

SETTINGS = BatchSettings("model", RestoreOptions(2), WriteOptions())
TASK = RestoreTask(ModelSource(), SETTINGS, restorer=doubling)


def rows_for(paths: list[str], output: str) -> list[dict[str, object]]:
    return [{"input": path, "output": f"{output}/{Path(path).name}", "stamp": "s"} for path in paths]


def test_a_file_gets_a_row(tmp_path: Path) -> None:
    (path,) = write_pictures(tmp_path / "in", 1)
    (status,) = FileRestorer(TASK, doubling()).statuses(rows_for([path], f"{tmp_path}/out/deep"))
    output = tmp_path / "out" / "deep" / "0000.png"
    with Image.open(output) as result:
        assert result.size == (32, 32)
    assert {**status, "seconds": 0, "finished_at": 0, "settings": 0, "node": 0} == {
        "input": path, "output": str(output), "status": "done", "seconds": 0, "pixels": 32 * 32,
        "size": output.stat().st_size, "error": "", "notices": [], "input_hash": hash_file(Path(path)), "stamp": "s",
        "settings": 0, "node": 0, "finished_at": 0,
    }  # fmt: skip
    assert status["settings"]
    assert status["seconds"] > 0


@pytest.mark.parametrize("overlap", [False, True])
def test_one_file_does_not_stop_the_others(tmp_path: Path, overlap: bool) -> None:
    paths = write_pictures(tmp_path / "in", 4)
    Path(paths[0]).write_bytes(b"no picture")
    Path(paths[1]).unlink()

    def restore(picture: Picture) -> Picture:
        if np.array_equal(picture.pixels, np.asarray(Image.open(paths[2]))):
            raise KeyError("surprise")
        return doubling()(picture)

    statuses = list(FileRestorer(TASK, restore).statuses(rows_for(paths, f"{tmp_path}/out"), overlap))
    assert [status["status"] for status in statuses] == ["failed", "failed", "failed", "done"]
    assert all(status["error"].count(path) == 1 for status, path in zip(statuses[:3], paths, strict=False))
    assert "KeyError: 'surprise'" in statuses[2]["error"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["0003.png"]


def test_names_of_a_users_rows(tmp_path: Path) -> None:
    """Each fails alone; no original is replaced by its result."""
    first, second, third = write_pictures(tmp_path / "in", 3)
    before = [Path(path).read_bytes() for path in (first, second)]
    (tmp_path / "link").symlink_to(tmp_path / "in")
    rows = pa.table({
        "input": [first, second, None, "in/a.png", third, third],
        "output": [first, f"{tmp_path}/link/0001.png", f"{tmp_path}/out/a.png", f"{tmp_path}/out/b.png", None,
                   f"{tmp_path}/out/c.png"],
        "input_hash": ["the user's own"] * 6,
        "stamp": [1, 2, 3, 4, 5, 6],
    })  # fmt: skip
    statuses = RestoreBatch(TASK, Ledger(), "process")(rows).to_pylist()
    assert [status["status"] for status in statuses] == ["failed"] * 5 + ["done"]
    failed = pa.Table.from_pylist(statuses[:1]).set_column(
        1, "output", pa.array([f"{tmp_path}/d.png"]).dictionary_encode()
    )
    assert RestoreBatch(TASK, Ledger(), "process")(failed)["status"].to_pylist() == ["done"]  # statuses are rows too
    reasons = ["overwrite the input", "overwrite the input", "has no 'input'", "is a relative path", "has no 'output'"]
    assert all(reason in status["error"] for reason, status in zip(reasons, statuses[:5], strict=True))
    assert [Path(path).read_bytes() for path in (first, second)] == before
    for table, said in ((pa.table({"input": [first]}), "no such column"), (pa.table({"input": [1]}), "int64")):
        with pytest.raises(InvalidInputError, match=f"need a column '(input|output)' of texts; .* {said}"):
            RestoreBatch(TASK, Ledger(), "process")(table)


@pytest.mark.parametrize("overlap", [False, True])
def test_pictures_at_urls_go_back_to_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overlap: bool) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))  # not that of other tests
    (tmp_path / "temporary").mkdir()
    urls = []
    for path in write_pictures(tmp_path / "in", 3):
        urls.append(f"memory://restoring-{overlap}/{Path(path).name}")
        write_file(urls[-1], path)
    restorer = FileRestorer(TASK, doubling())
    statuses = list(restorer.statuses(rows_for(urls, f"memory://restored-{overlap}"), overlap))
    assert [status["status"] for status in statuses] == ["done"] * 3
    local = list(restorer.statuses(rows_for(write_pictures(tmp_path / "in", 3), f"{tmp_path}/out")))
    assert [read_bytes(s["output"]) for s in statuses] == [Path(s["output"]).read_bytes() for s in local]
    assert [s["size"] for s in statuses] == [s["size"] for s in local]
    assert list((tmp_path / "temporary").iterdir()) == []
    missing, *_ = restorer.statuses([{"input": "memory://restoring/none.png", "output": "memory://restored/none.png"}])
    assert missing["status"] == "failed"
    assert missing["error"].count("memory://restoring/none.png") == 1
    assert not exists("memory://restored/none.png")


def test_a_target_is_checked_before_the_model_runs(tmp_path: Path) -> None:
    (path,) = write_pictures(tmp_path / "in", 1)
    task = RestoreTask(ModelSource(), BatchSettings("m", RestoreOptions(target_size=(999, 999)), WriteOptions()))

    def restore(picture: Picture) -> Picture:
        raise AssertionError

    (status,) = FileRestorer(task, restore).statuses(rows_for([path], f"{tmp_path}/out"))
    assert "times the input's 16x16" in status["error"]
    assert "AssertionError" not in status["error"]


def test_the_same_content_is_not_made_again(tmp_path: Path) -> None:
    """The plan found a result of this input, whose stamp has changed since."""
    same, other = write_pictures(tmp_path / "in", 2)
    rows = rows_for([same, other], f"{tmp_path}/out")
    restorer = FileRestorer(TASK, doubling())
    made = list(restorer.statuses(rows))
    before = (tmp_path / "out" / "0001.png").stat().st_mtime_ns
    rows = [{**row, "input_hash": made[0]["input_hash"]} for row in rows]
    first, second = restorer.statuses(rows)
    assert (first["status"], first["size"], first["error"]) == ("skipped", made[0]["size"], "")
    assert second["status"] == "failed"
    assert "was made from another picture" in second["error"]
    assert (tmp_path / "out" / "0001.png").stat().st_mtime_ns == before


class Died(BaseException):
    """Stands for the death of a process."""


def test_a_file_that_kills_its_process_costs_two_restarts_and_itself(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path / "in", 5)
    tried: list[int] = []
    poison = np.asarray(Image.open(paths[2]))

    def deadly() -> Restore:
        def restore(picture: Picture) -> Picture:
            tried.append(1)
            if np.array_equal(picture.pixels, poison):
                raise Died
            return doubling()(picture)

        return restore

    ledger, task = Ledger(), RestoreTask(ModelSource(), SETTINGS, restorer=deadly)
    table = pa.Table.from_pylist(rows_for(paths, f"{tmp_path}/out"))
    for _ in range(2):
        with pytest.raises(Died):
            RestoreBatch(task, ledger, "process")(table)
    statuses = RestoreBatch(task, ledger, "process")(table).to_pylist()
    assert [status["status"] for status in statuses] == ["done", "done", "killed", "done", "done"]
    assert [status["input"] for status in statuses] == paths
    assert "its process died twice" in statuses[2]["error"]
    assert len(tried) == 3 + 3 + 2  # what ended in the second attempt is not made a third time


def test_batches_in_rows_come_back_in_rows(tmp_path: Path) -> None:
    rows = rows_for(write_pictures(tmp_path / "in", 3), f"{tmp_path}/out")
    batches = RestoreBatch(TASK, Ledger(), "process")
    packed = batches(pack([pa.Table.from_pylist(rows[:2]), pa.Table.from_pylist(rows[2:])]))
    assert packed.num_rows == 2
    assert [status["output"] for status in unpack(packed)] == [row["output"] for row in rows]
    assert batches(packed.slice(0, 0)).num_rows == 0
    assert batches(pa.Table.from_pylist(rows).slice(0, 0)).schema == STATUS


def test_a_model_that_kills_its_process_ends_the_run() -> None:
    def deadly() -> Restore:
        raise Died

    ledger, task = Ledger(), RestoreTask(ModelSource("big"), SETTINGS, restorer=deadly)
    for _ in range(3):
        with pytest.raises(Died):
            RestoreBatch(task, ledger, "process")
    with pytest.raises(ModelError, match="big: loading it killed the process 3 times on the machine"):
        RestoreBatch(task, ledger, "process")


def test_the_model_is_the_same_on_every_machine(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"no such folder on the machine .*; copy the model to the same path"):
        RestoreTask(ModelSource(str(tmp_path / "none")), SETTINGS).load()
    with pytest.raises(TSDSRError, match=r"mini: on the machine .* is another model than on the machine that began"):
        RestoreTask(ModelSource("mini"), SETTINGS).load()
    settings = BatchSettings(hash_of_model("mini"), RestoreOptions(2), WriteOptions(), engine="onnx")
    result = RestoreTask(ModelSource("mini"), settings).load()(Picture(np.zeros((16, 16, 3), np.uint8)))
    assert result.pixels.shape == (32, 32, 3)
