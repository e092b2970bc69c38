"""``tsdsr convert`` and ``tsdsr info``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tsdsr.cli.common import DtypeChoice, errors_reported
from tsdsr.cli.fold import fold_and_report
from tsdsr.errors import MissingDependencyError, install_extra, require_torch


def convert(
    base: Annotated[str, typer.Option(help="Diffusers folder or hub ID of the base model.")],
    lora: Annotated[Path, typer.Option(help="Folder with transformer.safetensors and vae.safetensors.")],
    embeddings: Annotated[Path, typer.Option(help="Folder with prompt_embeds.pt and, for SD3, pool_embeds.pt.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Pipeline folder to create.")],
    model: Annotated[str, typer.Option(help="Kind of base model: sd3, flux2-klein, sd21-base …")] = "sd3",
    dtype: Annotated[
        DtypeChoice, typer.Option(help="Precision of the stored weights; 'auto' is bf16 for FLUX.2 and fp16 otherwise.")
    ] = DtypeChoice.auto,
    fold: Annotated[bool, typer.Option("--fold", help="Fold the result, as 'tsdsr fold' does.")] = False,
) -> None:
    """Merge a base model and the released LoRA into a pipeline folder."""
    with errors_reported():
        from tsdsr.files import require_new

        require_new(output)
        require_torch("converting")
        import torch

        from tsdsr.devices import choose_dtype
        from tsdsr.pipeline.convert import convert_released, save_pipeline

        pipe = convert_released(base, lora, embeddings, model)
        auto = dtype is DtypeChoice.auto
        stored = pipe.spec.stored_dtype if auto else choose_dtype(dtype.value, torch.device("cpu"))
        if fold:
            fold_and_report(pipe)
        pipe.to(stored)  # in place, tensor by tensor: storing would hold the weights in both precisions
        save_pipeline(pipe, output, stored)
    typer.echo(f"{output}: ready for 'tsdsr upscale --model {output}'")


def info() -> None:
    """Show versions, engines and models."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from tsdsr.machine import versions
    from tsdsr.models.zoo import SPECS
    from tsdsr.pipeline.model_files import PACKAGED_MODELS

    console, packages = Console(), Table("package", "version", title="Versions", title_justify="left")
    for name, version in versions().items():
        packages.add_row(name, version)
    engines = Table("engine", "here", title="Engines", title_justify="left")
    for engine, state in _engines().items():
        engines.add_row(engine, escape(state))
    models = Table("model", "native size", title="Models", title_justify="left")
    models.add_column("where from", overflow="fold")  # a hub ID that is cut short is of no use
    for spec in SPECS.values():
        way = " + LoRA: tsdsr convert" if spec.released else ": tsdsr train"
        source = "comes with the package" if spec.name in PACKAGED_MODELS else f"{spec.hub_id}{way}"
        models.add_row(spec.name, f"{spec.native_size} px", source)
    for table in (packages, engines, models):
        console.print(table)
    console.print(_choice_of_auto(), soft_wrap=True)


def _engines() -> dict[str, str]:
    """Return what each engine can use here, or what to install for it."""
    from importlib.util import find_spec

    from tsdsr.processor import multiplies_int8
    from tsdsr.runtimes.providers import available_providers

    here, fast = {}, "works" if multiplies_int8() else "needs a processor with VNNI"
    try:
        here["onnx"] = f"providers: {', '.join(available_providers())}; --fast {fast}"
    except MissingDependencyError as error:
        here["onnx"] = str(error)
    try:
        require_torch("the engine", packages=("torch", "safetensors"))
        here["torch"] = f"devices and their precision: {', '.join(_torch_devices())}"
    except MissingDependencyError as error:
        here["torch"] = install_extra("torch") if find_spec("torch") is None else str(error)
    here["openvino"] = install_extra("openvino") if find_spec("openvino") is None else "installed"
    return here


def _torch_devices() -> list[str]:
    import torch

    from tsdsr.devices import available_devices, choose_dtype

    names = [name for name in available_devices() if name != "cuda"]  # cuda:0 … stand for it
    precisions = [str(choose_dtype("auto", torch.device(name))).removeprefix("torch.") for name in names]
    return [
        f"{name} ({torch.cuda.get_device_name(name)}) {dtype}" if name.startswith("cuda") else f"{name} {dtype}"
        for name, dtype in zip(names, precisions, strict=True)
    ]


def _choice_of_auto() -> str:
    from tsdsr.pipeline.model_files import resolve_model
    from tsdsr.runtimes.open_model import WORTH_TORCH, choose_engine

    folder = resolve_model("mini")
    small, large = (choose_engine(folder, pixels=pixels) for pixels in (0, WORTH_TORCH))
    more = "" if large == small else f", and {large} from {WORTH_TORCH / 1e6:g} million pixels of results on"
    return f"'auto' takes the engine {small} for mini{more}; other models need torch."
