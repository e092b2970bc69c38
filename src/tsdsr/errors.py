"""The exceptions a caller can act on.

::

    TSDSRError
    ├── InvalidInputError (ValueError)      an argument or a setting is out of range
    │   └── ConfigError                     a configuration contradicts itself
    ├── ImageError                          one image file cannot be used
    │   ├── ImageReadError                  missing, not an image, truncated
    │   ├── ImageTooLargeError              more pixels than the safety limit
    │   └── ImageWriteError                 the result cannot be stored
    ├── DatasetError                        files of a dataset are missing, unpaired or broken
    ├── ModelError                          a model cannot be used
    │   ├── ModelNotFoundError              no such name, folder or hub id
    │   ├── GatedModelError                 the hub wants a licence accepted or a login
    │   └── WeightsError                    files present, but keys or shapes do not fit
    ├── OutOfMemoryError                    the device ran out of memory, with the smallest tiles too
    ├── MissingDependencyError (ImportError)  an optional extra is not installed
    └── TrainingError                       a run cannot start, resume or go on

Each message names the file or setting at fault and what to do about it.
"""

from __future__ import annotations


class TSDSRError(Exception):
    """Base class of every error this package raises on purpose."""


class InvalidInputError(TSDSRError, ValueError):
    """An argument is out of its documented range."""


class ConfigError(InvalidInputError):
    """A configuration contradicts itself."""


class ImageError(TSDSRError):
    """One image cannot be used; a batch may go on with the others."""


class ImageReadError(ImageError):
    """The file is missing, is not an image, or is truncated."""


class ImageTooLargeError(ImageError):
    """The image has more pixels than the safety limit allows."""


class ImageWriteError(ImageError):
    """The result could not be stored."""


class DatasetError(TSDSRError):
    """Files of a dataset are missing, unpaired or broken."""


class ModelError(TSDSRError):
    """A model cannot be used."""


class ModelNotFoundError(ModelError):
    """No such model name, folder or hub id."""


class GatedModelError(ModelError):
    """The hub wants a licence accepted or a login first."""


class WeightsError(ModelError):
    """Weight files are present, but their keys or shapes do not fit the model."""


class OutOfMemoryError(TSDSRError):
    """The device ran out of memory, with the smallest tiles too."""


class MissingDependencyError(TSDSRError, ImportError):
    """An optional package is needed; the message names the extra that installs it."""


class TrainingError(TSDSRError):
    """A training run cannot start, resume or go on."""
