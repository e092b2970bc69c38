"""Everything that only a GPU can tell, in one command: tests, times, memory of tiles, training steps.

    pip install '.[train,quantize]' pytest pytest-timeout scikit-image         # once, in an environment with CUDA
    python benchmarks/gpu.py -o gpu-results                # about six minutes on an H100; again: what is missing
    python benchmarks/gpu.py --only times --limit 540      # one group, with more time
    python benchmarks/gpu.py --rehearse                    # the same code on a CPU with tiny networks

No weights and no files are downloaded: `mini` is in the package, all other weights are random. A machine without
internet gets the packages as wheels: `pip download -d wheels …` elsewhere, `pip install --no-index --find-links wheels
…` there.

Each part runs in a process of its own with a time limit, and writes its figures to FOLDER/PART.json as soon as it has
them, and what it prints to FOLDER/PART.log. While one part runs, the next one imports what it needs. FOLDER/gpu.md
holds all figures as tables, and the sentences of the documentation that they replace. Ctrl-C ends the running part and
still writes the tables. The exit status is 0 once every part is complete and no test failed, else 1.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_report import report
from tsdsr.files import write_text

ROOT = Path(__file__).resolve().parents[1]
GROUPS = ("times", "training", "mini", "tests")
TRAINED = ("sd3_24gb", "sd3_paper", "flux2_klein_24gb")
"""Recipes whose step is measured; one that does not exist is left out."""


@dataclass(frozen=True)
class Part:
    """One process.

    Attributes:
        name (str): of its file.
        group (str): for ``--only``.
        function (str): in gpu_parts.
        arguments (tuple of str): of the function.
        seconds (int): time limit.
        on_cpu (bool): runs beside the others, from the start.
    """

    name: str
    group: str
    function: str
    arguments: tuple[str, ...]
    seconds: int
    on_cpu: bool = False


PARTS = (
    *(Part(f"predict-{name}", "training", "predict_training", (name,), 240, True) for name in TRAINED),
    Part("sd3-released", "times", "time_model", ("sd3", "released"), 45),
    Part("sd3", "times", "time_model", ("sd3", "ours"), 110),
    Part("sd3-fp8", "times", "time_model", ("sd3", "fp8"), 90),
    Part("tests", "tests", "run_tests", ("not compiled",), 90),
    *(Part(f"train-{name}", "training", "train_step", (name,), 75) for name in TRAINED),
    Part("flux2-klein", "times", "time_model", ("flux2-klein", "ours"), 120),
    Part("mini-bf16", "mini", "time_mini", ("bf16",), 75),
    Part("mini-onnx", "mini", "time_mini", ("onnx",), 30),
    Part("mini-tiles", "mini", "measure_tiles", ("mini",), 30),
    Part("sd21-tiles", "mini", "measure_tiles", ("sd21-base",), 30),
    Part("mini-fp16", "mini", "time_mini", ("fp16",), 75),
    Part("tests-compiled", "tests", "run_tests", ("compiled",), 150),
)
"""In the order of their worth: what is at the end may not fit into the time."""


def load(folder: Path, part: Part) -> dict[str, Any]:
    """Figures of a part so far; empty if there are none, or the file is damaged."""
    with suppress(OSError, ValueError):
        found = json.loads((folder / f"{part.name}.json").read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
    return {}


def store(folder: Path, part: Part, figures: Mapping[str, Any]) -> None:
    """Write the figures of a part."""
    write_text(folder / f"{part.name}.json", json.dumps(figures, indent=1) + "\n")


def describe_run(rehearse: bool) -> dict[str, Any]:
    """Where and how this process measures; figures of another kind of run are no figures of this one."""
    from tsdsr.machine import describe_machine, versions

    return {"machine": describe_machine(), "versions": versions(), "rehearsal": rehearse}


def of_this_run(part: Part, found: Mapping[str, Any], run: Mapping[str, Any]) -> bool:
    """Whether figures are from such a GPU, with these packages, and of a rehearsal if this is one."""
    if any(found.get(key) != run[key] for key in ("versions", "rehearsal")):
        return False
    gpus: list[Any] = [about.get("machine", {}).get("gpus") for about in (found, run)]
    return part.on_cpu or gpus[0] == gpus[1]


def run_part(part: Part, folder: Path, rehearse: bool) -> None:
    """Measure one part in this process and store its figures as they come, over those of a run that was cut off."""
    import gpu_parts

    setting = gpu_parts.Setting(rehearse)
    figures = {**load(folder, part), **describe_run(rehearse), "complete": False}

    def found(**new: Any) -> None:
        figures.update(new)
        store(folder, part, figures)

    found()
    started = time.perf_counter()
    try:
        with gpu_parts.rehearsed(setting):
            getattr(gpu_parts, part.function)(setting, found, *part.arguments)
    except BaseException as error:
        found(error=f"{type(error).__name__}: {error}".splitlines()[0][:300])
        raise
    found(complete=True, seconds=time.perf_counter() - started)


class Process:
    """A part in its own process, which waits for :meth:`go` after its imports."""

    def __init__(self, part: Part, folder: Path, rehearse: bool) -> None:
        self.part, self.folder = part, folder
        command = [sys.executable, str(Path(__file__).resolve()), "--part", part.name, "-o", str(folder)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, map(str, (
            ROOT / "src", os.environ.get("PYTHONPATH")))))}  # fmt: skip
        if part.on_cpu:
            environment |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "2"}
        with (folder / f"{part.name}.log").open("wb") as log:
            self._child = subprocess.Popen(
                command + ["--rehearse"] * rehearse, stdin=subprocess.PIPE, stdout=log, stderr=log,
                start_new_session=True, env=environment,
            )  # fmt: skip

    def go(self) -> None:
        """Begin measuring."""
        assert self._child.stdin is not None
        with suppress(OSError):  # it has ended already, and wait() tells how
            self._child.stdin.write(b"go\n")
            self._child.stdin.close()

    def wait(self, seconds: float) -> str:
        """Wait for the end, at most so long; return "" or what went wrong, which is stored too."""
        try:
            status = self._child.wait(max(0.0, seconds))
            wrong = f"ended with status {status}; see {self.part.name}.log" if status else ""
        except subprocess.TimeoutExpired:
            wrong = f"stopped after {seconds:.0f} s"
        self.end()
        if wrong:
            store(self.folder, self.part, {"error": wrong, **load(self.folder, self.part), "complete": False})
        return wrong

    def end(self) -> None:
        """End the process and what it started."""
        with suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()
        if self._child.stdin is not None:
            self._child.stdin.close()


class Here:
    """A part of a rehearsal, in this process: the imports of a process for each would take most of its time."""

    def __init__(self, part: Part, folder: Path) -> None:
        self.part, self.folder = part, folder
        self._wrong = ""

    def go(self) -> None:
        """Measure."""
        try:
            run_part(self.part, self.folder, rehearse=True)
        except Exception as error:  # a rehearsal goes on, as the processes do
            self._wrong = f"{type(error).__name__}: {error}"

    def wait(self, seconds: float) -> str:
        """Return "" or what went wrong."""
        return self._wrong

    def end(self) -> None:
        """Nothing is left."""


def run_all(
    parts: Sequence[Part], start: Callable[[Part], Any], deadline: float, say: Callable[[str], None] = print
) -> None:
    """Run parts one after the other until the time is over; those on the CPU beside them.

    Args:
        parts: what is missing.
        start: makes a :class:`Process` of a part.
        deadline: by ``time.monotonic``.
        say: gets a line for each part.
    """
    beside = [(time.monotonic(), start(part)) for part in parts if part.on_cpu]
    for _, process in beside:
        process.go()
    queue = [part for part in parts if not part.on_cpu]
    current, following = None, start(queue[0]) if queue else None
    try:
        for number, part in enumerate(queue):
            current, following = following, None
            if deadline - time.monotonic() < 15:
                say(f"no time left for {', '.join(rest.name for rest in queue[number:])}: run it again")
                break
            if number + 1 < len(queue):
                following = start(queue[number + 1])
            begun = time.monotonic()
            current.go()
            wrong = current.wait(min(part.seconds, deadline - begun))
            current = None
            say(f"{part.name}: {wrong or 'done'}, {time.monotonic() - begun:.0f} s")
        for begun, process in beside:
            limit = min(begun + process.part.seconds, max(deadline, time.monotonic() + 1))
            say(f"{process.part.name}: {process.wait(limit - time.monotonic()) or 'done'}")
    finally:
        for process in (current, following, *(process for _, process in beside)):
            if process is not None:
                process.end()


def missing(folder: Path, only: str | None, run: Mapping[str, Any]) -> list[Part]:
    """Parts without complete figures of this run, see :func:`of_this_run`."""
    from tsdsr.recipes import describe_recipes

    recipes = describe_recipes()

    def wanted(part: Part) -> bool:
        exists = part.arguments[0] in recipes or part.group != "training"
        found = load(folder, part)
        return exists and only in (None, part.group) and not (found.get("complete") and of_this_run(part, found, run))

    return [part for part in PARTS if wanted(part)]


def forget(folder: Path, parts: Sequence[Part], run: Mapping[str, Any]) -> None:
    """Remove the figures of other runs, and what went wrong before, from parts that are measured again."""
    for part in parts:
        found = load(folder, part)
        if not of_this_run(part, found, run):
            (folder / f"{part.name}.json").unlink(missing_ok=True)
        elif found.pop("error", None) is not None:
            store(folder, part, found)


def usable(folder: Path, rehearse: bool) -> str:
    """Create the folder; return why it cannot take the results, or ""."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"{folder} cannot be created: {error.strerror}"
    if not os.access(folder, os.W_OK):
        return f"{folder} cannot be written to"
    found = (load(folder, part) for part in PARTS)
    if rehearse and any(figures.get("rehearsal") is False for figures in found):
        return f"{folder} holds figures of a GPU, which a rehearsal would replace: give another folder with -o"
    return ""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="gpu-results, or gpu-rehearsal")
    parser.add_argument("--only", choices=GROUPS)
    parser.add_argument("--limit", type=float, default=355, metavar="SECONDS", help="in all")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, with tiny networks")
    parser.add_argument("--part", choices=[part.name for part in PARTS], help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    deadline = time.monotonic() + chosen.limit
    folder = chosen.output or Path("gpu-rehearsal" if chosen.rehearse else "gpu-results")
    if chosen.part is not None:
        import gpu_parts  # noqa: F401  (takes seconds; the part begins when told to)

        if sys.stdin.readline():  # else the run has ended meanwhile
            run_part(next(part for part in PARTS if part.name == chosen.part), folder, chosen.rehearse)
        return
    if not chosen.limit > 0:
        parser.error("--limit must be more than 0")
    if wrong := usable(folder, chosen.rehearse):
        parser.error(wrong)
    run = describe_run(chosen.rehearse)
    if not (run["machine"].get("gpus") or chosen.rehearse):
        parser.error("torch sees no CUDA device here; --rehearse runs on a CPU")
    parts = missing(folder, chosen.only, run)
    forget(folder, parts, run)

    def start(part: Part) -> Process | Here:
        in_process = chosen.rehearse and not part.on_cpu
        return Here(part, folder) if in_process else Process(part, folder, chosen.rehearse)

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the parts' processes as Ctrl-C does
    try:
        run_all(parts, start, deadline)
    except KeyboardInterrupt:
        print("interrupted: run it again for what is missing")
    results = {part.name: load(folder, part) for part in PARTS}
    for part in PARTS:
        if "versions" in results[part.name] and not of_this_run(part, results[part.name], run):
            results[part.name] = {}
    text = report(results, chosen.rehearse)
    write_text(folder / "gpu.md", text)
    print(text)
    failed = any(results[part.name].get("failed") for part in PARTS if chosen.only in (None, part.group))
    if failed or missing(folder, chosen.only, run):
        sys.exit(1)


if __name__ == "__main__":
    main()
