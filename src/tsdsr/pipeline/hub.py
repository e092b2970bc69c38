"""Models on a hub: downloading one with its revision, and uploading a model's folder. Imports no torch.

Only the files that a model needs are downloaded or uploaded, never a pickle.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

from tsdsr.errors import (
    GatedModelError,
    HubError,
    InvalidInputError,
    MissingDependencyError,
    ModelError,
    ModelNotFoundError,
    install_extra,
)
from tsdsr.files import StrPath, as_path
from tsdsr.models.network_config import CONFIG, WEIGHTS
from tsdsr.pipeline.model_card import CARD, model_card
from tsdsr.pipeline.model_files import EXPORT_INDEX, GRAPHS, MINI_FAST_GRAPH, MINI_GRAPH, MODEL_INDEX, PARTS

logger = logging.getLogger(__name__)

_STEM = WEIGHTS.partition(".")[0]
MODEL_FILES = (
    MODEL_INDEX,
    *(f"{part}/{CONFIG}" for part in PARTS),
    *(f"{part}/{_STEM}*.safetensors" for part in PARTS),  # in one file or several
    *(f"{part}/{WEIGHTS}.index.json" for part in PARTS),
    MINI_GRAPH,
    MINI_FAST_GRAPH,
    EXPORT_INDEX,
    *(f"{graph}{suffix}" for graph in GRAPHS for suffix in (".onnx", ".onnx.data", ".xml", ".bin")),
)
"""Patterns of the files of a model: those of a pipeline folder, then those of an exported one.

The ``.bin`` files are OpenVINO's: the plain numbers of the graph ``.xml`` beside them.
"""

_TEXTS = (CARD, "LICENSE*", "NOTICE*")
"""Patterns of files that are uploaded with a model and not needed to run it."""

PIPELINE_CLASS = "OneStepSRPipeline"
"""Class that the index of a pipeline folder names."""

_SECONDS = 10.0  # time to wait for the hub's first answer
_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)


class HubName(NamedTuple):
    """A model on the hub.

    Attributes:
        repo_id (str): "owner/name".
        revision (str | None): branch, tag or commit; None is the main branch.
    """

    repo_id: str
    revision: str | None

    def __str__(self) -> str:
        return self.repo_id if self.revision is None else f"{self.repo_id}@{self.revision}"


def parse_name(text: str) -> HubName | None:
    """Parse "owner/name" or "owner/name@revision"; None if the text is neither."""
    repo_id, at, revision = text.partition("@")
    if not _NAME.fullmatch(repo_id) or (at and not revision.strip()):
        return None
    return HubName(repo_id, revision or None)


def fetch_model(name: HubName) -> Path:
    """Download a model, unless it is cached, and return its folder.

    Without a connection, or if the hub refuses, the cached revision is used and named in a warning.

    Raises:
        ModelNotFoundError: unknown model or revision, or no connection and nothing cached.
        GatedModelError: access has not been granted.
        ModelError: it is no one-step model.
        MissingDependencyError: huggingface_hub is not installed.
    """
    return fetch_files(name, MODEL_FILES, _check_kind)


def fetch_files(
    name: HubName, patterns: tuple[str, ...], check: Callable[[HubName, list[str]], None] | None = None
) -> Path:
    """Download the files of a repository that match patterns, unless cached, and return its folder.

    Args:
        name (HubName): the repository.
        patterns (tuple of str): as in :mod:`fnmatch`.
        check (callable | None): called with the names of all files before any of them is downloaded.

    Raises:
        ModelNotFoundError, GatedModelError, MissingDependencyError: see :func:`fetch_model`.
    """
    hub = _require_hub(f"{name}: no such folder here, and a model on the hub")
    problem: Exception | None = None
    try:
        files = hub.HfApi().model_info(name.repo_id, revision=name.revision, timeout=_SECONDS).siblings
    except _failures(hub) as error:
        problem = error
    try:
        if problem is None and check is not None:
            check(name, [file.rfilename for file in files])
        folder = hub.snapshot_download(
            name.repo_id,
            revision=name.revision,
            allow_patterns=list(patterns),
            local_files_only=problem is not None,
        )
    except _failures(hub) as error:
        problem = problem or error
        raise _not_loaded(hub, name, problem) from problem
    if problem is not None:
        offline = isinstance(problem, hub.errors.OfflineModeIsEnabled)
        reason = "HF_HUB_OFFLINE is set" if offline else _reason(problem)
        logger.warning("%s: %s; the cached revision %s is used", name, reason, Path(folder).name[:12])
    return Path(folder)


def _check_kind(name: HubName, files: list[str]) -> None:
    """Check, before weights are downloaded, that a repository holds a one-step model.

    Raises:
        ModelNotFoundError, ModelError: it does not.
    """
    if EXPORT_INDEX in files:
        return
    if MODEL_INDEX not in files:
        raise ModelNotFoundError(
            f"{name}: is on the hub, but contains no {MODEL_INDEX} and no {EXPORT_INDEX}, so it is not a model for "
            f"tsdsr; upload one with 'tsdsr push'"
        )
    hub = _require_hub(f"{name}:")
    index = Path(hub.hf_hub_download(name.repo_id, MODEL_INDEX, revision=name.revision))
    try:
        found = json.loads(index.read_text(encoding="utf-8"))["_class_name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{name}: its {MODEL_INDEX} is not a valid pipeline index ({error!r})") from error
    if found != PIPELINE_CLASS:
        raise ModelError(
            f"{name}: contains a {found}, not a one-step pipeline; make one from a base model with 'tsdsr train', or "
            f"with 'tsdsr convert' and a LoRA"
        )


def push_folder(
    folder: StrPath,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
    commit_message: str | None = None,
) -> str:
    """Upload a pipeline folder or an exported folder to the hub, in one commit.

    Repository and branch are created if missing. Model files of the repository that this model does not have are
    deleted; other files stay. Without a ``README.md`` in the folder, a model card is written.

    Args:
        folder (str | PathLike): the model.
        repo_id (str): "owner/name".
        private (bool | None): whether a new repository is private; None is the owner's default.
        revision (str | None): branch to commit to; None is the main branch.
        token (str | None): access token with write permission; default: the one of ``hf auth login``, or ``HF_TOKEN``.
        commit_message (str | None): what changed.

    Returns:
        str: address of the commit.

    Raises:
        InvalidInputError: ``repo_id`` is not "owner/name", or ``private`` is set but the repository is public.
        ModelNotFoundError: the folder holds no model.
        GatedModelError: not logged in.
        HubError: the hub refused the upload, or cannot be reached.
        MissingDependencyError: huggingface_hub is not installed.
    """
    folder, hub = as_path(folder, "folder"), check_push(repo_id, revision)
    files = _files_to_push(folder)
    name = HubName(repo_id, revision)
    card = b"" if CARD in files else model_card(folder, repo_id).encode()
    with _push_errors(name):
        api = hub.HfApi(token=token)
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if private and api.model_info(repo_id).private is False:
            raise InvalidInputError(f"{repo_id}: exists and is public; make it private on its page, or choose a name")
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        add = [hub.CommitOperationAdd(path, str(folder / path)) for path in files]
        add += [hub.CommitOperationAdd(CARD, card)] if card else []
        stale = [
            path for path in api.list_repo_files(repo_id, revision=revision)
            if path not in files and matches(path, MODEL_FILES)
        ]  # fmt: skip
        commit = api.create_commit(
            repo_id,
            [*add, *(hub.CommitOperationDelete(path) for path in stale)],
            commit_message=commit_message or f"Upload {folder.name} with tsdsr",
            revision=revision,
        )
    return str(commit.commit_url)


def check_push(repo_id: str, revision: str | None) -> Any:
    """Check the arguments of an upload, and return huggingface_hub.

    Raises:
        InvalidInputError, MissingDependencyError: see :func:`push_folder`.
    """
    if not isinstance(repo_id, str) or not _NAME.fullmatch(repo_id):
        raise InvalidInputError(f"{repo_id!r}: give the name on the hub as 'owner/name'")
    if revision is not None and not revision.strip():
        raise InvalidInputError("revision: is empty; give the name of a branch, or leave it out")
    return _require_hub("uploading")


def _files_to_push(folder: Path) -> list[str]:
    """Return the files of a model, relative to its folder.

    Raises:
        ModelNotFoundError: the folder holds no model.
    """
    if not folder.is_dir():
        raise ModelNotFoundError(f"{folder}: no such folder")
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    files = [path for path in paths if matches(path, (*MODEL_FILES, *_TEXTS))]
    if MODEL_INDEX not in files and EXPORT_INDEX not in files:
        raise ModelNotFoundError(
            f"{folder}: contains no {MODEL_INDEX} and no {EXPORT_INDEX}, so there is no model to push"
        )
    return files


def matches(path: str, patterns: tuple[str, ...]) -> bool:
    """Return whether a path, relative to a model's folder, fits one of the patterns. ``*`` stays within a folder."""
    return any(path.count("/") == pattern.count("/") and fnmatch(path, pattern) for pattern in patterns)


def _require_hub(what: str) -> Any:
    """Return huggingface_hub, imported on first use.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError as error:
        raise MissingDependencyError(f"{what} needs huggingface_hub: {install_extra('hub')}") from error
    return huggingface_hub


def _failures(hub: Any) -> tuple[type[Exception], ...]:
    """Return the exceptions of the hub's client: its HTTP library's, which is another one in each of its versions."""
    return (OSError, hub.errors.HfHubHTTPError.__bases__[0], hub.errors.HFValidationError)


def _not_loaded(hub: Any, name: HubName, error: Exception) -> ModelError:
    """Return the error to raise for a model that is not cached and cannot be downloaded."""
    errors, status = hub.errors, _status(error)
    if isinstance(error, errors.GatedRepoError) or status == 403:
        return GatedModelError(
            f"{name.repo_id} is gated: accept its licence on its hub page, run 'hf auth login', and try again"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return ModelNotFoundError(f"{name}: the model has no such branch, tag or commit on the hub; check the revision")
    if isinstance(error, errors.RepositoryNotFoundError | errors.HFValidationError):
        return ModelNotFoundError(
            f"{name}: no such folder here and no such model on the hub (a private one needs 'hf auth login')"
        )
    if status == 401:
        return GatedModelError(f"{name}: the hub does not accept the access token; run 'hf auth login' again")
    if isinstance(error, errors.OfflineModeIsEnabled | errors.LocalEntryNotFoundError):
        return ModelNotFoundError(
            f"{name}: HF_HUB_OFFLINE is set, and the model is not in the cache; unset it to download the model"
        )
    return ModelNotFoundError(
        f"{name}: no such folder here, and the hub cannot be reached; check the name or the connection"
    )


@contextmanager
def _push_errors(name: HubName) -> Iterator[None]:
    """Convert failures of an upload to an error that says what to do."""
    import huggingface_hub as hub

    failures: tuple[type[Exception], ...] = (*_failures(hub), ValueError, RuntimeError)
    try:
        yield
    except InvalidInputError:
        raise
    except failures as error:
        status, said = _status(error), _server_message(error)
        if status == 401 or isinstance(error, hub.errors.LocalTokenNotFoundError):
            raise GatedModelError(f"{name}: not logged in to the hub; run 'hf auth login', or set HF_TOKEN") from error
        if status == 403:
            raise HubError(
                f"{name}: the hub refused the upload{said}; the access token needs write permission there"
            ) from error
        if isinstance(error, hub.errors.HFValidationError):
            raise InvalidInputError(f"{name}: is not a valid name of a model on the hub{said}") from error
        if isinstance(error, hub.errors.OfflineModeIsEnabled):
            raise HubError(f"{name}: HF_HUB_OFFLINE is set; unset it to upload") from error
        if (status is not None and status < 500) or isinstance(error, ValueError):
            raise HubError(f"{name}: the hub refused the upload{said}") from error
        if isinstance(error, RuntimeError):
            raise HubError(f"{name}: the upload failed{said}; try again") from error
        raise HubError(f"{name}: the hub cannot be reached; check the connection and try again") from error


def _reason(error: Exception) -> str:
    """Return why the hub gives no answer, for a message about a cached model."""
    status = _status(error)
    if status is None or status >= 500:
        return "the hub cannot be reached"
    return f"the hub refuses it (HTTP status {status})"


def _status(error: BaseException) -> int | None:
    """Return the HTTP status that an exception, or one behind it, reports."""
    response = getattr(error, "response", None)
    if response is not None:
        return int(response.status_code)
    return None if error.__cause__ is None else _status(error.__cause__)


def _server_message(error: BaseException) -> str:
    """Return what an error says, as one short line in brackets."""
    while error.__cause__ is not None and isinstance(error, RuntimeError):
        error = error.__cause__
    text = getattr(error, "server_message", None) or str(error)
    line = " ".join(text.split())[:200]
    return f" ({line})" if line else ""
