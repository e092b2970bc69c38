"""The light install against the full one: seconds and memory of whole processes, time and size of installing.

    make light install
    python benchmarks/startup.py              # .venv-light against .venv
    python benchmarks/startup.py --install    # also a fresh environment: pip install, first picture, size

The commands of both environments take turns. Seconds are the least of all runs, memory is the most that a process had.
Only the standard library is used, and POSIX.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "astronaut_lq.png"


def run(command: list[str]) -> tuple[float, float, float]:
    """Run a command; return seconds elapsed, seconds of all processors, and its peak memory in MB."""
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {errors.decode()}")
    peak = usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)  # bytes on macOS, else kilobytes
    return seconds, usage.ru_utime + usage.ru_stime, peak


def commands(environment: Path, output: Path) -> dict[str, list[str]]:
    """Return the timed commands of an environment by name; in PyTorch too where that is installed."""
    tsdsr = str(environment / "bin" / "tsdsr")
    upscale = [tsdsr, "upscale", str(EXAMPLE), "-o", str(output / "x4.png"), "--overwrite"]
    found = {
        "tsdsr --help": [tsdsr, "--help"],
        "a wrong argument": ["sh", "-c", f"! {tsdsr} upscale no-such-file.png -o out"],
        "tsdsr upscale": upscale,
    }
    if any(environment.glob("lib/python3*/site-packages/torch")):
        found["tsdsr upscale --engine torch --dtype fp32"] = [*upscale, "--engine", "torch", "--dtype", "fp32"]
    return found


def compared(environments: dict[str, Path], runs: int) -> dict[str, dict[str, list[float]]]:
    """Time the commands of all environments in turn: environment → command → least seconds, CPU seconds, most MB."""
    found: dict[str, dict[str, list[float]]] = {name: {} for name in environments}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(runs):
            for name, environment in environments.items():
                for what, command in commands(environment, Path(folder)).items():
                    seconds, cpu, peak = run(command)
                    best = found[name].setdefault(what, [seconds, cpu, peak])
                    found[name][what] = [min(best[0], seconds), min(best[1], cpu), max(best[2], peak)]
    return found


def installed(python: str) -> dict[str, float]:
    """Install the package into a fresh environment and upscale one picture: seconds of each, and MB of packages."""
    with tempfile.TemporaryDirectory() as folder:
        environment = Path(folder) / "venv"
        marks = [time.perf_counter()]
        run([python, "-m", "venv", str(environment)])
        run([str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet", str(ROOT)])
        marks.append(time.perf_counter())
        run(commands(environment, Path(folder))["tsdsr upscale"])
        marks.append(time.perf_counter())
        (packages,) = (environment / "lib").glob("python*/site-packages")
        size = subprocess.run(["du", "-sm", str(packages)], capture_output=True, text=True, check=True).stdout
    return {"install": marks[1] - marks[0], "first picture": marks[2] - marks[0], "MB": float(size.split()[0])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--light", type=Path, default=ROOT / ".venv-light")
    parser.add_argument("--full", type=Path, default=ROOT / ".venv")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--install", action="store_true")
    parser.add_argument("--python", default=sys.executable, help="interpreter of the fresh environment")
    arguments = parser.parse_args()
    environments = {"light": arguments.light, "full": arguments.full}
    found: dict[str, object] = {**compared(environments, arguments.runs)}
    if arguments.install:
        found["install"] = installed(arguments.python)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
