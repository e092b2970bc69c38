"""Ablations as changes to a recipe: without a part of the loss (table 4 and more), N and s of the walk (table 6)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType

from tsdsr.training.config import Phase, StudentConfig


def with_tsd(**changes: object) -> Callable[[Phase], Phase]:
    """Return a function that changes TSD settings of a phase. Phases without TSD are unchanged."""

    def change(phase: Phase) -> Phase:
        if phase.tsd is None:
            return phase
        return dataclasses.replace(phase, tsd=dataclasses.replace(phase.tsd, **changes))  # type: ignore[arg-type]

    return change


def _walk(points: int, step_size: float) -> Callable[[Phase], Phase]:
    """Return a function that changes N and s of phases with DASM. Phases with plain TSD are unchanged."""
    change = with_tsd(points=points, step_size=step_size)
    return lambda phase: phase if phase.tsd is None or phase.tsd.points == 1 else change(phase)


def _no_tsd(phase: Phase) -> Phase:
    return dataclasses.replace(phase, tsd=None)


ABLATIONS: Mapping[str, Callable[[Phase], Phase]] = MappingProxyType(
    {
        "no_tsm": with_tsd(lambda_tsm=0.0),
        "no_vsd": with_tsd(lambda_vsd=0.0),
        "no_dasm": with_tsd(points=1),
        "no_tsd": _no_tsd,
        **{f"dasm_{n}x{s}": _walk(n, s) for n, s in ((2, 50), (8, 50), (4, 25), (4, 100))},
    }
)
"""Change of every phase, by name: without TSM or DASM (table 4), without VSD or any TSD (not in the paper), and
``dasm_NxS`` (table 6; 4x50 is the recipe itself)."""


DESCRIPTIONS: Mapping[str, str] = MappingProxyType(
    {
        "no_tsm": "without TSM (table 4)",
        "no_vsd": "without VSD (not in the paper)",
        "no_dasm": "without DASM (table 4)",
        "no_tsd": "with reconstruction losses only (not in the paper)",
        **{f"dasm_{n}x{s}": f"with N = {n}, s = {s} (table 6)" for n, s in ((2, 50), (8, 50), (4, 25), (4, 100))},
    }
)
"""Description of each ablation, by name."""


def ablated(base: Callable[[], StudentConfig], name: str) -> Callable[[], StudentConfig]:
    """Return the recipe ``base`` with one of :data:`ABLATIONS` applied."""

    def recipe() -> StudentConfig:
        config = base()
        return dataclasses.replace(config, phases=tuple(ABLATIONS[name](phase) for phase in config.phases))

    recipe.__doc__ = f"`{base.__name__}` {DESCRIPTIONS[name]}."
    return recipe
