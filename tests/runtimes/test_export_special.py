"""Exports of folded models, and exports that are damaged."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tsdsr.errors import FileWriteError, ModelError, WeightsError
from tsdsr.files import atomic_folder
from tsdsr.optimize.fold import fold
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline
from tsdsr.pipeline.model_files import is_exported
from tsdsr.runtimes import open_model
from tsdsr.runtimes.export import Backend, ExportIndex, export_pipeline
from tsdsr.runtimes.export_index import GRAPHS
from tsdsr.runtimes.exported_pipeline import load_exported
from tsdsr.runtimes.graphs import write_onnx
from tsdsr.runtimes.open_model import load_pipeline

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

INDEX = ExportIndex("onnx", "mini", "fp32", 1.72, 4, 16)


def write_index(folder: Path, **changes: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tsdsr.json").write_text(json.dumps({**asdict(INDEX), **changes}))
    for graph in GRAPHS:
        (folder / f"{graph}.onnx").write_bytes(b"damaged")


def test_a_folded_mini_is_exported_too(mini_pipe: OneStepSRPipeline, photo: Image.Image, tmp_path: Path) -> None:
    small = photo.resize((20, 24))
    expected = np.asarray(mini_pipe(small, color_fix="none").images[0], dtype=int)
    fold(mini_pipe)
    export_pipeline(mini_pipe, tmp_path / "model")
    result = np.asarray(load_exported(tmp_path / "model")(small, color_fix="none").images[0], dtype=int)
    assert np.abs(result - expected).max() <= 1


@pytest.mark.parametrize("name", ["sd3_pipe", "sd21_pipe"])
def test_folded_large_models_step_as_in_pytorch(request: pytest.FixtureRequest, name: str, tmp_path: Path) -> None:
    import onnxruntime

    pipe: OneStepSRPipeline = request.getfixturevalue(name)
    fold(pipe)
    write_onnx(pipe, "denoiser", tmp_path / "denoiser.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "denoiser.onnx")
    z_lq = torch.randn(1, pipe.vae.config["latent_channels"], 16, 24)
    with torch.no_grad():
        z_hat = pipe.denoise(z_lq)
    result = torch.from_numpy(session.run(None, {"z_lq": z_lq.numpy()})[0])
    torch.testing.assert_close(result, z_hat, rtol=0, atol=1e-4 * float(z_hat.abs().max()))


def test_an_export_that_another_process_finished_first_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both find no export and make one; the second finds its place taken, as :func:`atomic_folder` reports it."""

    def export(pipe: OneStepSRPipeline, output: Path, backend: Backend) -> None:
        with atomic_folder(output) as folder:
            (folder / "denoiser.onnx").touch()
            write_index(output)

    monkeypatch.setattr("tsdsr.runtimes.export.export_pipeline", export)
    monkeypatch.setattr("tsdsr.pipeline.diffusers_loading.load_diffusers_pipeline", lambda *_: None)
    folder = open_model.cached_export("mini", "openvino", cache=tmp_path)
    assert is_exported(folder)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_cached_export_that_cannot_be_written_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def export(pipe: OneStepSRPipeline, output: Path, backend: Backend) -> None:
        raise FileWriteError(f"{output}: cannot be written (No space left on device)")

    monkeypatch.setattr("tsdsr.runtimes.export.export_pipeline", export)
    monkeypatch.setattr("tsdsr.pipeline.diffusers_loading.load_diffusers_pipeline", lambda *_: None)
    with pytest.raises(FileWriteError, match="No space left"):
        open_model.cached_export("mini", "openvino", cache=tmp_path)


def test_a_damaged_cached_export_names_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def export(pipe: OneStepSRPipeline, output: Path, backend: Backend) -> None:
        write_index(output)

    monkeypatch.setattr("tsdsr.runtimes.export.export_pipeline", export)
    monkeypatch.setattr("tsdsr.pipeline.diffusers_loading.load_diffusers_pipeline", lambda *_: None)
    folder = open_model.cached_export("mini", "openvino", cache=tmp_path)
    with pytest.raises(WeightsError, match=f"cached export is damaged .*delete the folder {folder} and run again"):
        load_pipeline("mini", engine="openvino", cache=tmp_path)
    (folder / "denoiser.onnx").unlink()
    with pytest.raises(WeightsError, match=f"is missing.*delete the folder {folder} and run again"):
        load_pipeline("mini", engine="openvino", cache=tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"scaling_factor": "x"},
        {"scaling_factor": 0},
        {"scaling_factor": float("nan")},
        {"vae_scale_factor": 8},
        {"size_multiple": 0},
        {"dtype": "int8"},
        {"model": "sd99"},
    ],
    ids=str,
)
def test_wrong_values_of_an_export_are_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    write_index(tmp_path, **changes)
    with pytest.raises(ModelError, match=next(iter(changes)) if "model" not in changes else "sd99"):
        load_exported(tmp_path)
