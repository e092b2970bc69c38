"""The image formats: suffixes, installed codecs."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from tsdsr.errors import InvalidInputError, MissingDependencyError, install_extra
from tsdsr.files import StrPath

FORMATS: dict[str, str] = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jfif": "JPEG",
    ".jpe": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".avif": "AVIF",
    ".heic": "HEIF",
    ".heif": "HEIF",
}
"""Supported file suffixes and Pillow's name of the format."""


def image_format(path: StrPath) -> str:
    """Return Pillow's name of the format for the suffix of a path.

    Raises:
        InvalidInputError: The suffix is unknown.
    """
    try:
        return FORMATS[Path(path).suffix.lower()]
    except KeyError:
        raise InvalidInputError(f"{path}: unknown image suffix; choose from {', '.join(FORMATS)}") from None


def codecs() -> set[str]:
    """Load the installed codecs and return the names of the formats that can be read and written.

    AVIF needs a Pillow built with AVIF support; HEIF needs the package pillow-heif.
    """
    Image.init()
    if "HEIF" not in Image.OPEN:
        try:
            import pillow_heif
        except ImportError:
            pass
        else:
            pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)
    return set(FORMATS.values()) & set(Image.OPEN) & set(Image.SAVE)


def require_codec(path: StrPath, name: str) -> None:
    """Check that a format can be read and written.

    Raises:
        MissingDependencyError: The codec is missing; the message says what to install.
    """
    if name not in codecs():
        remedy = install_extra("heif") if name == "HEIF" else "install a Pillow that is built with it"
        raise MissingDependencyError(f"{path}: {name} files cannot be used here; {remedy}")
