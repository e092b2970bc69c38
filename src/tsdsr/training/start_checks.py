"""Checks of a run's arguments before photographs are listed and weights are loaded."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from tsdsr.data.source_specs import absolute_shards, absolute_source
from tsdsr.errors import ConfigError, MissingDependencyError, install_extra
from tsdsr.files import StrPath, as_path, require_writable_folder
from tsdsr.models.zoo import ModelSpec, get_spec
from tsdsr.training.checkpoint import load_checkpoint_facts
from tsdsr.training.config import RunConfig, StudentConfig, TeacherConfig
from tsdsr.training.perceptual_choice import perceptual_names
from tsdsr.training.provenance import TEACHER, RunFiles, require_same_settings
from tsdsr.training.run_log import TrackerName
from tsdsr.training.sharding import ShardMode

_PACKAGES = {
    "lpips": ("lpips", "train"),
    "dists": ("pyiqa", "eval"),
    "vgg": ("torchvision", "train"),
    "texture": ("torchvision", "train"),
}
"""Perceptual distance → its package, and the extra that contains it."""


def as_run_files(
    photos: StrPath | Sequence[StrPath] | None,
    teacher: StrPath | None = None,
    student: StrPath | None = None,
    base: StrPath | None = None,
    cache: StrPath | None = None,
    prompts: StrPath | None = None,
    shards: StrPath | Sequence[StrPath] = (),
) -> RunFiles:
    """Return the paths of a run as they were given to a public function.

    Raises:
        InvalidInputError: one is empty or no path.
    """
    photos = () if photos is None else photos
    sources, packed = (several if isinstance(several, list | tuple) else [several] for several in (photos, shards))
    folders = {"base": base, "teacher": teacher, "init": student, "cache": cache, "prompts": prompts}
    paths = {name: as_path(folder, f"--{name}") for name, folder in folders.items() if folder is not None}
    if "init" in paths:
        paths["student"] = paths.pop("init")
    return RunFiles(
        photos=tuple(absolute_source(as_path(source, "--photos")) for source in sources),
        shards=tuple(map(absolute_shards, packed)),
        **paths,
    )


def check_start(config: RunConfig, kind: type[RunConfig], files: RunFiles, output: StrPath) -> Path:
    """Check settings, output folder, packages and files of a run; nothing is loaded.

    Args:
        config (RunConfig): the run's settings.
        kind (type): ``StudentConfig`` or ``TeacherConfig``, what the run trains.
        files (RunFiles): the run's inputs.
        output: run folder.

    Returns:
        Path: the run folder.

    Raises:
        ConfigError: the settings are those of the other kind, or a file that they need is missing or of another kind.
        InvalidInputError: the run folder cannot be written.
        MissingDependencyError: a package that the settings need is not installed.
        TrainingError: the folder contains a run with other settings.
    """
    check_kind(config, kind)
    folder = require_writable_folder(output)
    check_packages(config)
    facts = load_checkpoint_facts(folder)
    if facts is not None:
        require_same_settings(folder, facts, config.to_json())
    if not (files.photos or files.shards):
        raise ConfigError("no photographs were given: name them with --photos or --shards")
    check_files(config, files)
    return folder


def check_kind(config: Any, kind: type[RunConfig]) -> None:
    """Check that the settings are those of a student or of a teacher, as ``kind`` says.

    Raises:
        ConfigError: they are of the other kind, or no settings at all.
    """
    name = "student" if kind is StudentConfig else "teacher"
    if isinstance(config, kind):
        return
    if isinstance(config, StudentConfig | TeacherConfig):
        other = "teacher" if name == "student" else "student"
        raise ConfigError(f"these are settings of a {other}: give them to train_{other}, 'tsdsr train {other}'")
    if isinstance(config, str):
        raise ConfigError(f"config takes settings, not a name: give {name}_recipe({config!r}) of tsdsr.recipes")
    raise ConfigError(f"config must be a {kind.__name__}, got {type(config).__name__}")


def check_options(tracker: str, workers: int, until: int | None, shard: str | None) -> None:
    """Check the options that do not belong to the settings.

    Raises:
        ConfigError: an option is unknown or out of range.
    """
    if tracker not in get_args(TrackerName):
        raise ConfigError(f"tracker must be one of {', '.join(get_args(TrackerName))}, got {tracker!r}")
    if shard is not None and shard not in get_args(ShardMode):
        raise ConfigError(f"shard must be one of {', '.join(get_args(ShardMode))}, got {shard!r}")
    for name, value in (("workers", workers), ("until", until)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
            raise ConfigError(f"{name} must be a whole number of at least 0, got {value!r}")
    check_restarts(os.environ)


def check_restarts(environment: Mapping[str, str]) -> None:
    """Check that processes which torchrun restarts will find each other.

    torchrun's own store keeps the addresses of dead processes for the restarted ones, which then wait for them
    (https://github.com/pytorch/pytorch/issues/135712). Only its c10d rendezvous can do without.

    Args:
        environment (mapping): environment variables of this process.

    Raises:
        ConfigError: restarts are wanted, and the store is shared.
    """
    if environment.get("TORCHELASTIC_MAX_RESTARTS", "0") != "0" and (
        environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    ):
        raise ConfigError(
            "with --max-restarts, restarted processes would wait for the dead ones: set "
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in the environment of torchrun, and use --standalone or "
            "--rdzv-backend=c10d"
        )


def check_packages(config: RunConfig) -> None:
    """Check that the packages of a run's perceptual distances and of its discriminator are installed.

    Raises:
        MissingDependencyError: one is not; the message names the extra.
    """
    for name in perceptual_names(config) if isinstance(config, StudentConfig) else ():
        package, extra = _PACKAGES[name]
        if importlib.util.find_spec(package) is None:
            raise MissingDependencyError(
                f"the loss {name!r} of this recipe needs {package}; {install_extra(extra)}, or leave perceptual losses "
                f"out with perceptual_weight=0 in every phase"
            )
    package, extra = _PACKAGES["vgg"]
    if isinstance(config, StudentConfig) and "vgg" in config.adversaries and importlib.util.find_spec(package) is None:
        raise MissingDependencyError(
            f"adversary='vgg' of this recipe needs {package}; {install_extra(extra)}, or choose adversary='pixel'"
        )


def check_files(config: RunConfig, files: RunFiles) -> None:
    """Check that the given files are there, of the right kind, and used.

    Raises:
        ConfigError: see above; the message names the option.
    """
    spec, whole = get_spec(config.networks.model), config.networks.lora_rank is None
    if "labels" in spec.prompt_shapes:
        for name in ("base", "cache", "prompts"):
            if getattr(files, name) is not None:
                raise ConfigError(
                    f"--{name} has no effect: {spec.name} has no base model and takes no text; leave it out"
                )
    if files.prompts is not None and files.shards and not files.photos:
        raise ConfigError("--prompts has no effect: shards contain their own prompts; leave it out")
    for name, path in (("cache", files.cache), ("prompts", files.prompts)):
        if path is not None and not path.is_dir():
            raise ConfigError(f"--{name} {path}: no such folder")
    if files.base is not None:
        for part, network in ((spec.denoiser_subfolder, spec.denoiser_class), ("vae", spec.vae_class)):
            _require_network(files.base / part, network.__name__, f"--base {files.base}")
    check = _check_network if whole else _check_lora_file
    if files.teacher is not None:
        check("--teacher" if isinstance(config, StudentConfig) else "--init", files.teacher, spec)
    if files.student is not None and whole:
        _check_start_network(files.student, spec)
    elif files.student is not None:
        for part in (spec.denoiser_subfolder, "vae"):
            if not (files.student / f"{part}.safetensors").is_file():
                raise ConfigError(
                    f"--init {files.student}: has no {part}.safetensors; {spec.name} starts from a folder 'lora-…' of "
                    f"a student's run, or from released LoRA files"
                )


def _check_network(option: str, path: Path, spec: ModelSpec) -> None:
    """Check a teacher of `mini`: the folder that ``tsdsr train teacher`` made, or a folder with it."""
    if path.is_file():
        raise ConfigError(f"{option} {path}: is a file; a teacher of {spec.name} is the folder 'teacher' of its run")
    if (path / "model_index.json").is_file():
        raise ConfigError(f"{option} {path}: is a pipeline; give the folder 'teacher' of a teacher's run")
    inside = path / TEACHER
    _require_network(inside if inside.is_dir() else path, spec.denoiser_class.__name__, f"{option} {path}")


def _check_start_network(path: Path, spec: ModelSpec) -> None:
    """Check where a student of `mini` starts: a pipeline folder, or a network's own."""
    if path.is_file():
        raise ConfigError(f"--init {path}: is a file; {spec.name} starts from a pipeline folder")
    inside = path / "denoiser"
    _require_network(inside if inside.is_dir() else path, spec.denoiser_class.__name__, f"--init {path}")


def _check_lora_file(option: str, path: Path, spec: ModelSpec) -> None:
    if path.is_dir():
        raise ConfigError(
            f"{option} {path}: is a folder; a teacher of {spec.name} is a LoRA file, 'teacher.safetensors'"
        )
    if not path.is_file():
        raise ConfigError(f"{option} {path}: no such file")
    if path.suffix != ".safetensors":
        raise ConfigError(
            f"{option} {path}: is not a safetensors file; 'tsdsr train teacher' makes teacher.safetensors"
        )


def _require_network(folder: Path, kind: str, given: str) -> None:
    """Check that a diffusers folder holds a network of a class.

    Args:
        folder (Path): the network's folder.
        kind (str): name of its class.
        given (str): option and path as given, for messages.
    """
    if not folder.is_dir():
        raise ConfigError(
            f"{given}: no such folder ({folder})" if str(folder) not in given else f"{given}: no such folder"
        )
    try:
        facts = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        found = facts.get("_class_name", "another network")
    except FileNotFoundError:
        raise ConfigError(f"{given}: no model there ({folder} has no config.json)") from None
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(f"{given}: {folder / 'config.json'} cannot be read ({error})") from error
    if found != kind and not found.startswith("Folded"):  # loading explains folded networks
        raise ConfigError(f"{given}: {folder} contains a {found}, not a {kind}")
