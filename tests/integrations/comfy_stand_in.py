"""The few names of ComfyUI that the node pack uses, and the pack loaded on them as ComfyUI loads it."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

PACK = Path(__file__).resolve().parents[2] / "integrations" / "comfyui"
_NAME = "custom_nodes_tsdsr"


class Interrupted(Exception):  # noqa: N818 - named like ComfyUI's
    """ComfyUI's exception for an interrupted prompt."""


@dataclass
class Port:
    """An input or output of a node's schema."""

    kind: str
    id: str = ""
    options: dict[str, Any] = field(default_factory=dict)


class Schema:
    """A node's schema, as it was given."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


class Kind:
    """A type of ComfyUI: makes inputs and outputs of itself."""

    def __init__(self, name: str) -> None:
        self.name = name

    def Input(self, id: str, **options: Any) -> Port:  # noqa: N802 - ComfyUI's name
        return Port(self.name, id, options)

    def Output(self, **options: Any) -> Port:  # noqa: N802 - ComfyUI's name
        return Port(self.name, options=options)


class Progress:
    """ComfyUI's progress bar; keeps what it was told."""

    seen: list[tuple[int, int]]

    def __init__(self, total: int) -> None:
        Progress.seen = []

    def update_absolute(self, value: int, total: int) -> None:
        Progress.seen.append((value, total))


class NodeOutput(tuple[Any, ...]):
    """Results of a node."""

    def __new__(cls, *values: Any) -> NodeOutput:
        return super().__new__(cls, values)


@dataclass
class Memory:
    """ComfyUI's model management: the device that it uses, and what it was asked for.

    Attributes:
        device (torch.device): where models run.
        freed (list): (bytes, device) of each request for room.
        emptied (int): how often the cache was emptied.
        interrupt_at (int | None): the check of an interrupt, counted from 1, that finds one.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    freed: list[tuple[float, torch.device]] = field(default_factory=list)
    emptied: int = 0
    interrupt_at: int | None = None
    checks: int = 0

    def check(self) -> None:
        self.checks += 1
        if self.checks == self.interrupt_at:
            raise Interrupted

    def empty(self) -> None:
        self.emptied += 1


@dataclass
class Pack:
    """The loaded pack.

    Attributes:
        module (ModuleType): its ``__init__``.
        memory (Memory): what it does to ComfyUI's memory.
        models (Path): ComfyUI's folder of models.
    """

    module: ModuleType
    memory: Memory
    models: Path

    def part(self, name: str) -> Any:
        """Return a module of the pack."""
        return sys.modules[f"{_NAME}.{name}"]


def load_pack(models: Path, monkeypatch: pytest.MonkeyPatch) -> Pack:
    """Put the stand-ins into ``sys.modules``, and load the pack."""
    memory, places = Memory(), {}
    management = _module(
        "comfy.model_management",
        get_torch_device=lambda: memory.device,
        unet_offload_device=lambda: torch.device("cpu"),
        intermediate_device=lambda: torch.device("cpu"),
        module_size=lambda network: sum(p.nbytes for p in network.parameters()),
        free_memory=lambda amount, device: memory.freed.append((amount, device)),
        soft_empty_cache=memory.empty,
        throw_exception_if_processing_interrupted=memory.check,
    )
    utils = _module("comfy.utils", ProgressBar=Progress)
    kinds = {name: Kind(name.upper()) for name in ("Combo", "String", "Float", "Int", "Image", "Mask")}
    io = _module(
        "comfy_api.latest.io",
        **kinds,
        Custom=Kind,
        Schema=Schema,
        ComfyNode=object,
        NodeOutput=NodeOutput,
        NumberDisplay=_module("NumberDisplay", slider="slider"),
    )
    stand_ins = [
        _module("comfy", model_management=management, utils=utils),
        management,
        utils,
        _module("comfy_api"),
        _module("comfy_api.latest", io=io, ComfyExtension=object),
        _module(
            "folder_paths",
            models_dir=str(models),
            add_model_folder_path=lambda name, path: places.setdefault(name, []).append(path),
            get_folder_paths=lambda name: places[name],
        ),
    ]
    for module in stand_ins:
        monkeypatch.setitem(sys.modules, module.__name__, module)
    for name in [_NAME, *(f"{_NAME}.{path.stem}" for path in PACK.glob("*.py"))]:
        monkeypatch.delitem(sys.modules, name, raising=False)
    spec = importlib.util.spec_from_file_location(_NAME, PACK / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, _NAME, module)
    spec.loader.exec_module(module)
    return Pack(module, memory, models)


def _module(name: str, **contents: Any) -> ModuleType:
    module = ModuleType(name)
    module.__dict__.update(contents)
    return module
