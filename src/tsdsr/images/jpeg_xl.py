"""JPEG XL (ISO/IEC 18181) through the optional package pyjpegxl, a binding of libjxl.

Pillow is not involved, because it has no 16-bit colour modes. The first bytes of the codestream are parsed here: the
decoder allocates the whole picture at once, so the size has to be known before, and it returns the last frame of an
animation without saying so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import IO, Any, BinaryIO, TypeVar

import numpy as np
from PIL import ImageCms

from tsdsr.errors import ImageReadError
from tsdsr.images.encoded import EncodedImage
from tsdsr.images.isobmff import top_boxes
from tsdsr.images.picture import Picture, Pixels

_CODESTREAM = b"\xff\x0a"
_CONTAINER = b"\0\0\0\x0cJXL \r\n\x87\n"
_HEADER_BYTES = 64
"""No header as far as it is parsed is longer."""

_SIZES = ((1, 9), (1, 13), (1, 18), (1, 30))
_PREVIEW_SIZES = ((1, 6), (65, 8), (321, 10), (1345, 12))
_PREVIEW_EIGHTHS = ((16, 0), (32, 0), (1, 5), (33, 9))
"""Smallest value and number of bits for each selector (18181-1, annex D)."""

_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
_INTENTS = ("Per", "Rel", "Sat", "Abs")
_SRGB_NAMES = {"sRGB", *(f"{space}_{i}_SRG" for space in ("RGB_D65_SRG", "Gra_D65") for i in _INTENTS)}
"""libjxl's descriptions of the profiles that it makes for sRGB, and for grey with its curve."""

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class JxlHeader:
    """The beginning of a codestream.

    Attributes:
        width, height (int): size of the upright picture in pixels.
        animated (bool): whether there are several frames in time.
        floating (bool): whether samples are floating-point values.
    """

    width: int
    height: int
    animated: bool
    floating: bool


def is_jxl(head: bytes) -> bool:
    """Return whether the first 12 bytes of a file are those of a JPEG XL file, with or without a container."""
    return head.startswith((_CODESTREAM, _CONTAINER))


def read_jxl_header(file: EncodedImage) -> JxlHeader:
    """Read the size and kind of a picture without decoding it.

    Raises:
        ImageReadError: The header is truncated or damaged.
    """
    with file.stream() as stream:
        data = _codestream_start(stream)
    if not data.startswith(_CODESTREAM):
        raise ImageReadError(f"{file.name}: is truncated or damaged (no JPEG XL codestream)")
    try:
        return _parsed(_Bits(data[2:]))
    except EOFError:
        raise ImageReadError(f"{file.name}: is truncated or damaged (its header ends early)") from None


def decode_jxl(file: EncodedImage, header: JxlHeader) -> tuple[Pixels, dict[str, Any]]:
    """Decode a picture.

    Args:
        file (EncodedImage): the file.
        header (JxlHeader): its header.

    Returns:
        tuple: upright samples (H, W, 1 to 4) of uint8 or uint16, and metadata under Pillow's names: "exif", "xmp",
        "icc_profile". No profile means sRGB.

    Raises:
        ImageReadError: The file is animated, or its samples are floating-point values, of more than 16 bits or CMYK.
        RuntimeError: The file is damaged.
    """
    import pyjpegxl

    if header.animated:
        raise ImageReadError(f"{file.name}: is an animation; extract the frame you want")
    if header.floating:
        raise ImageReadError(f"{file.name}: contains floating-point values; convert it to 8 or 16 bits first")
    with file.stream() as stream:
        found, samples = _called(pyjpegxl.decode_to_numpy, stream.read())
    if samples.dtype not in (np.uint8, np.uint16):
        raise ImageReadError(f"{file.name}: contains {found.bits_per_sample} bits; convert it to 8 or 16 bits first")
    if samples.shape[:2] != (header.height, header.width):
        raise RuntimeError(f"{samples.shape[1]}x{samples.shape[0]} pixels instead of {header.width}x{header.height}")
    if found.icc and found.icc[16:20] == b"CMYK":
        raise ImageReadError(f"{file.name}: contains CMYK; convert it to RGB first")
    icc = None if found.icc is None or _is_srgb(found.icc) else found.icc
    return samples, {"exif": _exif_of_box(found.exif), "xmp": found.xmp, "icc_profile": icc}


def write_jxl(picture: Picture, file: IO[bytes], quality: int, lossless: bool) -> None:
    """Encode a picture with 8 or 16 bits, its transparency and metadata.

    Args:
        picture (Picture): the picture.
        file (binary file): where to write.
        quality (int): 1 to 100.
        lossless (bool): keep every value; ``quality`` has no effect then.

    Raises:
        RuntimeError: The encoder failed.
    """
    import pyjpegxl

    samples = picture.pixels if picture.alpha is None else np.dstack([picture.pixels, picture.alpha])
    metadata = picture.metadata
    data = _called(
        pyjpegxl.encode_from_numpy,
        np.ascontiguousarray(samples),
        lossless=lossless,
        quality=butteraugli_distance(quality),
        speed=pyjpegxl.EncoderSpeed.Falcon if lossless else pyjpegxl.EncoderSpeed.Hare,  # later ones: about same sizes
        exif=metadata.exif and bytes(4) + metadata.exif,  # the box begins with the offset of the block
        xmp=metadata.xmp,
        icc=metadata.icc,
    )
    file.write(data)


def butteraugli_distance(quality: int) -> float:
    """Return the distance that libjxl's tools use for a quality of 1 to 100: 1, visually lossless, for 90."""
    if quality >= 30:
        return 0.1 + (100 - quality) * 0.09
    return min(15.0, 53 / 3000 * quality**2 - 23 / 20 * quality + 25)


def _called(function: Callable[..., _Result], *args: Any, **kwargs: Any) -> _Result:
    """Call the binding. A failed assertion in it, which is no Exception, becomes one."""
    try:
        return function(*args, **kwargs)
    except BaseException as error:
        if type(error).__name__ == "PanicException":
            raise RuntimeError(f"the codec failed: {error}") from None
        raise


def _exif_of_box(data: bytes | None) -> bytes | None:
    """Return the EXIF block of a box, which begins with its offset. Some writers omit it."""
    if not data or data[:2] in (b"II", b"MM"):
        return data
    return data[4 + int.from_bytes(data[:4], "big") :] or None


def _is_srgb(icc: bytes) -> bool:
    """Return whether a profile is the one that libjxl makes for a picture declared as sRGB."""
    if icc[4:8] != b"jxl ":
        return False
    try:
        return ImageCms.getProfileDescription(BytesIO(icc)).strip() in _SRGB_NAMES
    except (ImageCms.PyCMSError, OSError):
        return False


def _codestream_start(stream: BinaryIO) -> bytes:
    """Return the first bytes of the codestream, which a container may keep in several boxes."""
    head = stream.read(len(_CONTAINER))
    if head != _CONTAINER:
        return head + stream.read(_HEADER_BYTES)
    data = b""
    for kind, start, end in top_boxes(stream):
        if kind in (b"jxlc", b"jxlp") and len(data) < _HEADER_BYTES:
            start += 4 if kind == b"jxlp" else 0  # a part begins with its number
            stream.seek(start)
            data += stream.read(max(0, min(_HEADER_BYTES, end - start)))
    return data


class _Bits:
    """Numbers in a codestream, the least significant bit first."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "little"), 8 * len(data)

    def take(self, count: int) -> int:
        """Return the next ``count`` bits.

        Raises:
            EOFError: There are fewer.
        """
        if count > self._left:
            raise EOFError
        number = self._value & ((1 << count) - 1)
        self._value, self._left = self._value >> count, self._left - count
        return number

    def choice(self, options: tuple[tuple[int, int], ...]) -> int:
        """Return a number after a selector of its smallest value and its bits."""
        smallest, bits = options[self.take(2)]
        return smallest + self.take(bits)


def _parsed(bits: _Bits) -> JxlHeader:
    width, height = _size(bits)
    animated, floating = False, False
    if not bits.take(1):  # not everything is as usual
        if bits.take(1):
            if bits.take(3) >= 4:  # the EXIF orientation less 1
                width, height = height, width
            if bits.take(1):
                _size(bits)  # the intrinsic size
            if bits.take(1):
                _skip_preview(bits)
            animated = bool(bits.take(1))
        floating = not animated and bool(bits.take(1))
    return JxlHeader(width, height, animated, floating)


def _size(bits: _Bits) -> tuple[int, int]:
    in_eighths = bits.take(1)

    def side() -> int:
        return (bits.take(5) + 1) * 8 if in_eighths else bits.choice(_SIZES)

    height = side()
    ratio = bits.take(3)
    if not ratio:
        return side(), height
    across, down = _RATIOS[ratio]
    return height * across // down, height


def _skip_preview(bits: _Bits) -> None:
    options = _PREVIEW_EIGHTHS if bits.take(1) else _PREVIEW_SIZES
    bits.choice(options)
    if not bits.take(3):
        bits.choice(options)
