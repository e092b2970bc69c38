"""Inputs of a run: its files, and fingerprints to recognise them when it is resumed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsdsr.data.photographs import Photo, ShardPhoto
from tsdsr.data.shard_photos import ShardSource
from tsdsr.data.sources import Source
from tsdsr.errors import TrainingError
from tsdsr.hashing import fingerprint_file, fingerprint_folder, hash_text
from tsdsr.models.zoo import get_spec
from tsdsr.training.config import NetworkSettings
from tsdsr.training.samples import TrainingData
from tsdsr.training.stored_config import settings_from_json

FORMAT = 5
"""Version of the checkpoint format. Format 4 can be read too."""

TEACHER = "teacher"
"""Name of a teacher's folder and of its LoRA file in a run folder."""

MAY_CHANGE = ("accumulation",)
"""Settings that a resumed run may change, because they change results only by rounding."""


class RunMismatchError(TrainingError):
    """A folder holds a run that was made from other settings or inputs.

    Attributes:
        changed (list of str): what differs, in the form ``seed: 0 before, 1 now``.
    """

    def __init__(self, folder: Path, kind: str, changed: list[str]) -> None:
        self.changed = changed
        super().__init__(
            f"{folder}: contains a run with other {kind} ({'; '.join(changed[:5])}); start it as it was, "
            f"or choose another output folder"
        )


@dataclass(frozen=True)
class RunFiles:
    """Paths of a run's inputs.

    Attributes:
        base (Path | None): diffusers folder of the base model; `mini` has none.
        teacher (Path | None): a teacher made by ``tsdsr train teacher``: a folder for `mini`, a LoRA file otherwise.
        student (Path | None): initial weights of the student: a pipeline folder for `mini`, a folder of released LoRA
            files otherwise.
        cache (Path | None): text embeddings made by ``tsdsr data cache``.
        prompts (Path | None): folder of text files, one per photograph.
        photos (tuple of str): photographs, as :func:`tsdsr.data.sources.open_source` takes them.
        shards (tuple of str): photographs in shards, as :func:`tsdsr.data.shard_index.open_shards` takes them.
    """

    base: Path | None = None
    teacher: Path | None = None
    student: Path | None = None
    cache: Path | None = None
    prompts: Path | None = None
    photos: tuple[str, ...] = ()
    shards: tuple[str, ...] = ()

    def to_plain(self) -> dict[str, str | list[str]]:
        """Return the given paths as strings; folders become absolute."""
        folders = {k: os.path.abspath(v) for k, v in vars(self).items() if isinstance(v, Path)}
        return {**folders, "photos": list(self.photos), "shards": list(self.shards)}

    @classmethod
    def from_plain(cls, plain: Mapping[str, str | Sequence[str]]) -> RunFiles:
        """Create from the output of :meth:`to_plain`."""
        folders = {k: Path(v) for k, v in plain.items() if isinstance(v, str)}
        return cls(photos=tuple(plain["photos"]), shards=tuple(plain.get("shards", ())), **folders)


def subfolder_or_self(folder: Path, name: str) -> Path:
    """Return ``folder/name`` if it exists, else the folder."""
    inside = folder / name
    return inside if inside.is_dir() else folder


def fingerprints(files: RunFiles, settings: NetworkSettings) -> dict[str, str]:
    """Compute fingerprints of the weights a run starts from, independent of their location.

    Args:
        files (RunFiles): paths that exist.
        settings (NetworkSettings): which parts of the base model are used.

    Returns:
        dict: ``base``, ``teacher``, ``init``; only those that are given.
    """
    found = {}
    spec = get_spec(settings.model)
    if files.base is not None and settings.lora_rank is not None:
        found["base"] = fingerprint_folder(files.base, (spec.denoiser_subfolder, "vae"))
    for name, path, inside in (("teacher", files.teacher, TEACHER), ("init", files.student, "denoiser")):
        if path is not None and path.is_file():
            found[name] = fingerprint_file(path)
        elif path is not None:
            found[name] = fingerprint_folder(subfolder_or_self(path, inside), (".",))
    return {name: digest[:16] for name, digest in found.items()}


def photographs_fingerprint(data: TrainingData) -> str:
    """Return number, bytes and a hash of the photographs: names, sizes, both ends of each file, prompts and weights.

    Names are relative to the common folder of a source's images, so moving the folder does not change the result.
    Shards are not read: their index stands for them.
    """
    digest = hashlib.sha256()
    count = total = 0
    with ThreadPoolExecutor(8) as pool:
        for source in (*data.sources, None):
            digest.update(f"{source.weight if source else 0.0:g}\n".encode())
            if isinstance(source, ShardSource):
                digest.update(source.images.fingerprint().encode() + b"\n")
                count, total = count + len(source.images), total + source.images.total_bytes
                continue
            images, root = (source.images, source.root) if isinstance(source, Source) else (data.validation, None)
            for photo, (size, content) in zip(images, pool.map(_size_and_content, images), strict=True):
                name = photo.relative_to(root).as_posix() if root and isinstance(photo, Path) else photo.name
                digest.update(os.fsencode(name))
                text = "" if isinstance(photo, ShardPhoto) else data.prompt(photo)
                digest.update(f" {size} {content} ".encode() + hash_text(text).encode() + b"\n")
                count, total = count + 1, total + size
    return f"{count} files, {total} bytes, {digest.hexdigest()[:16]}"


def _size_and_content(photo: Photo) -> tuple[int, str]:
    """Return a photograph's size and fingerprint; zero and nothing if it cannot be read, as training leaves it out."""
    if isinstance(photo, ShardPhoto):
        return photo.size, f"{photo.offset}"
    try:
        return photo.stat().st_size, fingerprint_file(photo)
    except OSError:
        return 0, ""


def flat(settings: Any, path: str = "") -> dict[str, Any]:
    """Flatten nested JSON values to ``{"phases.0.steps": 100}``."""
    if isinstance(settings, dict | list):
        pairs = settings.items() if isinstance(settings, dict) else enumerate(settings)
        return {k: v for key, value in pairs for k, v in flat(value, f"{path}.{key}".lstrip(".")).items()}
    return {path: settings}


def differences(recorded: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """List the differences between two records in the form ``seed: 0 before, 1 now``."""
    names = [n for n in dict.fromkeys((*recorded, *found)) if recorded.get(n) != found.get(n)]
    return [f"{name}: {recorded.get(name, 'none')} before, {found.get(name, 'none')} now" for name in names]


def require_same_settings(folder: Path, state: Mapping[str, Any], config: str) -> None:
    """Check that a checkpoint is one of a run with these settings, except for :data:`MAY_CHANGE`.

    Args:
        folder (Path): run folder, for messages.
        state (mapping): the checkpoint, or its description.
        config (str): settings of the run as JSON.

    Raises:
        TrainingError: the checkpoint is from another run or in another format; the message names what differs.
    """
    if state.get("format") != FORMAT:
        raise TrainingError(f"{folder}: contains a run of another version; choose another output folder")
    recorded, wanted = (settings_from_json(text) for text in (state["config"], config))
    kinds = ["student" if "pairs" in settings else "teacher" for settings in (recorded, wanted)]
    if kinds[0] != kinds[1]:
        raise TrainingError(f"{folder}: contains a {kinds[0]}'s run; choose another output folder for a {kinds[1]}")
    for settings in (recorded, wanted):
        for name in MAY_CHANGE:
            settings.pop(name, None)
    if changed := differences(flat(recorded), flat(wanted)):
        raise RunMismatchError(folder, "settings", changed)


def require_same_run(folder: Path, state: Mapping[str, Any], config: str, made_from: Mapping[str, str]) -> None:
    """Check that a checkpoint belongs to the run to be resumed.

    Args:
        folder (Path): run folder, for messages.
        state (mapping): the checkpoint.
        config (str): settings of the run as JSON.
        made_from (mapping): fingerprints of its photographs and weights, and its precision.

    Raises:
        TrainingError: see :func:`require_same_settings`; also for other files or another precision.
    """
    require_same_settings(folder, state, config)
    if changed := differences(state["made_from"], made_from):
        raise RunMismatchError(folder, "files or precision", changed)
