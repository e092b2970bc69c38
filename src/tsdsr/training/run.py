"""Complete runs: train and store a student or a teacher, or measure the figures of a run.

``tsdsr train`` and ``tsdsr figures`` call these functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from tsdsr.data.captions import read_prompts
from tsdsr.data.shard_index import SHARD_INDEX, open_shards
from tsdsr.data.shard_photos import ShardSource
from tsdsr.data.sources import open_source
from tsdsr.devices import choose_device, choose_dtype
from tsdsr.errors import ConfigError, DatasetError, InvalidInputError, TrainingError
from tsdsr.files import StrPath, as_path, require_writable_folder
from tsdsr.models.zoo import get_spec
from tsdsr.training.build import (
    DTYPES,
    load_parts,
    load_teacher,
    make_prompts,
    open_latents,
    training_data,
)
from tsdsr.training.checkpoint import load_checkpoint_facts
from tsdsr.training.config import RunConfig, StudentConfig, TeacherConfig
from tsdsr.training.failures import lost_process_explained
from tsdsr.training.launch import check_launch
from tsdsr.training.networks import build_networks
from tsdsr.training.paper_figures import FIGURES, measure, require_matplotlib, write_figure
from tsdsr.training.perceptual_choice import Perceptual
from tsdsr.training.processes import failing_together, first_process_says
from tsdsr.training.provenance import RunFiles, RunMismatchError, require_same_settings
from tsdsr.training.results import store_student, store_trained_teacher
from tsdsr.training.run_log import TrackerName, make_accelerator
from tsdsr.training.sharding import ShardMode
from tsdsr.training.start_checks import as_run_files, check_files, check_options, check_start
from tsdsr.training.stored_config import config_from_json
from tsdsr.training.student import StudentTrainer
from tsdsr.training.teacher import TeacherTrainer
from tsdsr.training.weight_memory import networks_without_storage


@lost_process_explained()
def train_student(
    config: StudentConfig,
    photos: StrPath | Sequence[StrPath] | None,
    output: StrPath,
    *,
    shards: StrPath | Sequence[StrPath] = (),
    teacher: StrPath | None = None,
    init: StrPath | None = None,
    base: StrPath | None = None,
    cache: StrPath | None = None,
    prompts: StrPath | None = None,
    device: str = "auto",
    dtype: str = "auto",
    workers: int = 0,
    until: int | None = None,
    tracker: TrackerName = "none",
    shard: ShardMode | None = None,
) -> Path:
    """Train a one-step student and store it as a pipeline folder. Repeat the call to resume an interrupted run.

    Args:
        config (StudentConfig): a recipe of :mod:`tsdsr.recipes`, or your own.
        photos: one or several sources, see :func:`tsdsr.data.sources.open_source`; None with shards only.
        output: run folder, for checkpoints, log, validation images and the result.
        shards: one or several sources, see :func:`tsdsr.data.shard_index.open_shards`.
        teacher: output of :func:`train_teacher`; required by recipes with target score distillation on `mini`.
        init: pipeline folder (`mini`) or folder of LoRA files to start from; default: the teacher, else base or random.
        base: diffusers folder of the base model; `mini` has none.
        cache: text embeddings made by ``tsdsr data cache``; `mini` needs none.
        prompts: folder of text files, one per photograph.
        device: "auto", "cpu", "cuda" …
        dtype: autocast precision, "fp32", "bf16" or "fp16". "auto" keeps the precision of the run. A new run uses the
            recipe's ``base_precision`` if that is not fp32, otherwise the device's best precision.
        workers (int): data loading processes.
        until (int | None): stop after this many steps in total; None trains to the end.
        tracker: destination of metrics besides ``log.jsonl``: "tensorboard", "wandb", "trackio" or "none".
        shard: "full" splits the networks across the processes of ``torchrun``; "offload" keeps them in host memory.

    Returns:
        Path: ``output/pipeline-<step>``. A LoRA student is also stored in the released layout, ``output/lora-<step>``.

    Raises:
        ConfigError: a setting or file that the recipe needs is missing or invalid.
        DatasetError, InvalidInputError, ModelError: photographs or weights are missing, or weights do not match.
        TrainingError: the folder contains another run, or too many consecutive steps fail.
        KeyboardInterrupt: Ctrl-C; a checkpoint was saved.
    """
    files = as_run_files(photos, teacher, init, base, cache, prompts, shards)
    check_options(tracker, workers, until, shard)
    folder = check_start(config, StudentConfig, files, output)
    networks_without_storage(config)
    trainer = _student_trainer(config, files, folder, device, dtype, workers, tracker, shard=shard)
    trainer.run(until)
    target = folder / f"pipeline-{trainer.step:08d}"
    if not first_process_says(trainer.accelerator, target.exists()):
        with failing_together(trainer.accelerator):
            if trainer.takes_part:
                store_student(trainer, files, target)
    trainer.close()
    return target


@lost_process_explained()
def train_teacher(
    config: TeacherConfig,
    photos: StrPath | Sequence[StrPath] | None,
    output: StrPath,
    *,
    shards: StrPath | Sequence[StrPath] = (),
    init: StrPath | None = None,
    base: StrPath | None = None,
    cache: StrPath | None = None,
    prompts: StrPath | None = None,
    device: str = "auto",
    dtype: str = "auto",
    workers: int = 0,
    until: int | None = None,
    tracker: TrackerName = "none",
    shard: ShardMode | None = None,
) -> Path:
    """Train a teacher with the diffusion loss on sharp images: a network for `mini`, a LoRA for base models.

    The arguments that are not listed here are those of :func:`train_student`.

    Args:
        config (TeacherConfig): a recipe of :mod:`tsdsr.recipes`, or your own.
        init: a teacher to continue from: folder or LoRA file.

    Returns:
        Path: a folder or a LoRA file, for ``teacher`` of :func:`train_student`.

    Raises:
        ConfigError, DatasetError, InvalidInputError, ModelError, TrainingError, KeyboardInterrupt: see
            :func:`train_student`.
    """
    files = as_run_files(photos, init, None, base, cache, prompts, shards)
    check_options(tracker, workers, until, shard)
    target = check_start(config, TeacherConfig, files, output)
    networks_without_storage(config)
    common = _trainer_arguments(config, files, target, device, dtype, workers, tracker, shard)
    with _loading(common["accelerator"], shard):
        network, vae = load_teacher(config, files)
    trainer = TeacherTrainer(config, network, vae, **common)
    trainer.run(until)
    with failing_together(trainer.accelerator):
        if trainer.takes_part:
            target = store_trained_teacher(trainer, target)
    trainer.close()
    return target


def measure_figures(
    run: StrPath,
    output: StrPath,
    *,
    photos: StrPath | Sequence[StrPath] | None = None,
    shards: StrPath | Sequence[StrPath] = (),
    teacher: StrPath | None = None,
    init: StrPath | None = None,
    base: StrPath | None = None,
    cache: StrPath | None = None,
    prompts: StrPath | None = None,
    images: int | None = None,
    device: str = "auto",
    on_image: Callable[[int], None] | None = None,
) -> list[Path]:
    """Measure figures 3 and 5 of the paper for a student's run, and write them as PNG and CSV.

    Figure 3: cosine between the teacher's direction and the true one. Figure 5: gap between teacher and fake network.
    Settings, precision and the paths of all files come from the run's newest checkpoint. ``photos``, ``shards``,
    ``teacher``, ``init``, ``base``, ``cache`` and ``prompts`` are new paths, for files that have been moved.

    Args:
        run: folder of the student's run, finished or not.
        output: folder of the figures.
        images (int | None): number of held-out photographs to use; None uses all.
        device: device to compute on.
        on_image (callable | None): called with the number of finished images.

    Returns:
        list of Path: the files written.

    Raises:
        ConfigError: the folder contains no student run, or one without a teacher or held-out photographs.
        TrainingError: files have changed since the run.
        MissingDependencyError: matplotlib is not installed.
    """
    folder, target = as_path(run, "--run"), require_writable_folder(output)
    if images is not None and (isinstance(images, bool) or not isinstance(images, int) or images < 1):
        raise ConfigError(f"images must be a whole number of at least 1, got {images!r}")
    require_matplotlib()
    if not folder.is_dir():
        raise ConfigError(f"{run}: no such folder of a training run")
    facts = load_checkpoint_facts(folder)
    if facts is None:
        raise ConfigError(f"{run}: contains no checkpoint; the fake network of a run without steps is its teacher")
    require_same_settings(folder, facts, facts.get("config", "{}"))
    config = config_from_json(facts["config"])
    if not isinstance(config, StudentConfig):
        raise ConfigError(f"{run}: is a teacher's run; figures 3 and 5 need a student's")
    recorded = vars(RunFiles.from_plain(facts["files"]))
    given = vars(as_run_files(photos, teacher, init, base, cache, prompts, shards))
    files = RunFiles(**{name: given[name] or recorded[name] for name in recorded})
    with _moved_files_explained(folder):
        check_files(config, files)
        trainer = _student_trainer(config, files, folder, device, "auto", 0, "none", lambda x_hat, _: x_hat.sum() * 0)
    rows = measure(trainer, images=images, on_image=on_image)
    trainer.close()
    return [path for name in FIGURES for path in write_figure(name, rows, target)]


@contextmanager
def _moved_files_explained(run: Path) -> Iterator[None]:
    """Say which options name the files of a run that are not where they were.

    Raises:
        TrainingError, DatasetError, InvalidInputError: as raised in the block, with this advice.
    """
    try:
        yield
    except RunMismatchError as error:
        options = ", ".join(
            f"--{change.partition(':')[0]}".replace("photographs", "photos or --shards") for change in error.changed
        )
        raise TrainingError(
            f"{run}: its files have changed ({'; '.join(error.changed)}); give the run's own files with {options}"
        ) from error
    except (DatasetError, InvalidInputError) as error:
        raise type(error)(f"{error} (if files of the run were moved, say where: --photos, --teacher …)") from error


def _student_trainer(
    config: StudentConfig,
    files: RunFiles,
    output: Path,
    device: str,
    dtype: str,
    workers: int,
    tracker: TrackerName,
    perceptual: Perceptual | None = None,
    shard: ShardMode | None = None,
) -> StudentTrainer:
    """Create a trainer from files; resume if its folder contains a run."""
    common = _trainer_arguments(config, files, output, device, dtype, workers, tracker, shard)
    with _loading(common["accelerator"], shard):
        spec, parts = get_spec(config.networks.model), load_parts(config, files)
        networks = build_networks(parts, spec, config.networks, config.seed, scores=config.needs_scores)
    return StudentTrainer(config, networks, **common, perceptual=perceptual)


@contextmanager
def _loading(accelerator: Accelerator, shard: ShardMode | None) -> Iterator[None]:
    """Load networks within the block; if they are sharded, on all processes but the first without weights."""
    whole = shard is None or accelerator.is_main_process
    with failing_together(accelerator), nullcontext() if whole else torch.device("meta"):
        yield


def _trainer_arguments(
    config: RunConfig,
    files: RunFiles,
    output: Path,
    device: str,
    dtype: str,
    workers: int,
    tracker: TrackerName,
    shard: ShardMode | None,
) -> dict[str, Any]:
    """Return the arguments of both trainers besides networks."""
    where = choose_device(device)
    accelerator = make_accelerator(output, where.type, tracker)
    with failing_together(accelerator):
        sources = [open_source(photos) for photos in files.photos]
        texts = {} if files.prompts is None else read_prompts(sources, files.prompts)
    packed = _open_shards(files, output, accelerator)
    precision = first_process_says(accelerator, resolve_precision(dtype, where, config, output))
    check_launch(config, accelerator, precision, shard)  # before weights are loaded
    return {
        "data": training_data([*sources, *packed], config, texts, open_latents(config, files, precision)),
        "output": output,
        "prompts": make_prompts(config, files),
        "accelerator": accelerator,
        "dtype": precision,
        "workers": workers,
        "files": files,
        "shard": shard,
    }


def _open_shards(files: RunFiles, output: Path, accelerator: Accelerator) -> list[ShardSource]:
    """Open the shards of a run: first on one process, which reads headers for all, then on the others."""
    packed: list[ShardSource] = []
    for first in (True, False):
        with failing_together(accelerator):
            if accelerator.is_main_process is first:
                packed = [open_shards(shards, output / SHARD_INDEX) for shards in files.shards]
    return packed


def resolve_precision(dtype: str, device: torch.device, config: RunConfig, output: Path) -> torch.dtype:
    """Resolve the autocast precision of a run: "auto" is decided once, at the first start, and then kept.

    Args:
        dtype (str): "auto", "fp32", "bf16" or "fp16".
        device (torch.device): determines the precision of a new run if its base weights are in fp32.
        config (RunConfig): determines it if the base weights are in 16 bits.
        output (Path): run folder.
    """
    facts = load_checkpoint_facts(output) if dtype == "auto" else None
    if facts is not None and "made_from" in facts:
        return choose_dtype(facts["made_from"]["precision"], device)
    return precision_of_new_run(dtype, device, config)


def precision_of_new_run(dtype: str, device: torch.device, config: RunConfig) -> torch.dtype:
    """Resolve the autocast precision of a run that has not begun; arguments as :func:`resolve_precision`."""
    if dtype == "auto" and config.networks.base_precision != "fp32":
        return DTYPES[config.networks.base_precision]
    return choose_dtype(dtype, device)
