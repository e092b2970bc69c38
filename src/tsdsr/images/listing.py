"""List the images of a folder: which files count as images, and which are left out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tsdsr.errors import ImageReadError
from tsdsr.files import StrPath
from tsdsr.images.formats import FORMATS
from tsdsr.wording import counted

HIDDEN = "hidden or system file"
"""Key of :attr:`Listing.skipped` for hidden images and folders; a folder counts as one."""

LINKED = "linked folder"
"""Key of :attr:`Listing.skipped` for links to folders, which are not followed."""

_SYSTEM_NAMES = {
    "__macosx",  # resource forks in archives made by macOS
    "@eadir",  # thumbnails of Synology
    "@tmp",
    "#recycle",
    "#snapshot",
    "@__thumb",  # thumbnails of QNAP
    "@recycle",
    "@recently-snapshot",
    "$recycle.bin",
    "system volume information",
    "recycler",
    "lost+found",
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "picasa.ini",
}


@dataclass(frozen=True)
class Listing:
    """The images below a folder.

    Attributes:
        images (tuple of Path): paths relative to the folder, sorted.
        skipped (mapping): number of files left out, by suffix in lower case ("" if there is none). :data:`HIDDEN`
            and :data:`LINKED` are keys too.
    """

    images: tuple[Path, ...]
    skipped: Mapping[str, int]


def list_images(
    folder: StrPath, leave_out: Iterable[StrPath] = (), on_error: Callable[[Path, ImageReadError], None] | None = None
) -> Listing:
    """List the image files below a folder. Every command lists folders with this function.

    A file is an image if its suffix is in :data:`~tsdsr.images.formats.FORMATS`. Broken links are listed, so that
    reading reports them. Hidden and system files and folders are skipped.

    Args:
        folder (str | PathLike): the folder; its own name may be hidden.
        leave_out (iterable of str | PathLike): folders below it that are not entered.
        on_error (callable | None): called with each subfolder that cannot be read, and its error; None raises it.

    Raises:
        ImageReadError: the folder is missing or cannot be read, or a subfolder cannot and ``on_error`` is None.
    """
    skipped: Counter[str] = Counter()
    images = sorted(iterate_images(folder, skipped, leave_out, on_error), key=lambda path: path.parts)
    return Listing(tuple(images), dict(sorted(skipped.items())))


def iterate_images(
    folder: StrPath,
    skipped: Counter[str],
    leave_out: Iterable[StrPath] = (),
    on_error: Callable[[Path, ImageReadError], None] | None = None,
) -> Iterator[Path]:
    """Yield the paths of :func:`list_images` as they are found, in any order, and count in ``skipped`` the rest.

    Raises:
        ImageReadError: see :func:`list_images`.
    """
    root = Path(folder)
    closed = {os.path.realpath(path) for path in leave_out}
    waiting = [Path()]
    while waiting:
        inner = waiting.pop()
        try:
            with os.scandir(root / inner) as entries:
                for entry in entries:
                    if _is_image(entry, inner, skipped, waiting):
                        yield inner / entry.name
        except OSError as error:
            failure = ImageReadError(f"{root / inner}: the folder cannot be read ({error.strerror or error})")
            if on_error is None or inner == Path():
                raise failure from error
            on_error(root / inner, failure)
        if closed:
            waiting = [path for path in waiting if os.path.realpath(root / path) not in closed]


def is_hidden(name: str) -> bool:
    """Return whether the name of a file or folder is hidden, or one that operating systems and NAS devices create."""
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


def describe_skipped(skipped: Mapping[str, int]) -> str:
    """Return :attr:`Listing.skipped` in words, such as "2 .gif, 1 .mov"."""
    return ", ".join(
        counted(count, kind) if kind and not kind.startswith(".") else f"{count} {kind or 'without a suffix'}"
        for kind, count in skipped.items()
    )


def _is_image(entry: os.DirEntry[str], inner: Path, skipped: Counter[str], waiting: list[Path]) -> bool:
    """Return whether an entry of a folder is an image; add others to the folders to be read, or to what is left out."""
    path = inner / entry.name
    suffix = path.suffix.lower()
    is_folder = entry.is_dir(follow_symlinks=False)
    if is_hidden(entry.name):
        if (is_folder or suffix in FORMATS) and not entry.name.startswith(".tsdsr-"):  # this program's own
            skipped[HIDDEN] += 1
    elif is_folder:
        waiting.append(path)
    elif entry.is_symlink() and os.path.isdir(entry.path):
        skipped[LINKED] += 1
    elif suffix in FORMATS:
        return True
    else:
        skipped[suffix] += 1
    return False
