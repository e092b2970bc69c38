"""Archives of pictures on many machines, with Ray Data: :func:`restore` for pipelines, :func:`upscale_archive`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tsdsr.distributed.archive import upscale_archive
    from tsdsr.distributed.operator import restore

__all__ = ["restore", "upscale_archive"]

_EXPORTS = {"restore": "tsdsr.distributed.operator", "upscale_archive": "tsdsr.distributed.archive"}


def __getattr__(name: str) -> object:
    if name in _EXPORTS:
        from tsdsr.distributed.cluster import require_ray

        require_ray()
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
