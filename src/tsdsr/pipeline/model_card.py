"""The model card of a pipeline on the hub: metadata in YAML, then how to use the model."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tsdsr.models.zoo import SPECS, ModelSpec
from tsdsr.pipeline.model_files import EXPORT_INDEX, base_model, is_exported

CARD = "README.md"
"""Name of a model card."""

_TAGS = ("super-resolution", "image-restoration", "one-step", "tsd-sr")

_TEXT = """
# {title}

A one-step super-resolution model {origin}, for [tsdsr](https://arxiv.org/abs/2411.18263). It restores photographs and
enlarges them by 1 to 8.

```python
from PIL import Image
from tsdsr import load_pipeline

pipe = load_pipeline("{repo_id}")
pipe(Image.open("photo.jpg"), scale=4).images[0].save("photo_x4.png")
```

or `tsdsr upscale photo.jpg -o results/ --model {repo_id}`.
{licence}"""

_UNKNOWN_LICENCE = """
The licence is not stated. Whoever publishes the model sets `license` at the top of this page.
"""


def model_card(folder: Path, repo_id: str) -> str:
    """Write the model card of a pipeline or exported folder that has none.

    It states what the folder tells: the base model with its licence, and the engine of an exported model. The licence
    of a `mini` is its maker's choice, so it is "unknown".

    Args:
        folder (Path): the model.
        repo_id (str): "owner/name" on the hub.

    Returns:
        str: Markdown with metadata in YAML, as the hub's checks accept it.
    """
    spec = SPECS.get(base_model(folder) or "")
    licence = {"license": "unknown"} if spec is None or not spec.licence else spec.licence
    lines = [f"{name}: {value}" for name, value in licence.items()]
    lines += ["library_name: tsdsr", "pipeline_tag: image-to-image", *_list("tags", (*_TAGS, *_engine_tags(folder)))]
    if spec is not None and spec.hub_id is not None:
        lines += [f"base_model: {spec.hub_id}", "base_model_relation: finetune"]
    text = _TEXT.format(
        title=repo_id.split("/")[-1],
        origin=_origin(spec),
        repo_id=repo_id,
        licence=_UNKNOWN_LICENCE if licence["license"] == "unknown" else "",
    )
    return "\n".join(["---", *lines, "---", text.strip("\n"), ""])


def _list(name: str, values: Iterable[str]) -> list[str]:
    return [f"{name}:", *(f"- {value}" for value in values)]


def _origin(spec: ModelSpec | None) -> str:
    if spec is None or spec.hub_id is None:
        return "with the network of `mini`"
    return f"made from [{spec.hub_id}](https://huggingface.co/{spec.hub_id})"


def _engine_tags(folder: Path) -> tuple[str, ...]:
    if not is_exported(folder):
        return ()
    backend = json.loads((folder / EXPORT_INDEX).read_text(encoding="utf-8")).get("backend")
    return (str(backend),)
