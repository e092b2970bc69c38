"""Every kind of file on a full disk: an old file stays as it was, nothing is left behind, the error names the file."""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image

from tests.small_disk import mounted
from tsdsr.data.shard_file import write_shard
from tsdsr.errors import FileWriteError
from tsdsr.files import atomic_folder, atomic_path, write_text
from tsdsr.models.lora import write_released_lora
from tsdsr.training.checkpoint import save_checkpoint

ROUNDS = 7
"""Sizes of free space tried for each kind, from none to nearly enough."""


def tensors() -> dict[str, torch.Tensor]:
    return {f"a.lora_{part}.weight": torch.full((40, 1200), 0.5) for part in "AB"}


def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8))


class Sample:
    """What a shard stores of a sample."""

    def members(self) -> Iterator[tuple[str, bytes]]:
        for number in range(9):
            yield f"{number:03d}.png", bytes(20000)


def write_picture_file(path: Path) -> None:
    with atomic_path(path) as temporary:
        noise().save(temporary, format="PNG", compress_level=1)


def write_figure(path: Path) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    figure = pyplot.figure()
    figure.figimage(np.asarray(noise()))
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
    pyplot.close(figure)


def write_model(path: Path) -> None:
    with atomic_folder(path) as temporary:
        AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, layers_per_block=1).save_pretrained(temporary)


def write_openvino(path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    operators = pytest.importorskip("openvino.opset13")
    source = operators.parameter([1, 200], np.float32)
    weights = operators.constant(np.random.default_rng(0).random((200, 300), np.float32))
    model = openvino.Model([operators.matmul(source, weights, False, False)], [source])
    with atomic_folder(path) as temporary:
        openvino.save_model(model, temporary / "a.xml", compress_to_fp16=False)


WRITERS: dict[str, Callable[[Path], object]] = {
    "a.safetensors": lambda path: write_released_lora(path, tensors()),
    "checkpoint-00000001.pt": lambda path: save_checkpoint(path.parent, 1, {}, tensors()),
    "a.json": lambda path: write_text(path, "é" * 100_000),
    "a.tar": lambda path: write_shard(path, [Sample()]),  # type: ignore[list-item]
    "a.png": write_picture_file,
    "figure.png": write_figure,
    "model": write_model,
    "openvino": write_openvino,
}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk", megabytes=3) as folder:
        yield folder


def content(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b"".join(p.read_bytes() for p in sorted(path.rglob("*.*")))


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_file_system(small_disk: Path, name: str) -> None:
    path, filler = small_disk / name, small_disk / "filler"
    WRITERS[name](path)
    old, folder = content(path), path.is_dir()
    if folder:  # of which only new ones are written
        path.rename(small_disk / "elsewhere")
        shutil.rmtree(small_disk / "elsewhere")
    for part in range(ROUNDS):
        status = os.statvfs(small_disk)
        room = len(old) * part // ROUNDS // 4096 * 4096
        filler.write_bytes(bytes(status.f_bavail * status.f_frsize - room))
        with pytest.raises(FileWriteError, match=r"No space left on device|it may be full") as caught:
            WRITERS[name](path)
        assert str(path) in str(caught.value)
        del caught
        gc.collect()  # a failed torch.save keeps its deleted file, and its space, until then
        filler.unlink()
        assert os.listdir(small_disk) == ([] if folder else [name])
        assert folder or content(path) == old
