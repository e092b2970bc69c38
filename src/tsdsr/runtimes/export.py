"""Export pipelines to folders for ONNX Runtime and OpenVINO.

A folder holds the three graphs of :mod:`tsdsr.runtimes.graphs` as ``encoder``, ``denoiser`` and ``decoder`` (``.onnx``,
or ``.xml`` and ``.bin``), and ``tsdsr.json``, which describes them (:class:`ExportIndex`).
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch

from tsdsr.errors import InvalidInputError
from tsdsr.files import StrPath, atomic_folder, require_new
from tsdsr.models.latents import scaling_factor
from tsdsr.pipeline.diffusers_pipeline import OneStepSRPipeline, require_diffusers_pipeline
from tsdsr.pipeline.model_files import EXPORT_INDEX, GRAPHS
from tsdsr.runtimes.export_index import BACKENDS, Backend, ExportIndex
from tsdsr.runtimes.graph_openers import import_openvino
from tsdsr.runtimes.graphs import GraphInfo, write_onnx

_STORED: dict[torch.dtype, str] = {torch.float32: "fp32", torch.float16: "fp16"}
"""Supported precisions of an export, by their name in the index."""


def export_pipeline(pipe: OneStepSRPipeline, output: StrPath, backend: Backend = "onnx") -> tuple[GraphInfo, ...]:
    """Export a pipeline to a folder for another runtime. The folder is written completely or not at all.

    Args:
        pipe (OneStepSRPipeline): on the CPU; its precision, float32 or float16, is that of the files.
        output (str | PathLike): the folder to create.
        backend ("onnx" | "openvino"): target runtime.

    Returns:
        tuple of GraphInfo: the size of each graph as ONNX.

    Raises:
        InvalidInputError: ``pipe`` is not a diffusers pipeline, ``output`` exists, the backend is unknown, or the
            precision cannot be exported.
        MissingDependencyError: the exporter's packages are missing.
    """
    if backend not in BACKENDS:
        raise InvalidInputError(f"unknown backend {backend!r}; choose from {', '.join(BACKENDS)}")
    require_diffusers_pipeline(pipe, "export_pipeline")
    if pipe.dtype not in _STORED:
        raise InvalidInputError(f"a model in {pipe.dtype} cannot be exported; load it in fp32 or fp16")
    target, spec = require_new(output), pipe.spec
    scaling = scaling_factor(pipe.vae)
    index = ExportIndex(backend, spec.name, _STORED[pipe.dtype], scaling, spec.vae_scale_factor, spec.size_multiple)
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
