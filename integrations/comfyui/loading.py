"""Models for the nodes: which ones there are, what runs them, and their place in ComfyUI's memory."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import folder_paths
import torch
from comfy import model_management

from tsdsr import load_pipeline
from tsdsr.devices import choose_dtype
from tsdsr.pipeline.model_files import EXPORT_INDEX, MODEL_INDEX, PACKAGED_MODELS, resolve_model
from tsdsr.pipeline.options import RestoreOptions
from tsdsr.pipeline.sr_pipeline import SRPipeline
from tsdsr.runtimes.open_model import choose_engine

FOLDER = "tsdsr"
"""Name of the folder below ComfyUI's ``models``, and of the key in ``extra_model_paths.yaml``."""

folder_paths.add_model_folder_path(FOLDER, os.path.join(folder_paths.models_dir, FOLDER))


def model_names() -> list[str]:
    """Return the packaged models, then the pipeline and exported folders in ComfyUI's folders of models."""
    return [*PACKAGED_MODELS, *sorted(_folders())]


def _folders() -> dict[str, str]:
    """Return the folders that hold a model, by name; the first place that has a name wins."""
    found: dict[str, str] = {}
    for place in folder_paths.get_folder_paths(FOLDER):
        for entry in os.scandir(place) if os.path.isdir(place) else ():
            if any(os.path.isfile(os.path.join(entry.path, index)) for index in (MODEL_INDEX, EXPORT_INDEX)):
                found.setdefault(entry.name, entry.path)
    return found


@dataclass(frozen=True)
class LoadedModel:
    """What *Load TSD-SR* hands to *TSD-SR Upscale*.

    Attributes:
        pipe (SRPipeline): the pipeline.
        device (torch.device | None): where torch runs it; None if another engine does.
    """

    pipe: SRPipeline
    device: torch.device | None

    @contextmanager
    def ready(self, options: RestoreOptions, size: tuple[int, int]) -> Iterator[SRPipeline]:
        """Have the networks on their device within the block. Other models of ComfyUI make room for them.

        Args:
            options (RestoreOptions): what is to be done.
            size (tuple): height and width of the result.
        """
        if self.device is None:
            yield self.pipe
            return
        weights = sum(model_management.module_size(network) for network in self.pipe.networks)
        model_management.free_memory(weights + self._working_bytes(options, size), self.device)
        try:
            yield self.pipe.to(self.device)
        finally:
            self.pipe.to(model_management.unet_offload_device())
            model_management.soft_empty_cache()

    def _working_bytes(self, options: RestoreOptions, size: tuple[int, int]) -> int:
        """Estimate the memory for the largest tile that the pipeline would choose."""
        spec = self.pipe.spec
        edge = options.tile if isinstance(options.tile, int) else spec.native_size
        pixels = min(edge**2, size[0] * size[1])
        return int(spec.fixed_tile_bytes + spec.tile_bytes * self.pipe.dtype_bytes / 4 * pixels)


def load_model(name: str, engine: str = "auto", device: str = "auto", precision: str = "auto") -> LoadedModel:
    """Load a model for ComfyUI's device.

    `mini` on a CPU runs in ONNX Runtime, unless the CPU multiplies in bfloat16. Models in torch wait in RAM.

    Args:
        name (str): a name of :func:`model_names`, the path of a folder, or a hub ID.
        engine (str): "auto", "onnx", "torch" or "openvino".
        device (str): "auto" is ComfyUI's own; "cpu".
        precision (str): "auto", "fp32", "fp16" or "bf16".

    Raises:
        TSDSRError: see :func:`tsdsr.load_pipeline`.
    """
    model = _folders().get(name, name)
    target = model_management.get_torch_device() if device == "auto" else torch.device(device)
    chosen = choose_engine(resolve_model(model), str(target), precision, engine)
    on_cpu = target.type == "cpu"
    if chosen == "torch":
        pipe = load_pipeline(model, "cpu", choose_dtype(precision, target), engine="torch")
        return LoadedModel(pipe, target)
    if chosen == "onnx":
        provider = "cpu" if on_cpu else "auto"
        return LoadedModel(
            load_pipeline(model, dtype=precision, engine="onnx", provider=provider, say=logging.info), None
        )
    where = "cpu" if on_cpu else "auto"
    return LoadedModel(load_pipeline(model, where, precision, engine="openvino", say=logging.info), None)
