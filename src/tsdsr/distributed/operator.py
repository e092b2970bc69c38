"""The operator for Ray Data that restores pictures."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from tsdsr.distributed.cluster import ActorPool
from tsdsr.distributed.ledger import RayLedger
from tsdsr.distributed.restoring import RestoreBatch, Restorer, RestoreTask
from tsdsr.files import StrPath
from tsdsr.images.reading import DEFAULT_MAX_PIXELS
from tsdsr.images.writing import WriteOptions
from tsdsr.pipeline.hub import parse_name
from tsdsr.pipeline.made_from import BatchSettings
from tsdsr.pipeline.model_files import PACKAGED_MODELS, hash_of_model, local_folder, resolve_model
from tsdsr.pipeline.options import RestoreKeywords, RestoreOptions, check_seed
from tsdsr.pipeline.picture_restorer import check_model
from tsdsr.runtimes.open_model import Engine
from tsdsr.runtimes.open_restorer import FAST, ModelSource

if TYPE_CHECKING:
    import ray.data
    from typing_extensions import Unpack

_BATCH_ROWS = 32


def restore(
    dataset: ray.data.Dataset,
    *,
    model: StrPath = "mini",
    scale: float = 4.0,
    device: str = "auto",
    dtype: str = "auto",
    engine: Engine = "auto",
    provider: str = "auto",
    fast: bool = False,
    seed: int | None = None,
    icc: Literal["keep", "srgb"] = "keep",
    max_pixels: int | None = DEFAULT_MAX_PIXELS,
    write_options: WriteOptions | None = None,
    restorer: Restorer | None = None,
    actors: tuple[int, int | None] = (1, None),
    actor_cpus: float = 1.0,
    actor_gpus: float = 0.0,
    **options: Unpack[RestoreKeywords],
) -> ray.data.Dataset:
    """Restore the pictures that the rows of a dataset name: an operator for a pipeline in Ray Data.

    Each process of the pool loads the model once, reads pictures, restores them and writes them, atomically. Pixels
    never travel through Ray. A block of the dataset is one task: ``dataset.repartition(target_num_rows_per_block=32)``
    divides large ones. If a process dies, its block is done again, file by file; a file that kills its process twice
    is reported as "killed". An existing output is replaced.

    The arguments that are not listed here are those of :func:`tsdsr.upscale_file`.

    Args:
        dataset (Dataset): has the columns "input" and "output", URLs of fsspec or absolute paths that every machine
            sees; the suffix of the output is its format. Other columns are ignored. Of two rows with one output, one
            result is lost.
        model (str | PathLike): "mini", a folder that every machine has at this path, or a hub ID.
        restorer (callable | None): in place of a model: a function of a module that returns a function from
            :class:`~tsdsr.images.picture.Picture` to the restored one. It is called once in each process.
        actors (tuple): smallest and largest number of processes; None is as many as the cluster has room for.
        actor_cpus (float): CPUs that each of them takes of the cluster.
        actor_gpus (float): GPUs that each of them takes, such as 0.25.

    Returns:
        Dataset: a row for each picture, with the columns of :data:`tsdsr.distributed.records.STATUS`.

    Raises:
        InvalidInputError: an argument is out of range.
        ModelError: there is no such model.
    """
    check_seed(seed)
    settings = BatchSettings(
        None, RestoreOptions(scale, **options), write_options or WriteOptions(), dtype, seed, icc, engine,
        FAST if fast else None,
    )  # fmt: skip
    pool = ActorPool(*actors, actor_cpus, actor_gpus)
    source = ModelSource(os.fspath(model), provider, device)
    return apply(dataset, make_task(source, settings, max_pixels, pool, restorer), pool)


def make_task(
    source: ModelSource,
    settings: BatchSettings,
    max_pixels: int | None,
    pool: ActorPool,
    restorer: Restorer | None = None,
) -> RestoreTask:
    """Check the model here, once, and return what every process does.

    A model on the hub is resolved to its commit, so that all machines load the same.

    Raises:
        InvalidInputError: the model cannot be used with these settings.
        ModelError: there is no such model.
    """
    if restorer is not None:
        name = f"{restorer.__module__}.{restorer.__qualname__}"
        return RestoreTask(source, replace(settings, model=name), max_pixels, pool.threads, pool.gpus > 0, restorer)
    folder = resolve_model(source.model)
    check_model(folder, settings.restore, settings.seed, settings.engine, settings.preset == "upstream")
    if source.model not in PACKAGED_MODELS:
        on_hub = None if local_folder(source.model) else parse_name(source.model)
        everywhere = str(folder.resolve()) if on_hub is None else f"{on_hub.repo_id}@{folder.name}"
        source = replace(source, model=everywhere)
    return RestoreTask(source, replace(settings, model=hash_of_model(folder)), max_pixels, pool.threads, pool.gpus > 0)


def apply(dataset: ray.data.Dataset, task: RestoreTask, pool: ActorPool, rows: int = _BATCH_ROWS) -> ray.data.Dataset:
    """Return the dataset of the statuses of a dataset's rows, of which a process takes so many at a time.

    Ray Data starts a process that died again, and repeats its task, without a limit (``max_restarts`` and
    ``max_task_retries`` are -1 there): the ledger limits what one file can do.
    """
    from ray.data import ActorPoolStrategy

    return dataset.map_batches(
        RestoreBatch,
        fn_constructor_args=(task, RayLedger()),
        batch_size=rows,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(min_size=pool.least, max_size=pool.most, initial_size=pool.first),
        num_cpus=pool.cpus,
        num_gpus=pool.gpus,
    )
