"""Names of files that are not read, found from their content, with what to do about each."""

from __future__ import annotations

import struct
from typing import BinaryIO

HEAD_BYTES = 1024
"""Bytes from the beginning of a file that :func:`kind_of` needs."""

_SAVE = "save it as PNG, TIFF or JPEG"
_EXPORT = "export it as PNG, TIFF or JPEG"
_TONE_MAP = "tone-map it and save it as PNG, TIFF or JPEG"
_DEVELOP = "develop it with a raw converter to TIFF or JPEG"
_UNPACK = "unpack it"
_FRAME = "save the frame you want as PNG"
_VIDEO = "restore it with 'tsdsr video', or save the frame you want as PNG"

_STARTS: tuple[tuple[bytes, str, str], ...] = (
    (b"GIF87a", "a GIF", _FRAME),
    (b"GIF89a", "a GIF", _FRAME),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 image", _SAVE),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 image", _SAVE),
    (b"II\xbc", "a JPEG XR image", _SAVE),
    (b"\x8bJNG", "a JNG image", _SAVE),
    (b"\x8aMNG", "an MNG animation", _FRAME),
    (b"FUJIFILMCCD-RAW", "a camera's raw file (Fujifilm)", _DEVELOP),
    (b"IIRO", "a camera's raw file (Olympus)", _DEVELOP),
    (b"IIRS", "a camera's raw file (Olympus)", _DEVELOP),
    (b"MMOR", "a camera's raw file (Olympus)", _DEVELOP),
    (b"IIU\0", "a camera's raw file (Panasonic or Leica)", _DEVELOP),
    (b"FOVb", "a camera's raw file (Sigma)", _DEVELOP),
    (b"\0MRM", "a camera's raw file (Minolta)", _DEVELOP),
    (b"II\x1a\0\0\0HEAPCCDR", "a camera's raw file (Canon)", _DEVELOP),
    (b"\x76\x2f\x31\x01", "an OpenEXR image, whose values have no upper limit", _TONE_MAP),
    (b"#?RADIANCE", "a Radiance HDR image, whose values have no upper limit", _TONE_MAP),
    (b"#?RGBE", "a Radiance HDR image, whose values have no upper limit", _TONE_MAP),
    (b"8BPS", "a Photoshop document", _EXPORT),
    (b"gimp xcf", "a GIMP document", _EXPORT),
    (b"%PDF", "a PDF", "export the page or picture you want as PNG"),
    (b"%!PS", "a PostScript file", _EXPORT),
    (b"\xc5\xd0\xd3\xc6", "a PostScript file", _EXPORT),
    (b"AT&TFORM", "a DjVu document", "export the page you want as PNG"),
    (b"DDS ", "a DDS texture", _SAVE),
    (b"qoif", "a QOI image", _SAVE),
    (b"BPG\xfb", "a BPG image", _SAVE),
    (b"FLIF", "a FLIF image", _SAVE),
    (b"icns", "a macOS icon", _EXPORT),
    (b"\0\0\1\0", "a Windows icon", _EXPORT),
    (b"\0\0\2\0", "a Windows cursor", _EXPORT),
    (b"\xd7\xcd\xc6\x9a", "a WMF drawing", _EXPORT),
    (b"SIMPLE  =", "a FITS image", "scale its values to 8 or 16 bits and save it as PNG or TIFF"),
    *((b"P" + digit + b"\n", "a PNM image", _SAVE) for digit in (b"1", b"2", b"3", b"4", b"5", b"6", b"7")),
    *((b"P" + digit + b" ", "a PNM image", _SAVE) for digit in (b"1", b"2", b"3", b"4", b"5", b"6")),
    (b"PF\n", "a PFM image of floating-point values", _TONE_MAP),
    (b"\x1aE\xdf\xa3", "a video", _VIDEO),
    (b"\0\0\1\xba", "a video", _VIDEO),
    (b"\0\0\1\xb3", "a video", _VIDEO),
    (b"FLV\1", "a video", _VIDEO),
    (b"0&\xb2u\x8ef\xcf\x11", "a video", _VIDEO),
    (b"OggS", "a sound or video file", _VIDEO),
    (b"ID3", "a sound file", "give an image"),
    (b"fLaC", "a sound file", "give an image"),
    (b"version https://git-lfs", "a Git LFS pointer, not the image itself", "fetch the image with 'git lfs pull'"),
    (b"PK\3\4", "a ZIP archive or a document in one", _UNPACK),
    (b"PK\5\6", "an empty ZIP archive", "give an image"),
    (b"\x1f\x8b", "a gzip archive", _UNPACK),
    (b"BZh", "a bzip2 archive", _UNPACK),
    (b"\xfd7zXZ\0", "an xz archive", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", _UNPACK),
    (b"Rar!", "a RAR archive", _UNPACK),
    (b"\0\5\x16\7", "a macOS side file with attributes, not the image itself", "use the file without '._'"),
    (b"bplist00", "a macOS property list", "download the image from iCloud first"),
    (b"L\0\0\0\1\x14\2\0", "a Windows shortcut", "give the file it leads to"),
    (b"book\0\0\0\0mark", "a macOS alias", "give the file it leads to"),
    (b"\x93NUMPY", "a NumPy array", _SAVE),
    (b"\x89HDF", "an HDF5 file", _EXPORT),
    (b"SQLite format 3", "a database", "give an image"),
    (b"\x7fELF", "a program", "give an image"),
    (b"MZ", "a program", "give an image"),
)
"""Start of a file, what it is, and what to do."""

_VIDEO_BRANDS = (
    b"isom",
    b"iso2",
    b"iso4",
    b"iso5",
    b"iso6",
    b"mp41",
    b"mp42",
    b"avc1",
    b"M4V ",
    b"qt  ",
    b"3gp",
    b"MSNV",
)
_RIFF = {b"AVI ": ("a video", _VIDEO), b"WAVE": ("a sound file", "give an image")}
_JPEG_PROCESSES = {
    3: "lossless", 5: "hierarchical", 6: "hierarchical", 7: "hierarchical lossless", 9: "arithmetic-coded",
    10: "arithmetic-coded", 11: "arithmetic-coded lossless", 13: "hierarchical", 14: "hierarchical",
    15: "hierarchical lossless", 55: "near-lossless (LS)",
}  # fmt: skip

_TEXT = "a text, not an image"


def kind_of(head: bytes) -> str | None:
    """Return what a file is that is not read, and what to do, as the predicate of a sentence.

    Args:
        head (bytes): its first :data:`HEAD_BYTES` bytes.

    Returns:
        str | None: "is a GIF, which is not supported; save the frame you want as PNG"; None if it is not known.
    """
    if not head:
        return "is empty; copy or download it again"
    if not any(head):
        return "begins with nothing but zero bytes, so its content is lost; copy or download it again"
    what, remedy = _known(head) or (None, None)
    if what is None:
        return None
    unsupported = "" if what == _TEXT else ", which is not supported"
    return f"is {what}{unsupported}; {remedy}"


def is_heif(head: bytes) -> bool:
    """Return whether the first bytes of a file are those of a HEIC or HEIF image."""
    return head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1", b"hevc")


def _known(head: bytes) -> tuple[str, str] | None:
    if _is_tga(head):
        return "a TGA image", _SAVE
    for start, what, remedy in _STARTS:
        if head.startswith(start):
            return what, remedy
    if head[4:8] == b"ftyp":
        if head[8:11] == b"crx":
            return "a camera's raw file (Canon)", _DEVELOP
        if head[8:12].startswith(_VIDEO_BRANDS):
            return "a video", _VIDEO
    if head[4:8] in (b"moov", b"mdat", b"wide", b"free"):
        return "a video", _VIDEO
    if head[:4] == b"RIFF" and head[8:12] in _RIFF:
        return _RIFF[head[8:12]]
    if head[128:132] == b"DICM":
        return "a DICOM image", _EXPORT
    if head[257:262] == b"ustar":
        return "a tar archive", _UNPACK
    return _text(head)


def _is_tga(head: bytes) -> bool:
    """Whether a file begins as a TGA without colour map: no signature, and the start of a Windows cursor with none."""
    if len(head) < 18 or head[:2] != b"\0\0" or any(head[3:8]):
        return False
    return head[2] in (2, 3, 10, 11) and head[16] in (8, 15, 16, 24, 32)  # kind of image, bits per pixel


def _text(head: bytes) -> tuple[str, str] | None:
    """Recognise kinds of text; None for anything else."""
    encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    text = head.decode(encoding, errors="replace").lstrip().lower()
    whole = text[:-4] if len(head) >= HEAD_BYTES else text  # the last character may be cut
    if not whole or any(not character.isprintable() and not character.isspace() for character in whole):
        return None
    if "<svg" in text:
        return "an SVG drawing", "export it as PNG"
    if text.startswith(("<!doctype html", "<html", "<head", "<body")) or "<html" in text:
        return "a web page, not an image", "download the image itself"
    if text.startswith(("{", "[")):
        return "a JSON text, not an image", "give an image"
    if text.startswith("<"):
        return "an XML text, not an image", "give an image"
    return None if "\ufffd" in whole else (_TEXT, "give an image")


def jpeg_process(stream: BinaryIO) -> str | None:
    """Return which uncommon kind of JPEG a file is. Whether it can be decoded depends on the libjpeg in Pillow.

    Args:
        stream (binary file): at the start of the file.

    Returns:
        str | None: a predicate, "is a 12-bit JPEG, which cannot be decoded; …"; None for a usual or a damaged JPEG.
    """
    if stream.read(2) != b"\xff\xd8":
        return None
    while True:
        marker = stream.read(4)
        if len(marker) < 4 or marker[0] != 0xFF:
            return None
        number, (length,) = marker[1] - 0xC0, struct.unpack(">H", marker[2:])
        if number in (0, 1, 2) or number in _JPEG_PROCESSES:
            break
        if marker[1] in (0xDA, 0xD9) or length < 2:
            return None
        stream.seek(length - 2, 1)
    precision = stream.read(1)
    how = _JPEG_PROCESSES.get(number)
    if how is None and precision not in (b"\x08", b""):
        how = f"{precision[0]}-bit"
    if how is None:
        return None
    article = "an" if how.startswith("a") else "a"
    return f"is {article} {how} JPEG, which cannot be decoded; save it as PNG or a common 8-bit JPEG"
