"""Matching of images across folders by file stem. Every image needs a match."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tsdsr.data.sources import PAIR_SUFFIXES, files_by_stem
from tsdsr.errors import DatasetError
from tsdsr.images.reading import read_size

DEFAULT_SUFFIXES = PAIR_SUFFIXES
"""Stem endings to ignore, such as ``_HR`` and ``_LR4`` of RealSR."""

_LISTED = 10


def match_folders(
    folders: Mapping[str, Path], suffixes: Sequence[str] = DEFAULT_SUFFIXES
) -> list[tuple[str, dict[str, Path]]]:
    """Match the images of several folders.

    Args:
        folders (mapping): label → folder.
        suffixes (sequence of str): stem endings to ignore.

    Returns:
        list of (str, dict): stem and mapping label → file, sorted by stem.

    Raises:
        InvalidInputError: A folder is missing or contains no image.
        DatasetError: Images are missing in a folder; the message lists them.
    """
    found = {label: files_by_stem(folder, suffixes) for label, folder in folders.items()}
    everything = sorted(set().union(*found.values()))
    complaints = []
    for label, files in found.items():
        if missing := [stem for stem in everything if stem not in files]:
            complaints.append(f"{folders[label]} lacks {_listed(missing)}")
    if complaints:
        raise DatasetError(
            f"files are matched by stem, without the endings {', '.join(suffixes)}; unmatched: {'; '.join(complaints)}"
        )
    return [(stem, {label: files[stem] for label, files in found.items()}) for stem in everything]


def check_sizes(pairs: Sequence[tuple[Path, Path]]) -> None:
    """Check that both images of every pair have the same size, before the slow scoring starts.

    Raises:
        DatasetError: Some sizes differ; the message lists the pairs with their sizes.
        ImageReadError: A file cannot be read.
    """
    wrong = []
    for first, second in pairs:
        (w1, h1), (w2, h2) = read_size(first), read_size(second)
        if (w1, h1) != (w2, h2):
            wrong.append(f"{first} is {w1}x{h1}, {second} is {w2}x{h2}")
    if wrong:
        raise DatasetError(f"{len(wrong)} of {len(pairs)} pairs differ in size: {_listed(wrong, '; ')}")


def _listed(names: Sequence[str], separator: str = ", ") -> str:
    rest = len(names) - _LISTED
    return separator.join(names[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")
