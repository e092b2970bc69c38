"""Baseline systems: interpolation, and GAN and transformer models loaded by spandrel."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from tsdsr.errors import MissingDependencyError, ModelNotFoundError, WeightsError
from tsdsr.evaluation.compare import System
from tsdsr.files import StrPath
from tsdsr.images.color_modes import rgb_of
from tsdsr.pixels import to_tensor, to_uint8

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

    return System(name, restore)


def load_peer(path: StrPath, scale: int, device: str = "cpu", name: str | None = None) -> System:
    """Load a baseline such as Real-ESRGAN, BSRGAN, LDL or SwinIR. spandrel detects the architecture from the weights.

    Args:
        path (str | PathLike): weight file; spandrel's restricted unpickler reads pickles.
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
        from spandrel import ImageModelDescriptor, ModelLoader
    except (ImportError, RuntimeError) as error:  # a torchvision that does not match torch raises RuntimeError
        raise MissingDependencyError(f"peers need spandrel: pip install 'tsdsr[eval]' ({error})") from error
    if not path.is_file():
        raise ModelNotFoundError(f"{path}: no such file")
    try:
        model = ModelLoader(device=torch.device(device)).load_from_file(path)
    except Exception as error:  # spandrel, safetensors and pickle raise different exceptions
        first_line = (str(error).strip() or repr(error)).splitlines()[0]
        raise WeightsError(f"{path}: spandrel cannot load it ({type(error).__name__}: {first_line})") from error
    if not isinstance(model, ImageModelDescriptor) or model.scale != scale or model.input_channels != 3:
        kind = f"{model.architecture.name}, scale {model.scale}, {model.input_channels} channels"
        raise WeightsError(f"{path}: is {kind}; an RGB model of scale {scale} is needed")
    model.eval()

    @torch.inference_mode()
    def restore(image: Image.Image) -> Image.Image:
        x = to_tensor(rgb_of(image))[None].to(device)
        return Image.fromarray(to_uint8(model(x)[0]))

    parameters = sum(parameter.numel() for parameter in model.model.parameters())
    return System(name or path.stem, restore, parameters=parameters, device=device)
