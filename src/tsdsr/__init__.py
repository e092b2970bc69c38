"""One-step diffusion for real-world image super-resolution.

    >>> from PIL import Image
    >>> from tsdsr import load_pipeline
    >>> pipe = load_pipeline()                        # the packaged model `mini`, on the best available device
    >>> pipe(Image.open("photo.jpg"), scale=4).images[0].save("photo_x4.png")

Public names are imported on first use, so ``import tsdsr`` is fast and does not load torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from tsdsr.diffusion.process import FlowMatching, NoiseProcess, VariancePreserving
    from tsdsr.errors import TSDSRError
    from tsdsr.models.conditioning import Conditioning
    from tsdsr.models.denoiser import Denoiser, as_denoiser, restore
    from tsdsr.models.zoo import SPECS, ModelSpec, get_spec
    from tsdsr.optimize.compile import compile_pipeline
    from tsdsr.optimize.fold import fold
    from tsdsr.optimize.quantize import quantize
    from tsdsr.pipeline.convert import convert_released, save_pipeline
    from tsdsr.pipeline.loading import load_pipeline
    from tsdsr.pipeline.pipeline import OneStepSRPipeline, SROutput
    from tsdsr.pipeline.upstream import upscale_like_upstream
    from tsdsr.runtimes.export import export_pipeline
    from tsdsr.runtimes.exported_pipeline import load_exported
    from tsdsr.runtimes.open_model import open_pipeline

_EXPORTS = {
    "Conditioning": "tsdsr.models.conditioning",
    "Denoiser": "tsdsr.models.denoiser",
    "FlowMatching": "tsdsr.diffusion.process",
    "ModelSpec": "tsdsr.models.zoo",
    "NoiseProcess": "tsdsr.diffusion.process",
    "OneStepSRPipeline": "tsdsr.pipeline.pipeline",
    "SPECS": "tsdsr.models.zoo",
    "SROutput": "tsdsr.pipeline.pipeline",
    "TSDSRError": "tsdsr.errors",
    "VariancePreserving": "tsdsr.diffusion.process",
    "as_denoiser": "tsdsr.models.denoiser",
    "compile_pipeline": "tsdsr.optimize.compile",
    "convert_released": "tsdsr.pipeline.convert",
    "export_pipeline": "tsdsr.runtimes.export",
    "fold": "tsdsr.optimize.fold",
    "get_spec": "tsdsr.models.zoo",
    "load_exported": "tsdsr.runtimes.exported_pipeline",
    "load_pipeline": "tsdsr.pipeline.loading",
    "open_pipeline": "tsdsr.runtimes.open_model",
    "quantize": "tsdsr.optimize.quantize",
    "restore": "tsdsr.models.denoiser",
    "save_pipeline": "tsdsr.pipeline.convert",
    "upscale_like_upstream": "tsdsr.pipeline.upstream",
}

__all__ = [
    "SPECS",
    "Conditioning",
    "Denoiser",
    "FlowMatching",
    "ModelSpec",
    "NoiseProcess",
    "OneStepSRPipeline",
    "SROutput",
    "TSDSRError",
    "VariancePreserving",
    "__version__",
    "as_denoiser",
    "compile_pipeline",
    "convert_released",
    "export_pipeline",
    "fold",
    "get_spec",
    "load_exported",
    "load_pipeline",
    "open_pipeline",
    "quantize",
    "restore",
    "save_pipeline",
    "upscale_like_upstream",
]


def __getattr__(name: str) -> object:
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
