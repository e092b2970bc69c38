"""Exceptions that a caller can act on.

::

    TSDSRError
    ├── InvalidInputError (ValueError)      an argument or setting is invalid
    │   └── ConfigError                     settings contradict each other
    ├── FileReadError (OSError)             a file or folder, local or at a URL, cannot be read or listed
    │   └── MissingFileError (FileNotFoundError)  there is none
    ├── FileWriteError                      a file or folder cannot be written
    ├── ImageError                          one image file cannot be used
    │   ├── ImageReadError                  missing, not an image, or truncated
    │   ├── ImageTooLargeError              more pixels than the safety limit
    │   └── ImageWriteError                 the result cannot be written; also a FileWriteError
    ├── VideoError                          a video cannot be read, or what is in it cannot be restored
    ├── DatasetError                        dataset files are missing, unpaired or corrupt
    ├── ModelError                          a model cannot be used
    │   ├── ModelNotFoundError              no such name, folder or hub ID
    │   ├── GatedModelError                 the hub requires a login or an accepted licence
    │   └── WeightsError                    weight files exist, but keys or shapes do not match
    ├── HubError                            the model hub refuses an upload or cannot be reached
    ├── ClusterError                        a cluster cannot be reached, has no room, or failed
    ├── OutOfMemoryError                    too little memory, or space for temporary files
    ├── MissingDependencyError (ImportError)  an optional extra is not installed
    └── TrainingError                       a run cannot start, resume or continue

Each message names the file or setting at fault and says how to fix it.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec

TORCH_PACKAGES = ("torch", "diffusers", "transformers", "peft", "safetensors", "huggingface_hub")
"""Packages of the extra ``torch``."""

_IMPORTED = ("torch", "safetensors", "diffusers")
_NAMES = {"torch": "PyTorch"}


class TSDSRError(Exception):
    """Base class of all errors that this package raises deliberately."""


class InvalidInputError(TSDSRError, ValueError):
    """An argument or setting is outside its documented range."""


class ConfigError(InvalidInputError):
    """Settings of a configuration contradict each other."""


class FileReadError(TSDSRError, OSError):
    """A file or folder, local or at a URL, cannot be read or listed."""


class MissingFileError(FileReadError, FileNotFoundError):
    """There is no such file, folder or bucket."""


class FileWriteError(TSDSRError):
    """A file or folder cannot be written: no space, no permission, or its name is taken by something else."""


class ImageError(TSDSRError):
    """One image cannot be used; a batch can continue with the others."""


class ImageReadError(ImageError):
    """The file is missing, is not an image, or is truncated."""


class ImageTooLargeError(ImageError):
    """The image has more pixels than the safety limit allows."""


class ImageWriteError(ImageError, FileWriteError):
    """The result cannot be written."""


class VideoError(TSDSRError):
    """A video cannot be read, or its content cannot be restored."""


class DatasetError(TSDSRError):
    """Dataset files are missing, unpaired or corrupt."""


class ModelError(TSDSRError):
    """A model cannot be used."""


class ModelNotFoundError(ModelError):
    """No model has this name, folder or hub ID."""


class GatedModelError(ModelError):
    """The hub requires a login or an accepted licence."""


class WeightsError(ModelError):
    """Weight files exist, but their keys or shapes do not match the model."""


class HubError(TSDSRError):
    """The model hub refuses an upload, or cannot be reached."""


class ClusterError(TSDSRError):
    """A cluster cannot be reached, has no room for a process, or failed."""


class OutOfMemoryError(TSDSRError):
    """Memory is too small even for the smallest tiles, or the disk for temporary files."""


class MissingDependencyError(TSDSRError, ImportError):
    """An optional package is not installed; the message names the extra that provides it."""


class TrainingError(TSDSRError):
    """A training run cannot start, resume or continue."""


def install_extra(*extras: str) -> str:
    """Say how to install extras: the end of the message of a :class:`MissingDependencyError`.

    The package is on no index: pip needs the folder of the repository, and not a name.
    """
    return f"run pip install '.[{','.join(extras)}]' in the folder of tsdsr"


def require_torch(what: str, extra: str = "torch", packages: Sequence[str] = TORCH_PACKAGES) -> None:
    """Check that packages of the extra ``torch`` are installed, and import torch, safetensors and diffusers of them.

    An installation can be broken: a missing library of CUDA, versions of packages that do not go together.

    Args:
        what (str): what needs them: the subject of the message.
        extra (str): the extra to name in the message: one that includes ``torch``.
        packages (sequence of str): what is needed; default: all of :data:`TORCH_PACKAGES`.

    Raises:
        MissingDependencyError: one of them is not installed, or cannot be imported.
    """
    for package in packages:
        if find_spec(package) is None:
            raise MissingDependencyError(f"{what} needs {_NAMES.get(package, package)}: {install_extra(extra)}")
    for package in (name for name in packages if name in _IMPORTED):
        try:
            import_module(package)
        except Exception as error:  # a missing library is an OSError, a wrong version may be anything
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise MissingDependencyError(
                f"{what} needs {_NAMES.get(package, package)}, which is installed but cannot be imported ({reason}); "
                f"install it again, in matching versions: {install_extra(extra)}"
            ) from error
