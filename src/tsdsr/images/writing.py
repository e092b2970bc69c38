"""Image writing: format options, reduction to what each format can store, and atomic replacement of files."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import IO, Any, Literal, cast

import numpy as np
from PIL import Image

from tsdsr.errors import FileWriteError, ImageWriteError, InvalidInputError
from tsdsr.field_checks import check_fields
from tsdsr.files import StrPath, atomic_path
from tsdsr.images.checked_file import CheckedFile
from tsdsr.images.formats import FORMATS, image_format, require_codec
from tsdsr.images.icc import to_srgb
from tsdsr.images.jpeg_xl import write_jxl
from tsdsr.images.metadata import fitted, with_resolution
from tsdsr.images.picture import Metadata, Picture, flattened, to_8_bits
from tsdsr.images.png import write_png
from tsdsr.images.tiff import can_hold, write_tiff

Subsampling = Literal["444", "422", "420"]

DEFAULT_QUALITY = {"JPEG": 95, "WEBP": 95, "AVIF": 90, "HEIF": 90, "JXL": 95}
_ALPHA = {"PNG", "WEBP", "TIFF", "AVIF", "HEIF", "JXL"}
_NO_GREY = {"WEBP", "AVIF"}
_SIXTEEN_BITS = {"PNG", "TIFF", "JXL"}
_DPI_OF_ITS_OWN = {"PNG", "JPEG", "TIFF", "BMP"}
_LONGEST_SIDE = {"JPEG": 65500, "WEBP": 16383, "AVIF": 32768, "HEIF": 65528, "PNG": 2**31 - 1, "JXL": 2**30}
"""Pixels per side that the encoders accept and the decoders read back: libjpeg, libwebp, libavif, libheif, libjxl."""
_MOST_PIXELS = {"AVIF": 16384**2, "HEIF": 32768**2}
"""Pixels per image that libavif and libheif decode."""
_HEIF_NARROW, _HEIF_NARROW_LENGTH = 32, 4216
"""x265 codes images narrower than 32 pixels in small blocks, which HEVC allows up to level 4.1 only."""
_BMP_BYTES = 2**32 - 1
_JPEG_SEGMENT = 65533 - 29
"""Bytes of EXIF or XMP that fit into a JPEG segment after the longest of their headers."""


@dataclass(frozen=True)
class WriteOptions:
    """Options for writing images.

    Attributes:
        quality (int | None): quality of JPEG, WebP, AVIF, HEIC and JPEG XL, 1 to 100; None uses
            :data:`DEFAULT_QUALITY`.
        subsampling ("444" | "422" | "420"): chroma subsampling of JPEG, AVIF and HEIC; "444" keeps full resolution.
        lossless (bool): write lossless WebP or JPEG XL; ``quality`` then sets the effort of WebP only.
        compression (int): zlib level of PNG and TIFF, 0 to 9; it does not change the pixels.

    Raises:
        InvalidInputError: A value is out of range.
    """

    quality: int | None = None
    subsampling: Subsampling = "444"
    lossless: bool = False
    compression: int = 4

    def __post_init__(self) -> None:
        if self.subsampling not in ("444", "422", "420"):
            raise InvalidInputError(f"subsampling must be 444, 422 or 420, got {self.subsampling!r}")
        check_fields(self)
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise InvalidInputError(f"quality must lie between 1 and 100, got {self.quality}")
        if not 0 <= self.compression <= 9:
            raise InvalidInputError(f"compression must lie between 0 and 9, got {self.compression}")


def check_size(path_or_format: StrPath, width: int, height: int) -> None:
    """Check that an image of this size can be written. Call it before the image is computed.

    Args:
        path_or_format (str | PathLike): destination, or a format of :data:`tsdsr.images.formats.FORMATS` ("JPEG").
        width, height (int): size in pixels.

    Raises:
        ImageWriteError: The format cannot store an image of this size.
        InvalidInputError: The suffix is unknown.
    """
    name = str(path_or_format) if path_or_format in FORMATS.values() else image_format(path_or_format)
    side, pixels = _LONGEST_SIDE.get(name), _MOST_PIXELS.get(name)
    short, long = sorted((width, height))
    label = {"HEIF": "HEIC", "WEBP": "WebP", "JXL": "JPEG XL"}.get(name, name)
    if side is not None and long > side:
        limit = f"{label} can store at most {side} pixels per side"
    elif pixels is not None and width * height > pixels:
        limit = f"{label} can store at most {pixels} pixels"
    elif name == "HEIF" and short < _HEIF_NARROW and long > _HEIF_NARROW_LENGTH:
        limit = f"a HEIC narrower than {_HEIF_NARROW} pixels can have at most {_HEIF_NARROW_LENGTH} on its long side"
    elif name == "BMP" and 54 + (width * 3 + 3) // 4 * 4 * height > _BMP_BYTES:
        limit = "a BMP can take at most 4 GB"
    else:
        return
    raise ImageWriteError(f"{path_or_format}: {limit}, but the result has {width}x{height}; write PNG or TIFF")


def write_picture(picture: Picture, path: StrPath, options: WriteOptions | None = None) -> tuple[str, ...]:
    """Write a picture in the format given by the path's suffix. The write is atomic.

    Args:
        picture (Picture): the picture to write.
        path (str | PathLike): destination; its folder is created if missing.
        options (WriteOptions | None): write options; None uses the defaults.

    Returns:
        tuple of str: a notice for each thing that the format could not store.

    Raises:
        InvalidInputError: The suffix is unknown.
        ImageReadError: The picture has high dynamic range.
        ImageWriteError: The disk is full, permission is denied, or the format cannot store the picture. An old file at
            ``path`` is unchanged then.
        MissingDependencyError: The encoder of the format is not installed.
    """
    name, options = image_format(path), options or WriteOptions()
    require_codec(path, name)
    check_size(path, picture.width, picture.height)
    picture.check_range()
    picture, notices = _as_format_allows(picture, name)
    try:
        with warnings.catch_warnings(), atomic_path(path) as temporary:
            warnings.simplefilter("ignore")  # Pillow warns about tags with unusual counts
            with CheckedFile(temporary) as file:
                _encode(picture, cast(IO[bytes], file), name, options)
            file.verify(temporary)
    except MemoryError:
        raise
    except FileWriteError as error:
        raise ImageWriteError(str(error)) from error
    except Exception as error:  # encoders raise many kinds of exceptions
        raise ImageWriteError(f"{path}: cannot be written ({error})") from error
    return notices


def _encode(picture: Picture, file: IO[bytes], name: str, options: WriteOptions) -> None:
    if name == "PNG":
        write_png(picture, file, options.compression)
    elif name == "TIFF":
        write_tiff(picture, file, options.compression)
    elif name == "JXL":
        write_jxl(picture, file, options.quality or DEFAULT_QUALITY[name], options.lossless)
    else:
        _image(picture).save(file, format=name, **_arguments(picture.metadata, name, options))


def _as_format_allows(picture: Picture, name: str) -> tuple[Picture, tuple[str, ...]]:
    """Reduce a picture to what a format can store, and return a notice for each thing that is lost."""
    notices: list[str] = []
    if name == "BMP" and picture.metadata.icc is not None:
        picture = to_srgb(picture)
        if picture.metadata.icc is None:
            notices.append("BMP cannot store an ICC profile: colours are converted to sRGB")
    if picture.grey and (name in _NO_GREY or (name == "HEIF" and picture.alpha is not None)):
        picture = to_srgb(picture)  # a grey profile does not apply to the three stored channels
        picture = replace(picture, pixels=np.broadcast_to(picture.pixels, (*picture.pixels.shape[:2], 3)))
    pixels, alpha, metadata = picture.pixels, picture.alpha, picture.metadata
    if alpha is not None and name not in _ALPHA:
        if int(alpha.min()) < picture.max_value:
            notices.append(f"{name} has no transparency: it is flattened onto white")
            pixels = flattened(pixels, alpha)
        alpha = None
    if picture.max_value > 255 and name not in _SIXTEEN_BITS:
        notices.append(f"16 bits are rounded to the 8 of {name}")
        pixels, alpha = to_8_bits(pixels), None if alpha is None else to_8_bits(alpha)
    if name not in _DPI_OF_ITS_OWN:
        metadata = with_resolution(metadata)
    metadata, damaged = fitted(metadata, pixels)
    metadata, dropped = _metadata_allowed(metadata, name)
    return Picture(pixels, alpha, metadata), (*notices, *damaged, *dropped)


def _metadata_allowed(metadata: Metadata, name: str) -> tuple[Metadata, list[str]]:
    labels = {"exif": "EXIF data", "xmp": "XMP", "icc": "the ICC profile"}
    held = {field: getattr(metadata, field) for field in labels}
    if name == "BMP":
        lost = [field for field, value in held.items() if value]
        reason = "BMP cannot store {}: left out"
    elif name == "JPEG":
        lost = [field for field in ("exif", "xmp") if len(held[field] or b"") > _JPEG_SEGMENT]
        reason = "{} longer than 64 kB, which JPEG cannot store: left out"
    elif name == "TIFF" and metadata.exif is not None and not can_hold(metadata.exif):
        lost, reason = ["exif"], "{} with values of wrong types, which TIFF cannot store: left out"
    else:
        return metadata, []
    dropped: dict[str, Any] = dict.fromkeys(lost)
    return replace(metadata, **dropped), [reason.format(labels[field]) for field in lost]


def _image(picture: Picture) -> Image.Image:
    """Convert an 8-bit picture to a Pillow image."""
    pixels = np.asarray(picture.pixels)
    image = Image.fromarray(pixels[..., 0] if picture.grey else pixels)
    if picture.alpha is not None:
        image.putalpha(Image.fromarray(np.asarray(picture.alpha)))
    return image


def _arguments(metadata: Metadata, name: str, options: WriteOptions) -> dict[str, Any]:
    """Build the arguments of Pillow's ``save``."""
    arguments: dict[str, Any] = {}
    if metadata.dpi is not None and name in _DPI_OF_ITS_OWN:
        arguments["dpi"] = tuple(round(value) for value in metadata.dpi) if name == "JPEG" else metadata.dpi
    if metadata.exif is not None:
        arguments["exif"] = b"Exif\0\0" + metadata.exif
    if metadata.xmp is not None:
        arguments["xmp"] = metadata.xmp
    if metadata.icc is not None:
        arguments["icc_profile"] = metadata.icc
    quality = options.quality or DEFAULT_QUALITY.get(name)
    dotted = ":".join(options.subsampling)
    if name == "JPEG":
        return arguments | {"quality": quality, "subsampling": dotted}
    if name == "WEBP":
        return arguments | {"quality": quality, "lossless": options.lossless, "method": 4, "exact": True}
    if name in ("AVIF", "HEIF"):
        return arguments | {"quality": quality, "subsampling": dotted}
    return arguments
