"""``tsdsr data``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tsdsr.cli.common import SOURCE_HELP, DtypeChoice, errors_reported
from tsdsr.cli.progress import ProgressBars, track
from tsdsr.errors import InvalidInputError, require_torch
from tsdsr.files import require_writable_folder
from tsdsr.wording import counted

if TYPE_CHECKING:
    from tsdsr.models.text_parts import TextPart

data_app = typer.Typer(help="Prepare training and test data.", no_args_is_help=True)


class PresetChoice(str, Enum):
    realesrgan = "realesrgan"
    osediff = "osediff"
    stablesr = "stablesr"


Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what another run left in the folder.")]


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
    output: Annotated[Path, typer.Option("-o", "--output", help="Gets lr/, hr/ and manifest.jsonl.")],
    preset: Annotated[PresetChoice, typer.Option(help="Published settings.")] = PresetChoice.stablesr,
    seed: Annotated[int, typer.Option(help="The same seed makes the same set.")] = 0,
    crop: Annotated[int | None, typer.Option(help="Edge of random crops; default whole images.")] = None,
    count: Annotated[int | None, typer.Option(help="Number of pairs; default one per image.")] = None,
    replay: Annotated[Path | None, typer.Option(help="Make the set of this manifest again instead.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Create a degraded test set and a manifest of its parameters. An interrupted run is resumed."""
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
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the shards.")],
    per_shard: Annotated[int, typer.Option(min=1, help="Images per shard.")] = 200,
    prompts: Annotated[Path | None, typer.Option(help="Folder with a text file per image.")] = None,
    min_side: Annotated[int, typer.Option(min=1, help="Leave out images with a shorter side.")] = 512,
    overwrite: Overwrite = False,
) -> None:
    """Pack images and prompts into WebDataset shards. An interrupted run is resumed."""
    with errors_reported(), ProgressBars() as bars:
        from tsdsr.data.shards import read_index, write_shards
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
        samples = sum(n for _, n in read_index(str(output)))
    failures.end(f"{counted(samples, 'image')} in {counted(shards, 'shard')} in {output}")


@data_app.command()
def caption(
    source: Annotated[str, typer.Argument(help=SOURCE_HELP)],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder that gets a text file per image.")],
    model: Annotated[str, typer.Option(help="Hub id or folder of a captioning model: BLIP, Florence-2, Qwen-VL …")],
    instruction: Annotated[str | None, typer.Option(help="What to ask, where the model takes instructions.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images per call.")] = 4,
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
    source: Annotated[str, typer.Argument(help=SOURCE_HELP)],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the cache.")],
    base: Annotated[Path, typer.Option(help="Diffusers folder of the base model.")],
    model: Annotated[str, typer.Option(help="Which base model it is: sd3, sd35, sd21-base …")] = "sd3",
    prompts: Annotated[Path | None, typer.Option(help="Folder with a text file per image; default none.")] = None,
    text: Annotated[bool, typer.Option(help="Cache the fixed, the empty and the images' prompts.")] = True,
    latents: Annotated[bool, typer.Option(help="Cache latents of the centre crops.")] = True,
    crop: Annotated[int, typer.Option(min=64, help="Edge of the centre crops.")] = 512,
    t5: Annotated[bool, typer.Option(help="Run SD3's T5 encoder; without it zeros take its place.")] = True,
    batch: Annotated[int, typer.Option(min=1, help="Prompts or images per call.")] = 8,
    device: Annotated[str, typer.Option(help="'auto', 'cpu', 'cuda' …")] = "auto",
    dtype: Annotated[DtypeChoice, typer.Option(help="Precision of encoders and stored tensors.")] = DtypeChoice.fp16,
) -> None:
    """Cache text embeddings and latents for training. An interrupted run is resumed."""
    with errors_reported():
        from tsdsr.data.captions import read_prompts
        from tsdsr.data.sources import open_source

        if not (text or latents):
            raise InvalidInputError("--no-text and --no-latents leave nothing to cache; give one of them at most")
        require_writable_folder(output)
        images = open_source(source)
        require_torch("caching")
        from tsdsr.devices import choose_device, choose_dtype
        from tsdsr.models.conditioning import DEFAULT_PROMPT, NULL_PROMPT
        from tsdsr.models.zoo import get_spec
        from tsdsr.training.encoder_cache import cache_latents, cache_prompts, latent_cache

        spec, where = get_spec(model), choose_device(device)
        precision = choose_dtype(dtype.value, where)
        if latents:
            latent_cache(output, spec, base, crop, precision)  # before hours of text encoding
        if text:
            texts = [DEFAULT_PROMPT, NULL_PROMPT]  # the student's prompt, and the one for guidance
            if prompts is not None:
                texts += read_prompts([images], prompts).values()
            with ProgressBars() as bars:

                def on_batch(part: TextPart, done: int, total: int) -> None:
                    bars.report(f"prompts, {part.name}", done, total)

                count = cache_prompts(texts, base, spec, output, where, precision, batch, t5, on_batch)
            typer.echo(f"{counted(count, 'prompt')} in {output / 'text'}")
        if latents:
            count = cache_latents(images.images, base, spec, output, crop, where, precision, batch, _batches)
            typer.echo(f"{counted(count, 'latent')} in {output / 'latents'}")


def _batches(items: Iterable[Any], total: int) -> Iterator[Any]:
    return track(items, "batches", total)
