"""What the files of a `mini` say about its network, read by numpy: shape, weights, and what the fixed time and prompt
determine.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tsdsr.errors import ConfigError, WeightsError
from tsdsr.field_checks import Count, CountOrZero, check_fields, from_plain
from tsdsr.models.network_config import CONFIG, read_config
from tsdsr.models.zoo import MINI
from tsdsr.safetensors_header import StoredArray, read_array, read_header

PRECISIONS = ("F32", "F16", "BF16")
"""Kinds of values that weights may be stored as, by safetensors' names."""

_TIME_WIDTH = 64

Values = NDArray[np.float64]


@dataclass(frozen=True)
class MiniShape:
    """Shape of a network: the arguments of :class:`tsdsr.models.mini_network.MiniNetwork`, with the same defaults."""

    in_channels: Count = 48
    channels: tuple[Count, ...] = (64, 128, 192)
    encoder_blocks: tuple[CountOrZero, ...] = (3, 2, 4)
    decoder_blocks: tuple[CountOrZero, ...] = (4, 2)
    embed_dim: Count = 128
    num_prompts: Count = 2
    learned_skip: bool = False
    fine_channels: CountOrZero = 0
    fine_blocks: CountOrZero = 2

    def __post_init__(self) -> None:
        check_fields(self)
        levels = len(self.channels)
        if not levels or (len(self.encoder_blocks), len(self.decoder_blocks)) != (levels, levels - 1):
            raise ConfigError(
                f"{levels} levels need {levels} numbers of encoder blocks, and one less of decoder blocks"
            )


def read_shape(folder: Path) -> tuple[MiniShape, bool]:
    """Read the shape of a network and whether it is folded.

    Raises:
        ModelNotFoundError: there is no configuration.
        WeightsError: it describes no network of `mini`.
    """
    path, config = folder / CONFIG, read_config(folder)
    kind = config.get("_class_name")
    if kind not in ("MiniUNet", "FoldedMini"):
        raise WeightsError(f"{path}: describes a {kind}, not a MiniUNet or FoldedMini")
    try:
        values = config["network"] if kind == "FoldedMini" else config
        given = asdict(MiniShape()) | {name: value for name, value in values.items() if not name.startswith("_")}
        return from_plain(MiniShape, given, "network"), kind == "FoldedMini"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path}: does not describe a network of mini ({error})") from error


class Weights:
    """The tensors of a file: each has one place in the network.

    Args:
        path (Path): the safetensors file.
        prefix (str): what the names in the file have before the network's own.

    Raises:
        ModelNotFoundError, WeightsError: see :func:`tsdsr.safetensors_header.read_header`.
    """

    def __init__(self, path: Path, prefix: str) -> None:
        self.path, self._prefix = path, prefix
        self._header = read_header(path)
        self._unused = set(self._header)

    def stored(self, name: str, *shape: int) -> StoredArray:
        """Return where a tensor lies, and count it as used.

        Raises:
            WeightsError: it is missing, or its shape, its kind or a value is wrong.
        """
        name = self._prefix + name
        found = self._header.get(name)
        if found is None:
            raise WeightsError(f"{self.path}: {name} is missing; these weights do not belong to this config")
        if found.shape != shape:
            raise WeightsError(f"{self.path}: {name} has shape {found.shape}, but the config asks for {shape}")
        if found.dtype not in PRECISIONS:
            raise WeightsError(f"{self.path}: {name} is stored as {found.dtype}, not as {', '.join(PRECISIONS)}")
        if not np.isfinite(read_array(self.path, found)).all():
            raise WeightsError(
                f"{self.path}: {name} contains values that are not finite; copy or train the model again"
            )
        self._unused.discard(name)
        return found

    def values(self, name: str, *shape: int) -> Values:
        """Return a tensor in float64, in which everything fixed is computed; errors as :meth:`stored`."""
        return read_array(self.path, self.stored(name, *shape)).astype(np.float64)

    def require_all_used(self) -> None:
        """Raise WeightsError if a tensor has no place in the network."""
        if self._unused:
            raise WeightsError(f"{self.path}: {min(self._unused)} is not part of the network that the config describes")


class Fixed(Protocol):
    """What the fixed time and prompt determine."""

    def modulation(self, name: str, channels: int) -> tuple[Values, Values]:
        """Return ``1 + scale`` and ``shift`` of a modulation, each (C,)."""

    def skip(self, channels: int) -> Values:
        """Return the factor of the input in the learned skip, (C,)."""


class Stored:
    """:class:`Fixed` of a folded network, see :class:`tsdsr.models.folded.FoldedMini`."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights

    def modulation(self, name: str, channels: int) -> tuple[Values, Values]:
        scale, shift = (self._weights.values(f"{name}.{part}", 1, channels, 1, 1) for part in ("scale", "shift"))
        return scale.reshape(-1), shift.reshape(-1)

    def skip(self, channels: int) -> Values:
        return self._weights.values("skip.value", 1, channels).reshape(-1)


class Computed:
    """:class:`Fixed` of a full network, computed as in :meth:`tsdsr.models.mini_network.MiniNetwork.forward`.

    Args:
        weights (Weights): its tensors.
        shape (MiniShape): its shape.
        label (int): index of the prompt.
    """

    def __init__(self, weights: Weights, shape: MiniShape, label: int) -> None:
        self._weights, self._width = weights, shape.embed_dim
        half = _TIME_WIDTH // 2
        angles = MINI.timestep * 10000.0 ** (-np.arange(half) / half)
        hidden = self._linear("time_embedding.linear_1", np.concatenate([np.cos(angles), np.sin(angles)]), self._width)
        time = self._linear("time_embedding.linear_2", _silu(hidden), self._width)
        prompts = weights.values("prompt_embedding.weight", shape.num_prompts, self._width)
        self._embedding = _silu(time + prompts[label])

    def modulation(self, name: str, channels: int) -> tuple[Values, Values]:
        scale, shift = np.split(self._linear(f"{name}.linear", self._embedding, 2 * channels), 2)
        return 1 + scale, shift

    def skip(self, channels: int) -> Values:
        return self._linear("skip", self._embedding, channels)

    def _linear(self, name: str, x: Values, width: int) -> Values:
        weight = self._weights.values(f"{name}.weight", width, len(x))
        result: Values = weight @ x + self._weights.values(f"{name}.bias", width)
        return result


def _silu(x: Values) -> Values:
    result: Values = x / (1 + np.exp(-x))
    return result
