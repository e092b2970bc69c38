"""Tables of what benchmarks/gpu.py measured, and the sentences of the documentation that the figures replace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Results = Mapping[str, Mapping[str, Any]]

GOAL_MS, GOAL_RATIO = 12.0, 6.0
"""Goal: one result of 512² by full-size SD3, and that many times the speed of the released way."""

REPLACED = (
    ("sd3", "docs/how-to/speed.md", "No figure on this page comes from a GPU yet."),
    ("sd3", "docs/measurements/full-size.md", "Compiling on a GPU has not been measured."),
    ("sd3-fp8", "docs/measurements/quantization.md", "`fp8` has not been run, because no Hopper GPU was available."),
    ("train-sd3_24gb", "docs/measurements/training-cost.md", "Nobody has tried yet whether the run fits in 24 GB."),
    ("train-sd3_24gb", "docs/measurements/training.md", "the gain on a GPU was not measured"),
)
"""Part whose figures replace a sentence, the file, and the sentence."""


def report(results: Results, rehearsal: bool = False) -> str:
    """All figures as Markdown."""
    about = [found for found in results.values() if "machine" in found]
    first = next((found for found in about if found["machine"].get("gpus")), about[0] if about else {})
    machine, packages = first.get("machine", {}), first.get("versions", {})
    where = f"{', '.join(machine.get('gpus', [])) or 'no GPU'}; {', '.join(f'{k} {v}' for k, v in packages.items())}"
    title = "# A rehearsal on a CPU: these figures mean nothing\n\n" if rehearsal else "# Measured on a GPU\n\n"
    tables = (_times(results), _training(results), _mini(results), _tiles(results), _tests(results), _open(results))
    return title + where + "\n" + "".join(f"\n{table}\n" for table in tables if table) + "\n" + _replaced(results)


def _row(*cells: object) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _table(heads: str, rows: list[str]) -> str:
    head = _row(*heads.split(", "))
    return "\n".join([head, "|" + "---|" * (head.count("|") - 1), *rows]) if rows else ""


def _times(results: Results) -> str:
    """One result, part by part."""
    ways = {
        "sd3-released": (("eager", "SD3, the released way: fp16, LoRA apart"),),
        "sd3": (("eager", "SD3 bf16, folded"), ("compiled", "SD3 bf16, folded, compiled")),
        "sd3-fp8": (("compiled", "SD3 fp8, folded, compiled"),),
        "flux2-klein": (("eager", "FLUX.2 klein bf16"), ("compiled", "FLUX.2 klein bf16, compiled")),
    }
    base = results.get("sd3-released", {}).get("eager", {}).get("together")
    rows, best = [], None
    for name, kinds in ways.items():
        found = results.get(name, {})
        for kind, label in kinds:
            if not (times := found.get(kind)):
                continue
            sd3 = name.startswith("sd3")
            ratio = f"{base / times['together']:.2f}" if base and sd3 else "-"
            best = min(best or times["together"], times["together"]) if sd3 else best
            floor, whole = found.get("floor_ms"), found.get("whole_ms") if kind == "compiled" else None
            rows.append(_row(
                label, *(f"{times[part]:.2f}" for part in ("encode", "denoise", "decode", "together")), ratio,
                f"{floor:.2f}" if floor else "-", f"{whole:.2f}" if whole else "-", _gigabytes(times["peak_memory"]),
                f"{times['first_call_s']:.1f}",
            ))  # fmt: skip
    if not rows:
        return ""
    goal = f"Goal for SD3: at most {GOAL_MS:g} ms, and {GOAL_RATIO:g} times the speed of the released way"
    if best is not None:
        reached = best <= GOAL_MS and bool(base) and base / best >= GOAL_RATIO
        goal += f"; {'reached' if reached else 'not reached'}: {best:.2f} ms" + (
            f", {base / best:.2f}x" if base else ""
        )
    heads = (
        "one result of 512², encode ms, denoise ms, decode ms, together ms, times the released speed, floor ms, "
        "from 128² with colours ms, peak memory, first call s"
    )
    return f"{_table(heads, rows)}\n\n{goal}.\n"


def _training(results: Results) -> str:
    """Steps of recipes, measured and predicted."""
    rows = []
    for name, found in results.items():
        if not name.startswith("train-") or "step_s" not in found:
            continue
        predicted = results.get(name.replace("train-", "predict-"), {})
        operations = predicted.get("predicted_flops")
        speed = operations * found["micro_batches"] / found["step_s"] / 1e12 if operations else None
        rows.append(_row(
            name.removeprefix("train-"), f"{found['micro_batches']} x {found['images_at_once']}",
            f"{found['step_s']:.2f}", _gigabytes(found.get("peak_memory")),
            _gigabytes(predicted.get("predicted_bytes")), f"{speed:.0f}" if speed else "-",
            "yes" if found["perceptual"] else "no",
        ))  # fmt: skip
    return _table(
        "one step with N = 4, micro-batches x images, seconds, peak memory, predicted, TFLOP/s, with LPIPS", rows
    )


def _mini(results: Results) -> str:
    """Pictures a second."""
    rows = []
    for way in ("bf16", "fp16", "onnx"):
        for name, found in results.get(f"mini-{way}", {}).items():
            if isinstance(found, dict) and "pictures_per_second" in found:
                edge, _, compiled = name.partition(" ")
                label = f"ONNX Runtime, {results[f'mini-{way}'].get('provider')}" if way == "onnx" else f"torch {way}"
                speed, first = f"{found['pictures_per_second']:.1f}", f"{found['first_call_s']:.1f}"
                rows.append(_row(f"{label} {compiled}".strip(), f"{edge}²", speed, first))
    return _table("`mini`, result, pictures a second, first call s", rows)


def _tiles(results: Results) -> str:
    """Memory of tiles beside the table of base models."""
    rows = []
    for name, found in results.items():
        if tiles := found.get("tile_memory"):
            edges = " and ".join(f"{edge}²" for edge in tiles["edges"])
            rows.append(_row(
                name.removesuffix("-tiles"), edges, f"{tiles['bytes_per_pixel']:,.0f}",
                f"{tiles['table_bytes_per_pixel']:,.0f}", f"{tiles['fixed_bytes'] / 1e6:,.0f}",
                f"{tiles['table_fixed_bytes'] / 1e6:,.0f}",
            ))  # fmt: skip
    heads = "working memory of a tile in 16 bits, measured at, bytes a pixel, the table's, fixed MB, the table's"
    return _table(heads, rows)


def _tests(results: Results) -> str:
    """Counts of the tests, and the names of those that failed."""
    lines = []
    for name in ("tests", "tests-compiled"):
        if "tests" in (found := results.get(name, {})):
            bad = found["failures"] + found["errors"]
            lines.append(f"{name}: {found['tests']} tests, {bad} failed, {found['skipped']} skipped")
            lines += [f"- {failed}" for failed in found["failed"]]
    return "\n".join(lines)


def _open(results: Results) -> str:
    """What has no complete figures."""
    wrong = [
        f"- {name}: {found.get('error', 'not run')}" for name, found in results.items() if not found.get("complete")
    ]
    return "\n".join(["Not complete:", *wrong]) if wrong else ""


def _replaced(results: Results) -> str:
    lines = [
        f"- {path}: “{sentence}” ({part}{'' if results.get(part, {}).get('complete') else ', not complete yet'})"
        for part, path, sentence in REPLACED
    ]
    return "\n".join(["Sentences of the documentation that these figures replace:", *lines]) + "\n"


def _gigabytes(size: float | None) -> str:
    return "-" if size is None else f"{size / 1e9:.2f} GB"
