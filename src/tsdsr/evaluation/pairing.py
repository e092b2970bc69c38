"""Matching of images across folders by name. Every image needs a match."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath

from tsdsr.data.sources import list_photos
from tsdsr.errors import DatasetError, ImageReadError
from tsdsr.files import StrPath
from tsdsr.images.reading import read_size

DEFAULT_SUFFIXES = ("_LR4", "_LR", "_HR", "_lq", "_hq", "x4", "_x4")
"""Stem endings to ignore, such as ``_HR`` and ``_LR4`` of RealSR."""

_LISTED = 10


def images_by_name(
    folder: StrPath, suffixes: Sequence[str] = DEFAULT_SUFFIXES, leave_out: Iterable[StrPath] = ()
) -> dict[str, Path]:
    """Map names to the image files below a folder, sorted by file.

    Args:
        folder (str | PathLike): the folder.
        suffixes (sequence of str): stem endings to ignore.
        leave_out (iterable of str | PathLike): folders below it that are not entered.

    Returns:
        dict: the path relative to the folder, with ``/``, without the file's suffix and an ignored ending → file.

    Raises:
        InvalidInputError: The folder is missing or contains no image.
        ImageReadError: A folder cannot be read.
        DatasetError: Two files of one subfolder have the same name.
    """
    folder = Path(folder)
    found: dict[str, Path] = {}
    for path in list_photos(folder, leave_out):
        inner = path.relative_to(folder)
        stem = inner.stem
        for suffix in sorted(suffixes, key=len, reverse=True):
            if suffix and stem.endswith(suffix) and stem != suffix:
                stem = stem.removesuffix(suffix)
                break
        # File systems store accented letters in one form or the other: "é" as one character or as two.
        name = unicodedata.normalize("NFC", inner.with_name(stem).as_posix())
        if name in found:
            other = found[name].relative_to(folder)
            raise DatasetError(f"{folder}: {other} and {inner} would both be called {name!r}; rename or move one")
        found[name] = path
    return found


def match_folders(
    folders: Mapping[str, StrPath],
    suffixes: Sequence[str] = DEFAULT_SUFFIXES,
    leave_out: Iterable[StrPath] = (),
) -> list[tuple[str, dict[str, Path]]]:
    """Match the images of several folders.

    If no folder holds a stem twice, images are matched by stem, wherever they lie; otherwise by relative path.

    Args:
        folders (mapping): label → folder.
        suffixes (sequence of str): stem endings to ignore.
        leave_out (iterable of str | PathLike): folders that are not entered.

    Returns:
        list of (str, dict): name and mapping label → file, sorted by name.

    Raises:
        InvalidInputError: A folder is missing or contains no image.
        ImageReadError: A folder cannot be read.
        DatasetError: Images are missing in a folder; the message lists them.
    """
    leave_out = tuple(leave_out)
    found = {label: images_by_name(folder, suffixes, leave_out) for label, folder in folders.items()}
    short = {label: {PurePath(name).name: path for name, path in files.items()} for label, files in found.items()}
    by_stem = all(len(short[label]) == len(files) for label, files in found.items())
    if by_stem:
        found = short
    everything = sorted(set().union(*found.values()))
    complaints = []
    for label, files in found.items():
        if missing := [name for name in everything if name not in files]:
            complaints.append(f"{folders[label]} lacks {_listed(missing)}")
    if complaints:
        how = "stem" if by_stem else "path within the folder, as stems repeat"
        endings = f", without the endings {', '.join(suffixes)}" if suffixes else ""
        raise DatasetError(f"files are matched by {how}{endings}; unmatched: {'; '.join(complaints)}")
    return [(name, {label: files[name] for label, files in found.items()}) for name in everything]


def check_sizes(pairs: Sequence[tuple[Path, Path]]) -> None:
    """Check that both images of every pair have the same size, before the slow scoring starts.

    Pairs with a file that cannot be read are left to the caller's decoding, which reports them.

    Raises:
        DatasetError: Some sizes differ; the message lists the pairs with their sizes.
    """
    wrong = []
    for first, second in pairs:
        try:
            (w1, h1), (w2, h2) = read_size(first), read_size(second)
        except ImageReadError:
            continue
        if (w1, h1) != (w2, h2):
            wrong.append(f"{first} is {w1}x{h1}, {second} is {w2}x{h2}")
    if wrong:
        raise DatasetError(f"{len(wrong)} of {len(pairs)} pairs differ in size: {_listed(wrong, '; ')}")


def _listed(names: Sequence[str], separator: str = ", ") -> str:
    rest = len(names) - _LISTED
    return separator.join(names[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")
