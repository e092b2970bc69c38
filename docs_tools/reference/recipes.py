"""The page of the training recipes, from the functions of ``tsdsr.recipes``. Needs torch."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from typing import Any

from docs_tools.reference.markdown import code, docstring, made_from, table, value
from tsdsr.data.degradation_presets import PRESETS, DegradationSettings
from tsdsr.recipes import RECIPES
from tsdsr.recipes.ablations import ABLATIONS, DESCRIPTIONS
from tsdsr.training.config import RunConfig, StudentConfig

INTRODUCTION = """# Recipes

A recipe is a function that returns all settings of a training run. `tsdsr train student --recipe NAME` and
`tsdsr train teacher --recipe NAME` use one. For your own, use `--recipe FILE.py:FUNCTION`.

For each recipe, this page lists the settings that differ from their defaults. [Settings of the trainer](settings.md)
explains all settings and lists their defaults.

"""
ALWAYS = ("steps", "batch_size", "lr")
"""Settings of a phase that are shown even if they are the defaults."""


def pages() -> dict[str, str]:
    """Return the page: path below docs/ → text."""
    ablated = {f"{base}_{name}" for base in RECIPES for name in ABLATIONS}
    whole = {name: function for name, function in RECIPES.items() if name not in ablated}
    configs = {name: function() for name, function in whole.items()}
    rows = [
        (f"[{code(name)}](#{name})", _kind(config), code(config.networks.model), f"{config.total_steps:,}")
        for name, config in configs.items()
    ]
    parts = [
        made_from("src/tsdsr/recipes"),
        INTRODUCTION,
        table(("Recipe", "Trains", "Base model", "Steps"), rows),
        "\n",
    ]
    for name, config in configs.items():
        parts += [f"## {name}\n\n", docstring(inspect.getdoc(whole[name]) or ""), "\n\n", _described(config), "\n"]
    bases = " and ".join(code(base) for base in RECIPES if f"{base}_no_tsd" in RECIPES)
    parts += [
        "## Ablations\n\n",
        f"{bases} have variants, named by an ending: `sd3_paper_no_tsm`.\n\n",
        table(("Ending", "The recipe"), [(code(f"_{name}"), DESCRIPTIONS[name]) for name in ABLATIONS]),
    ]
    return {"reference/recipes.md": "".join(parts)}


def _kind(config: RunConfig) -> str:
    return "student" if isinstance(config, StudentConfig) else "teacher"


def _described(config: RunConfig) -> str:
    """Return roles, phases and other settings of a recipe."""
    numbers = range(1, len(config.phases) + 1)
    phases = [dict(differing(phase)) | {name: getattr(phase, name) for name in ALWAYS} for phase in config.phases]
    names = [*ALWAYS, *dict.fromkeys(name for phase in phases for name in phase if name not in ALWAYS)]
    columns = [f"Phase {number}" for number in numbers] if len(phases) > 1 else ["The only phase"]
    rows = [(code(name), *(_shown(phase[name]) if name in phase else "" for phase in phases)) for name in names]
    others = [(code(name), _shown(found)) for name, found in differing(config) if not name.startswith("phases")]
    return (
        f"Networks: {', '.join(_roles(config))}.\n\n"
        + table(("Setting", *columns), rows)
        + ("\n" + table(("Setting", "Value"), others) if others else "")
    )


def _roles(config: RunConfig) -> Iterator[str]:
    """Yield the networks of a run."""
    if not isinstance(config, StudentConfig):
        yield "the teacher"
        return
    yield "the student"
    if config.needs_scores:
        yield from ("a teacher", "a fake network")
    for adversary in sorted(config.adversaries):
        yield f"a discriminator ({adversary})"


def differing(settings: Any, start: str = "") -> Iterator[tuple[str, Any]]:
    """Yield path and value of each setting of a dataclass that is not its default, also in nested ones."""
    for field in dataclasses.fields(settings):
        found, path = getattr(settings, field.name), f"{start}{field.name}"
        factory = field.default_factory
        default = factory() if factory is not dataclasses.MISSING else field.default
        if found == default:
            continue
        nested = dataclasses.is_dataclass(found) and found not in PRESETS.values()
        if nested and (default in (None, dataclasses.MISSING) or type(default) is type(found)):
            yield from differing(found, f"{path}.") if list(differing(found)) else [(path, found)]
        else:
            yield path, found


def _shown(setting: Any) -> str:
    """Return the value of a setting as Markdown; degradations by name, with what differs from their defaults."""
    if isinstance(setting, tuple) and any(_has_class(part) for part in setting):
        pairs = setting if isinstance(setting[0], tuple) else (setting,)
        return "; ".join(f"{share:g}: {_shown(degradation)}" for share, degradation in pairs)
    if not dataclasses.is_dataclass(setting):
        return value(setting)
    if isinstance(setting, DegradationSettings):
        near = [(list(_changes(setting, preset)), name) for name, preset in PRESETS.items()]
        changes, name = min(near, key=lambda found: len(found[0]))
        return f"preset {code(name)}" + (f" with {', '.join(changes)}" if changes else "")
    found = ", ".join(f"{name}={value(found)[1:-1]}" for name, found in differing(setting))
    return code(f"{type(setting).__name__}({found})")


def _changes(settings: Any, others: Any, start: str = "") -> Iterator[str]:
    """Yield the values in a dataclass that another one of its class does not have, as Markdown."""
    for field in dataclasses.fields(settings):
        one, other = getattr(settings, field.name), getattr(others, field.name)
        if dataclasses.is_dataclass(one):
            yield from _changes(one, other, f"{start}{field.name}.")
        elif one != other:
            yield code(f"{start}{field.name}={value(one)[1:-1]}")


def _has_class(part: Any) -> bool:
    return dataclasses.is_dataclass(part) or (isinstance(part, tuple) and any(_has_class(inner) for inner in part))
