"""Exported models match PyTorch, also at sizes not used during export."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from typer.testing import CliRunner

import tsdsr.pipeline.diffusers_pipeline as pipeline_module
from tests.conftest import (
    flux2_prompt,
    sd2_prompt,
    sd3_prompt,
    tiny_flux2,
    tiny_flux2_vae,
    tiny_mmdit,
    tiny_unet,
)
from tsdsr.cli import app
from tsdsr.errors import InvalidInputError, MissingDependencyError, ModelError, ModelNotFoundError, WeightsError
from tsdsr.models.fixed_prompt import FixedPrompt
from tsdsr.optimize.fold import fold
from tsdsr.pipeline.diffusers_loading import load_diffusers_pipeline
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline
from tsdsr.runtimes import export, open_model
from tsdsr.runtimes.export import Backend, export_pipeline
from tsdsr.runtimes.exported_pipeline import load_exported
from tsdsr.runtimes.graphs import GraphInfo, write_onnx
from tsdsr.runtimes.open_model import load_pipeline

for package in ("onnx", "onnxruntime", "onnxscript", "openvino"):
    pytest.importorskip(package)

BACKENDS: tuple[Backend, ...] = ("onnx", "openvino")
runner = CliRunner()


def smaller_vae(channels: int) -> AutoencoderKL:
    """One block a level: what an export costs grows with the number of operations."""
    torch.manual_seed(2)
    return AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=4,
        scaling_factor=1.5305,
    ).eval()


def smaller_unet() -> UNet2DConditionModel:
    """Attention at the lowest level only."""
    return tiny_unet(
        down_block_types=("DownBlock2D", "DownBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn",
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )


def make(name: str) -> OneStepSRPipeline:
    """The packaged model or a tiny one, the same at every call; FLUX.2 is folded."""
    torch.manual_seed(0)
    if name == "mini":
        return load_diffusers_pipeline("mini", "cpu", "fp32")
    if name == "sd3":
        return OneStepSRPipeline(tiny_mmdit(), smaller_vae(16), FixedPrompt.from_conditioning(sd3_prompt()), "sd3")
    if name == "flux2":
        prompt = FixedPrompt.from_conditioning(flux2_prompt())
        pipe = OneStepSRPipeline(tiny_flux2(blocks=1), tiny_flux2_vae(layers=1), prompt, "flux2-klein")
        fold(pipe)
        return pipe
    return OneStepSRPipeline(smaller_unet(), smaller_vae(4), FixedPrompt.from_conditioning(sd2_prompt()), "sd21-base")


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Backend], Path]:
    """Each tiny model's export, made once; OpenVINO's from the same ONNX graphs."""
    root = tmp_path_factory.mktemp("exported")

    def get(name: str, backend: Backend) -> Path:
        folder = root / f"{name}-{backend}"
        if folder.exists():
            return folder
        if name == "mini" and backend == "onnx":
            result = runner.invoke(app, ["export", "--to", backend, "-o", str(folder)])
            assert result.exit_code == 0, result.output
            assert "denoiser: 280 operations, 7,409,058 constants" in result.output
            return folder
        if backend == "onnx":
            export_pipeline(make(name), folder, "onnx")
            return folder
        source = get(name, "onnx")

        def copy(pipe: OneStepSRPipeline, graph: str, path: Path) -> GraphInfo:
            shutil.copy(source / path.name, path)
            return GraphInfo(graph, 0, 0, 0)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(export, "write_onnx", copy)
            export_pipeline(make(name), folder, "openvino")
        return folder

    return get


def grey_levels(a: Image.Image, b: Image.Image) -> int:
    return int(np.abs(np.asarray(a, dtype=int) - np.asarray(b, dtype=int)).max())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["mini", "sd3", "flux2"])
def test_the_picture_is_the_same_at_other_sizes(
    name: str,
    backend: Backend,
    exported: Callable[[str, Backend], Path],
    photo: Image.Image,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pipeline_module, "SharedGroupNorms", lambda *_: ())  # a graph normalises each tile by itself
    pipe, other = make(name), load_exported(exported(name, backend), dtype="fp32")
    assert other.spec is pipe.spec
    for size in ((16, 16), (33, 21), (20, 50)):
        small = photo.resize(size)
        expected = pipe(small, color_fix="none").images[0]
        assert np.ptp(np.asarray(expected)) > 20
        assert grey_levels(other(small, color_fix="none").images[0], expected) <= 1
    tiled = {"tile": 256, "tile_batch": 2}
    large = photo.resize((100, 80))
    assert grey_levels(other(large, **tiled).images[0], pipe(large, **tiled).images[0]) <= 1


def test_a_unet_steps_as_in_pytorch(tmp_path: Path) -> None:
    """Its step divides by alpha = 0.07, so what is compared is the latent, relative to its size."""
    import onnxruntime
    import openvino

    pipe = make("sd21")
    info = write_onnx(pipe, "denoiser", tmp_path / "denoiser.onnx")
    assert info.constants < info.parameters
    session = onnxruntime.InferenceSession(tmp_path / "denoiser.onnx")
    compiled = openvino.Core().compile_model(tmp_path / "denoiser.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for height, width in ((8, 8), (16, 40)):
        z_lq = torch.randn(1, 4, height, width)
        with torch.no_grad():
            z_hat = pipe.denoise(z_lq)
        for result in (session.run(None, {"z_lq": z_lq.numpy()})[0], compiled(z_lq.numpy())[0]):
            torch.testing.assert_close(torch.from_numpy(result), z_hat, rtol=0, atol=1e-4 * float(z_hat.abs().max()))


def test_time_and_prompt_are_gone_from_the_graph(exported: Callable[[str, Backend], Path]) -> None:
    import onnx

    for name, words in (
        ("mini", ("modulation", "time_", "prompt_")),
        ("sd3", ("norm1", "norm_out", "time_text", "context_e")),
    ):
        graph = onnx.load(exported(name, "onnx") / "denoiser.onnx").graph
        assert [value.name for value in graph.input] == ["z_lq"]
        assert "Gemm" not in {node.op_type for node in graph.node}
        network = make(name).denoiser
        folded = sum(p.numel() for n, p in network.named_parameters() if p.ndim == 2 and any(w in n for w in words))
        values = sum(t.numel() for t in network.state_dict().values())
        stored = sum(int(np.prod(tensor.dims)) for tensor in graph.initializer)
        assert folded > 0.08 * values
        assert stored < values - 0.9 * folded


class _Forbidden(TorchDispatchMode):
    """No operation in PyTorch."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        raise AssertionError(f"{func} was called")


@pytest.mark.parametrize("backend", BACKENDS)
def test_pytorch_does_no_work(backend: Backend, exported: Callable[[str, Backend], Path], photo: Image.Image) -> None:
    small = photo.resize((24, 24))
    with _Forbidden():
        load_exported(exported("sd3", backend))(small, color_fix="none")
        with pytest.raises(AssertionError, match="was called"):
            make("sd3")(small, color_fix="none")


@pytest.mark.parametrize("backend", BACKENDS)
def test_from_the_command_line(
    backend: Backend, exported: Callable[[str, Backend], Path], photo: Image.Image, tmp_path: Path
) -> None:
    folder = exported("mini", backend)
    photo.resize((100, 80)).save(tmp_path / "small.png")
    for model, output in ((folder, "exported.png"), ("mini", "torch.png")):
        arguments = ["upscale", tmp_path / "small.png", "-o", tmp_path / output, "--model", model]
        result = runner.invoke(app, [str(a) for a in [*arguments, "--tile", "256", "--dtype", "fp32"]])
        assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "exported.png") as a, Image.open(tmp_path / "torch.png") as b:
        assert a.size == (400, 320)
        assert grey_levels(a, b) <= 1
    other = {"onnx": "openvino", "openvino": "onnx"}[backend]
    result = runner.invoke(app, [str(a) for a in [*arguments[:-1], folder, "--engine", other, "--overwrite"]])
    assert (result.exit_code, f"is exported for {backend}, not for {other}" in result.output) == (2, True)


def test_another_model_is_exported_on_first_use(
    exported: Callable[[str, Backend], Path], tmp_path: Path, photo: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The export itself is taken from the other tests, to save time."""

    def copy(pipe: OneStepSRPipeline, output: Path, backend: Backend) -> None:
        shutil.copytree(exported(pipe.spec.name, backend), output)

    monkeypatch.setattr(export, "export_pipeline", copy)
    monkeypatch.setenv("TSDSR_CACHE", str(tmp_path / "cache"))
    small = photo.resize((24, 24))
    small.save(tmp_path / "small.png")
    arguments = ["upscale", str(tmp_path / "small.png"), "-o", str(tmp_path / "large.png"), "--overwrite"]
    for first in (True, False):
        result = runner.invoke(app, [*arguments, "--engine", "openvino", "--dtype", "fp32", "--device", "cpu"])
        assert result.exit_code == 0, result.output
        assert (" for openvino, once" in result.output) is first
    with Image.open(tmp_path / "large.png") as image:
        assert grey_levels(image, make("mini")(small).images[0]) <= 1


def test_the_cache_follows_the_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []

    def note(pipe: OneStepSRPipeline, output: Path, backend: Backend) -> None:
        output.mkdir(parents=True)
        (output / "tsdsr.json").touch()
        made.append(output)

    monkeypatch.setattr(export, "export_pipeline", note)
    monkeypatch.setattr("tsdsr.pipeline.diffusers_loading.load_diffusers_pipeline", lambda *_: None)
    model = tmp_path / "model"
    model.mkdir()
    (model / "weights").write_text("1")
    for content, times in (("1", 1), ("1", 1), ("2", 2), ("1", 2)):
        (model / "weights").write_text(content)
        folder = open_model.cached_export(model, "onnx", cache=tmp_path / "cache")
        assert (folder in made, len(made)) == (True, times)
    assert open_model.cached_export(model, "openvino", cache=tmp_path / "cache") == made[2]
    assert open_model.cached_export(model, "onnx", "fp16", cache=tmp_path / "cache") == made[3]


def test_mistakes_and_damage_are_named(exported: Callable[[str, Backend], Path], tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"contains no tsdsr\.json.*tsdsr export"):
        load_exported(tmp_path)
    with pytest.raises(InvalidInputError, match="unknown engine 'tflite'"):
        load_pipeline("mini", engine="tflite")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="bfloat16 cannot be exported"):
        export_pipeline(load_diffusers_pipeline("mini", "cpu", "bf16"), tmp_path / "new")
    with pytest.raises(InvalidInputError, match="already exists"):
        export_pipeline(make("mini"), tmp_path)
    folder = tmp_path / "model"
    shutil.copytree(exported("mini", "onnx"), folder)
    with pytest.raises(ModelError, match="is an exported model"):
        load_diffusers_pipeline(folder)
    with pytest.raises(InvalidInputError, match="unknown provider 'toaster'"):
        load_exported(folder, provider="toaster")
    with pytest.raises(ModelError, match=r"provider 'coreml' cannot be used by ONNX Runtime here, only cpu"):
        load_exported(folder, provider="coreml")
    with pytest.raises(ModelError, match=r"device 'toaster' cannot be used by OpenVINO here, only CPU"):
        load_exported(exported("mini", "openvino"), "toaster")
    with pytest.raises(InvalidInputError, match="exported in fp32, the only precision that ONNX Runtime can use"):
        load_exported(folder, dtype="bf16")
    pipe = load_exported(folder)
    with pytest.raises(InvalidInputError, match="leave out the seed"):
        pipe(Image.new("RGB", (8, 8)), generator=torch.Generator())
    with pytest.raises(InvalidInputError, match="has providers instead of the device 'cuda'"):
        load_exported(folder, "cuda")
    graph = folder / "denoiser.onnx"
    graph.write_bytes(graph.read_bytes()[:500])
    with pytest.raises(WeightsError, match=r"denoiser\.onnx: cannot be loaded .*export the model again"):
        load_exported(folder)
    graph.unlink()
    with pytest.raises(ModelNotFoundError, match=r"denoiser\.onnx: is missing"):
        load_exported(folder)
    index = json.loads((folder / "tsdsr.json").read_text())
    for content, message in (({**index, "format": 99}, "another version"), ({}, "not a valid index")):
        (folder / "tsdsr.json").write_text(json.dumps(content))
        with pytest.raises(ModelError, match=message):
            load_exported(folder)


@pytest.mark.parametrize(
    ("package", "backend", "remedy"),
    [("onnxruntime", "onnx", "pip install onnxruntime"), ("openvino", "openvino", r"\.\[openvino\]")],
)
def test_a_missing_runtime_says_what_to_install(
    package: str,
    backend: Backend,
    remedy: str,
    exported: Callable[[str, Backend], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = exported("mini", backend)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=remedy):
        load_exported(folder)


def test_a_missing_exporter_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingDependencyError, match=r"\.\[onnx\]"):
        export_pipeline(make("mini"), tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_exporting_leaves_the_pipeline_as_it_is_and_takes_a_string(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[bool] = []
    pipe = make("mini")
    pipe.denoiser.train()
    pipe.denoiser.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    monkeypatch.chdir(tmp_path)
    write_onnx(pipe, "denoiser", "denoiser.onnx")
    assert set(modes) == {False}
    assert all(module.training for module in pipe.denoiser.modules())
    with pytest.raises(InvalidInputError, match="already exists"):
        export_pipeline(pipe, str(tmp_path))
