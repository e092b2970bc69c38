"""The reader of safetensors files agrees with the safetensors package, and names damage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tsdsr.errors import ModelNotFoundError, WeightsError
from tsdsr.safetensors_header import read_array, read_header


def tensors() -> dict[str, torch.Tensor]:
    values = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    kinds = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool)
    return {
        **{str(kind): values.to(kind) for kind in kinds},
        "scalar": torch.tensor(3.0),
        "empty": torch.zeros(0, 4),
        "odd": torch.arange(3, dtype=torch.int8),
    }


def write(path: Path, header: Any, body: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)
    return path


def entry(begin: int = 0, end: int = 4, **changes: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [1], "data_offsets": [begin, end], **changes}


def test_values_are_those_of_the_safetensors_package(tmp_path: Path) -> None:
    path = tmp_path / "some.safetensors"
    save_file(tensors(), path, metadata={"format": "pt"})
    header = read_header(path)
    assert header.keys() == tensors().keys()
    for name, expected in tensors().items():
        found = read_array(path, header[name])
        wanted = (expected.float() if expected.dtype == torch.bfloat16 else expected).numpy()
        np.testing.assert_array_equal(found, wanted)
        assert found.dtype == wanted.dtype
        assert header[name].length == expected.numel() * expected.element_size()


@pytest.mark.parametrize(
    ("header", "body", "reason"),
    [
        (b"[]", b"", "not a JSON object"),
        (b"{", b"", "Expecting"),
        (b"\xff", b"", "utf-8"),
        (b"[" * 10000, b"", "recursion"),
        (b'{"a": 1, "a": 1}', b"", "occurs twice"),
        ({"a": 1}, b"", "entry of a is invalid"),
        ({"a": entry(shape=[-1])}, b"1234", "entry of a is invalid"),
        ({"a": entry(shape=[True])}, b"1234", "entry of a is invalid"),
        ({"a": entry(0, 4, more=1)}, b"1234", "entry of a is invalid"),
        ({"a": entry(0, 3)}, b"123", "has 3 bytes, but its shape asks for 4"),
        ({"a": entry(4, 0)}, b"1234", "has -4 bytes"),
        ({"a": entry(4, 0, dtype="F4")}, b"1234", "has -4 bytes"),
        ({"a": entry(), "b": entry()}, b"1234", "begins at byte"),
        ({"a": entry(4, 8)}, b"12345678", "begins at byte"),
        ({"a": entry()}, b"12345678", "bytes are described"),
        ({"a": entry()}, b"12", "bytes are described"),
    ],
)
def test_damage_is_named(tmp_path: Path, header: Any, body: bytes, reason: str) -> None:
    path = write(tmp_path / "bad.safetensors", header, body)
    with pytest.raises(WeightsError, match=rf"bad\.safetensors: is damaged or incomplete \(.*{reason}"):
        read_header(path)


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "some.safetensors"
    save_file(tensors(), path)
    content = path.read_bytes()
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(WeightsError, match="damaged or incomplete"):
            read_header(path)


def test_a_changed_header_gives_an_error_or_places_within_the_file(tmp_path: Path) -> None:
    path = tmp_path / "some.safetensors"
    save_file({"a": torch.zeros(2), "b": torch.zeros(3, dtype=torch.float16)}, path)
    content, refused = path.read_bytes(), 0
    for position in range(len(content) - 14):
        for value in (0, ord("9"), ord('"'), 255):
            path.write_bytes(content[:position] + bytes([value]) + content[position + 1 :])
            try:
                header = read_header(path)
            except WeightsError:
                refused += 1
            else:
                assert all(stored.offset + stored.length <= len(content) for stored in header.values())
    assert refused > len(content)


def test_missing_files_folders_and_unknown_kinds(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="is missing"):
        read_header(tmp_path / "none.safetensors")
    with pytest.raises(WeightsError, match="damaged or incomplete"):
        read_header(tmp_path)
    path = write(tmp_path / "new.safetensors", {"a": entry(0, 3, dtype="F6")}, b"123")
    with pytest.raises(WeightsError, match="stored as F6, which numpy cannot read"):
        read_array(path, read_header(path)["a"])


def test_a_file_that_became_shorter_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "some.safetensors", {"a": entry()}, b"1234")
    stored = read_header(path)["a"]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WeightsError, match="damaged or incomplete"):
        read_array(path, stored)
