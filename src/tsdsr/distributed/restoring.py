"""Restoring the pictures of a batch in a process of its own: read, restored, written, and one small row for each."""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from threading import Event
from typing import Any

import pyarrow as pa

from tsdsr.ahead import ahead
from tsdsr.distributed.ledger import LedgerCalls
from tsdsr.distributed.records import STATUS, Status, as_table, named_rows, settings_hash, status_row
from tsdsr.errors import ImageError, InvalidInputError, ModelError, ModelNotFoundError, TSDSRError
from tsdsr.hashing import hash_bytes, hash_file, hash_text
from tsdsr.images.encoded import EncodedImage
from tsdsr.images.formats import image_format
from tsdsr.images.picture import Picture
from tsdsr.images.reading import DEFAULT_MAX_PIXELS
from tsdsr.pipeline.batch import Restore, restore_file
from tsdsr.pipeline.jobs import check_target, not_replaced
from tsdsr.pipeline.made_from import BatchSettings
from tsdsr.pipeline.model_files import hash_of_model, local_folder
from tsdsr.remote_files import find_file, local_path, read_bytes, write_file
from tsdsr.runtimes.open_restorer import ModelSource, open_restorer
from tsdsr.wording import first_line

MOST_LOADS = 3
"""How often a process may die while it loads the model before the run ends."""

BATCH = "batch"
"""The only column of a table whose rows are batches: a list of rows each, see :func:`pack`."""

Restorer = Callable[[], Restore]
"""Makes, in another process, the function that restores a picture. Pickled, so a function of a module."""


@dataclass(frozen=True)
class RestoreTask:
    """What every process of a run does. It is sent to them, so it names the model and does not hold it.

    Attributes:
        source (ModelSource): the model and where it runs.
        settings (BatchSettings): how pictures are restored and stored.
        max_pixels (int | None): inputs with more pixels are refused.
        threads (int | None): CPU threads of ONNX Runtime and OpenVINO; Ray gives PyTorch as many.
        gpu (bool): whether a process has a GPU, or a part of one; if not, it does not see any.
        restorer (callable | None): takes the place of the model.
    """

    source: ModelSource
    settings: BatchSettings
    max_pixels: int | None = DEFAULT_MAX_PIXELS
    threads: int | None = None
    gpu: bool = False
    restorer: Restorer | None = None

    def load(self) -> Restore:
        """Load the model in this process.

        Raises:
            ModelError: it is not on this machine, or not the same as on the driver's.
            TSDSRError: see :func:`~tsdsr.runtimes.open_restorer.open_restorer`.
        """
        if self.restorer is not None:
            return self.restorer()
        model, node = self.source.model, platform.node()
        if os.path.isabs(model) and local_folder(model) is None:
            raise ModelNotFoundError(
                f"{model}: there is no such folder on the machine {node}; copy the model to the same path on every "
                f"machine, or give a hub ID"
            )
        if hash_of_model(model) != self.settings.model:
            raise ModelError(
                f"{model}: on the machine {node} is another model than on the machine that began; make them the same"
            )
        return open_restorer(self.source, self.settings, threads=self.threads)


@dataclass
class _File:
    """A picture on its way through the stages."""

    row: Mapping[str, Any]
    image: Path | EncodedImage | None = None
    input_hash: str = ""
    made: Path | None = None
    temporary: bool = False
    pixels: int = 0
    size: int = 0
    seconds: float = 0.0
    notices: tuple[str, ...] = ()
    error: str = ""
    skipped: bool = False

    @property
    def waits(self) -> bool:
        """Whether it needs the next stage."""
        return not self.error and not self.skipped

    @contextmanager
    def stage(self) -> Iterator[None]:
        """Measure a stage; what goes wrong is the file's error and ends nothing else."""
        name, started = self.row["input"], time.perf_counter()
        try:
            yield
        except TSDSRError as error:
            self.error = str(error)
        except OSError as error:
            self.error = f"{name}: cannot be read ({error.strerror or error})"
        except Exception as error:  # one file of millions must not end the run
            self.error = f"{name}: {type(error).__name__}: {first_line(error)}; this is a bug in tsdsr or a library"
        self.seconds += time.perf_counter() - started
        if self.error and name not in self.error:
            self.error = f"{name}: {self.error}"


@dataclass
class FileRestorer:
    """Restores files one after the other; reading and writing over a network run beside it.

    Attributes:
        task (RestoreTask): what to do.
        restore (callable): the model.
    """

    task: RestoreTask
    restore: Restore
    node: str = field(default_factory=platform.node)

    def statuses(self, rows: Sequence[Mapping[str, Any]], overlap: bool = False) -> Iterator[dict[str, Any]]:
        """Yield a row of :data:`~tsdsr.distributed.records.STATUS` for each row of a plan, in order.

        Args:
            rows (sequence of mappings): with "input" and "output"; the other columns of
                :data:`~tsdsr.distributed.records.PLAN` may be missing.
            overlap (bool): whether the next file is read and the last one written while one is restored.
        """
        stop = Event()
        files: Iterator[_File] = map(_File, rows)
        for stage in (self._read, self._restored, self._written):
            files = map(stage, files)
            if overlap and stage != self._written:
                files = ahead(files, 1, stop)
        yield from map(self._status, files)

    def killed(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the status of a file that killed its process twice."""
        error = (
            f"{row['input']}: its process died twice while it was restored (killed for its memory, or crashed); try "
            f"'tsdsr upscale' with this file alone, or a smaller --tile or --scale"
        )
        return status_row(row["input"], row["output"], "killed", error=error, **self._common(row))

    def _read(self, file: _File) -> _File:
        with file.stage():
            name, output = file.row["input"], file.row["output"]
            _check_names(name, output)
            if (path := local_path(name)) is not None:
                file.image, file.input_hash = path, hash_file(path)
            else:
                data = read_bytes(name)
                file.image, file.input_hash = EncodedImage(name, data), hash_bytes(data)
            if earlier := file.row.get("input_hash"):
                if earlier != file.input_hash:
                    raise ImageError(not_replaced(name, output, ["input"]))
                found = find_file(output)
                file.skipped, file.size = True, 0 if found is None else found.size
        return file

    def _restored(self, file: _File) -> _File:
        if file.waits:
            with file.stage():
                assert file.image is not None
                output = file.row["output"]
                suffix = PurePosixPath(output).suffix
                check_target(file.image, f"result{suffix}", self.task.settings.restore)
                target = local_path(output)
                file.temporary, file.made = target is None, target or _temporary_file(suffix)

                def restore(picture: Picture) -> Picture:
                    result = self.restore(picture)
                    file.pixels = result.pixels.shape[0] * result.pixels.shape[1]
                    return result

                task = self.task
                file.notices = restore_file(file.image, file.made, restore, task.max_pixels, task.settings.write)
            file.image = None  # its bytes are not needed any more
        return file

    def _written(self, file: _File) -> _File:
        if file.waits:
            with file.stage():
                assert file.made is not None
                size = write_file(file.row["output"], file.made) if file.temporary else file.made.stat().st_size
                file.size = size
        if file.temporary and file.made is not None:
            with suppress(OSError):
                file.made.unlink()
        return file

    def _status(self, file: _File) -> dict[str, Any]:
        status: Status = "failed" if file.error else "skipped" if file.skipped else "done"
        return status_row(
            file.row["input"], file.row["output"], status, seconds=file.seconds,
            pixels=0 if file.error else file.pixels, size=0 if file.error else file.size, error=file.error,
            notices=file.notices, input_hash=file.input_hash, **self._common(file.row),
        )  # fmt: skip

    def _common(self, row: Mapping[str, Any]) -> dict[str, Any]:
        settings = ""
        with suppress(TSDSRError):  # an unknown format has failed
            settings = settings_hash(self.task.settings.stored_as(image_format(PurePosixPath(row["output"]).name)))
        return {"stamp": row.get("stamp") or "", "settings": settings, "node": self.node}


class RestoreBatch:
    """A class for Ray Data's ``map_batches``: one process, one model, a batch at a time.

    Args:
        task (RestoreTask): what to do.
        ledger (LedgerCalls): counts the attempts of all processes.
        process (str): identity of this process that it keeps when it starts again; default: the actor's.

    Raises:
        ModelError: the model cannot be loaded, or its loading killed the process several times.
    """

    def __init__(self, task: RestoreTask, ledger: LedgerCalls, process: str | None = None) -> None:
        if process is None:
            process = _actor_id()
            if not task.gpu:  # Ray hides GPUs only from processes that have other ones
                os.environ["CUDA_VISIBLE_DEVICES"] = os.environ["HIP_VISIBLE_DEVICES"] = ""
        if ledger.begin_load(process) > MOST_LOADS:
            raise ModelError(
                f"{task.source.model}: loading it killed the process {MOST_LOADS} times on the machine "
                f"{platform.node()}; it may have too little memory"
            )
        self._files = FileRestorer(task, task.load())
        ledger.end_load(process)
        self._ledger = ledger
        self._ended: str | None = None

    def __call__(self, table: pa.Table) -> pa.Table:
        """Restore the rows of a table, see :meth:`FileRestorer.statuses`; the result has their statuses."""
        if table.column_names != [BATCH]:
            return as_table(self._batch(named_rows(table)), STATUS)
        statuses = [as_table(self._batch(rows), STATUS) for rows in table[BATCH].to_pylist()]
        return pack(statuses) if statuses else pa.table({BATCH: pa.array([], _batch_type(STATUS))})

    def _batch(self, rows: list[dict[str, Any]]) -> list[Mapping[str, Any]]:
        if not rows:
            return []
        batch = hash_text("\n".join(row["output"] for row in rows))
        attempt = self._ledger.begin(batch, self._ended)
        self._ended = None
        if attempt.killed:
            statuses = self._carefully(batch, rows, attempt.ended, attempt.lost)
        else:
            statuses = list(self._files.statuses(rows, overlap=any(_is_remote(row) for row in rows)))
        self._ended = batch
        return statuses

    def _carefully(
        self,
        batch: str,
        rows: list[dict[str, Any]],
        ended: Mapping[int, Mapping[str, Any]],
        lost: frozenset[int],
    ) -> list[Mapping[str, Any]]:
        """Restore file by file, each begun and ended in the ledger, because an earlier process died in this batch."""
        statuses: list[Mapping[str, Any]] = []
        for number, row in enumerate(rows):
            if number in ended:
                statuses.append(ended[number])
                continue
            if number in lost:
                status = self._files.killed(row)
            else:
                self._ledger.begin_file(batch, number)
                (status,) = self._files.statuses([row])
            self._ledger.end_file(batch, number, status)
            statuses.append(status)
        return statuses


def _check_names(name: str, output: str) -> None:
    """Check the names of a user's rows, and that no picture is lost.

    Raises:
        InvalidInputError: one is missing or a relative path, or both are one file.
    """
    for column, text in (("input", name), ("output", output)):
        if not text.strip():
            raise InvalidInputError(f"the row has no {column!r}; give a URL or an absolute path")
        if (path := local_path(text)) is not None and not path.is_absolute():
            raise InvalidInputError(
                f"{text}: is a relative path, which can mean another file on each machine; give an absolute one"
            )
    source, target = local_path(name), local_path(output)
    if name == output or (source and target and source.exists() and target.exists() and target.samefile(source)):
        raise InvalidInputError(f"the result would overwrite the input {name}; choose another output")


def pack(tables: Sequence[pa.Table]) -> pa.Table:
    """Return a table with one row for each table, which holds its rows: so Ray Data never divides or joins batches."""
    values = pa.chunked_array([pa.array([table.to_pylist()], _batch_type(table.schema)) for table in tables])
    return pa.table({BATCH: values})


def unpack(table: pa.Table) -> list[dict[str, Any]]:
    """Return the rows of all batches of a table that :func:`pack` made."""
    return [row for rows in table[BATCH].to_pylist() for row in rows]


def _batch_type(schema: pa.Schema) -> pa.DataType:
    return pa.list_(pa.struct(list(schema)))


def _temporary_file(suffix: str) -> Path:
    """Return a new local file for a result on its way to a storage service."""
    descriptor, name = tempfile.mkstemp(suffix, "tsdsr-")
    os.close(descriptor)
    return Path(name)


def _is_remote(row: Mapping[str, Any]) -> bool:
    return local_path(row["input"]) is None or local_path(row["output"]) is None


def _actor_id() -> str:
    import ray

    actor: str = ray.get_runtime_context().get_actor_id()
    return actor
