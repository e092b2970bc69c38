"""The image formats: suffixes, installed codecs."""

from __future__ import annotations

from importlib.util import find_spec
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
    ".jxl": "JXL",
}
"""Supported file suffixes and Pillow's name of the format."""

_EXTRAS = {"HEIF": "heif", "JXL": "jxl"}
"""Formats whose codec is an extra of this package."""


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

    AVIF needs a Pillow built with AVIF support; HEIF needs the package pillow-heif, JPEG XL pyjpegxl.
    """
    Image.init()
    if "HEIF" not in Image.OPEN:
        try:
            import pillow_heif
        except ImportError:
            pass
        else:
            pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)
    found = set(FORMATS.values()) & set(Image.OPEN) & set(Image.SAVE) - {"JXL"}
    return found if find_spec("pyjpegxl") is None else found | {"JXL"}  # loaded only for a JPEG XL file


def require_codec(path: StrPath, name: str) -> None:
    """Check that a format can be read and written.

    Raises:
        MissingDependencyError: The codec is missing; the message says what to install.
    """
    if name not in codecs():
        remedy = install_extra(_EXTRAS[name]) if name in _EXTRAS else "install a Pillow that is built with it"
        label = "JPEG XL" if name == "JXL" else name
        raise MissingDependencyError(f"{path}: {label} files cannot be used here; {remedy}")
