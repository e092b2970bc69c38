"""Model cards, and what is uploaded of a diffusers pipeline."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.pipeline.hub_server import card_problems
from tsdsr.models.zoo import SPECS
from tsdsr.optimize.fold import fold
from tsdsr.pipeline.convert import save_pipeline
from tsdsr.pipeline.diffusers_loading import is_as_stored, load_diffusers_pipeline
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline
from tsdsr.pipeline.hub import MODEL_FILES, PIPELINE_CLASS, matches
from tsdsr.pipeline.model_card import model_card
from tsdsr.pipeline.model_files import EXPORT_INDEX, GRAPHS, PARTS, resolve_model
from tsdsr.runtimes.export_index import SUFFIXES

hub = pytest.importorskip("huggingface_hub", reason="needs huggingface_hub")
MINI = resolve_model("mini")


def metadata(text: str) -> dict[str, object]:
    assert card_problems(text) == []
    data: dict[str, object] = hub.ModelCard(text, ignore_metadata_errors=False).data.to_dict()
    return data


def test_the_packaged_card_passes_the_hubs_checks() -> None:
    data = metadata((MINI / "README.md").read_text(encoding="utf-8"))
    assert hub.metadata_load(MINI / "README.md") is not None
    assert (data["license"], data["library_name"], data["pipeline_tag"]) == ("apache-2.0", "tsdsr", "image-to-image")


def test_the_metadata_of_the_packaged_card_states_the_figures_of_its_table() -> None:
    text = (MINI / "README.md").read_text(encoding="utf-8")
    card = hub.ModelCard(text)
    stated = {result.metric_type: result.metric_value for result in card.data.eval_results}
    row = re.search(r"^\| \*\*mini v\d+\*\* \|(.*)\|$", text, re.MULTILINE)
    assert row is not None
    shown = [float(cell.strip(" *")) for cell in row[1].split("|")]
    assert [stated[name] for name in ("psnr", "ssim", "lpips", "dists", "niqe")] == shown


@pytest.mark.parametrize(
    ("name", "base", "licence"),
    [
        ("sd21_pipe", "stabilityai/stable-diffusion-2-1-base", "openrail++"),
        ("flux2_pipe", "black-forest-labs/FLUX.2-klein-base-4B", "apache-2.0"),
    ],
)
def test_a_student_of_another_model_names_its_base_and_licence(
    name: str, base: str, licence: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    save_pipeline(request.getfixturevalue(name), tmp_path / "model")
    data = metadata(model_card(tmp_path / "model", "someone/model"))
    assert (data["base_model"], data["base_model_relation"], data["license"]) == (base, "finetune", licence)


@pytest.mark.parametrize("name", list(SPECS))
def test_every_base_model_gives_a_valid_card(name: str, tmp_path: Path) -> None:
    (tmp_path / EXPORT_INDEX).write_text(f'{{"model": "{name}", "backend": "openvino"}}')
    text = model_card(tmp_path, "someone/model")
    data = metadata(text)
    assert data["tags"][-1] == "openvino"  # type: ignore[index]
    assert ("The licence is not stated" in text) is (name == "mini")


def test_an_unchanged_pipeline_uploads_the_folder_it_came_from(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(MINI, tmp_path / "model"))
    for dtype in ("fp32", "bf16"):
        pipe = load_diffusers_pipeline(folder, "cpu", dtype)
        with pipe._folder_to_push() as pushed:
            assert pushed == folder
    fold(pipe)
    assert not is_as_stored(pipe, folder)
    with pipe._folder_to_push() as pushed:
        assert pushed != folder
        assert load_diffusers_pipeline(pushed, "cpu", "bf16").denoiser.state_dict().keys() == (
            pipe.denoiser.state_dict().keys()
        )
    assert not pushed.exists()


def test_a_pipeline_without_a_folder_or_with_other_weights_is_stored_first(mini_pipe: OneStepSRPipeline) -> None:
    with mini_pipe._folder_to_push() as pushed:
        assert (pushed / "model_index.json").is_file()
        pipe = load_diffusers_pipeline(pushed, "cpu", "fp32")
        next(iter(pipe.denoiser.parameters())).data += 1
        with pipe._folder_to_push() as again:
            assert again != pushed


def test_the_patterns_cover_every_kind_of_folder(mini_pipe: OneStepSRPipeline, tmp_path: Path) -> None:
    """What is not matched is not uploaded, and the model would not load."""
    save_pipeline(mini_pipe, tmp_path / "model")
    names = [path.relative_to(tmp_path / "model").as_posix() for path in (tmp_path / "model").rglob("*.*")]
    names += [f"{part}/diffusion_pytorch_model-00001-of-00002.safetensors" for part in PARTS]
    names += [f"{part}/diffusion_pytorch_model.safetensors.index.json" for part in PARTS]
    names += [f"{graph}{suffix}" for graph in GRAPHS for suffix in (*SUFFIXES.values(), ".onnx.data", ".bin")]
    assert [name for name in (*names, EXPORT_INDEX) if not matches(name, MODEL_FILES)] == []
    for stranger in (
        "pytorch_model.bin",
        "denoiser/encoder.bin",
        "denoiser/diffusion_pytorch_model.bin",
        "a/README.md",
    ):
        assert not matches(stranger, MODEL_FILES)
    assert OneStepSRPipeline.__name__ == PIPELINE_CLASS
