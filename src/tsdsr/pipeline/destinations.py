"""Names of results: whether an output is a file or a folder, and when two names are one file."""

from __future__ import annotations

import difflib
import os
import tempfile
import unicodedata
from pathlib import Path

from tsdsr.errors import InvalidInputError
from tsdsr.images.formats import FORMATS

_OTHER_FORMATS = {
    ".apng", ".arw", ".avi", ".avifs", ".cr2", ".cr3", ".cur", ".dcm", ".dds", ".dng", ".emf", ".eps", ".exr",
    ".fits", ".gif", ".hdr", ".heics", ".icns", ".ico", ".j2c", ".j2k", ".jp2", ".jpc", ".jpf", ".jpm", ".jpx",
    ".jxr", ".kra", ".m4v", ".mkv", ".mng", ".mov", ".mp4", ".mpeg", ".mpg", ".nef", ".orf", ".pam", ".pbm",
    ".pcx", ".pdf", ".pef", ".pgm", ".pict", ".pnm", ".ppm", ".ps", ".psb", ".psd", ".qoi", ".raf", ".raw", ".rw2",
    ".sgi", ".srw", ".svg", ".tga", ".webm", ".wmf", ".xbm", ".xcf", ".xpm",
}  # fmt: skip
"""Suffixes that mean an image or a video that cannot be written."""


def names_a_file(text: str, path: Path, suffix: str | None) -> bool:
    """Return whether an output is meant as a file.

    Raises:
        InvalidInputError: it has nothing before the suffix, or its suffix contradicts the wanted format or is that of a
            file that cannot be written.
    """
    if text.endswith((os.sep, "/")) or os.path.isdir(path):
        return False
    if path.name.lower() in FORMATS:
        raise InvalidInputError(f"{path}: has no name before its suffix; give one, or end a folder's name with /")
    ending = path.suffix.lower()
    if ending in FORMATS:
        if suffix is not None and FORMATS[suffix] != FORMATS[ending]:
            raise InvalidInputError(f"{path}: its suffix does not match the format {suffix[1:]}; leave one of them out")
        return True
    if ending in _OTHER_FORMATS or difflib.get_close_matches(ending, FORMATS, 1, 0.7):
        known = ", ".join(FORMATS)
        raise InvalidInputError(f"{path}: unknown image suffix; choose from {known}, or end a folder's name with /")
    return False


def with_format(relative: Path, suffix: str | None) -> Path:
    """Return the name of a result: in the wanted format, or in that of the input, or PNG if its suffix is unknown."""
    known = relative.suffix.lower() in FORMATS
    if known:
        return relative if suffix is None else relative.with_suffix(suffix)
    return relative.with_name(relative.name + (suffix or ".png"))  # what follows a dot here belongs to the name


def folded(path: Path) -> str:
    """Return a path in the form that the least distinguishing file system knows."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", str(path)).casefold())


def are_one_name(first: Path, second: Path) -> bool:
    """Return whether a file system takes two paths for one that differ in case or in the composition of letters."""
    folder, differing = Path(), ("", "")
    for ours, theirs in zip(first.parts, second.parts, strict=True):
        if ours != theirs:
            differing = (ours, theirs)
            break
        folder /= ours
    while not folder.is_dir():
        folder = folder.parent
    try:
        with tempfile.TemporaryDirectory(prefix=".tsdsr-", suffix=".tmp", dir=folder) as probe:
            (Path(probe) / differing[0]).touch()
            return (Path(probe) / differing[1]).exists()
    except OSError:
        return True  # the safe answer
