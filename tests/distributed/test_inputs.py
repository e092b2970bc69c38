"""What the inputs of an archive name, and how it becomes batches."""

from __future__ import annotations

import ast
import importlib.util
import itertools
import os
import sys
import tracemalloc
from collections import Counter
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tsdsr.distributed.plan_index as plan_index
import tsdsr.distributed.plan_writer as plan_writer
import tsdsr.distributed.run_folder as run_folder
import tsdsr.storage as storage
from tests.child_processes import finished
from tests.distributed.archives import Archive, batches, name_below, rows
from tests.s3_server import S3Server, s3_server  # noqa: F401  (a fixture)
from tsdsr.distributed.inputs import ArchiveInput, find_inputs
from tsdsr.errors import InvalidInputError


@pytest.fixture(params=["local", "memory"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Archive:
    root = str(tmp_path / "root") if request.param == "local" else f"memory://{tmp_path.name}"
    made = Archive(root, tmp_path)
    for name in (
        "a.png",
        "B.JPG",
        "deep/c.tif",
        "deep/d.gif",
        ".hidden/e.png",
        "deep/.f.png",
        "note.txt",
        "@eaDir/g.png",
    ):
        made.put(f"in/{name}", name.encode())
    return made


def found(archive: Archive, *names: str) -> tuple[dict[str, str], dict[str, int]]:
    """Inputs and their places below the output; what is left out."""
    left_out = Counter[str]()
    given = [f"{archive.root}/{name}" for name in names]
    inputs = list(find_inputs(given, archive.output, left_out))
    assert not [each.error for each in inputs if each.error]
    return {name_below(archive, each.url): each.relative for each in inputs}, dict(left_out)


def errors(*names: str) -> list[str]:
    return [each.error for each in find_inputs(names, "/out", Counter())]


def test_folders_patterns_and_files(archive: Archive) -> None:
    pictures, left_out = found(archive, "in")
    assert pictures == {"in/a.png": "a.png", "in/B.JPG": "B.JPG", "in/deep/c.tif": "deep/c.tif"}
    assert {kind: count for kind, count in left_out.items() if kind[0] == "."} == {".gif": 1, ".txt": 1}
    assert left_out["hidden or system file"] == 3
    assert found(archive, "in/*")[0] == {**pictures, "in/deep/c.tif": "c.tif"}  # a folder that matches
    assert found(archive, "in/**/?.png")[0] == {"in/a.png": "a.png"}
    assert found(archive, "in/.hidden/?.png")[0] == {"in/.hidden/e.png": "e.png"}
    assert found(archive, "in/**/*.tif") == ({"in/deep/c.tif": "c.tif"}, {})
    assert found(archive, "in/deep/c.tif", "in/a.png")[0] == {"in/deep/c.tif": "c.tif", "in/a.png": "a.png"}
    assert errors(f"{archive.root}/no.png") == [f"{archive.root}/no.png: no such file"]
    assert errors(f"{archive.root}/no*.png") == [f"{archive.root}/no*.png: no file matches this pattern"]
    archive.put("other/a.gif")
    assert errors(f"{archive.root}/other") == [f"{archive.root}/other: no images found in it, only 1 .gif"]


def test_a_list_keeps_the_folders_below_the_common_one(archive: Archive) -> None:
    urls = [f"{archive.input}/{name}" for name in ("deep/c.tif", "a.png", "deep/er/x.unknown")]
    archive.put("in/deep/er/x.unknown")
    archive.put("list.txt", "\n".join([*urls, "", ""]).encode())
    places = ["deep/c.tif", "a.png", "deep/er/x.unknown"]
    assert list(found(archive, "list.txt")[0].values()) == places
    assert sorted(name_below(archive, row["output"]) for row in rows(archive.plan(f"{archive.root}/list.txt"))) == [
        "out/a.png", "out/deep/c.tif", "out/deep/er/x.unknown.png",
    ]  # fmt: skip
    archive.put("empty.txt", b"\n")
    assert errors(f"{archive.root}/empty.txt") == [f"{archive.root}/empty.txt: names no picture"]


def test_a_table_can_say_size_stamp_and_place(archive: Archive, tmp_path: Path) -> None:
    columns = {"uri": ["s3://b/x/1.png", "s3://b/y/1.png"], "bytes": [7, None], "output": [None, "z/2.png"]}
    pq.write_table(pa.table({**columns, "stamp": ["e", None], "title": ["", ""]}), tmp_path / "table")
    archive.put("table.parquet", (tmp_path / "table").read_bytes())
    assert list(find_inputs([f"{archive.root}/table.parquet"], "/out", Counter())) == [
        ArchiveInput("s3://b/x/1.png", "x/1.png", 7, "e"),
        ArchiveInput("s3://b/y/1.png", "z/2.png", -1, ""),
    ]
    pq.write_table(pa.table({"url": ["a"]}), tmp_path / "table")
    archive.put("table.parquet", (tmp_path / "table").read_bytes())
    with pytest.raises(InvalidInputError, match="has no column 'uri'"):
        errors(f"{archive.root}/table.parquet")
    archive.put("table.parquet", b"no table")
    with pytest.raises(InvalidInputError, match="is not a Parquet table"):
        errors(f"{archive.root}/table.parquet")


def test_lists_as_other_programs_write_them(archive: Archive) -> None:
    """A byte order mark, line ends of Windows, blank lines; what is no such text is a mistake."""
    urls = [f"{archive.input}/a.png", f"{archive.input}/deep/c.tif"]
    archive.put("list.txt", "\r\n".join(["", *urls, "  ", ""]).encode("utf-8-sig"))
    assert found(archive, "list.txt")[0] == {"in/a.png": "a.png", "in/deep/c.tif": "deep/c.tif"}
    archive.put("list.txt", "\n".join(urls).encode("utf-16"))
    with pytest.raises(InvalidInputError, match=r"list.txt: is not UTF-8 text; save"):
        errors(f"{archive.root}/list.txt")


def test_tables_with_columns_of_other_types(archive: Archive, tmp_path: Path) -> None:
    def table(**columns: list[object]) -> str:
        pq.write_table(pa.table(columns), tmp_path / "table")
        archive.put("table.parquet", (tmp_path / "table").read_bytes())
        return f"{archive.root}/table.parquet"

    uris: list[object] = ["s3://b/1.png", "  ", None]
    name = table(uri=uris, bytes=["7", "1", "1"], stamp=[5, 6, 7])
    assert list(find_inputs([name], "/out", Counter())) == [ArchiveInput("s3://b/1.png", "1.png", 7, "5")]
    for columns, column in (({"uri": [1]}, "uri"), ({"uri": uris, "output": [1, 2, 3]}, "output")):
        with pytest.raises(InvalidInputError, match=rf"column '{column}' must contain string \(it contains int64\)"):
            errors(table(**columns))
    with pytest.raises(InvalidInputError, match=r"column 'bytes' must contain int64 \("):
        errors(table(uri=uris, bytes=[1.5, 2.0, 3.0]))


def test_names_that_are_refused(archive: Archive, tmp_path: Path) -> None:
    """Names come from others. None of them leads out of the output."""
    places = ["../../etc/a.png", "/etc/a.png", ".tsdsr-runs/a.png"]
    table = pa.table({"uri": [f"{archive.input}/a.png"] * 3, "output": places})
    pq.write_table(table, tmp_path / "table")
    archive.put("table.parquet", (tmp_path / "table").read_bytes())
    plan = archive.plan(f"{archive.root}/table.parquet")
    assert [name_below(archive, row["output"]) for row in rows(plan)] == ["out/etc/a.png"]
    assert "contains '..'" in archive.failures[0]
    assert "contains '.tsdsr-runs'" in archive.failures[1]
    for name, reason in {"-": "standard input", " ": "is empty", f"{archive.input}/no": "no: no such file"}.items():
        with pytest.raises(InvalidInputError, match=reason):
            archive.plan([name])


@pytest.mark.skipif(sys.platform != "linux", reason="names that are not in UTF-8")
def test_names_that_tables_cannot_hold(tmp_path: Path) -> None:
    archive = Archive(str(tmp_path / "root"), tmp_path)
    archive.put("in/a.png")
    Path(os.fsdecode(os.fsencode(archive.input) + b"/\xff.png")).write_bytes(b"x")
    plan = archive.plan()
    assert (plan.pending, plan.failed) == (1, 1)
    assert archive.failures == [f"{archive.input}/\\udcff.png: its name is not in UTF-8, which tables need; rename it"]


def test_object_storage(s3_server: S3Server, tmp_path: Path) -> None:  # noqa: F811
    bucket = s3_server.bucket("archive")
    for number in range(1_003):
        s3_server.put(bucket, f"in/{number // 100}/{number}.png")
    archive = Archive(bucket, tmp_path)
    s3_server.requests.clear()
    plan = archive.plan()
    assert plan.pending == 1_003
    assert not [request for request in s3_server.requests if request.endswith(".png")]  # no request a picture
    assert all(row["stamp"] for row in rows(plan))


def test_a_service_that_refuses_requests_changes_nothing(
    s3_server: S3Server,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every third request is refused, those for statuses and plans included."""
    monkeypatch.setattr(storage, "FIRST_WAIT", 0.001)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    archive = Archive(s3_server.bucket("refusing"), tmp_path)
    for name in ("a.png", "b/c.png"):
        archive.put(f"in/{name}", name.encode())
    requests = itertools.count(1)
    s3_server.refuse = lambda method, path: 503 * (next(requests) % 3 == 0)
    try:
        assert archive.restore(archive.plan()) == 2
        again = archive.plan()
    finally:
        s3_server.refuse = lambda method, path: 0
    assert (again.skipped, again.pending, again.failed) == (2, 0, 0)
    assert next(requests) > 20


def test_batches_are_about_equal_work(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    uris = [f"s3://b/{number}.png" for number in range(10)]
    sizes = [30, 30, 30, 100, 5, 5, 5, 5, 5, 5]
    pq.write_table(pa.table({"uri": uris, "bytes": [size * 1_000_000 for size in sizes]}), archive.scratch / "table")
    archive.put("table.parquet", (archive.scratch / "table").read_bytes())
    monkeypatch.setattr(plan_writer, "BATCHES_A_PART", 2)
    monkeypatch.setattr(plan_writer, "MOST_ROWS", 4)
    monkeypatch.setattr(plan_writer, "FEWEST_BATCHES", 1)
    plan = archive.plan(f"{archive.root}/table.parquet")
    numbers = [[int(name.split("/")[-1][:-4]) for name in batch] for batch in batches(plan)]
    assert numbers == [[0, 1], [2], [3], [4, 5, 6, 7], [8, 9]]
    assert len(plan.parts) == 3
    monkeypatch.setattr(plan_writer, "FEWEST_BATCHES", 3)
    short = batches(archive.plan(f"{archive.root}/table.parquet"))  # 10 pictures, 3 batches of 4 would hold them
    assert [len(batch) for batch in short] == [2, 1, 1, 3, 3]


def peaks_of_plans(folder: Path) -> list[float]:
    """Return the most megabytes that Python's objects take in plans of 300, 800 and 2,800 rows, with small parts."""
    script = Path(__file__).resolve().parents[2] / "benchmarks" / "archive_memory.py"
    spec = importlib.util.spec_from_file_location("archive_memory", script)
    assert spec is not None
    assert spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    peaks = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark, "ROWS_A_GROUP", 200)
        patch.setattr(plan_writer, "BATCHES_A_PART", 10)
        patch.setattr(plan_writer, "FEWEST_BATCHES", 4)
        patch.setattr(run_folder, "MOST_ROWS", 200)
        patch.setattr(plan_index, "ROWS_AT_A_TIME", 200)
        tracemalloc.start()
        for rows in (300, 800, 2_800):  # the first fills caches
            tracemalloc.reset_peak()
            (folder / str(rows)).mkdir()
            benchmark.measure(rows, folder / str(rows))
            peaks.append(tracemalloc.get_traced_memory()[1] / 1e6)
        tracemalloc.stop()
    return peaks


def test_memory_does_not_grow_with_the_archive(tmp_path: Path) -> None:
    """In a process of its own, without the threads of others; ``benchmarks/archive_memory.py`` measures all memory."""
    code = f"""
from pathlib import Path
from tests.distributed.test_inputs import peaks_of_plans
print(peaks_of_plans(Path({str(tmp_path)!r})))
"""
    result = finished([sys.executable, "-c", code], cwd=Path(__file__).resolve().parents[2], text=True)
    assert result.returncode == 0, result.stderr
    peaks = ast.literal_eval(result.stdout.splitlines()[-1])
    assert peaks[2] - peaks[1] < 0.5  # MB; 2,000 statuses are 1.7
