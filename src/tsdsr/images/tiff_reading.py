"""TIFF files beside Pillow's reader: which page is the photograph, and the layouts that Pillow does not support.

tifffile reads these layouts: grey with alpha of 16 bits, separate planes of 16 bits, BigTIFF with Motorola's byte
order, 10 to 14 bits, a photograph in a subdirectory. Some compressions need the package imagecodecs.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
from PIL import Image

from tsdsr.errors import ImageReadError, install_extra
from tsdsr.images.encoded import EncodedImage
from tsdsr.images.exif import ORIENTATION
from tsdsr.images.picture import Pixels, strips
from tsdsr.images.sixteen_bit import unmultiplied
from tsdsr.images.tiff_directories import check_chain, exif_block
from tsdsr.wording import counted

_REDUCED, _MASK = 1, 4  # bits of NewSubfileType
_SUBFILE, _OLD_SUBFILE, _XMP, _ICC, _DNG_VERSION = 254, 255, 700, 34675, 50706
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _MASK_PHOTOMETRIC, _CFA, _LINEAR_RAW = 0, 1, 2, 4, 32803, 34892
_CANON_MARK = b"CR"
_RAW_COMPRESSIONS = (32767, 32769, 32770, 34713, 65535)  # Sony, Epson, Samsung, Nikon, Pentax
_RAW_SUFFIXES = (
    ".3fr", ".arw", ".cr2", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq", ".kdc", ".mef", ".mos", ".nef", ".nrw",
    ".pef", ".rwl", ".sr2", ".srf", ".srw",
)  # fmt: skip
_ASSOCIATED, _ALPHA = 1, (1, 2)
_MOST_CHANNELS = 16


def is_tiff(head: bytes) -> bool:
    """Return whether the first bytes of a file are those of a TIFF or BigTIFF."""
    return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@dataclass(frozen=True)
class TiffPage:
    """The page of a TIFF that holds the photograph.

    Attributes:
        number (int | None): number of the page, or None for a subdirectory, which Pillow cannot open.
        width, height (int): size as stored.
        orientation (int): 1 to 8, as in EXIF.
        positions (list of int): offsets of its directory and of the first one.
        notices (list of str): messages about what is left out.
    """

    number: int | None
    width: int
    height: int
    orientation: int
    positions: list[int]
    notices: list[str]

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height after rotation."""
        return (self.height, self.width) if self.orientation > 4 else (self.width, self.height)


def find_page(file: EncodedImage) -> TiffPage | None:
    """Find the page with the photograph. Reduced-resolution pages and masks are not photographs.

    Returns:
        TiffPage | None: the page; None if the directories are too damaged for tifffile.

    Raises:
        ImageReadError: There are several, it is a camera's raw file, or its samples have an unsupported type.
    """
    try:
        with _opened(file) as tiff:
            return _described(tiff, *_find(file, tiff))
    except (ImageReadError, MemoryError):
        raise
    except Exception:  # tifffile raises many kinds; Pillow may still read the file
        return None


def read_uncommon_tiff(
    file: EncodedImage, check_size: Callable[[int, int], None]
) -> tuple[Pixels, TiffPage, dict[str, bytes | None], list[str]]:
    """Read a TIFF that Pillow does not support.

    Args:
        file (EncodedImage): the file.
        check_size (callable): called with width and height before decoding; raises if the size is not acceptable.

    Returns:
        tuple: samples (H, W, C), not rotated; the page; XMP and ICC profile by Pillow's names; notices.

    Raises:
        ImageReadError: The TIFF is of an unsupported kind, or its compression needs the package imagecodecs.
    """
    with _opened(file) as tiff:
        page, number = _find(file, tiff)
        colours, alpha = _channels(file, page)
        check_size(page.imagewidth, page.imagelength)
        samples = _samples(file, page)
        first = tiff.pages.first
        info = {name: _bytes(page, tag) or _bytes(first, tag) for name, tag in (("xmp", _XMP), ("icc_profile", _ICC))}
        bits, inverted = int(page.bitspersample), page.photometric == _WHITE_IS_ZERO
        associated = alpha and bool(page.extrasamples) and int(page.extrasamples[0]) == _ASSOCIATED
        described = _described(tiff, page, number)
    left_out = samples.shape[2] - colours - alpha
    samples = _full_range(np.ascontiguousarray(samples[..., : colours + alpha]), bits, colours if inverted else 0)
    notices = [f"{counted(left_out, 'channel')} besides colour and alpha left out"] if left_out else []
    return unmultiplied(samples) if associated else samples, described, info, notices


def tags_of(file: EncodedImage, page: TiffPage) -> Image.Exif:
    """Read the tags of a page, of the first page where it lacks them, and of the EXIF directories."""
    tags = Image.Exif()
    with file.stream() as stream, suppress(ValueError, struct.error):  # without them if they are damaged
        tags.load(exif_block(stream, page.positions))
    tags[ORIENTATION] = page.orientation
    return tags


def _described(tiff: Any, page: Any, number: int | None) -> TiffPage:
    masks = any(_tag(other, _SUBFILE) & _MASK for other in tiff.pages)
    notices = ["the transparency mask in the file is left out"] if masks else []
    positions = [int(page.offset), *([] if number == 0 else [int(tiff.pages.first.offset)])]
    orientation = _tag(page, ORIENTATION) or _tag(tiff.pages.first, ORIENTATION)
    orientation = orientation if orientation in range(2, 9) else 1
    return TiffPage(number, int(page.imagewidth), int(page.imagelength), orientation, positions, notices)


def _find(file: EncodedImage, tiff: Any) -> tuple[Any, int | None]:
    if not tiff.pages:
        raise ValueError("no directories")
    pages = [(page, number) for number, page in enumerate(tiff.pages) if _is_photograph(page)]
    inside = [(page, None) for parent in tiff.pages for page in parent.pages or () if _is_photograph(page)]
    every = [*tiff.pages, *(page for page, _ in inside)]
    named_raw = PurePath(file.name).suffix.lower() in _RAW_SUFFIXES or file.head(10)[8:] == _CANON_MARK
    if named_raw or any(_is_raw(page) for page in every):
        raise ImageReadError(f"{file.name}: is a camera's raw file; develop it with a raw converter to TIFF or JPEG")
    found: list[tuple[Any, int | None]] = [*pages] or [*inside]
    if not found and len(tiff.pages) == 1:
        found = [(tiff.pages.first, 0)]
    if len(found) != 1:
        raise ImageReadError(
            f"{file.name}: has {len(found) or len(tiff.pages)} frames or pages; extract the one you want"
        )
    page, number = found[0]
    _check_samples(file, page)
    return page, number


def _is_photograph(page: Any) -> bool:
    kind = _tag(page, _SUBFILE)
    reduced = kind & _REDUCED or _tag(page, _OLD_SUBFILE) == 2
    return not (reduced or kind & _MASK or int(page.photometric) == _MASK_PHOTOMETRIC)


def _is_raw(page: Any) -> bool:
    return (
        _DNG_VERSION in page.tags
        or int(page.photometric) in (_CFA, _LINEAR_RAW)
        or int(page.compression) in _RAW_COMPRESSIONS
    )


def _check_samples(file: EncodedImage, page: Any) -> None:
    if page.imagedepth != 1:
        raise ImageReadError(f"{file.name}: is a volume of {page.imagedepth} slices; extract the one you want")
    bits = page.bitspersample
    values = {
        2: f"integers of {bits} bits with a sign", 3: "floating-point values", 5: "complex values", 6: "complex values"
    }.get(int(page.sampleformat or 1))  # fmt: skip
    if values is None and isinstance(bits, int) and bits > 16:
        values = f"integers of {bits} bits"
    if values is not None:
        raise ImageReadError(f"{file.name}: contains {values}; convert it to 8 or 16 bits first")


def _channels(file: EncodedImage, page: Any) -> tuple[int, bool]:
    """Return the number of colours, and whether alpha follows them."""
    colours = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3}.get(int(page.photometric))
    bits, channels = page.bitspersample, int(page.samplesperpixel)
    if colours is None or page.dtype is None or page.dtype.kind != "u" or not isinstance(bits, int):
        name = {5: "CMYK"}.get(int(page.photometric), getattr(page.photometric, "name", "an unknown kind"))
        raise ImageReadError(
            f"{file.name}: contains {channels} channels of {bits} bits ({name}), which is not supported; "
            "convert it to RGB with 8 or 16 bits"
        )
    extra = [int(kind) for kind in page.extrasamples]
    alpha = extra[0] in _ALPHA if extra else channels == colours + 1
    if not colours <= channels <= _MOST_CHANNELS or (channels - colours - alpha > 1 and colours == 1):
        raise ImageReadError(f"{file.name}: has {channels} channels; save grey or RGB, with or without alpha")
    return colours, alpha


def _samples(file: EncodedImage, page: Any) -> Pixels:
    """Decode a page to (H, W, C), uint8 or uint16."""
    try:
        samples: Pixels = page.asarray(squeeze=False)  # (planes, 1, H, W, C)
    except Exception as error:  # of different kinds
        if "imagecodecs" not in str(error):
            raise
        how = getattr(page.compression, "name", page.compression)
        raise ImageReadError(
            f"{file.name}: is a TIFF of {page.bitspersample} bits with the compression {how}, which needs imagecodecs; "
            f"{install_extra('tiff')}, or save it without compression with 8 or 16 bits"
        ) from error
    samples = samples[:, 0]
    return np.moveaxis(samples[..., 0], 0, -1) if len(samples) > 1 else samples[0]


def _full_range(samples: Pixels, bits: int, inverted: int) -> Pixels:
    """Scale samples to all 8 or 16 bits, and invert the first ``inverted`` channels, where 0 means white."""
    dtype = np.uint8 if bits <= 8 else np.uint16
    top, full = 2**bits - 1, int(np.iinfo(dtype).max)
    if top == full and not inverted:
        return samples.astype(dtype, copy=False)
    result = np.empty(samples.shape, dtype)
    for rows in strips(len(samples), samples[:1].nbytes):
        part = samples[rows].astype(np.uint32)
        part[..., :inverted] = top - part[..., :inverted]
        result[rows] = (part * full + top // 2) // top
    return result


def _tag(page: Any, code: int) -> int:
    tag = page.tags.get(code)
    return int(tag.value) if tag is not None and isinstance(tag.value, int) else 0


def _bytes(page: Any, code: int) -> bytes | None:
    tag = page.tags.get(code)
    return None if tag is None or not isinstance(tag.value, bytes) else tag.value


@contextmanager
def _opened(file: EncodedImage) -> Iterator[Any]:
    """Open a file with tifffile, whose logger, which repeats what it raises, is silent."""
    import tifffile

    with file.stream() as stream:
        check_chain(stream)
    logger = logging.getLogger("tifffile")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with tifffile.TiffFile(file.source()) as tiff:
            yield tiff
    finally:
        logger.setLevel(level)
