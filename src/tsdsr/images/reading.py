"""Image reading: decoding with metadata, 8-bit RGB for training and scoring, image sizes, and a pixel limit."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from dataclasses import replace
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tsdsr.errors import ImageReadError
from tsdsr.files import StrPath
from tsdsr.images.bmp_header import bmp_profile
from tsdsr.images.color_modes import conversion_of, take_transparent_colour, upright, with_transparent_colour
from tsdsr.images.color_spaces import ColorSpace
from tsdsr.images.declared_color import Declared, Header, in_declared_space, read_declared, read_header
from tsdsr.images.encoded import EncodedImage
from tsdsr.images.exif import ORIENTATION
from tsdsr.images.formats import require_codec
from tsdsr.images.isobmff import HeifInfo
from tsdsr.images.jpeg_trailer import trailer_contents
from tsdsr.images.jpeg_xl import decode_jxl, is_jxl, read_jxl_header
from tsdsr.images.metadata import fitted, read_metadata
from tsdsr.images.opening import (
    check_pixel_count,
    errors_named,
    existing_image,
    lack_of_memory_named,
    open_image,
    pillow_prepared,
    require_memory,
)
from tsdsr.images.picture import Metadata, Picture, Pixels
from tsdsr.images.png_chunks import without_pixels
from tsdsr.images.sixteen_bit import is_16_bit, needs_tifffile, read_16_bit, reduces_depth
from tsdsr.images.tiff_reading import TiffPage, read_uncommon_tiff, tags_of

DEFAULT_MAX_PIXELS = 100_000_000
"""Inputs with more pixels are rejected unless the caller raises the limit."""

MAX_RGB_PIXELS = 200_000_000
"""Pixel limit of :func:`read_rgb`. It also reads upscaled results, which may be larger than inputs."""


def read_picture(path: StrPath | EncodedImage, max_pixels: int | None = DEFAULT_MAX_PIXELS) -> Picture:
    """Decode a file to upright RGB or grey with 8 or 16 bits, including alpha and metadata.

    The format is detected from the content. 16-bit PNG, TIFF and JPEG XL keep all bits. 1-bit, palette, CMYK, YCbCr
    and LAB images are converted, with a notice. If a JPEG (MPO) or HEIF holds several pictures, the main one is read.

    Args:
        path (str | PathLike | EncodedImage): PNG, JPEG, WebP, TIFF, BMP, AVIF, HEIC or JPEG XL; on disk or in memory.
        max_pixels (int | None): largest accepted number of pixels; None for no limit.

    Returns:
        Picture: the image; its EXIF orientation is applied and reset, and its EXIF thumbnail is removed.

    Raises:
        ImageReadError: The file is missing, not an image, truncated, animated, multi-page, or of an unsupported kind.
        ImageTooLargeError: The image has more than ``max_pixels`` pixels.
        MissingDependencyError: The decoder of the format is not installed.
    """
    return _decoded(existing_image(path), max_pixels)


def read_rgb(path: StrPath) -> NDArray[np.uint8]:
    """Decode a file to 8-bit RGB, the form that training, scoring and reports use.

    16 bits are rounded, grey is repeated, transparency is flattened onto white, and the EXIF orientation is applied.
    Pixel values are used as stored. An ICC profile, or any other declaration of colours, is not applied, because the
    usual test sets are scored without it. Only CMYK, LAB and YCbCr images are converted, because they are not RGB. High
    dynamic range (PQ, HLG) is refused.

    Args:
        path (str | PathLike): as :func:`read_picture`.

    Returns:
        array: (H, W, 3).

    Raises:
        ImageReadError, MissingDependencyError: as :func:`read_picture`.
        ImageTooLargeError: The image has more than :data:`MAX_RGB_PIXELS` pixels.
    """
    return _rgb(existing_image(path))


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
    return read_size_and_format(path)[:2]


def read_size_and_format(path: StrPath | EncodedImage) -> tuple[int, int, str]:
    """Read width and height as :func:`read_size` does, and the format, a value of :data:`tsdsr.images.formats.FORMATS`.

    Raises:
        ImageReadError, MissingDependencyError: as :func:`read_picture`.
    """
    file = existing_image(path)
    with errors_named(file), pillow_prepared():
        if is_jxl(file.head(12)):
            require_codec(file.name, "JXL")
            header = read_jxl_header(file)
            return header.width, header.height, "JXL"
        opened, page = open_image(file)
        with opened or nullcontext() as image:
            if page is not None:
                return *page.upright_size, "TIFF"
            assert image is not None
            # Pillow rotates a TIFF itself and reports the size after rotation.
            turned = image.format != "TIFF" and _orientation(file, image) in range(5, 9)
            width, height = (image.height, image.width) if turned else image.size
            return width, height, "JPEG" if image.format == "MPO" else str(image.format)


def _orientation(file: EncodedImage, image: Image.Image) -> int:
    """Return the EXIF orientation of an opened image without decoding it, which Pillow does for that of a PNG."""
    if image.format != "PNG":
        return int(image.getexif().get(ORIENTATION, 1))
    with file.stream() as stream, Image.open(BytesIO(without_pixels(stream))) as pixel:
        return int(pixel.getexif().get(ORIENTATION, 1))


def is_plain(path: StrPath) -> bool:
    """Return whether a file is 8-bit RGB or grey, opaque, not rotated and no HDR, so that any decoder agrees with ours.

    Raises:
        ImageReadError, MissingDependencyError: as :func:`read_picture`.
    """
    file = existing_image(path)
    with errors_named(file), pillow_prepared():
        opened, _ = (None, None) if is_jxl(file.head(12)) else open_image(file)
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


def _decoded(file: EncodedImage, max_pixels: int | None, as_stored: bool = False) -> Picture:
    """Decode a file; ``as_stored`` leaves values as they are, whatever the file declares about their colours."""
    with errors_named(file), pillow_prepared():
        picture, declared = _read(file, max_pixels)
        keep = as_stored and (declared.space is None or not declared.space.hdr)
        return picture if keep else in_declared_space(picture, declared)


def _rgb(file: EncodedImage) -> NDArray[np.uint8]:
    picture = _decoded(file, MAX_RGB_PIXELS, as_stored=True)
    try:
        return picture.to_rgb()
    except ImageReadError as error:  # high dynamic range
        raise ImageReadError(f"{file.name}: {error}") from None


def _read(file: EncodedImage, max_pixels: int | None) -> tuple[Picture, Declared]:
    if is_jxl(file.head(12)):
        return _read_jxl(file, max_pixels)
    opened, page = open_image(file)
    if opened is None:
        return _read_uncommon(file, max_pixels)
    with opened as image, lack_of_memory_named(file, image.width, image.height):
        check_pixel_count(file, image.width, image.height, max_pixels)
        if needs_tifffile(image):
            return _read_uncommon(file, max_pixels)
        turned = page is not None and page.number and ORIENTATION in image.getexif()  # loading removes it
        samples = read_16_bit(file, image) if is_16_bit(image) else None
        image.load()
        tags = tags_of(file, page) if page is not None and page.number else image.getexif()
        if turned:  # Pillow has applied the orientation of this page
            tags[ORIENTATION] = 1
        header = read_header(file, str(image.format))
        transparent = None if isinstance(header, HeifInfo) else take_transparent_colour(image, header)
        info = {**image.info, "icc_profile": bmp_profile(file)} if image.format == "BMP" else image.info
        declared = read_declared(file, str(image.format), info, tags, header)
        metadata, orientation, notices = read_metadata(tags, info, str(image.format))
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
        return _picture(samples, metadata, [*_about_file(file, image, page, header), *notices]), declared


def _read_uncommon(file: EncodedImage, max_pixels: int | None) -> tuple[Picture, Declared]:
    samples, page, info, left_out = read_uncommon_tiff(file, lambda w, h: check_pixel_count(file, w, h, max_pixels))
    tags = tags_of(file, page)
    declared = read_declared(file, "TIFF", info, tags, {})
    metadata, orientation, notices = read_metadata(tags, info, "TIFF")
    return _picture(upright(samples, orientation), metadata, [*page.notices, *left_out, *notices]), declared


def _read_jxl(file: EncodedImage, max_pixels: int | None) -> tuple[Picture, Declared]:
    require_codec(file.name, "JXL")
    header = read_jxl_header(file)
    check_pixel_count(file, header.width, header.height, max_pixels)
    require_memory(file, header.width, header.height)
    with lack_of_memory_named(file, header.width, header.height):
        samples, info = decode_jxl(file, header)
    tags = Image.Exif()
    with suppress(Exception):  # read_metadata reports damage
        tags.load(info["exif"] or b"")
    metadata, _, notices = read_metadata(tags, info, "JXL")  # the codestream's orientation counts and is applied
    if metadata.icc is None:  # EXIF does not count, because a codestream always says its colours
        declared = Declared(ColorSpace("sRGB"), "the codestream")
    else:
        declared = read_declared(file, "JXL", info, tags, {})
    return _picture(samples, metadata, notices), declared


def _picture(samples: Pixels, metadata: Metadata, notices: list[str]) -> Picture:
    """Split samples (H, W, 1 to 4) into colour and alpha, and update the metadata for them."""
    channels = samples.shape[2]
    colours = 3 if channels > 2 else 1
    pixels, alpha = samples, None
    if channels > colours:
        pixels, alpha = (np.ascontiguousarray(part) for part in (samples[..., :colours], samples[..., colours]))
    metadata, more = fitted(metadata, pixels)
    return Picture(pixels, alpha, metadata, (*notices, *more))


def _about_file(file: EncodedImage, image: Image.Image, page: TiffPage | None, header: Header) -> list[str]:
    if page is not None:
        return [*page.notices, *(["16 bits are read as 8"] if reduces_depth(image) else [])]
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
