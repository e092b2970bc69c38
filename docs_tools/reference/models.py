"""The page of the base models, from the table that the package itself uses. Imports no torch."""

from __future__ import annotations

from docs_tools.reference.markdown import code, made_from, table
from tsdsr.models.zoo import SPECS, ModelSpec

INTRODUCTION = """# Base models

The values of `tsdsr convert --model` and of `networks.model` in a [recipe](recipes.md). They are also the keys of
`tsdsr.SPECS`. Only `mini` comes with the package. The others need the extra `torch` and the weights of their base
model.

"""


def pages() -> dict[str, str]:
    """Return the page: path below docs/ → text."""
    specs = list(SPECS.values())
    parts = [
        made_from("src/tsdsr/models/zoo.py"),
        INTRODUCTION,
        "## Weights\n\n",
        table(("Name", "Base model on the hub", "Licence", "Stored in", "Student released by the paper's authors"),
              [(code(s.name), code(s.hub_id) if s.hub_id else "none: trained from scratch", _licence(s),
                s.precision if s.hub_id else "fp32", "yes" if s.released else "") for s in specs]),
        "\n## Networks\n\n",
        table(("Name", "Network", "Autoencoder", "Text encoders", "Noise process", "Fixed time"),
              [(code(s.name), code(s.denoiser_path.split(":")[1]), code(s.vae_path.split(":")[1]),
                ", ".join(part.kind for part in s.text_parts) or "none", _process(s), f"{s.timestep:g}")
               for s in specs]),
        "\n## Sizes\n\n"
        "Images larger than the native size are restored in tiles. The memory is for one tile in float32. In 16 bits,\n"
        "the part that grows with the tile is half as large.\n\n",
        table(("Name", "Pixels per latent position", "Sides are multiples of", "Native size", "Smallest tile",
               "Overlap", "Memory of a tile"),
              [(code(s.name), f"{s.vae_scale_factor}", f"{s.size_multiple}", f"{s.native_size}", f"{s.min_tile}",
                f"{s.tile_overlap}", f"{s.fixed_tile_bytes / 1e6:,.0f} MB + {s.tile_bytes:,.0f} bytes per pixel")
               for s in specs]),
    ]  # fmt: skip
    return {"reference/models.md": "".join(parts)}


def _licence(spec: ModelSpec) -> str:
    if not spec.licence:
        return "Apache-2.0"
    name = spec.licence.get("license_name", spec.licence["license"])
    return f"[{name}]({spec.licence['license_link']})" if "license_link" in spec.licence else name


def _process(spec: ModelSpec) -> str:
    arguments = ", ".join(f"{name} {value}" for name, value in spec.process_arguments.items())
    return f"{code(spec.process_path.split(':')[1])}" + (f", {arguments}" if arguments else "")
