"""Baseline systems: interpolation, and GAN and transformer models loaded by spandrel."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from tsdsr.errors import MissingDependencyError, ModelNotFoundError, WeightsError, install_extra
from tsdsr.evaluation.system import System
from tsdsr.files import StrPath
from tsdsr.hashing import hash_file
from tsdsr.images.color_modes import rgb_of
from tsdsr.machine import versions
from tsdsr.pixels import to_tensor, to_uint8
from tsdsr.wording import counted, first_line

INTERPOLATIONS = {"bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS}
"""Upscaling filters without a model."""

PEER_SUFFIXES = frozenset({".pth", ".pt", ".ckpt", ".safetensors"})
"""Suffixes of weight files that are loaded by spandrel."""


def interpolation(name: str, scale: int) -> System:
    """Create a system that upscales with Pillow's bicubic or Lanczos filter.

    Args:
        name (str): key of :data:`INTERPOLATIONS`.
        scale (int): upscaling factor.
    """

    def restore(image: Image.Image) -> Image.Image:
        return image.resize((image.width * scale, image.height * scale), INTERPOLATIONS[name])

    return System(name, restore, made_from={"system": "interpolation", "filter": name, "scale": scale})


def load_peer(path: StrPath, scale: int, device: str = "cpu", name: str | None = None) -> System:
    """Load a baseline such as Real-ESRGAN, BSRGAN, LDL or SwinIR. spandrel detects the architecture from the weights.

    Args:
        path (str | PathLike): safetensors file, or pickled state dict; see :func:`read_state_dict`.
        scale (int): required upscaling factor; models with another factor are rejected.
        device (str): device to run on, in float32.
        name (str | None): label; default is the file's stem.

    Raises:
        MissingDependencyError: spandrel is not installed.
        ModelNotFoundError: The file does not exist.
        WeightsError: The file is not a super-resolution model of this scale that spandrel supports.
    """
    path = Path(path)
    try:
        from spandrel import ImageModelDescriptor, ModelLoader, canonicalize_state_dict
    except (ImportError, RuntimeError) as error:  # a torchvision that does not match torch raises RuntimeError
        raise MissingDependencyError(f"peers need spandrel: {install_extra('eval')} ({error})") from error
    state = read_state_dict(path)
    try:
        model = ModelLoader(device=torch.device(device)).load_from_state_dict(canonicalize_state_dict(state))
    except Exception as error:  # spandrel raises different exceptions for weights that it does not recognise
        raise WeightsError(f"{path}: spandrel does not recognise these weights ({first_line(error)})") from error
    if not isinstance(model, ImageModelDescriptor) or model.scale != scale or model.input_channels != 3:
        kind = f"{model.architecture.name}, scale {model.scale}, {counted(model.input_channels, 'channel')}"
        raise WeightsError(f"{path}: is {kind}; an RGB model of scale {scale} is needed")
    model.eval()

    @torch.inference_mode()
    def restore(image: Image.Image) -> Image.Image:
        x = to_tensor(rgb_of(image))[None].to(device)
        return Image.fromarray(to_uint8(model(x)[0]))

    parameters = sum(parameter.numel() for parameter in model.model.parameters())
    made_from = {
        "system": "spandrel",
        "weights": hash_file(path),
        "scale": scale,
        "device": device,
        **versions("spandrel"),
    }
    return System(name or path.stem, restore, parameters=parameters, device=device, made_from=made_from)


def read_state_dict(path: StrPath) -> dict[str, Any]:
    """Read the weights of a baseline. Nothing in the file is run.

    Args:
        path (str | PathLike): a ``.safetensors`` file, or a state dict pickled by ``torch.save``.

    Returns:
        dict: the tensors by name; or, as some authors store them, a dict of such dicts.

    Raises:
        ModelNotFoundError: The file does not exist.
        WeightsError: The file is damaged, a TorchScript program, or a pickle of anything but tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelNotFoundError(f"{path}: no such file")
    try:
        if path.suffix.lower() == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch announces TorchScript before it refuses it
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise different exceptions for files that they refuse
        if "TorchScript" in str(error):
            raise WeightsError(
                f"{path}: is a TorchScript program, which could run any code when it is loaded; give the model's state "
                "dict or safetensors file, or a folder of its outputs"
            ) from error
        # Torch's own text about pickles advises to load them without the check, which would run their code.
        reason = "" if isinstance(error, pickle.UnpicklingError) else f" ({first_line(error)[:200]})"
        raise WeightsError(
            f"{path}: is damaged or contains more than weights; give a state dict or a safetensors file{reason}"
        ) from error
    if not isinstance(content, Mapping) or not any(isinstance(v, Tensor | Mapping) for v in content.values()):
        raise WeightsError(f"{path}: contains no state dict; give a dict of tensors or a safetensors file")
    return dict(content)
