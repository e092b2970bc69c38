# ruff: noqa: RUF001 - tables have multiplication signs and dashes
"""Runs a measurement and keeps its figures as a record: command, hardware, versions, values.

    python benchmarks/record.py memory benchmarks/memory.py --threads 1      # writes benchmarks/records/memory.toml
    python benchmarks/record.py bench-mini tsdsr bench mini --runs 9         # the figures of its --json

What the command prints is shown. JSON and Markdown tables in it become values with the names of rows and columns. A
key that ends in a unit, such as `total_s` or `peak_mb`, gives it to the checker of the documentation's figures
(`tests/docs/figures.py`). Read the record before it is committed: take out what no page shows.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tsdsr.machine import describe_machine, versions

ROOT = Path(__file__).resolve().parents[1]
RECORDS = Path(__file__).with_name("records")


def key(text: str) -> str:
    """Make a key of TOML from a name: lower case, words joined by underscores."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower().replace("×", "x").replace("%", "percent")).strip("_") or "row"


def number(text: str) -> float | int | str:
    """Read a cell: a number, or its text."""
    plain = text.replace(",", "").strip("* %×")
    for kind in (int, float):
        try:
            return kind(plain)
        except ValueError:
            continue
    return text


def values_in(output: str) -> dict[str, Any]:
    """Return the values of an output: of JSON as a whole or line by line, and of Markdown tables."""
    try:
        found = json.loads(output)
        return found if isinstance(found, dict) else {"list": found}
    except json.JSONDecodeError:
        pass
    values: dict[str, Any] = {}
    head: list[str] = []
    for line in output.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("{"):
            values[f"line_{len(values) + 1}"] = json.loads(line)
        if not line.startswith("|"):
            head = []
        elif not head:
            head = cells
        elif set(line) - set("|-: "):
            name = key(cells[0])
            name = name if name not in values else f"{name}_{len(values)}"
            values[name] = {
                key(h): number(c) for h, c in zip(head[1:], cells[1:], strict=False) if c not in ("", "-", "–")
            }
    return values


def toml(value: Any) -> str:
    """Write a value as TOML, on one line."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key(str(k))} = {toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def record(title: str, script: str, command: str, values: Mapping[str, Any]) -> str:
    """Return a record as TOML."""
    machine = describe_machine()
    hardware = f"{machine['cores']} cores of {machine['cpu']}, {machine.get('instructions', 'without torch')}"
    gpus = machine.get("gpus")
    about = {
        "title": title,
        "script": script,
        "command": command,
        "hardware": ", ".join([hardware, *(gpus if isinstance(gpus, list) else [])]),
        "versions": versions(),
        "recorded": "from the output of the command",
        "date": str(datetime.date.today()),
    }
    head = [f"{name} = {toml(value)}" for name, value in about.items()]
    return (
        "\n".join([*head, "", "[values]", *(f"{key(name)} = {toml(value)}" for name, value in values.items())]) + "\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the record, and of its file")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="script and arguments, or tsdsr bench …")
    given = parser.parse_args()
    words = list(given.command)
    bench = words[:2] == ["tsdsr", "bench"]
    with tempfile.TemporaryDirectory() as folder:
        stored = Path(folder) / "bench.json"
        run = [sys.executable, "-m", *words, "--json", str(stored)] if bench else [sys.executable, *words]
        done = subprocess.run(run, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        print(done.stdout, end="")
        values = values_in(done.stdout)
        if bench:
            models = json.loads(stored.read_text(encoding="utf-8"))["models"]
            values = {m["name"]: {f"{part}_s": times["median"] for part, times in m["seconds"].items()} for m in models}
    script = "src/tsdsr/cli/bench.py" if bench else words[0]
    command = " ".join(words) if bench else f"python {' '.join(words)}"
    RECORDS.mkdir(exist_ok=True)
    (RECORDS / f"{given.name}.toml").write_text(record(given.name, script, command, values), encoding="utf-8")


if __name__ == "__main__":
    main()
