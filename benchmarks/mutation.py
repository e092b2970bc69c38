"""Mutation score: does a test fail when a small fault is put into the code?

    python benchmarks/mutation.py [--only TEXT] [--list] [--root CHECKOUT] [--result FILE.json] [--report FILE.md]

Each fault of `benchmarks/mutations` is applied alone, to a temporary copy of `src`, and the related tests run against
that copy until one fails. The result file is written after every fault; a run that was interrupted continues from it.
The working tree is never changed. `--root` tests another checkout with the same list, to compare two versions.

Tests run in a forked child of a process that has imported torch and diffusers already, which saves seconds a fault;
where the system cannot fork, a fresh process imports everything.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mutations import FAULTS, Fault

GUARDS = [f"tests/training/test_{name}.py" for name in ("golden_runs", "assembly", "run_settings", "settings_effects")]
DATA = [f"tests/data/test_{name}.py" for name in ("crops", "known_values", "alignment", "datasets", "second_order")]
RELATED = {
    "diffusion": [f"tests/diffusion/test_{name}.py" for name in ("losses", "process", "trajectory")],
    "training": [
        *GUARDS,
        *(
            f"tests/training/test_{name}.py"
            for name in ("networks", "teacher", "engine", "step", "adversarial", "student")
        ),
    ],
    "training/student.py": [
        *GUARDS,
        *(f"tests/training/test_{name}.py" for name in ("step", "adversarial", "student")),
    ],
    "training/teacher.py": [*GUARDS, "tests/training/test_teacher.py"],
    "training/perceptual_choice.py": [*GUARDS, "tests/training/test_student.py"],
    "training/image_losses.py": ["tests/training/test_image_losses.py", *GUARDS],
    "training/artefact_losses.py": ["tests/training/test_equivariance.py", *GUARDS],
    "training/equivariance.py": ["tests/training/test_equivariance.py"],
    "training/sample_rng.py": ["tests/training/test_sample_rng.py", *GUARDS, "tests/training/test_student.py"],
    "training/prompts.py": ["tests/training/test_prompts.py", *GUARDS],
    "training/build.py": [*GUARDS, "tests/training/test_teacher.py", "tests/cli/test_train.py"],
    "models/zoo.py": ["tests/models/test_zoo.py", *GUARDS, "tests/training/test_networks.py"],
    "models/latents.py": ["tests/models/test_latents.py", *GUARDS],
    "training/run.py": ["tests/training/test_assembly.py", "tests/training/test_run.py"],
    "data": DATA,
    "data/poisson.py": ["tests/data/test_operators_cpu.py"],
    "resize.py": ["tests/test_resize.py", *DATA],
    "pixels.py": DATA,
    "hashing.py": ["tests/test_hashing.py", "tests/data/test_tensor_cache.py"],
}
"""Module → its tests, the quick ones first; package → tests that run after the one with the module's own name."""

SLOW = "not killed_run and not ctrl_c and not two_processes and not tensorboard and not memory_is_counted"
"""They start processes of their own or build full-size networks, and take longer than all others together."""


def related_tests(fault: Fault, root: Path) -> list[str]:
    """Test files that ought to notice the fault, the most likely first; only those the checkout has."""
    package, _, module = fault.file.partition("/")
    own = f"tests/{package}/test_{Path(module).stem}.py"
    files = RELATED.get(fault.file) or [own, *RELATED[package]]
    return [f for f in dict.fromkeys(files) if (root / f).is_file()]


def run_tests(root: Path, source: Path, tests: Sequence[str], log: Path) -> None:
    """Run pytest against ``source`` until a test fails; exits with pytest's code. Runs in a process of its own."""
    with log.open("w", encoding="utf-8") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
        os.setsid()  # so that a test without end can be killed with what it started
        os.environ |= {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        sys.dont_write_bytecode = True
        os.chdir(root)
        sys.path[:0] = [str(source), str(root)]
        import pytest

        plugins = ["-p", "no:cacheprovider", "-p", "pytest_timeout"]  # of which pyproject.toml sets an option
        arguments = ["-q", "-x", "--no-header", "--tb=line", *plugins, "-k", SLOW, *tests]
        code = pytest.main(arguments)
        sys.stdout.flush()
        os._exit(int(code))


def outcome(root: Path, source: Path, tests: Sequence[str], timeout: float) -> tuple[str, str]:
    """``("survived", "")``, or ``("killed", the test that failed)``, or ``("broken run", last line of the log)``."""
    log = source.parent / "log.txt"
    process = _context().Process(target=run_tests, args=(root, source, tests, log))
    process.start()
    process.join(timeout)
    if process.is_alive():
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
        return "killed", f"no end within {timeout:g} s"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    failures = [line.split(" - ")[0] for line in lines if line.startswith(("FAILED ", "ERROR "))]
    if process.exitcode == 0:
        return "survived", ""
    if process.exitcode in (1, 2) and failures:
        return "killed", failures[0]
    return "broken run", lines[-1] if lines else ""


def try_fault(fault: Fault, root: Path, source: Path, timeout: float) -> dict[str, Any]:
    """Apply a fault to the copy, run its tests, take it back.

    Returns:
        dict: ``status``, "does not apply" or one of :func:`outcome`; ``by``, what failed; ``seconds``.
    """
    path = source / "tsdsr" / fault.file
    original = path.read_text(encoding="utf-8") if path.is_file() else ""
    if original.count(fault.old) != 1:
        return {"status": "does not apply", "by": f"{original.count(fault.old)} places", "seconds": 0.0}
    started = time.monotonic()
    path.write_text(original.replace(fault.old, fault.new), encoding="utf-8")
    try:
        status, by = outcome(root, source, related_tests(fault, root), timeout)
    finally:
        path.write_text(original, encoding="utf-8")
    return {"status": status, "by": by, "seconds": round(time.monotonic() - started, 1)}


def _context() -> Any:
    return multiprocessing.get_context("fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn")


def preload() -> None:
    """Import what every test imports and no fault touches, so that forked children have it."""
    import accelerate
    import cv2
    import diffusers
    import peft
    import pytest
    import skimage.data
    import torch
    import transformers
    from diffusers import AutoencoderKL, DDIMScheduler, SD3Transformer2DModel, UNet2DConditionModel
    from torch.utils import data

    torch.set_num_threads(1)
    del accelerate, cv2, diffusers, peft, pytest, skimage, transformers, data
    del AutoencoderKL, DDIMScheduler, SD3Transformer2DModel, UNet2DConditionModel


def report(results: dict[str, dict[str, Any]]) -> str:
    """The score of each package and what was not killed, in Markdown."""
    lines = ["| package | faults | killed | score |", "|---|---|---|---|"]
    known = {fault.what: fault for fault in FAULTS if fault.what in results}
    count = {what: results[what]["status"] for what in known}
    groups = {"all": list(known)}
    for what, fault in known.items():
        groups.setdefault(GROUP_OF.get(fault.file.partition("/")[0], fault.file.partition("/")[0]), []).append(what)
    for name, members in sorted(groups.items(), key=lambda group: group[0] == "all"):
        killed = sum(count[what] == "killed" for what in members)
        lines.append(f"| {name} | {len(members)} | {killed} | {100 * killed / len(members):.0f} % |")
    lines += ["", "| fault | file | what became of it |", "|---|---|---|"]
    lines += [f"| {w} | `{known[w].file}` | {s} {results[w]['by']} |" for w, s in count.items() if s != "killed"]
    return "\n".join(lines) + "\n"


GROUP_OF = {"models": "training", "resize.py": "data", "pixels.py": "data", "hashing.py": "data"}
"""Under which package a file outside the three counts."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="faults whose text or file contains this")
    parser.add_argument("--list", action="store_true", help="print the faults and stop")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1], help="checkout to test")
    parser.add_argument("--result", type=Path, default=Path("mutation.json"), help="results, read and continued")
    parser.add_argument("--report", type=Path, help="Markdown to write at the end")
    parser.add_argument("--timeout", type=float, default=300, help="seconds a fault may take; longer counts as killed")
    options = parser.parse_args()
    assert len({fault.what for fault in FAULTS}) == len(FAULTS), "two faults share a name"
    chosen = [f for f in FAULTS if options.only in f.what or options.only in f.file]
    if options.list:
        print(*(f"{fault.file}: {fault.what}" for fault in chosen), sep="\n")
        return
    results: dict[str, dict[str, Any]] = (
        json.loads(options.result.read_text(encoding="utf-8")) if options.result.is_file() else {}
    )
    root = options.root.resolve()
    preload()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "src"
        shutil.copytree(root / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
        tests = dict.fromkeys(t for f in chosen if f.what not in results for t in related_tests(f, root))
        if tests and (control := outcome(root, source, list(tests), 1800))[0] != "survived":
            raise SystemExit(f"the tests fail without any fault: {control[1]}")
        for number, fault in enumerate(chosen, 1):
            if fault.what not in results:
                results[fault.what] = try_fault(fault, root, source, options.timeout)
                options.result.write_text(json.dumps(results, indent=1, ensure_ascii=False), encoding="utf-8")
                found = results[fault.what]
                print(f"{number}/{len(chosen)} {found['status']}: {fault.what} [{found['seconds']} s] {found['by']}")
                sys.stdout.flush()
    print(Counter(results[fault.what]["status"] for fault in chosen))
    if options.report:
        options.report.write_text(report(results), encoding="utf-8")


if __name__ == "__main__":
    main()
