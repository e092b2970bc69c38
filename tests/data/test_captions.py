from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tsdsr.data.captions import plan_captions, read_prompts, write_captions
from tsdsr.data.sources import Source, open_source
from tsdsr.errors import DatasetError, InvalidInputError

MODEL = {"model": "blip", "instruction": ""}


def describe(images: Sequence[Image.Image]) -> list[str]:
    return [f"{image.width} by {image.height}" for image in images]


def caption(folder: Path, out: Path, overwrite: bool = False, batch: int = 3, **settings: str) -> tuple[int, list[str]]:
    """Return the number of texts written and the failures."""
    failures: list[str] = []
    plan = plan_captions(open_source(folder), out, {**MODEL, **settings}, overwrite, failures.append)
    return sum(map(len, write_captions(plan, describe, batch, failures.append))), failures


def prompts(folder: Path, out: Path) -> dict[str, str]:
    return {path.name: text for path, text in read_prompts([open_source(folder)], out).items()}


def test_each_image_gets_its_text_once(photo_folder: Path, tmp_path: Path) -> None:
    assert caption(photo_folder, tmp_path / "out") == (4, [])
    assert prompts(photo_folder, tmp_path / "out")["rocket.bmp"] == "640 by 427"
    assert caption(photo_folder, tmp_path / "out") == (0, [])
    (tmp_path / "out" / "more" / "rocket.txt").unlink()
    assert caption(photo_folder, tmp_path / "out") == (1, [])


def test_texts_of_another_image_or_model_are_not_taken(photo_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    caption(photo_folder, out)
    for changed in ({"model": "florence"}, {"instruction": "in French"}):
        with pytest.raises(DatasetError, match=r"out: 4 texts belong to other images, or .*--overwrite"):
            caption(photo_folder, out, **changed)
    other = tmp_path / "other"
    other.mkdir()
    Image.new("RGB", (70, 50)).save(other / "cat.png")
    with pytest.raises(DatasetError, match=r"1 text belongs to other images, .*cat\.txt"):
        caption(other, out)
    with pytest.raises(DatasetError, match=r"cat\.txt: was written for another image than .*other/cat\.png"):
        prompts(other, out)
    assert caption(other, out, overwrite=True) == (1, [])
    assert prompts(other, out) == {"cat.png": "70 by 50"}
    with pytest.raises(DatasetError, match="1 text belongs to other images"):
        caption(photo_folder, out)


def test_texts_by_hand_are_kept(photo_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "cat.txt").write_text("a cat")
    caption(photo_folder, out)
    (out / "coffee.txt").write_text("a cup, corrected by hand")
    assert caption(photo_folder, out, overwrite=True) == (0, [])
    assert prompts(photo_folder, out)["cat.webp"] == "a cat"
    assert prompts(photo_folder, out)["coffee.jpg"] == "a cup, corrected by hand"
    Image.new("RGB", (70, 50)).save(photo_folder / "coffee.jpg")
    with pytest.raises(DatasetError, match=r"1 text belongs to other images, .*coffee\.txt"):
        caption(photo_folder, out)


def test_unusable_images_and_unwritable_texts_are_reported(photo_folder: Path, tmp_path: Path) -> None:
    (photo_folder / "broken.png").write_bytes(b"x")
    (photo_folder / "gone.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "out" / "cat.txt").mkdir(parents=True)
    assert caption(photo_folder, tmp_path / "out", batch=1)[0] == 3
    written, failures = caption(photo_folder, tmp_path / "out", batch=1)
    assert written == 0
    assert [Path(message.split(":")[0]).name for message in failures] == ["cat.txt", "gone.png", "broken.png"]


def test_images_that_would_share_a_text_are_refused(photo_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    Image.new("RGB", (70, 50)).save(tmp_path / "other" / "cat.png")
    caption(photo_folder, tmp_path / "out")
    sources = [open_source(photo_folder), open_source(tmp_path / "other")]
    with pytest.raises(DatasetError, match=r"cat\.txt: would be the prompt of .*cat\.webp and of .*cat\.png"):
        read_prompts(sources, tmp_path / "out")
    assert len(read_prompts([sources[0], sources[0]], tmp_path / "out")) == 4
    Image.new("RGB", (70, 50)).save(photo_folder / "cat.png")
    with pytest.raises(InvalidInputError, match="both be called 'cat'"):
        caption(photo_folder, tmp_path / "out")


@pytest.mark.parametrize(("content", "text"), [(b"a cat\n", "a cat"), ("\ufeffeine Kätzin".encode(), "eine Kätzin")])
def test_prompts_are_utf_8(tmp_path: Path, content: bytes, text: str) -> None:
    image = tmp_path / "a.png"
    source = Source("one", (image,))
    with pytest.raises(DatasetError, match=r"no prompt for 1 of 1 image, e\.g\. .*a\.txt"):
        read_prompts([source], tmp_path)
    (tmp_path / "a.txt").write_bytes(content)
    assert read_prompts([source], tmp_path) == {image: text}
    (tmp_path / "a.txt").write_bytes(b"caf\xe9")
    with pytest.raises(DatasetError, match=r"a\.txt: is not UTF-8"):
        read_prompts([source], tmp_path)


def test_names_that_are_not_unicode_have_captions(photo_folder: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    (photo_folder / "cat.webp").rename(photo_folder / f"{name}.webp")
    assert caption(photo_folder, tmp_path / "out") == (4, [])
    assert caption(photo_folder, tmp_path / "out") == (0, [])
    assert prompts(photo_folder, tmp_path / "out")[f"{name}.webp"] == "451 by 300"


def test_a_full_disk_is_reported_by_text(photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    written, failures = caption(photo_folder, tmp_path / "out")
    assert (written, len(failures), "No space left" in failures[0]) == (0, 4, True)
