from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tsdsr.devices import choose_device, choose_dtype
from tsdsr.errors import ModelError, ModelNotFoundError
from tsdsr.pipeline.diffusers_loading import load_diffusers_pipeline


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "minni", "a/b/c"])
def test_unknown_names_say_what_would_do(name: str) -> None:
    with pytest.raises(ModelNotFoundError, match="mini, an existing folder, or a hub ID"):
        load_diffusers_pipeline(name)


@pytest.mark.parametrize("name", ["flux2-klein", "sd35-large", "sd21"])
def test_base_models_without_released_weights_point_to_training(name: str) -> None:
    with pytest.raises(ModelNotFoundError, match=r"train a student with 'tsdsr train student'") as error:
        load_diffusers_pipeline(name)
    assert "convert" not in str(error.value)


def test_base_models_point_to_convert(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"stable-diffusion-3-medium.*tsdsr convert"):
        load_diffusers_pipeline("sd3")
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusion3Pipeline"}))
    with pytest.raises(ModelError, match=r"StableDiffusion3Pipeline.*tsdsr convert"):
        load_diffusers_pipeline(tmp_path)


def test_folders_without_a_usable_index(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"model_index\.json"):
        load_diffusers_pipeline(tmp_path)
    (tmp_path / "model_index.json").write_text("{")
    with pytest.raises(ModelError, match="not a valid pipeline index"):
        load_diffusers_pipeline(tmp_path)


def test_devices_and_precisions() -> None:
    cpu = torch.device("cpu")
    assert choose_device("cpu") == cpu
    assert choose_dtype("fp16", cpu) == torch.float16
    assert choose_dtype(torch.bfloat16, cpu) == torch.bfloat16
    assert choose_dtype("auto", cpu) in (torch.float32, torch.bfloat16)
    with pytest.raises(ModelError, match="fp8"):
        choose_dtype("fp8", cpu)
    with pytest.raises(ModelError, match="toaster"):
        choose_device("toaster")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device that the test wants absent")
def test_an_absent_device_is_named() -> None:
    with pytest.raises(ModelError, match="cuda"):
        load_diffusers_pipeline("mini", device="cuda")


def test_loading_casting_and_running_print_nothing() -> None:
    """In a process of its own, because diffusers writes to the streams of its start, and warns once."""
    code = """
import torch
from PIL import Image
from tsdsr import load_diffusers_pipeline
image = Image.new("RGB", (8, 8))
load_diffusers_pipeline("mini", "cpu", "fp16")(image, 1)
pipe = load_diffusers_pipeline("mini", "cpu", "fp32")
pipe.to("cpu", torch.bfloat16)
pipe.to("cpu", torch.float16)
assert pipe.dtype == torch.float16
pipe(image, 1)
"""
    done = subprocess.run([sys.executable, "-W", "default", "-c", code], check=True, capture_output=True, text=True)
    ours = [line for line in done.stderr.splitlines() if "DeprecationWarning" not in line and not line.startswith(" ")]
    assert (done.stdout, ours) == ("", [])
