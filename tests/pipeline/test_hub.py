"""Loading models from the hub and uploading them, against a stand-in of its HTTP interface."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.command import run
from tests.logs import own_records
from tests.pipeline.hub_server import READER, TOKEN, HubServer, Repo, hub_in_use
from tsdsr import load_pipeline
from tsdsr.errors import GatedModelError, HubError, InvalidInputError, ModelError, ModelNotFoundError
from tsdsr.pipeline.hub import fetch_model, parse_name, push_folder
from tsdsr.pipeline.model_files import resolve_model

pytestmark = pytest.mark.filterwarnings("ignore:Use .content=:DeprecationWarning")  # within huggingface_hub
constants = pytest.importorskip("huggingface_hub.constants", reason="needs huggingface_hub")

MINI = resolve_model("mini")
OWN = ["denoiser/config.json", "denoiser/diffusion_pytorch_model.safetensors", "denoiser/model.int8.onnx",
       "denoiser/model.onnx", "model_index.json", "prompt/config.json", "prompt/diffusion_pytorch_model.safetensors",
       "vae/config.json", "vae/diffusion_pytorch_model.safetensors"]  # fmt: skip
WEIGHTS = OWN[1]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    """A running hub, an empty cache, and a user who is logged in."""
    with hub_in_use(tmp_path) as server:
        yield server


def test_a_model_goes_up_and_comes_back(hub: HubServer) -> None:
    pipe = load_pipeline("mini", engine="onnx")
    address = pipe.push_to_hub("someone/mini", private=True, commit_message="first")
    repo = hub.repos["someone/mini"]
    assert address == f"{hub.url}/someone/mini/commit/{repo.refs['main']}"
    assert repo.private
    assert repo.messages == ["initial commit", "first"]
    assert sorted(repo.commits[repo.refs["main"]]) == sorted([*OWN, "README.md", ".gitattributes"])
    loaded = load_pipeline("someone/mini", engine="onnx")
    pixels = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
    assert np.array_equal(loaded.upscale_pixels(pixels, 2), pipe.upscale_pixels(pixels, 2))
    assert loaded.folder is not None
    assert loaded.folder.name == repo.refs["main"]
    assert sorted(hub.downloads()) == sorted(["model_index.json", *OWN][1:])


def test_the_command_uses_the_same_hub(hub: HubServer, tmp_path: Path) -> None:
    """In a process of its own, with nothing but the environment's variables."""

    def tsdsr(*arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tsdsr", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **extra}, cwd=tmp_path)

    pushed = tsdsr("push", str(MINI), "someone/mini", "--private", "--revision", "v3", "--message", "third")
    repo = hub.repos["someone/mini"]
    assert pushed.stdout == f"uploaded: {hub.url}/someone/mini/commit/{repo.refs['v3']}\n"
    assert repo.messages[-1] == "third"
    Image.new("RGB", (16, 16), "olive").save(tmp_path / "a.png")
    first = ("upscale", "a.png", "-o", "out/", "--scale", "2", "--engine", "onnx", "--model", "someone/mini@v3")
    assert "1 upscaled" in tsdsr(*first).stdout
    offline = tsdsr(*first, HF_HUB_OFFLINE="1")
    assert "1 skipped (already there)" in offline.stdout
    assert f"someone/mini@v3: HF_HUB_OFFLINE is set; the cached revision {repo.refs['v3'][:12]}" in offline.stderr
    code, output = run("push", MINI, "mini")
    assert (code, output) == (2, "error: 'mini': give the name on the hub as 'owner/name'\n")


def test_only_files_of_the_model_are_downloaded(hub: HubServer) -> None:
    files = hub.publish(MINI).commits[hub.repos["someone/mini"].refs["main"]]
    strangers = [
        "pytorch_model.bin",
        "denoiser/diffusion_pytorch_model.bin",
        "vae/extra.pt",
        "text_encoder/config.json",
    ]
    files |= dict.fromkeys(strangers, b"\x80\x04")
    folder = fetch_model(parse_name("someone/mini"))
    got = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert got == sorted(OWN)
    assert not set(hub.downloads()) & {*strangers, "README.md"}


def test_a_revision_is_a_branch_a_tag_or_a_commit(hub: HubServer, tmp_path: Path) -> None:
    other = Path(shutil.copytree(MINI, tmp_path / "other"))
    (other / "denoiser" / "model.int8.onnx").unlink()
    pipe = load_pipeline(other, engine="onnx")
    pipe.push_to_hub("someone/mini")
    load_pipeline("mini", engine="onnx").push_to_hub("someone/mini", revision="quick")
    repo = hub.repos["someone/mini"]
    repo.refs["v1"] = repo.refs["main"]
    for revision, has_fast in (("main", False), ("quick", True), ("v1", False), (repo.refs["quick"], True)):
        for folder in (resolve_model(f"someone/mini@{revision}"), resolve_model("someone/mini", revision)):
            assert (folder / "denoiser" / "model.int8.onnx").is_file() is has_fast
            assert folder.name == repo.refs.get(revision, revision)
    with pytest.raises(ModelNotFoundError, match="someone/mini@v2: the model has no such branch, tag or commit"):
        load_pipeline("someone/mini", revision="v2")
    with pytest.raises(InvalidInputError, match="names another revision than 'v1'"):
        resolve_model("someone/mini@quick", "v1")
    with pytest.raises(InvalidInputError, match="only a model on the hub has revisions"):
        load_pipeline("mini", revision="v1")


def test_a_push_replaces_the_model_and_leaves_other_files(hub: HubServer, tmp_path: Path) -> None:
    files = hub.publish(MINI).commits[hub.repos["someone/mini"].refs["main"]]
    files["examples/photo.jpg"] = b"\xff\xd8"
    folder = Path(shutil.copytree(MINI, tmp_path / "new"))
    (folder / "denoiser" / "model.int8.onnx").unlink()
    (folder / "README.md").unlink()
    (folder / "notes.txt").write_text("private")
    (folder / "optimizer.pt").write_bytes(b"\x80\x04")
    push_folder(folder, "someone/mini")
    repo = hub.repos["someone/mini"]
    now = repo.files("main")
    assert now is not None
    assert set(now) == {*OWN, "README.md", "examples/photo.jpg"} - {"denoiser/model.int8.onnx"}
    assert repo.messages[-1] == "Upload new with tsdsr"
    assert 'load_pipeline("someone/mini")' in now["README.md"].decode()


def test_without_a_connection_the_cached_revision_is_used_and_named(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    commit = hub.publish(MINI).refs["main"]
    first = resolve_model("someone/mini")
    assert not own_records(caplog)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = len(hub.requests)
    assert load_pipeline("someone/mini", engine="onnx").folder == first
    assert len(hub.requests) == asked
    with pytest.raises(ModelNotFoundError, match="HF_HUB_OFFLINE is set, and the model is not in the cache; unset it"):
        load_pipeline("someone/else")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    hub.status = 503
    assert resolve_model("someone/mini@main") == first
    with pytest.raises(ModelNotFoundError, match="someone/else: no such folder here, and the hub cannot be reached"):
        resolve_model("someone/else")
    ours = [record.getMessage() for record in own_records(caplog)]
    assert ours[0] == f"someone/mini: HF_HUB_OFFLINE is set; the cached revision {commit[:12]} is used"
    assert ours[1] == f"someone/mini@main: the hub cannot be reached; the cached revision {commit[:12]} is used"


def test_nothing_listens(hub: HubServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    hub.publish(MINI)
    first = resolve_model("someone/mini")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert resolve_model("someone/mini") == first
    assert "cannot be reached; the cached revision" in caplog.text
    with pytest.raises(ModelNotFoundError, match="the hub cannot be reached"):
        resolve_model("someone/else")
    with pytest.raises(HubError, match="someone/mini: the hub cannot be reached"):
        push_folder(MINI, "someone/mini")


def test_an_interrupted_download_resumes(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.publish(MINI)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1_000_000)
    hub.cut = 5_500_000
    folder = resolve_model("someone/mini")
    assert (folder / WEIGHTS).read_bytes() == (MINI / WEIGHTS).read_bytes()
    assert [line for line in hub.requests if line.startswith("RANGE")] == [f"RANGE {WEIGHTS} 5000000"]


def test_a_gated_model_says_what_to_do(hub: HubServer) -> None:
    hub.publish(MINI).gated = True
    with pytest.raises(GatedModelError, match=r"someone/mini is gated: accept its licence .* run 'hf auth login'"):
        load_pipeline("someone/mini")


def test_unknown_and_private_models(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.publish(MINI).private = True
    monkeypatch.setenv("HF_TOKEN", READER)
    for name in ("someone/mini", "no/such"):
        with pytest.raises(ModelNotFoundError, match=f"{name}: no such folder here and no such model on the hub"):
            load_pipeline(name)
    for name in ("mini2", "a/b/c", "/a/b", "./a", "~a/b", "someone/mini@", "some one/mini", "../a/b"):
        with pytest.raises(ModelNotFoundError, match="no such model; give mini, an existing folder, or a hub ID"):
            load_pipeline(name)


def test_a_repository_of_another_kind_is_refused_before_its_weights(hub: HubServer) -> None:
    base = {"model_index.json": b'{"_class_name": "StableDiffusion3Pipeline"}', "transformer/x.safetensors": b"0" * 99}
    hub.repos["lab/base"] = Repo()
    hub.repos["lab/base"].commit("main", base, "base")
    hub.repos["lab/text"] = Repo()
    hub.repos["lab/text"].commit("main", {"config.json": b"{}", "model.safetensors": b"0" * 99}, "text")
    with pytest.raises(ModelError, match=r"lab/base: contains a StableDiffusion3Pipeline, not .*'tsdsr convert'"):
        load_pipeline("lab/base")
    with pytest.raises(ModelNotFoundError, match="lab/text: is on the hub, but contains no model_index"):
        load_pipeline("lab/text")
    assert hub.downloads() == ["model_index.json"]


def test_refused_uploads(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelNotFoundError, match="contains no model_index"):
        push_folder(tmp_path, "someone/mini")
    for name in ("mini", "a/b/c", "some one/mini", ""):
        with pytest.raises(InvalidInputError, match="give the name on the hub as 'owner/name'"):
            push_folder(MINI, name)
    assert hub.requests == []
    with pytest.raises(HubError, match=r"the hub refused the upload .*needs write permission"):
        push_folder(MINI, "someone/mini", token=READER)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(GatedModelError, match="not logged in to the hub; run 'hf auth login', or set HF_TOKEN"):
        push_folder(MINI, "someone/mini")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.publish(MINI)
    with pytest.raises(InvalidInputError, match="exists and is public"):
        push_folder(MINI, "someone/mini", private=True)
    folder = Path(shutil.copytree(MINI, tmp_path / "model"))
    (folder / "README.md").write_text("---\nlicense: my own\n---\n")
    with pytest.raises(HubError, match="license 'my own'"):
        push_folder(folder, "someone/mini")
    assert hub.repos["someone/mini"].messages == ["published"]
