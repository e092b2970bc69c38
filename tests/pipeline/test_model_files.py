"""What a model's files tell before it is loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tsdsr.errors import InvalidInputError, ModelNotFoundError
from tsdsr.pipeline.convert import save_pipeline
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline
from tsdsr.pipeline.model_files import base_model, hash_of_model, is_exported, is_model, local_folder
from tsdsr.pipeline.options import RestoreOptions
from tsdsr.pipeline.picture_restorer import check_model


def test_the_base_model_is_read_from_the_index(sd21_pipe: OneStepSRPipeline, tmp_path: Path) -> None:
    packaged = local_folder("mini")
    assert packaged is not None
    assert (base_model(packaged), is_exported(packaged), is_model(packaged)) == ("mini", False, True)
    save_pipeline(sd21_pipe, tmp_path / "model")
    assert base_model(tmp_path / "model") == "sd21-base"
    for text in ("[]", "{", '{"model": 3}', ""):
        (tmp_path / "model" / "model_index.json").write_text(text)
        assert base_model(tmp_path / "model") is None
    assert (base_model(tmp_path), is_model(tmp_path)) == (None, False)


def test_a_copy_of_a_model_is_the_same_model(mini_pipe: OneStepSRPipeline, tmp_path: Path) -> None:
    save_pipeline(mini_pipe, tmp_path / "one")
    (tmp_path / "one").rename(tmp_path / "two")
    save_pipeline(mini_pipe, tmp_path / "one")
    assert hash_of_model(tmp_path / "one") == hash_of_model(str(tmp_path / "two")) != hash_of_model("mini")
    with pytest.raises(ModelNotFoundError, match="no such model"):
        hash_of_model(tmp_path / "three")


def test_a_folder_that_is_no_model_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a folder, say that of all photographs, would take hours to hash."""
    monkeypatch.setattr("tsdsr.pipeline.model_files.hash_model", lambda folder: pytest.fail(f"{folder} was read"))
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8")
    with pytest.raises(ModelNotFoundError, match="contains no model_index"):
        hash_of_model(tmp_path)


def test_the_hash_of_a_model_needs_no_torch() -> None:
    code = "import sys; from tsdsr.pipeline.model_files import *; hash_of_model('mini'); print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"


def test_an_exported_model_cannot_sample(tmp_path: Path) -> None:
    (tmp_path / "tsdsr.json").write_text('{"model": "sd21-base"}')
    assert is_model(tmp_path)
    check_model(tmp_path, RestoreOptions(), None)
    with pytest.raises(InvalidInputError, match="leave out the seed"):
        check_model(tmp_path, RestoreOptions(), 1)
    with pytest.raises(InvalidInputError, match="for 'sd21-base', got 64"):
        check_model(tmp_path, RestoreOptions(tile=64), None)
    (tmp_path / "tsdsr.json").write_text('{"model": "sd3"}')
    check_model(tmp_path, RestoreOptions(), None, upstream=True)
    with pytest.raises(InvalidInputError, match="the upstream preset exists for SD3 models, not for 'mini'"):
        check_model("mini", RestoreOptions(), None, upstream=True)
