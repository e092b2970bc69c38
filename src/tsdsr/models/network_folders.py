"""Networks in folders: checked against their configuration, then loaded.

A folder holds ``config.json`` and safetensors, in one file or in several with an index, as diffusers writes them.
The check reads headers only: the network is built without memory from its configuration, and names, shapes and kinds of
its tensors are compared with those of the files.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from tsdsr.errors import ModelError, ModelNotFoundError, WeightsError
from tsdsr.models.network_config import CONFIG, WEIGHTS, read_config
from tsdsr.models.settings_check import check_settings, check_statistics
from tsdsr.out_of_memory import memory_reported
from tsdsr.safetensors_header import read_header
from tsdsr.wording import first_line

if TYPE_CHECKING:
    from diffusers.models.modeling_utils import ModelMixin

Network = TypeVar("Network", bound=nn.Module)

_DTYPES = {
    "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64, "F64": torch.float64,
    "I8": torch.int8, "U8": torch.uint8, "I32": torch.int32, "I16": torch.int16, "BOOL": torch.bool,
}  # fmt: skip
_PRECISIONS = (torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class StoredTensor:
    """Header of a stored tensor.

    Attributes:
        file (Path): the file it is in.
        shape (tuple of int): its shape.
        dtype (torch.dtype | str): its dtype; safetensors' name for it if PyTorch has none.
    """

    file: Path
    shape: tuple[int, ...]
    dtype: torch.dtype | str


def load_part(model_class: type[ModelMixin], folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """Load one network from a diffusers folder, on the CPU. Under ``torch.device("meta")``, only its structure.

    Args:
        model_class (type): class of the network.
        folder (Path): folder with a ``config.json``.
        dtype (torch.dtype): precision of the weights.

    Raises:
        ModelNotFoundError: the folder holds no model.
        ModelError: the network is folded, and a full one is wanted, or it takes a guidance.
        WeightsError: configuration and weights do not fit, or a setting or weight is out of range.
        OutOfMemoryError: the weights do not fit into memory.
    """
    empty = empty_network(model_class, folder)
    if torch.get_default_device().type == "meta":
        return nn.Module.to(empty, dtype)
    with memory_reported(f"{folder}: out of memory while loading; free some, or load it in 16 bits"):
        _check_tensors(empty, stored_tensors(folder), folder)
        try:
            with _quiet():
                network = model_class.from_pretrained(folder, dtype=dtype, local_files_only=True, use_safetensors=True)
        except (OSError, ValueError, SafetensorError) as error:
            raise WeightsError(f"{folder}: cannot be loaded ({error})") from error
        require_finite(network.state_dict(), str(folder))
    check_statistics(network, folder)
    return network


def load_plain(network_class: type[Network], folder: Path, dtype: torch.dtype, name: str) -> Network:
    """Load a network that is a plain module, on the CPU, without diffusers. For inference.

    Args:
        network_class (type): class of the network; the configuration holds its arguments.
        folder (Path): folder with a ``config.json``, as :func:`load_part` takes it.
        dtype (torch.dtype): precision of the weights.
        name (str): name of the class in the configuration.

    Raises:
        ModelNotFoundError, ModelError, WeightsError, OutOfMemoryError: see :func:`load_part`.
    """
    config = read_config(folder)
    _check_class(config, name, folder)
    arguments = {key: value for key, value in config.items() if not key.startswith("_")}
    with memory_reported(f"{folder}: out of memory while loading; free some, or load it in 16 bits"):
        network = _empty(network_class, arguments, folder, lambda: network_class(**arguments))
        stored = stored_tensors(folder)
        _check_tensors(network, stored, folder)
        try:
            weights = {
                key: value for path in {t.file for t in stored.values()} for key, value in load_file(path).items()
            }
        except (OSError, SafetensorError) as error:
            raise WeightsError(f"{folder}: cannot be loaded ({error})") from error
        network.load_state_dict({key: _cast(value, dtype) for key, value in weights.items()}, assign=True)
        require_finite(network.state_dict(), str(folder))
    return network.requires_grad_(False).eval()


def _cast(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _check_class(config: Mapping[str, Any], name: str, folder: Path) -> None:
    """Check that a configuration describes a network of a class.

    Raises:
        ModelError: it describes a folded network, and a full one is wanted.
        WeightsError: it describes another class.
    """
    found = str(config.get("_class_name", name))
    if found.startswith("Folded") and found != name:
        raise ModelError(f"{folder}: is folded and can only be run; give the network it was folded from")
    if found != name:
        raise WeightsError(f"{folder / CONFIG}: describes a {found}, not a {name}")


def empty_network(model_class: type[ModelMixin], folder: Path) -> nn.Module:
    """Build a network on the meta device from its configuration. No weights are read.

    Raises:
        ModelNotFoundError, ModelError, WeightsError: see :func:`load_part`.
    """
    config = read_config(folder)
    _check_class(config, model_class.__name__, folder)
    network: Any = _empty_network(model_class, config, folder)
    check_settings(network.config, folder / CONFIG)
    empty: nn.Module = network
    return empty


def full_config(model_class: type[ModelMixin], folder: Path) -> Mapping[str, Any]:
    """Read the configuration of a network, with the defaults of its class. No weights are read.

    Raises:
        ModelNotFoundError, ModelError, WeightsError: see :func:`load_part`.
    """
    config: Any = empty_network(model_class, folder).config
    found: Mapping[str, Any] = config
    return found


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Read the headers of all safetensors files of a network, by tensor name.

    Raises:
        ModelNotFoundError: there is no safetensors file, or one that the index names is missing.
        WeightsError: a file is damaged.
    """
    index, single = folder / f"{WEIGHTS}.index.json", folder / WEIGHTS
    if single.is_file():
        paths = [single]
    elif index.is_file():
        paths = _indexed(index)
    else:
        raise ModelNotFoundError(f"{single}: is missing; copy or convert the model again")
    found: dict[str, StoredTensor] = {}
    for path in paths:
        for name, tensor in read_header(path).items():
            found[name] = StoredTensor(path, tensor.shape, _DTYPES.get(tensor.dtype, tensor.dtype))
    return found


def stored_dtype(folder: Path) -> torch.dtype:
    """Return the precision in which a network's weights are stored.

    Raises:
        ModelNotFoundError, WeightsError: see :func:`stored_tensors`.
    """
    found = {tensor.dtype for tensor in stored_tensors(folder).values()}
    return next((dtype for dtype in _PRECISIONS if dtype in found), torch.float32)


def require_finite(tensors: Mapping[str, torch.Tensor], where: str) -> None:
    """Check that all values are finite.

    Raises:
        WeightsError: a tensor contains NaN or infinity.
    """
    for name, tensor in tensors.items():
        # The sum is finite only if every value is, and takes no memory for a mask.
        if tensor.is_floating_point() and not math.isfinite(float(tensor.sum(dtype=torch.float64))):
            raise WeightsError(f"{where}: {name} contains values that are not finite; copy or train the model again")


def _indexed(index: Path) -> list[Path]:
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        paths = [index.parent / Path(name).name for name in sorted(names)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{index}: is not a valid index of weight files ({error!r})") from error
    for path in paths:
        if not path.is_file():
            raise ModelNotFoundError(f"{path}: is missing, and {index.name} names it; copy the model again")
    return paths


def _empty_network(model_class: type[ModelMixin], config: Mapping[str, Any], folder: Path) -> nn.Module:
    """Build the network that a configuration describes, without memory for its weights.

    Raises:
        WeightsError: the configuration describes none.
    """

    def build() -> nn.Module:
        network: nn.Module = model_class.from_config(dict(config))
        return network

    with _quiet():
        return _empty(model_class, config, folder, build)


def _empty(
    network_class: type[nn.Module], config: Mapping[str, Any], folder: Path, build: Callable[[], Network]
) -> Network:
    """Call a constructor on the meta device.

    Raises:
        WeightsError: it does not take these arguments.
    """
    path = folder / CONFIG
    if network_class.__module__.startswith("tsdsr."):  # diffusers' own classes accept arguments of other versions
        known = inspect.signature(network_class.__init__).parameters
        for name in config:
            if not name.startswith("_") and name not in known:
                raise WeightsError(f"{path}: {name!r} is not a setting of {network_class.__name__}")
    try:
        with torch.device("meta"):
            return build()
    except MemoryError:
        raise
    except Exception as error:  # the constructors check little, so a wrong value raises almost anything
        raise WeightsError(f"{path}: does not describe a {network_class.__name__} ({first_line(error)})") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence diffusers' notes and progress bars: what matters is checked here."""
    from diffusers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _check_tensors(network: nn.Module, stored: dict[str, StoredTensor], folder: Path) -> None:
    """Compare stored tensors with those of the network.

    Raises:
        WeightsError: one is missing, has no place, or has another shape or kind.
    """
    wanted = network.state_dict()
    rename: Any = getattr(network, "_fix_state_dict_keys_on_load", None)  # of diffusers, whose files had other names
    if rename is not None and not wanted.keys() <= stored.keys():
        rename(stored)
    name = type(network).__name__
    if missing := sorted(wanted.keys() - stored.keys()):
        raise WeightsError(f"{folder}: {_some(missing)} missing; these weights do not belong to this {name}")
    for key, tensor in sorted(stored.items()):
        if key not in wanted:
            raise WeightsError(f"{tensor.file}: {key} is not part of {name}; do the weights belong to this config?")
        if tensor.shape != tuple(wanted[key].shape):
            raise WeightsError(
                f"{tensor.file}: {key} has shape {tensor.shape}, but the config asks for {tuple(wanted[key].shape)}"
            )
        allowed = _PRECISIONS if wanted[key].is_floating_point() else (wanted[key].dtype,)
        if tensor.dtype not in allowed:
            kinds = ", ".join(str(dtype).removeprefix("torch.") for dtype in allowed)
            found = str(tensor.dtype).removeprefix("torch.")
            raise WeightsError(f"{tensor.file}: {key} is stored as {found}, not as {kinds}")


def _some(names: list[str]) -> str:
    return f"{names[0]} is" if len(names) == 1 else f"{names[0]} and {len(names) - 1} more tensors are"
