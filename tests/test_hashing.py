"""Stored values keep matching: the digests here were computed by the code that wrote users' first caches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.unprivileged import unprivileged
from tsdsr.errors import DatasetError, ModelError
from tsdsr.hashing import fingerprint_folder, hash_bytes, hash_file, hash_model, hash_pixels, hash_text

WEIGHTS = bytes(range(256)) * 1200


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "config.json").write_text("{}")
    (tmp_path / "vae" / "model.safetensors").write_bytes(WEIGHTS)
    (tmp_path / "index.json").write_text("[]")
    return tmp_path


def test_texts_and_bytes_have_their_sha256() -> None:
    digest = "de72f33fc911a9e8d3e789d6c748e057e7d5f294445d13d0784a35275d8c0416"
    assert hash_text("a cät") == hash_bytes("a cät".encode()) == digest


def test_pixels_count_with_their_shape_and_without_their_layout() -> None:
    picture = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert hash_pixels(picture) == "818b3b64a074990a1f2b1782ec26f66d8eb3ddc02e9a7f0ec4f4660acd33ec3f"
    assert hash_pixels(picture[::-1]) == "f1cb19bbbbf0290e83281d5b51566b4b5bc0e35b4f46c1e52b2fd20b6367afb1"
    assert hash_pixels(np.asfortranarray(picture)) == hash_pixels(picture)
    assert hash_pixels(picture.reshape(2, 8, 3)) != hash_pixels(picture)


def test_fingerprints_notice_other_weights(model: Path) -> None:
    before = "8a5f803cac987858b5125f09336c8b02d3d9f49167988d84b0c185101e0263e7"
    assert fingerprint_folder(model, ["vae"]) == before
    for position in (10, len(WEIGHTS) - 10):
        changed = bytearray(WEIGHTS)
        changed[position] ^= 1
        (model / "vae" / "model.safetensors").write_bytes(changed)
        assert fingerprint_folder(model, ["vae"]) != before
    with pytest.raises(DatasetError, match=r"unet: no model there"):
        fingerprint_folder(model, ["unet"])


def test_files_count_with_every_byte(tmp_path: Path) -> None:
    """Also those in the middle, which a fingerprint does not read."""
    path = tmp_path / "photo.bmp"
    path.write_bytes(WEIGHTS)
    assert hash_file(path) == hash_bytes(WEIGHTS)
    path.write_bytes(WEIGHTS[:150_000] + b"x" + WEIGHTS[150_001:])
    assert hash_file(path) != hash_bytes(WEIGHTS)


def test_names_that_are_not_unicode_have_a_hash(model: Path) -> None:
    before = hash_model(model), fingerprint_folder(model, ["vae"])
    name = b"caf\xe9.json".decode("utf-8", "surrogateescape")
    (model / "vae" / name).write_text("{}")
    assert before != (hash_model(model), fingerprint_folder(model, ["vae"]))


def test_a_models_hash_depends_on_weights_and_configuration_alone(model: Path) -> None:
    before = hash_model(model)
    assert before == "4760b093b77e8529dc7b313f73b71f20569fd2f44767c08154270eafedbcffad"
    (model / "README.md").write_text("a model card")
    (model / ".cache").mkdir()
    (model / ".cache" / "download.lock").write_text("")
    assert hash_model(model) == before
    (model / "vae" / "model.safetensors").write_bytes(WEIGHTS[:100_000] + b"x" + WEIGHTS[100_001:])  # in the middle
    changed = hash_model(model)
    (model / "vae" / "config.json").write_text('{"a": 1}')
    assert len({before, changed, hash_model(model)}) == 3


def test_a_model_that_cannot_be_read_has_no_hash(model: Path) -> None:
    (model / "vae" / "model.safetensors").chmod(0)
    with unprivileged(model), pytest.raises(ModelError, match=r"cannot be read \(Permission denied\)"):
        hash_model(model)
