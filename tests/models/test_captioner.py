from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import BlipForConditionalGeneration, BlipProcessor

from tests.models.text_models import write_blip
from tsdsr.errors import ModelError, ModelNotFoundError
from tsdsr.models.captioner import load_captioner

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_blip(tmp_path_factory.mktemp("blip"))


def test_captions_are_those_of_the_model(blip: Path, photo: Image.Image) -> None:
    images = [photo, photo.rotate(90).resize((90, 60))]
    captions = load_captioner(str(blip), max_tokens=12)(images)
    processor, model = BlipProcessor.from_pretrained(blip), BlipForConditionalGeneration.from_pretrained(blip).eval()
    with torch.no_grad():
        tokens = model.generate(**processor(images=images, return_tensors="pt"), max_new_tokens=12, do_sample=False)
    expected = [" ".join(t.split()) for t in processor.batch_decode(tokens, skip_special_tokens=True)]
    assert captions == expected
    assert all(captions)


def test_a_batch_equals_singles_and_repeats(blip: Path, photo: Image.Image) -> None:
    describe = load_captioner(str(blip), max_tokens=8)
    images = [photo, photo.rotate(180)]
    assert describe(images) == [describe([i])[0] for i in images] == describe(images)
    assert describe([photo.convert("L")])[0]


def test_an_instruction_reaches_the_model(blip: Path, photo: Image.Image) -> None:
    told = load_captioner(str(blip), instruction="a b", max_tokens=8)([photo])[0]
    assert told != load_captioner(str(blip), max_tokens=8)([photo])[0]


def test_an_unknown_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="nothing"):
        load_captioner(str(tmp_path / "nothing"))


def test_code_that_comes_with_a_model_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even if the question about it were answered with yes."""
    names = {"AutoConfig": "own.Config", "AutoProcessor": "own.Processor", "AutoModelForImageTextToText": "own.Model"}
    for name in ("config.json", "processor_config.json"):
        (tmp_path / name).write_text(json.dumps({"model_type": "own", "auto_map": names}))
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with pytest.raises(ModelError, match="brings its own code, which is never run"):
        load_captioner(str(tmp_path))
    assert not (tmp_path / "ran").exists()
