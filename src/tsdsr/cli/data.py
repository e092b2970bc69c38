"""``tsdsr data``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tsdsr.cli.common import SHARDS_HELP, SOURCE_HELP, DtypeChoice, errors_reported
from tsdsr.cli.progress import ProgressBars, track
from tsdsr.errors import ConfigError, InvalidInputError, require_torch
from tsdsr.files import require_writable_folder
from tsdsr.wording import counted

if TYPE_CHECKING:
    import torch

    from tsdsr.data.photographs import PhotoSource
    from tsdsr.data.sources import Source
    from tsdsr.models.text_parts import TextPart
    from tsdsr.models.zoo import ModelSpec
    from tsdsr.training.config import RunConfig

data_app = typer.Typer(help="Prepare training and test data.", no_args_is_help=True)


class PresetChoice(str, Enum):
    realesrgan = "realesrgan"
    osediff = "osediff"
    stablesr = "stablesr"


Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier run left in the folder.")]


class Failures:
    """Files that a command leaves out: each is reported at once, and the command ends with status 1."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, message: str) -> None:
        self.count += 1
        typer.echo(f"error: {message}", err=True)

    def end(self, summary: str) -> None:
        """Print the summary; exit with status 1 if a file was left out."""
        typer.echo(f"{summary}; {self.count} failed" if self.count else summary)
        if self.count:
            raise typer.Exit(1)


@data_app.command()
def degrade(
    context: typer.Context,
    hq: Annotated[Path, typer.Argument(metavar="HQ", help="Folder of sharp images, or one image.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder that receives lr/, hr/ and manifest.jsonl.")],
    preset: Annotated[
        PresetChoice, typer.Option(help="Published degradation settings to use.")
    ] = PresetChoice.stablesr,
    seed: Annotated[int, typer.Option(help="Seed of the degradations; the same seed gives the same set.")] = 0,
    crop: Annotated[int | None, typer.Option(help="Edge of random crops in pixels. Default: whole images.")] = None,
    count: Annotated[int | None, typer.Option(help="Number of pairs. Default: one for each image.")] = None,
    replay: Annotated[Path | None, typer.Option(help="Recreate the set that this manifest describes.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Create a degraded test set, and a manifest of its parameters. An interrupted run is resumed."""
    with errors_reported():
        from tsdsr.data.degradation_presets import PRESETS, check_drawing
        from tsdsr.data.sources import list_originals

        require_writable_folder(output)
        failures, root, settings = Failures(), hq.parent if hq.is_file() else hq, PRESETS[preset.value]
        if replay is not None:
            _refuse_beside_replay(context)
        else:
            check_drawing(settings, seed, crop, count)
            images = [hq] if hq.is_file() else list_originals(hq, leave_out=[output])
        require_torch("degrading", "train")
        from tsdsr.data.testset import plan_test_set, read_manifest, write_test_set

        if replay is not None:
            settings, items = read_manifest(replay)
        else:
            planned = plan_test_set(root, images, settings, seed, crop, count, failures)
            items = list(track(planned, "parameters", len(images) if count is None else count))
        if failures.count and not items:
            failures.end(f"no pair can be made; {output} is left as it is")
        writer = write_test_set(root, items, settings, output, overwrite, failures)
        made = sum(1 for _ in track(writer, "pairs", len(items)))
    failures.end(f"{counted(made, 'pair')} in {output}")


def _refuse_beside_replay(context: typer.Context) -> None:
    """The manifest holds these settings; others beside it would be ignored."""
    given = [
        f"--{name}"
        for name in ("preset", "seed", "crop", "count")
        if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
    ]
    if given:
        raise InvalidInputError(f"--replay takes its settings from the manifest; leave out {', '.join(given)}")


@data_app.command()
def shard(
    source: Annotated[str, typer.Argument(help=SOURCE_HELP)],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the shards.")],
    per_shard: Annotated[int, typer.Option(min=1, help="Number of images in a shard.")] = 200,
    prompts: Annotated[Path | None, typer.Option(help="Folder with a text file for each image.")] = None,
    min_side: Annotated[int, typer.Option(min=1, help="Leave out images whose shorter side has fewer pixels.")] = 512,
    overwrite: Overwrite = False,
) -> None:
    """Pack images and prompts into WebDataset shards. An interrupted run is resumed."""
    with errors_reported(), ProgressBars() as bars:
        from tsdsr.data.shard_index import open_shards
        from tsdsr.data.shards import write_shards
        from tsdsr.data.sources import open_source

        require_writable_folder(output)
        failures, images = Failures(), open_source(source)
        on_image = partial(bars.report, "images")
        writer = write_shards(
            images.images, output, images.root, per_shard, prompts, min_side, overwrite, failures, on_image
        )
        shards = 0
        for shards, _ in enumerate(writer, 1):
            bars.report("shards", shards, max(shards, -(-len(images.images) // per_shard)))
        samples = len(open_shards(output, output).images)
    failures.end(f"{counted(samples, 'image')} in {counted(shards, 'shard')} in {output}")


@data_app.command()
def caption(
    source: Annotated[str, typer.Argument(help=SOURCE_HELP)],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder that receives a text file for each image.")],
    model: Annotated[str, typer.Option(help="Hub ID or folder of a captioning model: BLIP, Florence-2, Qwen-VL …")],
    instruction: Annotated[str | None, typer.Option(help="What to ask the model, if it takes instructions.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Number of images in a batch.")] = 4,
    device: Annotated[str, typer.Option(help="'auto', 'cpu', 'cuda' …")] = "auto",
    dtype: Annotated[DtypeChoice, typer.Option(help="Precision of the model.")] = DtypeChoice.auto,
    overwrite: Overwrite = False,
) -> None:
    """Write a prompt for each image. Images that already have one are skipped."""
    with errors_reported():
        from tsdsr.data.captions import plan_captions, write_captions
        from tsdsr.data.sources import open_source
        from tsdsr.hashing import fingerprint_folder

        images = open_source(source)
        require_torch("captioning")
        from tsdsr.devices import choose_device, choose_dtype
        from tsdsr.models.captioner import load_captioner

        failures, where = Failures(), choose_device(device)
        weights = fingerprint_folder(Path(model), ["."]) if Path(model).is_dir() else model
        settings = {"model": weights, "instruction": instruction or ""}
        plan = plan_captions(images, output, settings, overwrite, failures)
        written = 0
        if plan.missing:
            describe = load_captioner(model, where, choose_dtype(dtype.value, where), instruction)
            batches = write_captions(plan, describe, batch, failures)
            written = sum(len(files) for files in track(batches, "batches", -(-len(plan.missing) // batch)))
        there = len(plan.files) - len(plan.missing)
    failures.end(f"{counted(written, 'prompt')} written, {there} {'was' if there == 1 else 'were'} there, in {output}")


@data_app.command()
def cache(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the cache.")],
    base: Annotated[Path, typer.Option(help="Diffusers folder of the base model.")],
    source: Annotated[str | None, typer.Argument(help=SOURCE_HELP)] = None,
    shards: Annotated[list[str], typer.Option("--shards", help=f"Shards: {SHARDS_HELP} Repeatable.")] = [],  # noqa: B006
    model: Annotated[
        str | None, typer.Option(help="Kind of base model: sd3, sd35 … Default: the recipe's, or sd3.")
    ] = None,
    prompts: Annotated[Path | None, typer.Option(help="Folder with a text file for each image. Default: none.")] = None,
    text: Annotated[
        bool, typer.Option(help="Cache the embeddings of the fixed prompt, the empty prompt and the images' prompts.")
    ] = True,
    latents: Annotated[str | None, typer.Option(help="Also cache the latents of this recipe's fixed crops.")] = None,
    overrides: Annotated[list[str], typer.Option("--set", help="Change a setting of that recipe. Repeatable.")] = [],  # noqa: B006
    t5: Annotated[bool, typer.Option(help="Run SD3's T5 encoder; without it, its embeddings are zeros.")] = True,
    batch: Annotated[int, typer.Option(min=1, help="Number of prompts or crops in a batch.")] = 8,
    device: Annotated[str, typer.Option(help="'auto', 'cpu', 'cuda' …")] = "auto",
    dtype: Annotated[
        DtypeChoice,
        typer.Option(help="Precision of text encoders and embeddings; 'auto' is bf16 for FLUX.2 and fp16 otherwise."),
    ] = DtypeChoice.auto,
    latents_dtype: Annotated[
        DtypeChoice, typer.Option(help="Precision of the training run that will use the latents.")
    ] = DtypeChoice.auto,
) -> None:
    """Cache text embeddings, and latents of fixed crops, for training. An interrupted run is resumed."""
    with errors_reported():
        from tsdsr.data.shard_index import SHARD_INDEX, check_shards, open_shards
        from tsdsr.data.sources import open_source

        if not (text or latents):
            raise InvalidInputError("--no-text leaves nothing to cache; give a recipe with --latents")
        if source is None and not shards:
            raise InvalidInputError("no images were given: name a folder, or shards with --shards")
        if source is None and prompts is not None:
            raise InvalidInputError("--prompts has no effect: shards contain their own prompts; leave it out")
        for archive in shards:
            check_shards(archive)
        require_writable_folder(output)
        images = [] if source is None else [open_source(source)]
        require_torch("caching", "train" if latents else "torch")
        from tsdsr.devices import choose_device, choose_dtype
        from tsdsr.models.zoo import get_spec

        where = choose_device(device)
        recipe = None if latents is None else _recipe_of_latents(latents, overrides, model)
        spec = get_spec(recipe.networks.model if recipe else model or "sd3")
        encode = None if recipe is None else _latents_of(recipe, spec, base, output, where, latents_dtype.value, batch)
        packed = [open_shards(archive, output / SHARD_INDEX) for archive in shards]
        if text:
            texts = chain(_texts(images, prompts), *(archive.images.texts() for archive in packed))
            precision = spec.stored_dtype if dtype is DtypeChoice.auto else choose_dtype(dtype.value, where)
            _cache_texts(texts, base, spec, output, where, precision, batch, t5)
        if encode is not None:
            typer.echo(f"{counted(encode([*images, *packed]), 'latent')} in {output / 'latents'}")


def _texts(images: Sequence[Source], prompts: Path | None) -> Iterable[str]:
    from tsdsr.data.captions import read_prompts

    return () if prompts is None else read_prompts(images, prompts).values()


def _cache_texts(
    texts: Iterable[str],
    base: Path,
    spec: ModelSpec,
    output: Path,
    device: torch.device,
    dtype: torch.dtype,
    batch: int,
    t5: bool,
) -> None:
    """Cache the student's prompt, the one for guidance, and those of the images."""
    from tsdsr.models.conditioning import DEFAULT_PROMPT, NULL_PROMPT
    from tsdsr.training.encoder_cache import cache_prompts

    prompts = [DEFAULT_PROMPT, NULL_PROMPT, *texts]
    with ProgressBars() as bars:

        def on_batch(part: TextPart, done: int, total: int) -> None:
            bars.report(f"prompts, {part.name}", done, total)

        count = cache_prompts(prompts, base, spec, output, device, dtype, batch, t5, on_batch)
    typer.echo(f"{counted(count, 'prompt')} in {output / 'text'}")


def _recipe_of_latents(name: str, overrides: list[str], model: str | None) -> RunConfig:
    """Return a recipe whose crops are fixed, so that their latents can be cached.

    Raises:
        ConfigError: its crops are not, it is of another model, or its images are no latents.
    """
    from tsdsr.recipes import get_recipe
    from tsdsr.training import apply_overrides
    from tsdsr.training.samples import crops_of

    recipe = apply_overrides(get_recipe(name), overrides)
    setting = "pairs.crops.fixed" if hasattr(recipe, "pairs") else "crops.fixed"
    if not crops_of(recipe).fixed:
        raise ConfigError(
            f"{name} cuts fresh crops; set how many crops of each photograph are fixed with --set {setting}=N"
        )
    if recipe.networks.lora_rank is None:
        raise ConfigError(f"{name}: {recipe.networks.model} has no autoencoder whose latents could be cached")
    if model not in (None, recipe.networks.model):
        raise ConfigError(f"{name} is a recipe of {recipe.networks.model}, not of {model}; leave out --model")
    return recipe


def _latents_of(
    recipe: RunConfig, spec: ModelSpec, base: Path, output: Path, device: torch.device, dtype: str, batch: int
) -> Callable[[Sequence[PhotoSource]], int]:
    """Check the cache of latents, before hours of text encoding, and return what fills it."""
    from tsdsr.training.latent_cache import cache_latents, latent_cache
    from tsdsr.training.run import precision_of_new_run
    from tsdsr.training.samples import crops_of

    crops, precision = crops_of(recipe), precision_of_new_run(dtype, device, recipe)
    latent_cache(output, spec, base, crops, precision)

    def fill(sources: Sequence[PhotoSource]) -> int:
        return cache_latents(sources, base, spec, output, crops, device, precision, batch, _crops)

    return fill


def _crops(items: Iterable[Any], total: int) -> Iterator[Any]:
    return track(items, "crops", total)
