"""One-step diffusion for real-world image super-resolution.

    >>> from PIL import Image
    >>> from tsdsr import load_pipeline, upscale_file
    >>> pipe = load_pipeline()                        # the packaged model `mini`, on the best available device
    >>> pipe(Image.open("photo.jpg"), scale=4).images[0].save("photo_x4.png")
    >>> upscale_file("photo.jpg", "large.jpg", model=pipe)      # keeps EXIF, ICC profile, transparency and 16 bits

Public names are imported on first use, so ``import tsdsr`` is fast and does not load torch. Those that need PyTorch
raise :class:`~tsdsr.errors.MissingDependencyError` without it.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.2.0"

if TYPE_CHECKING:
    from tsdsr.diffusion.losses import (
        Predictions,
        WalkPoint,
        fake_loss,
        gradient_loss,
        guided,
        reconstruction_loss,
        tsd_gradient,
        tsm_gradient,
        vsd_gradient,
    )
    from tsdsr.diffusion.process import FlowMatching, NoiseProcess, VariancePreserving
    from tsdsr.errors import TSDSRError
    from tsdsr.images.writing import WriteOptions
    from tsdsr.models.conditioning import Conditioning
    from tsdsr.models.denoiser import Denoiser, as_denoiser, restore
    from tsdsr.models.zoo import SPECS, ModelSpec, get_spec
    from tsdsr.optimize.compile import compile_pipeline
    from tsdsr.optimize.fold import fold
    from tsdsr.optimize.quantize import quantize
    from tsdsr.pipeline.convert import convert_released, save_pipeline
    from tsdsr.pipeline.diffusers_loading import load_diffusers_pipeline
    from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline
    from tsdsr.pipeline.sr_pipeline import SROutput, SRPipeline
    from tsdsr.pipeline.upstream import upscale_like_upstream
    from tsdsr.runtimes.export import export_pipeline
    from tsdsr.runtimes.exported_pipeline import load_exported
    from tsdsr.runtimes.open_model import load_pipeline
    from tsdsr.runtimes.upscale_file import upscale_file
    from tsdsr.training.run import measure_figures, train_student, train_teacher
    from tsdsr.video.options import VideoOptions
    from tsdsr.video.upscale_video import upscale_video


def _quiet_imports() -> None:
    """Drop warnings that no user of this package can act on.

    Where bitsandbytes is installed (pyiqa requires it), diffusers imports it, and it reports that an optional kernel of
    its own is missing. Casting a network with ``.to()``, diffusers warns of parts that should stay in float32 even if
    their list is empty. Where Triton is missing, torch says that it counts no operations of Triton's kernels. Where
    torchao is installed, diffusers imports it for checkpoints that it stored, and both report each other's versions.
    """
    for name, words in (
        ("bitsandbytes.backends.cpu.ops", "Failed to load CPU gemm_4bit_forward"),
        ("diffusers.models.modeling_utils", "should be kept in float32: []"),
        ("torch.utils.flop_counter", "triton not found"),
        ("torch.utils._pytree", "is an Enum subclass and is now natively supported"),
        ("diffusers.quantizers.torchao.torchao_quantizer", "Unable to import `torchao` Tensor objects"),
    ):
        logging.getLogger(name).addFilter(lambda record, words=words: words not in record.getMessage())  # type: ignore[misc]


_quiet_imports()

_EXPORTS = {
    "measure_figures": "tsdsr.training.run",
    "train_student": "tsdsr.training.run",
    "train_teacher": "tsdsr.training.run",
    "Conditioning": "tsdsr.models.conditioning",
    "Denoiser": "tsdsr.models.denoiser",
    "FlowMatching": "tsdsr.diffusion.process",
    "ModelSpec": "tsdsr.models.zoo",
    "NoiseProcess": "tsdsr.diffusion.process",
    "OneStepSRPipeline": "tsdsr.pipeline.diffusers_pipeline",
    "Predictions": "tsdsr.diffusion.losses",
    "SPECS": "tsdsr.models.zoo",
    "SROutput": "tsdsr.pipeline.sr_pipeline",
    "SRPipeline": "tsdsr.pipeline.sr_pipeline",
    "TSDSRError": "tsdsr.errors",
    "VariancePreserving": "tsdsr.diffusion.process",
    "VideoOptions": "tsdsr.video.options",
    "WalkPoint": "tsdsr.diffusion.losses",
    "WriteOptions": "tsdsr.images.writing",
    "as_denoiser": "tsdsr.models.denoiser",
    "compile_pipeline": "tsdsr.optimize.compile",
    "convert_released": "tsdsr.pipeline.convert",
    "export_pipeline": "tsdsr.runtimes.export",
    "fake_loss": "tsdsr.diffusion.losses",
    "fold": "tsdsr.optimize.fold",
    "get_spec": "tsdsr.models.zoo",
    "gradient_loss": "tsdsr.diffusion.losses",
    "guided": "tsdsr.diffusion.losses",
    "load_exported": "tsdsr.runtimes.exported_pipeline",
    "load_diffusers_pipeline": "tsdsr.pipeline.diffusers_loading",
    "load_pipeline": "tsdsr.runtimes.open_model",
    "quantize": "tsdsr.optimize.quantize",
    "reconstruction_loss": "tsdsr.diffusion.losses",
    "restore": "tsdsr.models.denoiser",
    "save_pipeline": "tsdsr.pipeline.convert",
    "tsd_gradient": "tsdsr.diffusion.losses",
    "tsm_gradient": "tsdsr.diffusion.losses",
    "upscale_file": "tsdsr.runtimes.upscale_file",
    "upscale_like_upstream": "tsdsr.pipeline.upstream",
    "upscale_video": "tsdsr.video.upscale_video",
    "vsd_gradient": "tsdsr.diffusion.losses",
}

__all__ = [
    "SPECS",
    "Conditioning",
    "Denoiser",
    "FlowMatching",
    "ModelSpec",
    "NoiseProcess",
    "OneStepSRPipeline",
    "Predictions",
    "SROutput",
    "SRPipeline",
    "TSDSRError",
    "VariancePreserving",
    "VideoOptions",
    "WalkPoint",
    "WriteOptions",
    "__version__",
    "as_denoiser",
    "compile_pipeline",
    "convert_released",
    "export_pipeline",
    "fake_loss",
    "fold",
    "get_spec",
    "gradient_loss",
    "guided",
    "load_diffusers_pipeline",
    "load_exported",
    "load_pipeline",
    "measure_figures",
    "quantize",
    "reconstruction_loss",
    "restore",
    "save_pipeline",
    "train_student",
    "train_teacher",
    "tsd_gradient",
    "tsm_gradient",
    "upscale_file",
    "upscale_like_upstream",
    "upscale_video",
    "vsd_gradient",
]


def __getattr__(name: str) -> object:
    if name in _EXPORTS:
        try:
            return getattr(import_module(_EXPORTS[name]), name)
        except (ImportError, OSError):
            from tsdsr.errors import require_torch

            require_torch(f"tsdsr.{name}")
            raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
