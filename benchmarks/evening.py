"""How long the runs of docs/tutorials/train-mini.md take: seconds of a step in each phase, times the recipe's steps.

    python benchmarks/evening.py --photos PHOTOS [--dtype bf16]

Each phase of `mini_teacher`, `mini_v0` and `mini_v1` is trained for 2 steps and then for some more. The difference
counts, so that loading does not. Processor time is the sum of all threads. With OMP_NUM_THREADS=1 it is what a free
core takes, also on a busy machine. Validation, which takes little, is left out.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tsdsr.machine import describe_machine, versions
from tsdsr.recipes import get_recipe

FEW = 2
PHASES = (
    ("teacher", "mini_teacher", 0),
    ("student", "mini_v0", 0),
    ("student", "mini_v0", 1),
    ("student", "mini_v1", 0),
)
NEVER = 1_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=20, help="timed steps of each phase")
    parser.add_argument("--dtype", default="auto", choices=("auto", "fp32", "bf16"))
    args = parser.parse_args()
    print(describe_machine(), versions("torch"))
    table = Table("recipe", "phase", "steps", "s a step", "processor s a step", "h", "processor h")
    with tempfile.TemporaryDirectory() as folder:
        for role, recipe, number in PHASES:
            passed, worked = seconds_of_a_step(Path(folder), role, recipe, number, args)
            steps = get_recipe(recipe).phases[number].steps
            hours = (f"{seconds * steps / 3600:.2f}" for seconds in (passed, worked))
            table.add_row(recipe, str(number), str(steps), f"{passed:.2f}", f"{worked:.2f}", *hours)
    Console().print(table)


def seconds_of_a_step(
    folder: Path, role: str, recipe: str, number: int, args: argparse.Namespace
) -> tuple[float, float]:
    """Return the time that passes in a step of a phase, and its processor time."""
    run = folder / f"{recipe}-{number}"
    command = [
        *(sys.executable, "-m", "tsdsr", "train", role, "--recipe", recipe, "--photos", args.photos, "-o", run),
        *("--dtype", args.dtype, "--tracker", "none"),
        *("--set", f"validate_every={NEVER}", "--set", f"checkpoint_every={NEVER}"),
    ]
    if role == "student":
        command += ["--set", "monitor_every=0"]
    if recipe == "mini_v1":
        command += ["--teacher", folder / "mini_teacher-0" / "teacher"]
    for before in range(number):
        command += ["--set", f"phases.{before}.steps=1", "--set", f"phases.{before}.warmup=0"]
    first, more = (timed([*command, "--until", str(number + steps)]) for steps in (FEW, FEW + args.steps))
    counted = args.steps - FEW  # the second start continues after the first one's steps
    return (more[0] - first[0]) / counted, (more[1] - first[1]) / counted


def timed(command: list[object]) -> tuple[float, float]:
    """Run a command; return the time that passed, and the processor time of all its threads."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - start, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


if __name__ == "__main__":
    main()
