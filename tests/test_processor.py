"""The processor's abilities are those that torch reports."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch

from tsdsr import processor
from tsdsr.devices import choose_dtype


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc/cpuinfo is Linux's")
def test_bfloat16_as_torch_sees_it() -> None:
    assert processor.multiplies_bf16() is (choose_dtype("auto", torch.device("cpu")) is torch.bfloat16)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc/cpuinfo is Linux's")
def test_what_linux_says_of_the_processor() -> None:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = {line.partition(":")[2].strip() for line in lines if line.startswith("model name")}
    assert processor.processor_name() in names or not names
    assert processor.core_count() == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(("flags", "expected"), [({"avx512_bf16"}, True), ({"amx_bf16"}, True), ({"avx2"}, False)])
def test_flags(monkeypatch: pytest.MonkeyPatch, flags: set[str], expected: bool) -> None:
    monkeypatch.setattr(processor, "processor_flags", lambda: frozenset(flags))
    assert processor.multiplies_bf16() is expected


@pytest.mark.parametrize(
    ("flags", "expected"), [({"avx512_vnni"}, True), ({"avx_vnni"}, True), ({"avx512f", "avx2"}, False), (set(), False)]
)
def test_eight_bits_need_vnni(monkeypatch: pytest.MonkeyPatch, flags: set[str], expected: bool) -> None:
    monkeypatch.setattr(processor, "_apple_chip", lambda: False)
    monkeypatch.setattr(processor, "processor_flags", lambda: frozenset(flags))
    assert processor.multiplies_int8() is expected


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the driver's files are Linux's")
def test_a_gpu_is_known_by_its_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setattr(processor, "_GPU_FILES", (f"{tmp_path}/none",))
    assert not processor.has_gpu()
    monkeypatch.setattr(processor, "_GPU_FILES", (f"{tmp_path}",))
    assert processor.has_gpu()
