"""``tsdsr convert`` and ``tsdsr info``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tsdsr.cli.common import DtypeChoice, errors_reported
from tsdsr.cli.fold import fold_and_report
from tsdsr.errors import require_torch
from tsdsr.wording import counted


def convert(
    base: Annotated[str, typer.Option(help="Diffusers folder or hub id of the base model.")],
    lora: Annotated[Path, typer.Option(help="Folder with transformer.safetensors and vae.safetensors.")],
    embeddings: Annotated[Path, typer.Option(help="Folder with prompt_embeds.pt and pool_embeds.pt.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Pipeline folder to make.")],
    model: Annotated[str, typer.Option(help="Which base model it is: sd3, sd35, sd21-base …")] = "sd3",
    dtype: Annotated[DtypeChoice, typer.Option(help="Precision of the stored weights.")] = DtypeChoice.fp16,
    fold: Annotated[bool, typer.Option("--fold", help="Also fold it, as 'tsdsr fold' does.")] = False,
) -> None:
    """Merge a base model and the released LoRA into a pipeline folder."""
    with errors_reported():
        from tsdsr.files import require_new

        require_new(output)
        require_torch("converting")
        import torch

        from tsdsr.devices import choose_dtype
        from tsdsr.pipeline.convert import convert_released, save_pipeline

        stored = choose_dtype("fp16" if dtype is DtypeChoice.auto else dtype.value, torch.device("cpu"))
        pipe = convert_released(base, lora, embeddings, model)
        if fold:
            fold_and_report(pipe)
        save_pipeline(pipe, output, stored)
    typer.echo(f"{output}: ready for 'tsdsr upscale --model {output}'")


def info() -> None:
    """Print versions, devices and models."""
    import platform

    import torch
    from rich.console import Console
    from rich.table import Table

    from tsdsr.devices import choose_device, choose_dtype
    from tsdsr.machine import versions
    from tsdsr.models.zoo import SPECS
    from tsdsr.pipeline.model_files import PACKAGED_MODELS

    def auto_dtype(device: torch.device) -> str:
        return str(choose_dtype("auto", device)).removeprefix("torch.")

    console, packages = Console(), Table("package", "version", title="Versions", title_justify="left")
    for name, version in versions().items():
        packages.add_row(name, version)
    devices = Table("device", "name", "precision of 'auto'", title="Devices", title_justify="left")
    devices.add_row(
        "cpu", f"{platform.machine()}, {counted(torch.get_num_threads(), 'thread')}", auto_dtype(torch.device("cpu"))
    )
    for i in range(torch.cuda.device_count()):
        devices.add_row(f"cuda:{i}", torch.cuda.get_device_name(i), auto_dtype(torch.device("cuda", i)))
    if torch.backends.mps.is_available():
        devices.add_row("mps", platform.processor(), auto_dtype(torch.device("mps")))
    models = Table("model", "process", "native size", title="Models", title_justify="left")
    models.add_column("where from", overflow="fold")  # a hub id that is cut short is of no use
    for spec in SPECS.values():
        source = "comes with the package" if spec.name in PACKAGED_MODELS else f"{spec.hub_id} + LoRA: tsdsr convert"
        process = f"{type(spec.process).__name__} ({spec.process.prediction})"
        models.add_row(spec.name, process, f"{spec.native_size} px", source)
    for table in (packages, devices, models):
        console.print(table)
    console.print(f"'auto' takes the device {choose_device()}.")
