"""mini in torch without diffusers gives what the diffusers pipeline gives, and names the same damage."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tsdsr.errors import ModelError, ModelNotFoundError, WeightsError
from tsdsr.pipeline.diffusers_loading import load_diffusers_pipeline
from tsdsr.pipeline.model_files import resolve_model
from tsdsr.pipeline.torch_pipeline import load_torch_mini


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_the_picture_is_the_same(photo: Image.Image, dtype: str) -> None:
    small = photo.resize((48, 40))
    plain, whole = load_torch_mini(resolve_model("mini"), "cpu", dtype), load_diffusers_pipeline("mini", "cpu", dtype)
    ours = np.asarray(plain(small, detail=0.5).images[0], dtype=int)
    assert np.abs(ours - np.asarray(whole(small, detail=0.5).images[0], dtype=int)).max() <= 1
    assert (plain.dtype, plain.device, plain.dtype_bytes) == (whole.dtype, whole.device, whole.dtype_bytes)


def test_a_batch_stays_a_tensor_of_the_device() -> None:
    pipe = load_torch_mini(resolve_model("mini"), "cpu", "fp32")
    result = pipe.upscale(torch.rand(2, 3, 16, 24, requires_grad=True), 2)
    assert result.shape == (2, 3, 32, 48)
    assert not result.requires_grad


def test_it_needs_no_diffusers() -> None:
    program = (
        "import sys; from tsdsr import load_pipeline; from PIL import Image;"
        "load_pipeline(engine='torch', device='cpu')(Image.new('RGB', (16, 16)));"
        "names = ('diffusers', 'transformers', 'peft', 'torchao', 'torch._dynamo');"
        "heavy = [name for name in names if name in sys.modules];"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_damage_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "mini"
    shutil.copytree(resolve_model("mini"), folder)
    config = folder / "denoiser" / "config.json"
    values = json.loads(config.read_text())
    for change, message in (
        ({"channels": [64, 128, 200]}, "has shape"),
        ({"encoder_blocks": [3, 3, 8]}, "missing"),
        ({"encoder_blocks": [3, 3, 6]}, "is not part of MiniNetwork"),
        ({"foo": 1}, "'foo' is not a setting of MiniNetwork"),
        ({"channels": "wide"}, "does not describe a MiniNetwork"),
        ({"_class_name": "UNet2DConditionModel"}, "describes a UNet2DConditionModel, not a MiniUNet"),
    ):
        config.write_text(json.dumps({**values, **change}))
        with pytest.raises(WeightsError, match=message):
            load_torch_mini(folder, "cpu")
    config.write_text(json.dumps({**values, "_class_name": "FoldedMini"}))
    with pytest.raises(ModelError, match="is folded"):
        load_torch_mini(folder, "cpu")
    config.unlink()
    with pytest.raises(ModelNotFoundError, match=r"no model there"):
        load_torch_mini(folder, "cpu")


def test_results_are_float32_whatever_torch_takes_by_default() -> None:
    x = torch.rand(1, 3, 8, 8)
    pipe = load_torch_mini(resolve_model("mini"), "cpu", "fp32")
    expected = pipe.upscale(x, 2)
    torch.set_default_dtype(torch.bfloat16)
    try:
        found = pipe.upscale(x, 2)
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)


def test_networks_and_their_place() -> None:
    plain, whole = load_torch_mini(resolve_model("mini"), "cpu", "fp32"), load_diffusers_pipeline("mini", "cpu", "fp32")
    assert plain.networks == [plain.network]
    assert whole.networks == [whole.denoiser, whole.vae, whole.prompt]
    assert plain.to("meta").device.type == "meta"
