"""Opening of image files: which decoder, which page, and errors that name the file and the reason."""

from __future__ import annotations

import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
from PIL import Image, UnidentifiedImageError

from tsdsr.errors import ImageReadError, ImageTooLargeError, TSDSRError
from tsdsr.files import StrPath, as_path
from tsdsr.images.encoded import EncodedImage
from tsdsr.images.file_kinds import HEAD_BYTES, is_heif, jpeg_process, kind_of
from tsdsr.images.formats import FORMATS, codecs, require_codec
from tsdsr.images.tiff_reading import TiffPage, find_page, is_tiff
from tsdsr.out_of_memory import is_out_of_memory, mentions_lack_of_memory, without_frames

_OF_SEVERAL = ("MPO", "HEIF")
"""Formats whose additional pictures are not frames but thumbnails, second views or gain maps."""

_TOO_LITTLE_MEMORY = "decoding it takes more memory than there is; free some, or reduce the image"
_DECODER_BYTES = 16
"""Bytes per pixel that the hungriest decoder, that of AVIF, takes at its peak."""

_pillow_state = threading.Lock()


def existing_image(path: StrPath | EncodedImage) -> EncodedImage:
    """Return an image file that exists.

    Raises:
        ImageReadError: There is no such file, or the operating system refuses it.
    """
    if isinstance(path, EncodedImage):
        return path
    path = as_path(path, "image")
    try:
        kind = path.stat().st_mode
    except FileNotFoundError:
        link = " (a link to a file that does not exist)" if path.is_symlink() else ""
        raise ImageReadError(f"{path}: no such file{link}") from None
    except OSError as error:
        raise ImageReadError(f"{path}: cannot be read ({error.strerror})") from error
    if not stat.S_ISREG(kind):
        raise ImageReadError(f"{path}: is {'a folder' if stat.S_ISDIR(kind) else 'a device or pipe'}, not a file")
    return EncodedImage.at(path)


@contextmanager
def errors_named(file: EncodedImage) -> Iterator[None]:
    """Convert any decoder exception to an error that names the file."""
    try:
        yield
    except TSDSRError:
        raise
    except UnidentifiedImageError as error:
        raise ImageReadError(f"{file.name}: {_unidentified(file)}") from error
    except Exception as error:  # decoders raise any exception on damaged files
        unclear = "could not create decoder object" in str(error)  # libwebp, of damage and of a lack of memory
        if is_out_of_memory(error) or mentions_lack_of_memory(str(error)) or (unclear and not _can_take(1 << 28)):
            raise ImageReadError(f"{file.name}: {_TOO_LITTLE_MEMORY}") from without_frames(error)
        if isinstance(error, OSError) and error.errno is not None:  # of the operating system, not of a decoder
            raise ImageReadError(f"{file.name}: cannot be read ({error.strerror})") from error
        with file.stream() as stream:
            reason = jpeg_process(stream) or f"is truncated or damaged ({error})"
        raise ImageReadError(f"{file.name}: {reason}") from error


def _unidentified(file: EncodedImage) -> str:
    """Say what a file is in which no decoder recognises an image."""
    head = file.head(HEAD_BYTES)
    if is_heif(head):
        require_codec(file.name, "HEIF")
    if is_tiff(head):
        return "is truncated or damaged"
    with file.stream() as stream:
        reason = kind_of(head) or jpeg_process(stream)
    known = ", ".join(sorted(set(FORMATS)))
    return reason or f"is not an image in a known format ({known}), or its beginning is damaged"


@contextmanager
def lack_of_memory_named(file: EncodedImage, width: int, height: int) -> Iterator[None]:
    """Distinguish a lack of memory from damage, which several decoders report in the same way."""
    try:
        yield
    except (TSDSRError, MemoryError):
        raise
    except Exception as error:
        if not _can_take(width * height * _DECODER_BYTES):
            raise ImageReadError(f"{file.name}: {_TOO_LITTLE_MEMORY}") from without_frames(error)
        raise


def require_memory(file: EncodedImage, width: int, height: int) -> None:
    """Check that a picture can be decoded, for a decoder that ends the process if it gets no memory.

    Raises:
        ImageReadError: There is too little memory.
    """
    if not _can_take(width * height * _DECODER_BYTES):
        raise ImageReadError(f"{file.name}: {_TOO_LITTLE_MEMORY}")


def _can_take(size: int) -> bool:
    """Return whether this process may map some bytes more."""
    try:
        np.empty(size, np.uint8)
    except MemoryError:
        return False
    return True


@contextmanager
def pillow_prepared() -> Iterator[None]:
    """Suspend Pillow's warnings and its process-wide pixel limit, which ``max_pixels`` replaces."""
    with _pillow_state, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        saved, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = saved


def open_image(file: EncodedImage) -> tuple[Image.Image, TiffPage | None] | tuple[None, TiffPage]:
    """Open a file without loading it: with Pillow, or only its TIFF page if Pillow does not support that."""
    page = find_page(file) if is_tiff(file.head(4)) else None
    try:
        image = Image.open(file.source(), formats=sorted(codecs() - {"JXL"}))
    except UnidentifiedImageError:
        if page is None:
            raise
        return None, page
    with ExitStack() as on_error:
        on_error.callback(image.close)
        if page is not None:
            try:
                image.seek(page.number or 0)
            except SyntaxError:  # Pillow does not support this page
                return None, page
            if page.number is None:
                return None, page
        _check_kind(file, image, page)
        on_error.pop_all()
    return image, page


def check_pixel_count(file: EncodedImage, width: int, height: int, max_pixels: int | None) -> None:
    """Check the number of pixels before decoding.

    Raises:
        ImageReadError: There are none.
        ImageTooLargeError: There are more than ``max_pixels``.
    """
    if not width * height:
        raise ImageReadError(f"{file.name}: has no pixels")
    if max_pixels is not None and width * height > max_pixels:
        raise ImageTooLargeError(
            f"{file.name}: {width}x{height} pixels are more than the limit of {max_pixels}; "
            "shrink it, or, if you trust it, raise the limit of 'tsdsr upscale' with --max-pixels"
        )


def _check_kind(file: EncodedImage, image: Image.Image, page: TiffPage | None) -> None:
    if page is None and image.format not in _OF_SEVERAL and getattr(image, "is_animated", False):
        frames = image.n_frames  # type: ignore[attr-defined]
        raise ImageReadError(f"{file.name}: has {frames} frames or pages; extract the one you want")
    if image.mode in ("F", "I"):
        kind = "floating-point values" if image.mode == "F" else "integers of 32 bits or with a sign"
        raise ImageReadError(f"{file.name}: contains {kind}; convert it to 8 or 16 bits first")
