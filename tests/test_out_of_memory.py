from __future__ import annotations

import errno
import weakref

import pytest
import torch

from tsdsr.errors import ImageReadError, OutOfMemoryError
from tsdsr.out_of_memory import is_out_of_memory, memory_reported


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("x"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("MPS backend out of memory (MPS allocated: 7.00 GB)"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 7 bytes"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 7 bytes."),
        RuntimeError("could not create a primitive"),
        RuntimeError("could not execute a primitive"),
        RuntimeError("could not create a memory object"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("bad allocation"),
        RuntimeError("unable to mmap 7 bytes from file </w.safetensors>: Cannot allocate memory (12)"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
    ],
    ids=str,
)
def test_a_lack_of_memory_is_recognised(error: Exception) -> None:
    assert is_out_of_memory(error)
    with pytest.raises(OutOfMemoryError, match="choose less"), memory_reported("choose less"):
        raise error


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("shape mismatch"),
        RuntimeError("could not create a primitive descriptor for a convolution"),
        ValueError("out of memory"),
        OSError(errno.ENOSPC, "No space left on device"),
        ImportError("no module named torch"),
        ImageReadError("a.png: truncated"),
        OutOfMemoryError("a.png: of our own"),
    ],
    ids=str,
)
def test_other_errors_pass_unchanged(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, memory_reported("choose less"):
        raise error
    assert caught.value is error


def test_a_reported_lack_of_memory_keeps_no_tensor_alive() -> None:
    seen: list[weakref.ref[torch.Tensor]] = []

    @memory_reported("choose less")
    def fill() -> None:
        held = torch.zeros(8)
        seen.append(weakref.ref(held))
        raise MemoryError

    with pytest.raises(OutOfMemoryError):
        fill()
    assert seen[0]() is None
