"""Where figures of the documentation come from: records of measurements, the code, the paper's tables.

A record is a file ``benchmarks/records/NAME.toml`` of one run: title, script, command, hardware, versions, and values
below ``[values]``. A key that is a unit or ends in one, as ``total_s``, gives it to everything below it.
"""

from __future__ import annotations

import ast
import importlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RECORDS = ROOT / "benchmarks" / "records"
ABOUT = ("title", "script", "command", "hardware", "versions", "recorded")
"""What a record says besides its values."""


BASE = "base"
"""Unit of constants: seconds, bytes, pixels, shares of one."""


@dataclass(frozen=True)
class Value:
    """A value of a source: a number with its unit ("" without one), or votes as in "18 of 30"."""

    number: float | str
    unit: str = ""


def record_names() -> list[str]:
    return sorted(path.stem for path in RECORDS.glob("*.toml"))


@cache
def read_record(name: str) -> dict[str, Any]:
    """Read a record of benchmarks/records."""
    import tomllib

    path = RECORDS / f"{name}.toml"
    if not path.is_file():
        raise LookupError(f"no record {path.name} in benchmarks/records")
    return tomllib.loads(path.read_text())


@cache
def values_of(name: str) -> tuple[Value, ...]:
    """Return the values of a source.

    Args:
        name (str): ``NAME`` or ``NAME.KEY`` of a record, ``code.NAME``, ``published.TABLE``, or a constant or defaults
            of a class, ``tsdsr.module:NAME`` or ``folder/file.py:NAME``.
    """
    place, _, constant = name.partition(":")
    if constant:
        return tuple(_flat(_constant(place, constant), BASE))
    kind, _, rest = name.partition(".")
    if kind == "published":
        return tuple(_published(int(rest)))
    if kind == "code":
        if rest not in CODE:
            raise LookupError(f"no function for code.{rest} in tests/docs/figure_sources.py")
        return tuple(_flat(CODE[rest](), ""))
    values = read_record(kind).get("values", {})
    if not rest:
        return tuple(_flat(values, ""))
    if rest not in values:
        raise LookupError(f"benchmarks/records/{kind}.toml has no values.{rest}")
    return tuple(_flat({rest: values[rest]}, ""))


def _flat(found: Any, unit: str) -> Iterator[Value]:
    """Walk through nested values; a key that is a unit or ends in one, as ``total_s``, gives it to all below it."""
    from tests.docs.figures import UNITS

    names = {**{name: name for name in UNITS}, "seconds": "s", "mb": "MB", "gb": "GB"}
    if is_dataclass(found) and not isinstance(found, type):
        found = vars(found)
    if isinstance(found, Mapping):
        for key, below in found.items():
            ending = max((u for u in names if key == u or key.endswith(f"_{u}")), key=len, default="")
            yield from _flat(below, names.get(ending, unit))
    elif isinstance(found, list | tuple):
        for below in found:
            yield from _flat(below, unit)
    elif isinstance(found, timedelta):
        yield Value(found.total_seconds(), unit)
    elif isinstance(found, int | float | str) and not isinstance(found, bool):
        yield Value(found, unit if isinstance(found, int | float) else "")


def _constant(place: str, name: str) -> Any:
    """Return a constant, or the numbers among the defaults of a class; a file is parsed, not imported."""
    if place.endswith(".py"):
        for node in ast.parse((ROOT / place).read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
                return ast.literal_eval(node.value)
        raise LookupError(f"{place} has no constant {name}")
    found = importlib.import_module(place)
    for part in name.split("."):
        found = getattr(found, part)
    return list(vars(found).values()) if isinstance(found, type) else found


def _published(table: int) -> Iterator[Value]:
    from tsdsr.evaluation.published import published

    for row in published(table):
        yield from (Value(number, "s" if name == "seconds" else "") for name, number in row.values.items())


CODE: dict[str, Callable[[], Mapping[str, Any]]] = {}
"""Name behind ``code.`` → function that finds the values in the code or the tree."""


def from_code(function: Callable[[], Mapping[str, Any]]) -> Callable[[], Mapping[str, Any]]:
    """Register a function as source ``code.NAME``."""
    CODE[function.__name__] = function
    return function


def faults_of_record(name: str) -> list[str]:
    """Return what a record lacks, and the scripts it names that do not exist."""
    record = read_record(name)
    missing = [f"{name}: no {key}" for key in (*ABOUT, "values") if not record.get(key)]
    scripts = {record.get("script", ""), *re.findall(r"[\w/]+\.py\b", record.get("command", ""))} - {""}
    return missing + [f"{name}: no file {script}" for script in sorted(scripts) if not (ROOT / script).is_file()]


@from_code
def deciding_votes() -> Mapping[str, Any]:
    """How many of N votes for one side it takes until Wilson's interval leaves out 50 %."""
    from tsdsr.study.statistics import wilson

    return {f"of_{n}": next(k for k in range(n) if wilson(k, n)[0] > 0.5) for n in (8, 10, 30, 100, 400)}


@from_code
def steps() -> Mapping[str, Any]:
    """Steps of the recipes that one tutorial trains."""
    from tsdsr.recipes import get_recipe

    return {
        name: sum(phase.steps for phase in get_recipe(name).phases) for name in ("mini_teacher", "mini_v0", "mini_v1")
    }


@from_code
def mini() -> Mapping[str, Any]:
    """The packaged model: parameters, bytes of its files, operations for a result of 512×512, lossless latents."""
    import torch

    from tsdsr.models.mini_network import MiniNetwork
    from tsdsr.training.tensor_counter import TensorCounter

    folder = ROOT / "src" / "tsdsr" / "weights" / "mini" / "denoiser"
    config = json.loads((folder / "config.json").read_text())
    with torch.device("meta"):
        network = MiniNetwork(**{key: value for key, value in config.items() if not key.startswith("_")})
        inputs = torch.zeros(1, 48, 128, 128), torch.zeros(1), torch.zeros(1, dtype=torch.long)
    with TensorCounter(network.parameters()) as counter, torch.no_grad():
        network(*inputs)
    return {
        "parameters_M": sum(weight.numel() for weight in network.parameters()) / 1e6,
        "weights_MB": (folder / "diffusion_pytorch_model.safetensors").stat().st_size / 1e6,
        "graph_kB": (folder / "model.onnx").stat().st_size / 1e3,
        "int8_graph_kB": (folder / "model.int8.onnx").stat().st_size / 1e3,
        "step_GFLOP": counter.flops / 1e9,
    }


@from_code
def prompts() -> Mapping[str, Any]:
    """Bytes of a stored prompt of SD3 and of FLUX.2 klein in 16 bits, and of one for each of many photographs."""
    from tsdsr.models.zoo import SPECS

    sd3, klein = SPECS["sd3"], math.prod(SPECS["flux2-klein"].prompt_shapes["prompt_embeds"]) * 2
    (pooled,), (_, width) = sd3.prompt_shapes["pooled_prompt_embeds"], sd3.prompt_shapes["prompt_embeds"]
    clip, _, t5 = (part.max_length for part in sd3.text_parts)  # the two of CLIP are as wide as their pooled vectors
    stored = 2 * (clip * pooled + t5 * width + pooled)
    return {"MB": [stored / 1e6, klein / 1e6], "GB": [10_000 * klein / 1e9, 85_000 * klein / 1e9]}


@from_code
def mutation_faults() -> Mapping[str, Any]:
    """Number of faults in benchmarks/mutations."""
    texts = (path.read_text() for path in (ROOT / "benchmarks" / "mutations").glob("*.py"))
    return {"faults": sum(len(re.findall(r"\bFault\(", text)) for text in texts)}
