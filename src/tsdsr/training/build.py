"""Build networks, prompts and data from a configuration and files; write trained networks to files."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin
from safetensors.torch import save_file
from torch import Tensor, nn

from tsdsr.data.photographs import Photo, load_usable
from tsdsr.data.shard_photos import ShardSource
from tsdsr.data.sources import Source, name_hash, split_photos
from tsdsr.errors import ConfigError, WeightsError
from tsdsr.files import StrPath, atomic_folder, atomic_path
from tsdsr.models.adapters import attach_lora, new_lora, train_adapters, use_adapter
from tsdsr.models.fixed_prompt import FixedPrompt
from tsdsr.models.lora import RELEASED_PROMPT_FILES, read_released_lora, write_released_lora
from tsdsr.models.mini import expand_network
from tsdsr.models.network_folders import empty_network, full_config, load_part
from tsdsr.models.parts_check import check_configurations
from tsdsr.models.zoo import ModelSpec, get_spec
from tsdsr.training.config import NetworkSettings, RunConfig, StudentConfig, TeacherConfig
from tsdsr.training.latent_cache import TrueLatents, latent_cache
from tsdsr.training.networks import Parts, enable_gradient_checkpointing
from tsdsr.training.prompts import CachedPrompts, LabelPrompts, Prompts
from tsdsr.training.provenance import TEACHER, RunFiles, subfolder_or_self
from tsdsr.training.samples import TrainingData, crops_of

logger = logging.getLogger(__name__)

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def load_parts(config: StudentConfig, files: RunFiles) -> Parts:
    """Load the weights that a student's training starts from. Under ``torch.device("meta")``, only their structure.

    Raises:
        ConfigError: a folder that the recipe needs is not given.
        ModelNotFoundError, WeightsError: a file is missing or does not match the model.
    """
    settings = config.networks
    spec = get_spec(settings.model)
    if settings.lora_rank is None:
        return _full_parts(config, spec, files)
    denoiser, vae = load_base(spec, settings, files.base)
    parts = Parts(denoiser, vae)
    if files.student is not None:
        parts.student_lora = _lora(files.student / f"{spec.denoiser_subfolder}.safetensors")
        parts.vae_lora = _lora(files.student / "vae.safetensors")
    if files.teacher is not None:
        parts.teacher = _lora(files.teacher)
    return parts


def _lora(path: Path) -> dict[str, Tensor]:
    """Read a LoRA file to the default device: under ``torch.device("meta")``, only the shapes remain."""
    return {name: tensor.to(torch.get_default_device()) for name, tensor in read_released_lora(path).items()}


def _full_parts(config: StudentConfig, spec: ModelSpec, files: RunFiles) -> Parts:
    """Load parts for training without LoRA.

    The student starts from the given weights, else the teacher's, else random ones.
    """
    teacher = load_network(files.teacher, spec, TEACHER) if files.teacher is not None and config.needs_scores else None
    if config.needs_scores and teacher is None:
        raise ConfigError("this recipe needs a teacher: train one with 'tsdsr train teacher' and give it as --teacher")
    if files.student is not None:
        denoiser = load_network(files.student, spec, "denoiser")
        if config.networks.config:
            denoiser = expand_network(denoiser, config.networks.config)
    elif files.teacher is not None:
        denoiser = load_network(files.teacher, spec, TEACHER)
    else:
        denoiser = new_network(spec, config)
    return Parts(denoiser, spec.make_autoencoder(), teacher)


def new_network(spec: ModelSpec, config: RunConfig) -> ModelMixin:
    """Create a denoiser with random weights drawn from the run's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return spec.denoiser_class(**{**spec.denoiser_config, **config.networks.config})


def load_network(folder: Path, spec: ModelSpec, subfolder: str) -> Any:
    """Load a denoiser from a diffusers folder, or from its subfolder if there is one.

    Raises:
        ModelNotFoundError: the folder contains no model.
        WeightsError: the model cannot be loaded.
    """
    return load_part(spec.denoiser_class, subfolder_or_self(folder, subfolder))


def load_base(spec: ModelSpec, settings: NetworkSettings, base: Path | None) -> tuple[Any, Any]:
    """Load a base model's denoiser, in the precision of frozen weights, and its autoencoder in float32.

    Raises:
        ConfigError: no folder is given.
        ModelNotFoundError, WeightsError: the model is incomplete or cannot be loaded.
    """
    if base is None:
        raise ConfigError(f"{spec.name} needs its base model: download {spec.hub_id} and give the folder as --base")
    denoiser = load_part(spec.denoiser_class, base / spec.denoiser_subfolder, DTYPES[settings.base_precision])
    return denoiser, load_part(spec.vae_class, base / "vae")


def load_teacher(config: TeacherConfig, files: RunFiles) -> tuple[nn.Module, nn.Module]:
    """Load the network to train as a teacher, and the frozen autoencoder.

    If ``files.teacher`` is given, training continues from it: a network for `mini`, a LoRA for base models.

    Raises:
        ConfigError, ModelNotFoundError, WeightsError: see :func:`load_parts`.
    """
    settings = config.networks
    spec = get_spec(settings.model)
    if settings.lora_rank is None:
        network = load_network(files.teacher, spec, TEACHER) if files.teacher else new_network(spec, config)
        return network, spec.make_autoencoder()
    network, vae = load_base(spec, settings, files.base)
    if files.teacher is not None:
        attach_lora(network, _lora(files.teacher), TEACHER)
    else:
        generator = torch.Generator().manual_seed(config.seed)
        new_lora(network, spec.lora_targets, settings.lora_rank, TEACHER, generator)
    train_adapters(network, {TEACHER})
    use_adapter(network, TEACHER)
    if settings.gradient_checkpointing:
        enable_gradient_checkpointing(network)
    return network, vae


def make_prompts(config: RunConfig, files: RunFiles) -> Prompts:
    """Create the prompts: learned ones for `mini`, cached text embeddings otherwise.

    Raises:
        ConfigError: no cache is given.
        DatasetError: the cache is incomplete or was made with another model.
        ModelNotFoundError, ModelError, WeightsError: denoiser, autoencoder and embeddings do not fit together.
    """
    spec = get_spec(config.networks.model)
    if "labels" in spec.prompt_shapes:
        return LabelPrompts()
    if files.cache is None or files.base is None:
        raise ConfigError(
            f"{spec.name} needs text embeddings: make them with 'tsdsr data cache' and give them as --cache"
        )
    prompts = CachedPrompts(files.cache, spec, files.base)
    _check_base(files.base, spec, prompts)
    return prompts


def _check_base(base: Path, spec: ModelSpec, prompts: Prompts) -> None:
    """Check that the parts of a base model fit together and to the embeddings; no weights are read.

    A network with more blocks than the model's is another model's, and LoRA would leave some of its layers out.

    Raises:
        ModelNotFoundError, ModelError, WeightsError: they do not.
    """
    config = full_config(spec.denoiser_class, base / spec.denoiser_subfolder)
    for name in ("num_layers", "num_single_layers"):
        found, own = config.get(name, 0), spec.denoiser_config.get(name, 0)
        if found > own:
            raise WeightsError(f"{base}: has {name}={found}, {spec.name} has {own}; it is another base model")
    vae, fixed = empty_network(spec.vae_class, base / "vae"), FixedPrompt.from_conditioning(prompts.fixed())
    check_configurations(spec, config, vae, fixed, str(base))


def split_sources(
    sources: Sequence[Source | ShardSource],
    share: float,
    limit: int = 16,
    usable: Callable[[Photo], bool] = lambda photo: True,
) -> tuple[tuple[Source | ShardSource, ...], tuple[Photo, ...]]:
    """Hold out a share of the photographs, chosen by a hash of the file name.

    In a small folder the hash may select no file, or only unusable ones. With a share above 0 and at least two
    photographs in a source, at least one usable photograph is held out, if there is one, and each source keeps at least
    one for training.

    Args:
        sources (sequence of Source | ShardSource): all photographs.
        share (float): share of each source to hold out.
        limit (int): maximum number of validation photographs, spread evenly over those held out.
        usable (callable): whether a photograph can be validated on; asked for few.

    Returns:
        tuple: training sources and validation photographs.
    """
    training: list[list[int]] = []
    held_out: list[tuple[Source | ShardSource, int]] = []
    for source in sources:
        train, validation = split_photos(source.images, share)
        if not train:
            train, validation = validation[:1], validation[1:]
        training.append(train)
        held_out += [(source, number) for number in validation]
    step = max(1, -(-len(held_out) // limit))
    chosen = [photo for source, number in held_out[::step] if usable(photo := source.images[number])]
    if share > 0 and not chosen:
        largest = max(range(len(sources)), key=lambda i: len(training[i]))
        numbers, images = training[largest], sources[largest].images
        by_hash = sorted(numbers, key=lambda number: name_hash(images[number])) if len(numbers) > 1 else []
        found = list(islice((number for number in by_hash if usable(images[number])), 1))
        training[largest] = [number for number in numbers if number not in found]
        chosen = [images[number] for number in found]
    kept = zip(sources, training, strict=True)
    return tuple(source.take(numbers) for source, numbers in kept), tuple(chosen)


def training_data(
    sources: Sequence[Source | ShardSource],
    config: RunConfig,
    prompts: Mapping[Path, str],
    latents: TrueLatents | None = None,
) -> TrainingData:
    """Split photographs into training and validation data as configured.

    Photographs to validate on are read here: one that cannot be read, or is smaller than ``validation_crop``, is left
    out with a message in the log.
    """

    def usable(photo: Photo) -> bool:
        loaded, reason = load_usable(photo, config.validation_crop)
        if loaded is None:
            logger.warning("left out of validation: %s", reason)
        return loaded is not None

    train, validation = split_sources(sources, config.validation_share, usable=usable)
    return TrainingData(train, validation, prompts, latents or TrueLatents())


def open_latents(config: RunConfig, files: RunFiles, dtype: torch.dtype) -> TrueLatents:
    """Return the latents of the truth: cached ones if crops are fixed and the run's cache has any.

    Args:
        config (RunConfig): says how crops are cut.
        files (RunFiles): names cache and base model.
        dtype (torch.dtype): autocast precision of the run.

    Raises:
        DatasetError: the latents are those of another model, other crops or another precision.
    """
    crops = crops_of(config)
    if not crops.fixed or files.cache is None or files.base is None or not (files.cache / "latents").is_dir():
        return TrueLatents()
    return TrueLatents(latent_cache(files.cache, get_spec(config.networks.model), files.base, crops, dtype))


def write_student_lora(
    denoiser: Mapping[str, Tensor], vae: Mapping[str, Tensor], spec: ModelSpec, prompts: Prompts, folder: Path
) -> None:
    """Store a student in the released layout: ``<denoiser>.safetensors``, ``vae.safetensors`` and the fixed prompt.

    ``tsdsr convert`` combines it with the base model into a pipeline, as it does with the released weights.

    Args:
        denoiser, vae (mapping): LoRA weights, see :func:`tsdsr.models.adapters.adapter_state`.
        spec (ModelSpec): the base model.
        prompts (Prompts): give the fixed prompt.
        folder (Path): created if missing.
    """
    write_released_lora(folder / f"{spec.denoiser_subfolder}.safetensors", denoiser)
    write_released_lora(folder / "vae.safetensors", vae)
    fixed = prompts.fixed().tensors()
    for field, tensor in fixed.items():
        with atomic_path(folder / f"{RELEASED_PROMPT_FILES[field]}.safetensors") as temporary:
            save_file({field: tensor.float().contiguous()}, temporary)


def store_teacher(network: nn.Module | Mapping[str, Tensor], config: TeacherConfig, output: StrPath) -> Path:
    """Store a teacher as a diffusers folder or, for a base model, as a LoRA in the released layout.

    Returns:
        Path: the path to pass as ``--teacher``.

    Raises:
        FileWriteError: it cannot be written; an earlier teacher there is untouched.
    """
    output = Path(output)
    if config.networks.lora_rank is None:
        assert isinstance(network, ModelMixin)
        target, fresh = output / TEACHER, output / f".{TEACHER}-new"
        shutil.rmtree(fresh, ignore_errors=True)  # left by a process that was killed
        with atomic_folder(fresh) as temporary:
            network.save_pretrained(temporary)
        target.mkdir(exist_ok=True)
        for file in sorted(fresh.iterdir()):
            os.replace(file, target / file.name)
        fresh.rmdir()
        return target
    path = output / f"{TEACHER}.safetensors"
    assert not isinstance(network, nn.Module)
    write_released_lora(path, network)
    return path
