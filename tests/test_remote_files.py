"""Files at URLs and local ones: reading, listing, atomic writing, calls that are repeated."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.core import url_to_fs
from fsspec.registry import known_implementations

import tsdsr.storage as storage
from tests.s3_server import S3Server, s3_server  # noqa: F401  (a fixture)
from tsdsr.errors import FileReadError, FileWriteError, InvalidInputError, MissingDependencyError, MissingFileError
from tsdsr.remote_files import (
    RemoteFile,
    exists,
    find_file,
    is_folder,
    is_pattern,
    is_url,
    join_url,
    list_files,
    local_path,
    open_url,
    read_bytes,
    write_file,
)


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "FIRST_WAIT", 0.001)


@pytest.fixture
def bucket(s3_server: S3Server, request: pytest.FixtureRequest) -> Iterator[str]:  # noqa: F811
    yield s3_server.bucket(f"b{abs(hash(request.node.name))}")
    s3_server.refuse = lambda method, path: 0


@pytest.fixture(params=["local", "file", "memory", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place of each kind."""
    if request.param == "s3":
        return f"{request.getfixturevalue('bucket')}/in"
    memory = f"memory://{tmp_path.name}"
    return {"local": str(tmp_path / "in"), "file": f"file://{tmp_path / 'in'}", "memory": memory}[request.param]


def put(url: str, data: bytes, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(data)
    assert write_file(url, tmp_path / "source") == len(data)


def test_urls_and_paths() -> None:
    assert is_url("s3://a/b")
    assert not is_url("C:/a")
    assert not is_url("a/b://c")
    assert local_path("file:///a/b") == Path("/a/b")
    assert local_path("~/a") == Path.home() / "a"
    assert local_path("s3://a") is None
    assert join_url("s3://a", "b/c") == "s3://a/b/c"
    assert join_url("s3://a/", "b") == "s3://a/b"
    assert join_url("memory://", "b") == "memory://b"
    assert join_url("/", "b") == "/b"


def test_every_kind_of_storage_behaves_alike(root: str, tmp_path: Path) -> None:
    names = ["a.png", "b c.png", "deep/er/ü#1%20.png", "deep/a.txt"]
    assert list(list_files(root)) == []
    assert not exists(root)
    for number, name in enumerate(names):
        put(join_url(root, name), b"0123456789"[number:], tmp_path)
    files = {file.relative: file for file in list_files(root)}
    assert sorted(files) == sorted(names)
    assert [files[name].size for name in names] == [10, 9, 8, 7]
    for file in files.values():
        assert len(read_bytes(file.url)) == file.size
        assert find_file(file.url) == RemoteFile(file.url, file.relative.split("/")[-1], file.size, file.stamp)
    url = files["a.png"].url
    assert read_bytes(url, 3, 4) == b"3456"
    assert read_bytes(url, 8) == b"89"
    with open_url(url) as opened:
        assert opened.read(2) == b"01"
    assert is_folder(join_url(root, "deep"))
    assert find_file(join_url(root, "deep")) is None
    put(url, b"9876543210", tmp_path)
    changed = find_file(url)
    assert changed is not None
    assert changed.stamp != files["a.png"].stamp
    assert changed.stamp.endswith("-10")
    fs, inner = url_to_fs(url)
    fs.rm(inner)
    assert not exists(url)
    with pytest.raises(MissingFileError, match=r"a\.png: no such file"):
        open_url(url).__enter__()
    with pytest.raises(FileReadError, match="has fewer than 12 bytes"):
        read_bytes(files["b c.png"].url, 5, 7)


def test_patterns(root: str, tmp_path: Path) -> None:
    for name in ("a1.png", "a2.jpg", "in/a3.png", "in/deep/a4.png", "[x]/a5.png"):
        put(join_url(root, name), b"x", tmp_path)

    def found(pattern: str) -> list[str]:
        return sorted(file.relative for file in list_files(join_url(root, pattern)))

    assert found("*.png") == ["a1.png"]
    assert found("a?.*") == ["a1.png", "a2.jpg"]
    assert found("a[1].png") == ["a1.png"]
    assert found("**/a[34].png") == ["a3.png", "a4.png"]
    assert found("i*") == ["a3.png", "deep/a4.png"]  # a folder that matches
    assert found("[x]") == ["a5.png"]  # what exists is no pattern
    if local_path(root) is not None:
        assert found("[x]/a?.png") == ["a5.png"]
    assert is_pattern(join_url(root, "x*"))
    assert found("x*") == []


def test_a_thousand_keys_and_more_come_in_pages(
    s3_server: S3Server,  # noqa: F811
    bucket: str,
) -> None:
    for key in (*(f"many/{number:04d}.png" for number in range(1_005)), "many/", "manyfold/a.png"):
        s3_server.put(bucket, key)
    s3_server.requests.clear()
    listed = list_files(f"{bucket}/many")
    assert next(listed).relative == "0000.png"
    first = len(s3_server.requests)
    assert [file.relative for file in listed] == [f"{number:04d}.png" for number in range(1, 1_005)]
    assert len(s3_server.requests) == first + 1


@pytest.mark.parametrize("status", [500, 503])
def test_calls_are_repeated(
    status: int,
    s3_server: S3Server,  # noqa: F811
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # botocore's own repetitions, which other storage does not have
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    s3_server.fail_next(2, status, "PUT")
    put(f"{bucket}/a.png", b"abc", tmp_path)
    s3_server.fail_next(2, status, "GET")
    assert read_bytes(f"{bucket}/a.png") == b"abc"
    s3_server.fail_next(2, status)
    assert [file.size for file in list_files(bucket)] == [3]
    monkeypatch.setattr(storage, "TRIES", 3)
    s3_server.fail_next(1_000, status)
    with pytest.raises(FileReadError, match=rf"{bucket}/a\.png: cannot be read \(.*\) in 3 tries; run again later"):
        read_bytes(f"{bucket}/a.png")
    with pytest.raises(FileWriteError, match=rf"{bucket}/b\.png: cannot be written"):
        put(f"{bucket}/b.png", b"abc", tmp_path)
    s3_server.refuse = lambda method, path: 0
    assert not exists(f"{bucket}/b.png")


def test_lasting_errors_are_not_repeated(
    s3_server: S3Server,  # noqa: F811
    bucket: str,
    tmp_path: Path,
) -> None:
    (tmp_path / "source").write_bytes(b"x")
    s3_server.requests.clear()
    with pytest.raises(MissingFileError, match="s3://nowhere/a: no such file, folder or bucket"):
        read_bytes("s3://nowhere/a")
    with pytest.raises(MissingFileError, match="nowhere"):
        list(list_files("s3://nowhere/a"))
    with pytest.raises(FileWriteError, match=r"s3://nowhere/a: cannot be written \(.*bucket does not exist\)"):
        write_file("s3://nowhere/a", tmp_path / "source")
    assert s3_server.requests.count("PUT /nowhere/a") == 1
    s3_server.refuse = lambda method, path: 403
    s3_server.requests.clear()
    with pytest.raises(FileReadError, match=r"a: cannot be read \(.*\); check the address and the credentials"):
        read_bytes(f"{bucket}/a")
    assert len(s3_server.requests) == 1


def test_storage_whose_uploads_show_before_they_are_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of theirs is uploaded beside the old one and then moved, and leaves nothing behind."""
    monkeypatch.setattr("tsdsr.remote_files._ATOMIC_PUT", set())
    memory: Any = fsspec.filesystem("memory")
    url = f"memory://{tmp_path.name}/deep/a.png"
    put(url, b"old", tmp_path)
    put(url, b"newer", tmp_path)
    assert read_bytes(url) == b"newer"
    broken = type(memory).put_file

    def cut_off(self: Any, source: str, path: str, **options: Any) -> None:
        broken(self, source, path, **options)
        raise PermissionError("quota")

    monkeypatch.setattr(type(memory), "put_file", cut_off)
    with pytest.raises(FileWriteError, match=r"a\.png: cannot be written \(quota\)"):
        put(url, b"third", tmp_path)
    assert [file.relative for file in list_files(f"memory://{tmp_path.name}")] == ["deep/a.png"]
    assert read_bytes(url) == b"newer"


def test_a_file_that_did_not_arrive_whole_is_sent_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory: Any = type(fsspec.filesystem("memory"))
    whole, calls = memory.pipe_file, []

    def cut(self: Any, path: str, value: bytes, **options: Any) -> None:
        calls.append(path)
        whole(self, path, value[:2] if len(calls) == 1 else value, **options)

    monkeypatch.setattr(memory, "pipe_file", cut)
    put(f"memory://{tmp_path.name}/a", b"abcdef", tmp_path)
    assert len(calls) == 2
    assert read_bytes(f"memory://{tmp_path.name}/a") == b"abcdef"


def test_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"x")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "gone.png").symlink_to(tmp_path / "nowhere")
    assert [file.relative for file in list_files(str(tmp_path / "in"))] == ["a.png"]


def test_urls_that_cannot_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInputError, match="nonsense://a: Protocol not known: nonsense"):
        read_bytes("nonsense://a")
    with pytest.raises(InvalidInputError, match="a pattern needs a bucket"):
        list(list_files("memory://*"))
    monkeypatch.setitem(known_implementations, "far", {"class": "nowhere.Far", "err": "Install far"})
    with pytest.raises(MissingDependencyError, match="far://a: Install far"):
        read_bytes("far://a")
    monkeypatch.setattr(storage, "find_spec", lambda name: None if name == "tenacity" else name)
    with pytest.raises(MissingDependencyError, match=r"s3://a: URLs need tenacity: run pip install '\.\[ray\]'"):
        read_bytes("s3://a")


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_local_reasons_are_those_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileReadError, match=r"cannot be read \(Is a directory\)$"):
        read_bytes(str(tmp_path))
    with pytest.raises(FileWriteError, match="is a folder"):
        put(str(tmp_path), b"x", tmp_path)
