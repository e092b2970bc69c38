"""What describes an exported model: ``tsdsr.json`` in its folder. Imports no torch."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from tsdsr.errors import ModelError, ModelNotFoundError
from tsdsr.files import StrPath
from tsdsr.models.zoo import get_spec
from tsdsr.pipeline.model_files import EXPORT_INDEX, GRAPHS

Backend = Literal["onnx", "openvino"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)
"""Supported export runtimes."""

SUFFIXES: dict[Backend, str] = {"onnx": ".onnx", "openvino": ".xml"}
"""File suffix of each runtime's graphs."""

STORED = ("fp32", "fp16")
"""Supported precisions of an export."""

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
            raise ModelNotFoundError(
                f"{folder}: contains no {EXPORT_INDEX}; make an exported model with 'tsdsr export'"
            )
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
        if self.dtype not in STORED:
            raise ModelError(f"{path}: dtype is {self.dtype!r}, not fp32 or fp16; export again")
        if not isinstance(scaling, int | float) or not 0 < scaling < math.inf:
            raise ModelError(f"{path}: scaling_factor is {scaling!r}, not a positive number; export again")
        if (self.vae_scale_factor, self.size_multiple) != (spec.vae_scale_factor, spec.size_multiple):
            raise ModelError(f"{path}: vae_scale_factor and size_multiple are not those of {spec.name}; export again")

    def graph(self, folder: Path, name: str) -> Path:
        """Return the file of one of the three graphs."""
        return folder / f"{name}{SUFFIXES[self.backend]}"
