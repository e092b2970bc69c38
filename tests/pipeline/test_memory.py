"""Memory use of a run, and behaviour when memory runs out."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch
from torch import Tensor

from tsdsr.arrays import Array, new_zeros
from tsdsr.errors import OutOfMemoryError
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline


def test_memory_is_taken_by_bands_along_the_shorter_side(mini_pipe: OneStepSRPipeline) -> None:
    bands: set[tuple[int, ...]] = set()

    def record(x: Array, shape: tuple[int, ...]) -> Array:
        bands.add(shape)
        return new_zeros(x, shape)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tsdsr.pipeline.blending.new_zeros", record)
        mini_pipe.upscale_pixels(np.zeros((30, 200, 3), np.uint8), 4, tile=64, tile_overlap=16)
    assert bands == {(1, 3, 64, 128)}  # padded height 128 along the band, tiles of 64 across


def test_memory_running_out_makes_tiles_smaller(mini_pipe: OneStepSRPipeline, caplog: pytest.LogCaptureFixture) -> None:
    x = np.random.default_rng(0).random((80, 120, 3), dtype=np.float32)
    expected = mini_pipe.upscale_pixels(x, 4, tile=112, tile_overlap=48)
    sizes: list[int] = []

    def fail(module: object, args: tuple[Tensor, ...]) -> None:
        sizes.append(args[0].shape[-1] * args[0].shape[-2] * 16)
        if sizes[-1] > 128**2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with mini_pipe.denoiser.register_forward_pre_hook(fail):
        result = mini_pipe.upscale_pixels(x, 4)
    assert "starting again with tiles of 240" in caplog.text
    assert "starting again with tiles of 112" in caplog.text
    assert np.array_equal(result, expected)


def test_memory_that_never_suffices(mini_pipe: OneStepSRPipeline) -> None:
    def fail(module: object, args: object) -> None:
        raise MemoryError

    with (
        mini_pipe.denoiser.register_forward_pre_hook(fail),
        pytest.raises(OutOfMemoryError, match="free memory"),
    ):
        mini_pipe.upscale_pixels(np.zeros((40, 40, 3), np.uint8))


def test_auto_follows_free_memory(mini_pipe: OneStepSRPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    assert mini_pipe.plan((4096, 4096)).tile == 1024
    monkeypatch.setattr("tsdsr.devices.free_ram", lambda: 100 * 2**20)
    assert 64 <= (mini_pipe.plan((4096, 4096)).tile or 0) < 1024


def test_a_result_on_disk_is_the_same(mini_pipe: OneStepSRPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    expected = mini_pipe.upscale_pixels(x, tile=64, tile_overlap=16)
    monkeypatch.setattr("tsdsr.pipeline.canvas.CANVAS_SHARE", 0.0)
    result = mini_pipe.upscale_pixels(x, tile=64, tile_overlap=16)
    assert isinstance(result, np.memmap)
    assert np.array_equal(result, expected)


def test_a_failed_run_keeps_no_tensor_alive(mini_pipe: OneStepSRPipeline) -> None:
    """Neither while smaller tiles are tried nor in the error that is raised at last, whatever led to it."""
    seen: list[weakref.ref[Tensor]] = []

    def fail(module: object, args: tuple[Tensor, ...]) -> None:
        assert all(tensor() is None for tensor in seen)
        seen.append(weakref.ref(args[0]))
        try:
            raise ValueError
        except ValueError as error:
            raise MemoryError from error

    with mini_pipe.denoiser.register_forward_pre_hook(fail), pytest.raises(OutOfMemoryError) as caught:
        mini_pipe.upscale_pixels(np.zeros((80, 80, 3), np.uint8))
    assert len(seen) == 3  # the whole, tiles of 160, tiles of 80
    assert all(tensor() is None for tensor in seen)
    assert isinstance(caught.value.__cause__, MemoryError)


def test_an_error_of_another_kind_is_not_tried_again(mini_pipe: OneStepSRPipeline) -> None:
    calls: list[object] = []

    def fail(module: object, args: object) -> None:
        calls.append(args)
        raise RuntimeError("shapes differ")

    with mini_pipe.denoiser.register_forward_pre_hook(fail), pytest.raises(RuntimeError, match="shapes differ"):
        mini_pipe.upscale_pixels(np.zeros((40, 40, 3), np.uint8))
    assert len(calls) == 1
