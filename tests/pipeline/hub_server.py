"""A stand-in for the hub: the part of its HTTP interface that a push and a load need, on 127.0.0.1."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from unittest import mock
from urllib.parse import unquote, urlsplit

import yaml

TOKEN = "hf_writer"
READER = "hf_reader"

LICENCES = {"apache-2.0", "mit", "openrail++", "other", "unknown"}
"""Some of the hub's identifiers of licences."""


def card_problems(text: str) -> list[str]:
    """Return what the hub's checks of a model card would report: its documented rules for the metadata."""
    match = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    if match is None:
        return ["no metadata"]
    data = yaml.safe_load(match[1])
    problems = [] if data.get("license") in LICENCES else [f"license {data.get('license')!r}"]
    if data.get("license") == "other" and not {"license_name", "license_link"} <= set(data):
        problems.append("license other needs license_name and license_link")
    if data.get("pipeline_tag") != "image-to-image":
        problems.append(f"pipeline_tag {data.get('pipeline_tag')!r}")
    if not isinstance(data.get("tags", []), list) or not all(isinstance(tag, str) for tag in data.get("tags", [])):
        problems.append("tags")
    if "base_model" in data and not re.fullmatch(r"[\w.-]+/[\w.-]+", str(data["base_model"])):
        problems.append(f"base_model {data['base_model']!r}")
    if data.get("base_model_relation", "finetune") not in ("finetune", "adapter", "merge", "quantized"):
        problems.append("base_model_relation")
    for entry in data.get("model-index", []):
        for result in entry["results"]:
            wanted = (result["task"]["type"], result["dataset"]["type"], result["dataset"]["name"])
            numbers = [metric["type"] and metric["value"] for metric in result["metrics"]]
            if not entry["name"] or not all(wanted) or not all(isinstance(n, int | float) for n in numbers):
                problems.append("model-index")
    return problems


@dataclass
class Repo:
    """A repository: its commits, and branches and tags that point to them."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, branch: str, files: dict[str, bytes], message: str) -> str:
        oid = hashlib.sha1(repr((len(self.commits), sorted(files), message)).encode()).hexdigest()
        self.commits[oid] = files
        self.refs[branch] = oid
        self.messages.append(message)
        return oid

    def files(self, revision: str) -> dict[str, bytes] | None:
        return self.commits.get(self.refs.get(revision, revision))


class HubServer(ThreadingHTTPServer):
    """Serve ``repos``. ``requests`` lists what was asked, ``cut`` breaks the next download of a large file off.

    Attributes:
        status (int | None): if set, the answer to everything: the hub is down.
        cut (int | None): bytes after which the connection of a download ends, once.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repos: dict[str, Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.status: int | None = None
        self.cut: int | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @contextmanager
    def running(self) -> Iterator[None]:
        """Serve within the block."""
        thread = Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.shutdown()
            self.server_close()

    def publish(self, folder: Path, repo_id: str = "someone/mini", branch: str = "main") -> Repo:
        """Commit the files of a folder to a repository, which is made if there is none."""
        repo = self.repos.setdefault(repo_id, Repo())
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        repo.commit(branch, files, "published")
        return repo

    def downloads(self) -> list[str]:
        """Return the paths of the files that were downloaded."""
        found = [re.match(r"GET /[^/]+/[^/]+/resolve/[^/]+/(.*)", line) for line in self.requests]
        return [match[1] for match in found if match]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error."""


@contextmanager
def hub_in_use(folder: Path) -> Iterator[HubServer]:
    """Run a hub that this process and those it starts use, with an empty cache in a folder, and a user logged in."""
    from huggingface_hub import constants

    server = HubServer()
    environment = {
        "HF_TOKEN": TOKEN, "HF_ENDPOINT": server.url, "HF_HOME": str(folder / "home"), "HF_HUB_DISABLE_XET": "1",
    }  # fmt: skip
    changes = {
        "ENDPOINT": server.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": server.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(folder / "cache"),
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_TOKEN_PATH": str(folder / "token"),
    }
    with server.running(), mock.patch.multiple(constants, **changes), mock.patch.dict(os.environ, environment):
        yield server


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length) if length else self._chunks()
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append(f"{self.command} {path}")
        if self.server.status is not None:
            return self._send(self.server.status, {"error": "the hub is down"})
        for pattern, method in _ROUTES:
            match = re.fullmatch(pattern, path)
            if match is not None:
                return getattr(self, method)(*match.groups())
        return self._send(404, {"error": f"no route {path}"})

    def _chunks(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return b""
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def _send(self, status: int, content: Any = b"", **headers: str) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    @property
    def _token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def _may_write(self) -> bool:
        if not self._token:
            self._send(401, {"error": "Invalid username or password."})
        elif self._token != TOKEN:
            self._send(403, {"error": "You don't have the rights to create a model under this namespace"})
        return self._token == TOKEN

    def _repo(self, repo_id: str) -> Repo | None:
        repo = self.server.repos.get(repo_id)
        if repo is None or (repo.private and self._token != TOKEN):
            self._send(401, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
            return None
        return repo

    def _files(self, repo: Repo, revision: str) -> dict[str, bytes] | None:
        files = repo.files(revision)
        if files is None:
            self._send(404, {"error": "Invalid rev id"}, X_Error_Code="RevisionNotFound")
        return files

    # Reading

    def info(self, repo_id: str, revision: str | None = None) -> None:
        repo = self._repo(repo_id)
        files = None if repo is None else self._files(repo, revision or "main")
        if repo is not None and files is not None:
            sha = repo.refs.get(revision or "main", revision)
            names = [{"rfilename": name} for name in files]
            self._send(
                200, {"id": repo_id, "sha": sha, "private": repo.private, "gated": repo.gated, "siblings": names}
            )

    def tree(self, repo_id: str, revision: str) -> None:
        repo = self._repo(repo_id)
        files = None if repo is None else self._files(repo, revision)
        if files is not None:
            self._send(200, [_entry(name, data) for name, data in files.items()])

    def resolve(self, repo_id: str, revision: str, path: str) -> None:
        repo = self._repo(repo_id)
        files = None if repo is None else self._files(repo, revision)
        if repo is None or files is None:
            return None
        if repo.gated:
            return self._send(403, {"error": "gated"}, X_Error_Code="GatedRepo", X_Error_Message="Access is restricted")
        data = files.get(path)
        if data is None:
            return self._send(404, {"error": "no entry"}, X_Error_Code="EntryNotFound")
        about = {
            "X_Repo_Commit": repo.refs.get(revision, revision),
            "ETag": f'"{hashlib.sha256(data).hexdigest()}"',
            "Accept_Ranges": "bytes",
        }
        start = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        part = data[int(start[1]) :] if start else data
        if start:
            self.server.requests.append(f"RANGE {path} {start[1]}")
            about["Content_Range"] = f"bytes {start[1]}-{len(data) - 1}/{len(data)}"
        about["Content_Length"] = str(len(part))
        if self.command == "GET" and self.server.cut is not None and len(part) > self.server.cut:
            part, self.server.cut, self.close_connection = part[: self.server.cut], None, True
        return self._send(206 if start else 200, part, **about)

    # Writing

    def create(self) -> None:
        if self._may_write():
            wanted = json.loads(self.body)
            repo_id = f"{wanted.get('organization') or 'someone'}/{wanted['name']}"
            known = repo_id in self.server.repos
            if not known:
                repo = self.server.repos[repo_id] = Repo(
                    bool(wanted.get("private") or wanted.get("visibility") == "private")
                )
                repo.commit("main", {".gitattributes": b"*.safetensors filter=lfs\n"}, "initial commit")
            answer = {"url": f"{self.server.url}/{repo_id}", "name": repo_id, "id": repo_id}
            self._send(409 if known else 200, {**answer, "error": "You already created this model repo"})

    def branch(self, repo_id: str, name: str) -> None:
        repo = self._repo(repo_id) if self._may_write() else None
        if repo is not None:
            known = name in repo.refs
            repo.refs.setdefault(name, repo.refs["main"])
            self._send(409 if known else 201, {"error": "Reference already exists"} if known else {})

    def validate(self) -> None:
        problems = card_problems(json.loads(self.body)["content"])
        errors = [{"message": problem} for problem in problems]
        self._send(400 if errors else 200, {"errors": errors, "warnings": []})

    def preupload(self, repo_id: str, revision: str) -> None:
        if self._may_write():
            asked = json.loads(self.body)["files"]
            modes = ["lfs" if file["path"].endswith((".safetensors", ".onnx", ".bin")) else "regular" for file in asked]
            self._send(
                200,
                {"files": [{"path": f["path"], "uploadMode": m, "shouldIgnore": False, "oid": None}
                           for f, m in zip(asked, modes, strict=True)]},
            )  # fmt: skip

    def batch(self, repo_id: str) -> None:
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            missing = wanted["oid"] not in self.server.blobs
            upload = {"upload": {"href": f"{self.server.url}/lfs/{wanted['oid']}", "header": {}}}
            objects.append({**wanted, **({"actions": upload} if missing else {})})
        self._send(200, {"transfer": "basic", "objects": objects})

    def store(self, oid: str) -> None:
        assert hashlib.sha256(self.body).hexdigest() == oid
        self.server.blobs[oid] = self.body
        self._send(200)

    def commit(self, repo_id: str, branch: str) -> None:
        repo = self._repo(repo_id) if self._may_write() else None
        if repo is None:
            return
        files, message = dict(repo.files(branch) or {}), ""
        for line in self.body.decode().splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                message = value["summary"]
            elif entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.server.blobs[value["oid"]]
            elif entry["key"] == "deletedFile":
                del files[value["path"]]
        oid = repo.commit(branch, files, message)
        self._send(200, {"commitUrl": f"{self.server.url}/{repo_id}/commit/{oid}", "commitOid": oid})


def _entry(name: str, data: bytes) -> dict[str, Any]:
    oid = hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()
    return {"type": "file", "path": name, "size": len(data), "oid": oid}


_ID = r"([\w.-]+/[\w.-]+)"
_ROUTES = [
    (r"/api/repos/create", "create"),
    (r"/api/validate-yaml", "validate"),
    (rf"/api/models/{_ID}/branch/(.+)", "branch"),
    (rf"/api/models/{_ID}/preupload/(.+)", "preupload"),
    (rf"/api/models/{_ID}/commit/(.+)", "commit"),
    (rf"/api/models/{_ID}/tree/([^/]+)", "tree"),
    (rf"/api/models/{_ID}/revision/(.+)", "info"),
    (rf"/api/models/{_ID}", "info"),
    (rf"/{_ID}\.git/info/lfs/objects/batch", "batch"),
    (r"/lfs/(\w+)", "store"),
    (rf"/{_ID}/resolve/([^/]+)/(.+)", "resolve"),
]
