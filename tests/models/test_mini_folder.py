"""mini's latents on numpy and torch, and what is wrong with a folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tsdsr.errors import InvalidInputError, ModelNotFoundError, WeightsError
from tsdsr.models.autoencoder import SpaceToDepthAutoencoder
from tsdsr.models.latents import decode_latents, encode_images
from tsdsr.models.mini_folder import MiniLatents, prompt_label
from tsdsr.models.space_to_depth import depth_to_space, space_to_depth
from tsdsr.pipeline.model_files import resolve_model


def test_blocks_are_those_of_torch_on_both_kinds_of_arrays() -> None:
    x = torch.rand(2, 3, 8, 12)
    expected = F.pixel_unshuffle(x, 4)
    assert torch.equal(space_to_depth(x, 4), expected)
    np.testing.assert_array_equal(space_to_depth(x.numpy(), 4), expected.numpy())
    assert torch.equal(depth_to_space(expected, 4), x)
    np.testing.assert_array_equal(depth_to_space(expected.numpy(), 4), x.numpy())
    with pytest.raises(InvalidInputError, match="multiples of 4, got 12x9"):
        space_to_depth(np.zeros((1, 3, 9, 12)), 4)


def test_latents_equal_those_of_the_diffusers_component() -> None:
    latents, vae, x = MiniLatents.read(resolve_model("mini")), SpaceToDepthAutoencoder(), torch.rand(1, 3, 8, 8)
    z = encode_images(vae, x)
    for array in (x, x.numpy()):
        encoded = latents.encode(array)
        np.testing.assert_allclose(np.asarray(encoded), z.numpy(), atol=1e-6)
        np.testing.assert_allclose(np.asarray(latents.decode(encoded)), decode_latents(vae, z).numpy(), atol=1e-6)
        assert encoded.dtype == array.dtype


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(resolve_model("mini"), tmp_path / "mini")
    return tmp_path / "mini"


def test_the_packaged_prompt(folder: Path) -> None:
    assert prompt_label(folder, 2) == 0


@pytest.mark.parametrize("value", [0, -1.0, "1.72", float("nan"), float("inf"), None])
def test_a_wrong_scale_is_refused(folder: Path, value: object) -> None:
    path = folder / "vae" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "scaling_factor": value}))
    with pytest.raises(WeightsError, match=r"scaling_factor (is|contains)"):
        MiniLatents.read(folder)


def test_other_damage_is_named(folder: Path) -> None:
    with pytest.raises(WeightsError, match="does not contain the index of one of the 0 prompts"):
        prompt_label(folder, 0)
    (folder / "prompt" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ModelNotFoundError, match="is missing"):
        prompt_label(folder, 2)
    (folder / "vae" / "config.json").write_text('{"patch_size": 8}')
    with pytest.raises(WeightsError, match="patch_size is 8, not 4"):
        MiniLatents.read(folder)
    (folder / "vae" / "config.json").write_text("[]")
    with pytest.raises(WeightsError, match="is not a JSON object"):
        MiniLatents.read(folder)
    (folder / "vae" / "config.json").write_text("{")
    with pytest.raises(WeightsError, match="is not valid JSON"):
        MiniLatents.read(folder)
