"""Image reading: decoding with metadata, 8-bit RGB for training and scoring, image sizes, and a pixel limit."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from tsdsr.errors import (
    ImageReadError,
    ImageTooLargeError,
    InvalidInputError,
    MissingDependencyError,
    TSDSRError,
    install_extra,
)
from tsdsr.files import StrPath
from tsdsr.images.bmp_header import bmp_profile
from tsdsr.images.color_modes import conversion_of, take_transparent_colour, upright, with_transparent_colour
from tsdsr.images.declared_color import Declared, Header, in_declared_space, read_declared, read_header
from tsdsr.images.encoded import EncodedImage
from tsdsr.images.exif import ORIENTATION
from tsdsr.images.isobmff import HeifInfo
from tsdsr.images.jpeg_trailer import trailer_contents
from tsdsr.images.metadata import fitted, read_metadata
from tsdsr.images.picture import Metadata, Picture, Pixels
from tsdsr.images.sixteen_bit import has_planes_apart, is_16_bit, read_16_bit, read_uncommon_tiff, uncommon_tiff_size

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

DEFAULT_MAX_PIXELS = 100_000_000
"""Inputs with more pixels are rejected unless the caller raises the limit."""

MAX_RGB_PIXELS = 200_000_000
"""Pixel limit of :func:`read_rgb`. It also reads upscaled results, which may be larger than inputs."""

_OF_SEVERAL = ("MPO", "HEIF")
"""Formats whose additional pictures are not frames but thumbnails, second views or gain maps."""

_XMP, _ICC = 700, 34675
_pillow_state = threading.Lock()


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


def read_picture(path: StrPath | EncodedImage, max_pixels: int | None = DEFAULT_MAX_PIXELS) -> Picture:
    """Decode a file to upright RGB or grey with 8 or 16 bits, including alpha and metadata.

    The format is detected from the content. 16-bit PNG and TIFF keep all bits. 1-bit, palette, CMYK, YCbCr and LAB
    images are converted, with a notice. If a JPEG (MPO) or HEIF holds several pictures, the main one is read.

    Args:
        path (str | PathLike | EncodedImage): PNG, JPEG, WebP, TIFF, BMP, AVIF or HEIC; on disk or in memory.
        max_pixels (int | None): largest accepted number of pixels; None for no limit.

    Returns:
        Picture: the image; its EXIF orientation is applied and reset, and its EXIF thumbnail is removed.

    Raises:
        ImageReadError: The file is missing, not an image, truncated, animated, multi-page, or of an unsupported kind.
        ImageTooLargeError: The image has more than ``max_pixels`` pixels.
        MissingDependencyError: The decoder of the format is not installed.
    """
    return _decoded(_existing(path), max_pixels)


def read_rgb(path: StrPath) -> NDArray[np.uint8]:
    """Decode a file to 8-bit RGB, the form that training, scoring and reports use.

    16 bits are rounded, grey is repeated, transparency is flattened onto white, and the EXIF orientation is applied.
    Pixel values are used as stored. An ICC profile, or what else a file declares about its colours, is not applied,
    because the usual test sets are scored without it. Only CMYK, LAB and YCbCr images, which are not RGB, are
    converted. High dynamic range (PQ, HLG) is refused.

    Args:
        path (str | PathLike): as :func:`read_picture`.

    Returns:
        array: (H, W, 3).

    Raises:
        ImageReadError, MissingDependencyError: as :func:`read_picture`.
        ImageTooLargeError: The image has more than :data:`MAX_RGB_PIXELS` pixels.
    """
    return _rgb(_existing(path))


def decode_rgb(data: bytes, name: str) -> NDArray[np.uint8]:
    """Decode an image file in memory to 8-bit RGB, as :func:`read_rgb` does.

    Args:
        data (bytes): content of the file.
        name (str): name used in messages.
    """
    return _rgb(EncodedImage(name, data))


def read_size(path: StrPath | EncodedImage) -> tuple[int, int]:
    """Read from the header the width and height of the image that :func:`read_rgb` returns.

    Raises:
        ImageReadError, MissingDependencyError: as :func:`read_picture`.
    """
    file = _existing(path)
    with _errors_named(file), _pillow_prepared():
        opened = _open(file)
        if opened is None:
            return uncommon_tiff_size(file)
        with opened as image:
            # Pillow rotates a TIFF itself and reports the size after rotation.
            turned = image.format != "TIFF" and image.getexif().get(ORIENTATION, 1) in range(5, 9)
            return (image.height, image.width) if turned else image.size


def is_plain(path: StrPath) -> bool:
    """Return whether a file is 8-bit RGB or grey, opaque, not rotated and no HDR, so that any decoder agrees with ours.

    Raises:
        ImageReadError, MissingDependencyError: as :func:`read_picture`.
    """
    file = _existing(path)
    with _errors_named(file), _pillow_prepared():
        opened = _open(file)
        if opened is None:
            return False
        with opened as image:
            known = (
                image.format in ("PNG", "JPEG", "BMP", "WEBP") and image.mode in ("L", "RGB") and not is_16_bit(image)
            )
            if not known or image.has_transparency_data or image.getexif().get(ORIENTATION, 1) != 1:
                return False
            kind = str(image.format)
            space = read_declared(file, kind, image.info, image.getexif(), read_header(file, kind)).space
            return space is None or not space.hdr


def _existing(path: StrPath | EncodedImage) -> EncodedImage:
    if isinstance(path, EncodedImage):
        return path
    path = Path(path)
    if not path.is_file():
        raise ImageReadError(f"{path}: {'is a folder, not a file' if path.is_dir() else 'no such file'}")
    return EncodedImage.at(path)


def _decoded(file: EncodedImage, max_pixels: int | None, as_stored: bool = False) -> Picture:
    """Decode a file; ``as_stored`` leaves values as they are, whatever the file declares about their colours."""
    with _errors_named(file), _pillow_prepared():
        picture, declared = _read(file, max_pixels)
        keep = as_stored and (declared.space is None or not declared.space.hdr)
        return picture if keep else in_declared_space(picture, declared)


def _rgb(file: EncodedImage) -> NDArray[np.uint8]:
    picture = _decoded(file, MAX_RGB_PIXELS, as_stored=True)
    try:
        return picture.to_rgb()
    except ImageReadError as error:  # high dynamic range
        raise ImageReadError(f"{file.name}: {error}") from None


@contextmanager
def _errors_named(file: EncodedImage) -> Iterator[None]:
    """Convert any decoder exception to an error that names the file."""
    try:
        yield
    except TSDSRError:
        raise
    except UnidentifiedImageError as error:
        if _is_heif(file):
            require_codec(file.name, "HEIF")
        known = ", ".join(sorted(set(FORMATS)))
        raise ImageReadError(f"{file.name}: is not an image in a known format ({known})") from error
    except MemoryError as error:
        raise ImageReadError(f"{file.name}: decoding it takes more memory than there is") from error
    except Exception as error:  # decoders raise any exception on damaged files
        raise ImageReadError(f"{file.name}: is truncated or damaged ({error})") from error


@contextmanager
def _pillow_prepared() -> Iterator[None]:
    """Suspend Pillow's warnings and its process-wide pixel limit, which ``max_pixels`` replaces."""
    with _pillow_state, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        saved, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = saved


def _open(file: EncodedImage) -> Image.Image | None:
    """Open a file with Pillow without loading it. Return None for a TIFF that Pillow does not support."""
    try:
        return Image.open(file.source(), formats=sorted(codecs()))
    except UnidentifiedImageError:
        if file.head(4) not in (b"II*\0", b"MM\0*"):
            raise
        return None


def _read(file: EncodedImage, max_pixels: int | None) -> tuple[Picture, Declared]:
    opened = _open(file)
    if opened is None:
        return _read_uncommon(file, max_pixels)
    with opened as image:
        _check(file, image, max_pixels)
        deep = is_16_bit(image)
        if deep and has_planes_apart(image):
            return _read_uncommon(file, max_pixels)
        samples = read_16_bit(file, image) if deep else None
        image.load()
        header = read_header(file, str(image.format))
        transparent = None if isinstance(header, HeifInfo) else take_transparent_colour(image, header)
        info = {**image.info, "icc_profile": bmp_profile(file)} if image.format == "BMP" else image.info
        declared = read_declared(file, str(image.format), info, image.getexif(), header)
        metadata, orientation, notices = read_metadata(image.getexif(), info, str(image.format))
        if samples is not None:
            samples = upright(samples, orientation)
        else:
            conversion = conversion_of(image, metadata.icc)
            samples = conversion.run(image, orientation)
            notices += conversion.notices
            if not conversion.keeps_profile:
                metadata, declared = replace(metadata, icc=None), Declared()
        if transparent is not None:
            samples = with_transparent_colour(samples, transparent)
        return _picture(samples, metadata, [*_about_file(file, image, header), *notices]), declared


def _read_uncommon(file: EncodedImage, max_pixels: int | None) -> tuple[Picture, Declared]:
    samples, tags = read_uncommon_tiff(file, lambda width, height: _check_size(file, width, height, max_pixels))
    info = {"xmp": tags.get(_XMP), "icc_profile": tags.get(_ICC)}
    declared = read_declared(file, "TIFF", info, tags, {})
    metadata, orientation, notices = read_metadata(tags, info, "TIFF")
    return _picture(upright(samples, orientation), metadata, notices), declared


def _picture(samples: Pixels, metadata: Metadata, notices: list[str]) -> Picture:
    """Split samples (H, W, 1 to 4) into colour and alpha, and update the metadata for them."""
    channels = samples.shape[2]
    colours = 3 if channels > 2 else 1
    pixels, alpha = samples, None
    if channels > colours:
        pixels, alpha = (np.ascontiguousarray(part) for part in (samples[..., :colours], samples[..., colours]))
    metadata, more = fitted(metadata, pixels)
    return Picture(pixels, alpha, metadata, (*notices, *more))


def _check_size(file: EncodedImage, width: int, height: int, max_pixels: int | None) -> None:
    if not width * height:
        raise ImageReadError(f"{file.name}: has no pixels")
    if max_pixels is not None and width * height > max_pixels:
        raise ImageTooLargeError(
            f"{file.name}: {width}x{height} pixels are more than the limit of {max_pixels}; "
            "shrink it, or, if you trust it, raise the limit of 'tsdsr upscale' with --max-pixels"
        )


def _check(file: EncodedImage, image: Image.Image, max_pixels: int | None) -> None:
    _check_size(file, image.width, image.height, max_pixels)
    if image.format not in _OF_SEVERAL and getattr(image, "is_animated", False):
        frames = image.n_frames  # type: ignore[attr-defined]
        raise ImageReadError(f"{file.name}: has {frames} frames or pages; extract the one you want")
    if image.mode in ("F", "I"):
        kind = "floating-point values" if image.mode == "F" else "integers of 32 bits or with a sign"
        raise ImageReadError(f"{file.name}: holds {kind}; convert it to 8 or 16 bits first")


def _about_file(file: EncodedImage, image: Image.Image, header: Header) -> list[str]:
    count = getattr(image, "n_frames", 1)
    notices = [f"the main one of {count} pictures in the file is used"] if count > 1 else []
    attached: list[str] = []
    if isinstance(header, HeifInfo):
        notices += [f"{header.bits} bits are read as 8"] if header.bits > 8 else []
        attached = list(header.attached)
    elif image.format in ("JPEG", "MPO"):
        with file.stream() as stream:
            attached = trailer_contents(stream)
    notices += [f"left out: the file's {', '.join(attached)}"] if attached else []
    return notices


def _is_heif(file: EncodedImage) -> bool:
    head = file.head(12)
    return head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1", b"hevc")
