"""A system to evaluate."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from tsdsr.errors import InvalidInputError

Restore = Callable[[Image.Image], Image.Image]


@dataclass(frozen=True)
class System:
    """A system to evaluate: a function that restores images, or a folder of its outputs.

    Attributes:
        name (str): label in tables and name of its output folder.
        restore (callable | None): RGB image → upscaled image; None for a folder of outputs.
        folder (Path | None): folder of existing outputs.
        network (callable | None): image → seconds spent in the network, without the autoencoder; None for systems
            without an autoencoder.
        parameters (int): number of parameters.
        device (str): device of the system.
        dtype (str): its precision.
        made_from (mapping | None): what the outputs depend on besides the input, as JSON values: the kind of system,
            the hash of its weights, its settings. None if that is unknown; its outputs are then never reused.
    """

    name: str
    restore: Restore | None = None
    folder: Path | None = None
    network: Callable[[Image.Image], float] | None = None
    parameters: int = 0
    device: str = "cpu"
    dtype: str = "float32"
    made_from: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if (self.restore is None) == (self.folder is None):
            raise InvalidInputError(f"{self.name}: a system either restores or is a folder of outputs")
        if not self.name.strip() or self.name.startswith(".") or re.search(r'[/\\:*?"<>|\x00-\x1f]', self.name):
            raise InvalidInputError(
                f"{self.name!r} cannot name a folder, as the name of a system must: give NAME=SYSTEM, with a name that "
                'does not begin with a dot and is without / \\ : * ? " < > |'
            )
