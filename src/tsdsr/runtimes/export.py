"""Export pipelines to folders for ONNX Runtime and OpenVINO.

A folder holds the three graphs of :mod:`tsdsr.runtimes.graphs` as ``encoder``, ``denoiser`` and ``decoder`` (``.onnx``,
or ``.xml`` and ``.bin``), and ``tsdsr.json``, which describes them (:class:`ExportIndex`).
"""

from __future__ import annotations

import json
import math
import tempfile
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from tsdsr.errors import InvalidInputError, MissingDependencyError, ModelError, ModelNotFoundError, install_extra
from tsdsr.files import StrPath, atomic_folder, require_new
from tsdsr.models.zoo import get_spec
from tsdsr.pipeline.model_files import EXPORT_INDEX
from tsdsr.pipeline.pipeline import OneStepSRPipeline
from tsdsr.runtimes.graphs import GRAPHS, GraphInfo, write_onnx

Backend = Literal["onnx", "openvino"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)
"""Supported export runtimes."""

SUFFIXES: dict[Backend, str] = {"onnx": ".onnx", "openvino": ".xml"}
"""File suffix of each runtime's graphs."""

STORED: dict[torch.dtype, str] = {torch.float32: "fp32", torch.float16: "fp16"}
"""Supported precisions of an export, by their name in the index."""

_FORMAT = 1


@dataclass(frozen=True)
class ExportIndex:
    """Content of ``tsdsr.json``, which describes an exported model.

    Attributes:
        backend ("onnx" | "openvino"): runtime of the files.
        model (str): name of the base model in :data:`tsdsr.models.zoo.SPECS`.
        dtype ("fp32" | "fp16"): precision of the stored weights.
        scaling_factor (float): factor by which the encoder's latents are multiplied for the denoiser and divided for
            the decoder.
        vae_scale_factor (int): pixels per latent position along each axis.
        size_multiple (int): image sides must be multiples of this many pixels.
        format (int): version of this format.
    """

    backend: Backend
    model: str
    dtype: str
    scaling_factor: float
    vae_scale_factor: int
    size_multiple: int
    format: int = _FORMAT

    @classmethod
    def read(cls, folder: StrPath) -> ExportIndex:
        """Read and check the index of an exported model.

        Raises:
            ModelNotFoundError: ``folder`` contains no exported model, or a graph is missing.
            ModelError: the index is broken, or from a later version.
        """
        folder = Path(folder)
        path = folder / EXPORT_INDEX
        if not path.is_file():
            raise ModelNotFoundError(f"{folder}: holds no {EXPORT_INDEX}; make an exported model with 'tsdsr export'")
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            index = cls(**{field.name: values[field.name] for field in fields(cls)})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{path}: is not a valid index of an exported model ({error!r}); export again") from error
        if index.format != _FORMAT or index.backend not in BACKENDS:
            raise ModelError(f"{path}: made by another version of tsdsr; export again")
        index.check(path)
        for graph in GRAPHS:
            if not index.graph(folder, graph).is_file():
                raise ModelNotFoundError(f"{index.graph(folder, graph)}: is missing; export the model again")
        return index

    def check(self, path: Path) -> None:
        """Check the values against those of the base model.

        Raises:
            ModelError: a value is wrong.
        """
        spec = get_spec(self.model)
        scaling = self.scaling_factor
        if self.dtype not in STORED.values():
            raise ModelError(f"{path}: dtype is {self.dtype!r}, not fp32 or fp16; export again")
        if not isinstance(scaling, int | float) or not 0 < scaling < math.inf:
            raise ModelError(f"{path}: scaling_factor is {scaling!r}, not a positive number; export again")
        if (self.vae_scale_factor, self.size_multiple) != (spec.vae_scale_factor, spec.size_multiple):
            raise ModelError(f"{path}: vae_scale_factor and size_multiple are not those of {spec.name}; export again")

    def graph(self, folder: Path, name: str) -> Path:
        """Return the file of one of the three graphs."""
        return folder / f"{name}{SUFFIXES[self.backend]}"


def export_pipeline(pipe: OneStepSRPipeline, output: StrPath, backend: Backend = "onnx") -> tuple[GraphInfo, ...]:
    """Export a pipeline to a folder for another runtime. The folder is written completely or not at all.

    Args:
        pipe (OneStepSRPipeline): on the CPU; its precision, float32 or float16, is that of the files.
        output (str | PathLike): the folder to create.
        backend ("onnx" | "openvino"): target runtime.

    Returns:
        tuple of GraphInfo: the size of each graph as ONNX.

    Raises:
        InvalidInputError: ``output`` exists, the backend is unknown, or the precision cannot be exported.
        MissingDependencyError: the exporter's packages are missing.
    """
    if backend not in BACKENDS:
        raise InvalidInputError(f"unknown backend {backend!r}; choose from {', '.join(BACKENDS)}")
    if pipe.dtype not in STORED:
        raise InvalidInputError(f"a model in {pipe.dtype} cannot be exported; load it in fp32 or fp16")
    target, spec = require_new(output), pipe.spec
    scaling = float(pipe.vae.config["scaling_factor"])
    index = ExportIndex(backend, spec.name, STORED[pipe.dtype], scaling, spec.vae_scale_factor, spec.size_multiple)
    with atomic_folder(target) as folder:
        infos = tuple(_write(pipe, graph, index.graph(folder, graph)) for graph in GRAPHS)
        (folder / EXPORT_INDEX).write_text(json.dumps(asdict(index), indent=2) + "\n", encoding="utf-8")
    return infos


def _write(pipe: OneStepSRPipeline, graph: str, path: Path) -> GraphInfo:
    """Write one graph; for OpenVINO, via ONNX."""
    if path.suffix == ".onnx":
        return write_onnx(pipe, graph, path)
    openvino = import_openvino()
    with tempfile.TemporaryDirectory(prefix=".onnx.", dir=path.parent) as temporary:
        source = Path(temporary) / f"{graph}.onnx"
        info = write_onnx(pipe, graph, source)
        openvino.save_model(openvino.convert_model(source), path, compress_to_fp16=False)
    return info


def import_openvino() -> Any:
    """Import OpenVINO.

    Raises:
        MissingDependencyError: OpenVINO is not installed.
    """
    try:
        import openvino
    except ImportError as error:
        raise MissingDependencyError(f"this needs OpenVINO: {install_extra('openvino')}") from error
    return openvino
