"""``tsdsr train``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tsdsr.cli.common import SOURCE_HELP, DtypeChoice, errors_reported

if TYPE_CHECKING:
    from tsdsr.training.build import RunFiles
    from tsdsr.training.config import RunConfig
    from tsdsr.training.student import StudentTrainer

train_app = typer.Typer(help="Train models.", no_args_is_help=True)


class TrackerChoice(str, Enum):
    tensorboard = "tensorboard"
    wandb = "wandb"
    trackio = "trackio"
    none = "none"


Photos = Annotated[list[str], typer.Option("--photos", help=f"Photographs: {SOURCE_HELP} Repeatable.")]
Output = Annotated[Path, typer.Option("-o", "--output", help="Run folder; an interrupted run there is resumed.")]
Base = Annotated[Path | None, typer.Option(help="Diffusers folder of the base model; mini has none.")]
Cache = Annotated[Path | None, typer.Option(help="Text embeddings made by 'tsdsr data cache'; mini needs none.")]
PromptFolder = Annotated[Path | None, typer.Option("--prompts", help="Text files made by 'tsdsr data caption'.")]
Overrides = Annotated[
    list[str], typer.Option("--set", help="Change a setting of the recipe: phases.0.steps=100. Repeatable.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print settings and sizes, train nothing.")]
Device = Annotated[str, typer.Option(help="'auto', 'cpu' or 'cuda'. For several start 'torchrun -m tsdsr train …'.")]
Dtype = Annotated[DtypeChoice, typer.Option(help="Autocast precision.")]
Workers = Annotated[int, typer.Option(min=0, help="Data loading processes.")]
Until = Annotated[int | None, typer.Option(min=1, help="Stop after this many steps in all.")]
Tracker = Annotated[TrackerChoice, typer.Option(help="Where figures go besides log.jsonl.")]


@train_app.command()
def student(
    output: Output,
    photos: Photos,
    recipe: Annotated[str, typer.Option(help="Name of a student's recipe.")] = "mini_student",
    teacher: Annotated[Path | None, typer.Option(help="What 'tsdsr train teacher' made: folder or LoRA file.")] = None,
    init: Annotated[Path | None, typer.Option(help="Where the student starts: pipeline or LoRA folder.")] = None,
    base: Base = None,
    cache: Cache = None,
    prompts: PromptFolder = None,
    overrides: Overrides = [],  # noqa: B006  (typer needs the default itself)
    device: Device = "auto",
    dtype: Dtype = DtypeChoice.auto,
    workers: Workers = 0,
    until: Until = None,
    tracker: Tracker = TrackerChoice.tensorboard,
    dry_run: DryRun = False,
) -> None:
    """Train a one-step student and store it as a pipeline folder."""
    with errors_reported():
        from tsdsr.recipes import student_recipe
        from tsdsr.training.build import RunFiles
        from tsdsr.training.overrides import apply_overrides

        config = apply_overrides(student_recipe(recipe), overrides)
        files = RunFiles(base, teacher, init, cache)
        if dry_run:
            _describe(config)
            return
        from tsdsr.models.zoo import get_spec
        from tsdsr.training.build import load_parts
        from tsdsr.training.networks import build_networks
        from tsdsr.training.student import StudentTrainer

        common = _common(config, files, photos, prompts, output, device, dtype, workers, tracker)
        spec = get_spec(config.networks.model)
        networks = build_networks(
            load_parts(config, files), spec, config.networks, config.seed, scores=config.needs_scores
        )
        trainer = StudentTrainer(config, networks, **common)
        trainer.run(until)
        if trainer.accelerator.is_main_process:
            target = output / f"pipeline-{trainer.step:08d}"
            if not target.exists():  # a finished run that is started again has it
                _store_student(trainer, files, target)
            typer.echo(f"{target}: ready for 'tsdsr upscale --model {target}'")
        trainer.close()


@train_app.command()
def teacher(
    output: Output,
    photos: Photos,
    recipe: Annotated[str, typer.Option(help="Name of a teacher's recipe.")] = "mini_teacher",
    init: Annotated[Path | None, typer.Option(help="A teacher to go on from: folder or LoRA file.")] = None,
    base: Base = None,
    cache: Cache = None,
    prompts: PromptFolder = None,
    overrides: Overrides = [],  # noqa: B006
    device: Device = "auto",
    dtype: Dtype = DtypeChoice.auto,
    workers: Workers = 0,
    until: Until = None,
    tracker: Tracker = TrackerChoice.tensorboard,
    dry_run: DryRun = False,
) -> None:
    """Train a teacher with the diffusion loss on sharp images: a network for mini, a LoRA for base models."""
    with errors_reported():
        from tsdsr.recipes import teacher_recipe
        from tsdsr.training.build import RunFiles
        from tsdsr.training.overrides import apply_overrides

        config = apply_overrides(teacher_recipe(recipe), overrides)
        files = RunFiles(base, init, None, cache)
        if dry_run:
            _describe(config)
            return
        from tsdsr.training.build import load_teacher, store_teacher
        from tsdsr.training.teacher import TeacherTrainer

        common = _common(config, files, photos, prompts, output, device, dtype, workers, tracker)
        network, vae = load_teacher(config, files)
        trainer = TeacherTrainer(config, network, vae, **common)
        trainer.run(until)
        if trainer.accelerator.is_main_process:
            with trainer.averaged():
                target = store_teacher(trainer.network, config, output)
            typer.echo(f"{target}: ready for 'tsdsr train student --teacher {target}'")
        trainer.close()


def _common(
    config: RunConfig,
    files: RunFiles,
    photos: list[str],
    prompts: Path | None,
    output: Path,
    device: str,
    dtype: DtypeChoice,
    workers: int,
    tracker: TrackerChoice,
) -> dict[str, Any]:
    """What both trainers take besides networks."""
    from tsdsr.data.sources import open_source
    from tsdsr.devices import choose_device, choose_dtype
    from tsdsr.training.build import make_prompts, training_data
    from tsdsr.training.caching import read_prompt_files
    from tsdsr.training.run_log import make_accelerator

    sources = [open_source(source) for source in photos]
    texts: dict[Path, str] = {}
    if prompts is not None:
        for source in sources:
            texts |= zip(source.images, read_prompt_files(source.images, source.root, prompts), strict=True)
    where = choose_device(device)
    return {
        "data": training_data(sources, config, texts),
        "output": output,
        "prompts": make_prompts(config, files),
        "accelerator": make_accelerator(output, where.type, tracker.value),
        "dtype": choose_dtype(dtype.value, where),
        "workers": workers,
    }


def _describe(config: RunConfig) -> None:
    """Settings, samples and memory of a run."""
    import dataclasses
    import json

    from tsdsr.training.weight_memory import estimate_memory

    typer.echo(json.dumps(dataclasses.asdict(config), indent=1))
    samples = sum(phase.steps * phase.batch_size for phase in config.phases)
    typer.echo(f"{config.total_steps:,} steps, {samples:,} samples")
    for line in estimate_memory(config):
        typer.echo(line)


def _store_student(trainer: StudentTrainer, files: RunFiles, target: Path) -> None:
    """The averaged student as a pipeline folder, and its LoRA in the released layout where it has one."""
    import torch

    from tsdsr.models.conditioning import FixedPrompt
    from tsdsr.pipeline.convert import convert_released, save_pipeline
    from tsdsr.pipeline.pipeline import OneStepSRPipeline
    from tsdsr.training.build import write_student_lora

    net, spec = trainer.networks.student, trainer.spec
    with trainer.averaged():
        if trainer.config.networks.lora_rank is None:
            prompt = FixedPrompt.from_conditioning(trainer.prompts.fixed())
            save_pipeline(OneStepSRPipeline(net.denoiser, net.vae, prompt, spec.name), target, torch.float16)
            return
        lora = target.with_name(target.name.replace("pipeline", "lora"))
        write_student_lora(net.denoiser, net.vae, spec, trainer.prompts, lora)
    assert files.base is not None
    save_pipeline(convert_released(files.base, lora, lora, spec.name), target, torch.float16)
