"""The process of the command: standard streams of any kind, signals, exit status."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from tests.child_processes import finished, started
from tests.signals import as_in_a_terminal

COMMAND = [sys.executable, "-m", "tsdsr"]
needs_posix = pytest.mark.skipif(os.name != "posix", reason="POSIX signals and devices")


def start(arguments: list[str], **options: object) -> subprocess.CompletedProcess[bytes]:
    variables = options.pop("env", {})
    assert isinstance(variables, dict)
    return subprocess.run(
        [*COMMAND, *arguments], capture_output="stdout" not in options, env={**os.environ, **variables}, **options
    )  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize(
    ("variables", "seen"),
    [
        ({"PYTHONIOENCODING": "ascii"}, b"\\xe9\\U0001f600"),
        ({"PYTHONIOENCODING": "cp1252"}, b"\xe9\\U0001f600"),
        ({"PYTHONIOENCODING": "utf-8"}, "é😀".encode()),
        ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, b"\\udcc3\\udca9"),
    ],
)
def test_names_are_printed_in_any_encoding(variables: dict[str, str], seen: bytes) -> None:
    made = start(["upscale", "é😀.png", "-o", "out"], env=variables)
    assert made.returncode == 2
    assert made.stderr.startswith(b"error: " + seen)
    assert made.stderr.rstrip(b"\r\n").endswith(b".png: no such file")


@needs_posix
def test_a_name_that_is_not_unicode_is_printed() -> None:
    made = start(["upscale", os.fsdecode(b"a\xff.png"), "-o", "out"])
    assert made.stderr == b"error: a\\udcff.png: no such file\n"


@needs_posix
def test_a_reader_that_leaves_ends_quietly() -> None:
    read, write = os.pipe()
    os.close(read)
    made = start(["--help"], stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (made.returncode, made.stderr) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_below_stdout_is_an_error() -> None:
    with open("/dev/full", "wb") as full:
        made = start(["--help"], stdout=full, stderr=subprocess.PIPE)
    assert made.returncode == 1
    assert made.stderr == b"error: standard output cannot be written: No space left on device\n"


@needs_posix
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_closed_streams(closed: str, tmp_path: Path) -> None:
    """A file opened later must not get the descriptor of stdout."""
    code = f"import sys; from tsdsr.__main__ import main; sys.argv[1:] = ['info']\n{_AS_COMMAND}main()"
    script = tmp_path / "script.py"
    script.write_text(code.replace("BODY", f"file = open({str(tmp_path / 'file')!r}, 'w'); assert file.fileno() > 2"))
    assert finished(["sh", "-c", f"'{sys.executable}' '{script}' {closed}"]).returncode == 0
    assert (tmp_path / "file").exists()


_AS_COMMAND = """
import signal, time
from tsdsr.cli.group import OneLineErrors
from tsdsr.files import atomic_path
def nap():
    for _ in range(600):  # a signal that comes just before a sleep is seen after it
        time.sleep(0.1)
def command(*_):
    BODY
OneLineErrors.invoke = command
"""
"""Replaces every command by ``BODY``."""


@contextmanager
def running(body: str, ignored: str | None = None, **variables: str) -> Iterator[subprocess.Popen[str]]:
    def prepare() -> None:
        as_in_a_terminal()
        if ignored is not None:
            signal.signal(getattr(signal, ignored), signal.SIG_IGN)

    code = f"import sys; from tsdsr.__main__ import main; sys.argv[1:] = ['info']\n{_AS_COMMAND}main()"
    with started(
        [sys.executable, "-c", code.replace("BODY", body)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **variables},
        preexec_fn=prepare,
    ) as process:
        yield process


def printed(body: str, **variables: str) -> tuple[int, str, str]:
    """Exit status, standard output and standard error."""
    with running(body, **variables) as process:
        output, errors = process.communicate(timeout=60)
    return process.returncode, output, errors


def test_a_table_is_printed_in_ascii() -> None:
    body = "from rich.console import Console; from rich.table import Table; Console().print(Table('LPIPS ↓'))"
    _, out, errors = printed(body, PYTHONIOENCODING="ascii")
    assert errors == ""
    assert "LPIPS \\u2193" in out
    assert out.isascii()


@needs_posix
@pytest.mark.parametrize(
    ("name", "status", "said"),
    [
        ("SIGINT", 130, "interrupted\n"),
        ("SIGTERM", 143, "terminated\n"),
        ("SIGHUP", 129, "ended: the terminal was closed\n"),
    ],
)
def test_signals_end_with_one_line_and_leave_no_temporary_file(
    name: str, status: int, said: str, tmp_path: Path
) -> None:
    body = f"with atomic_path({str(tmp_path / 'result.png')!r}): print('ready', flush=True); nap()"
    with running(body) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert len(list(tmp_path.iterdir())) == 1
        process.send_signal(getattr(signal, name))
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (status, said)
    assert list(tmp_path.iterdir()) == []


@needs_posix
def test_what_nohup_ignores_stays_ignored() -> None:
    with running("print('ready', flush=True); time.sleep(0.5)", ignored="SIGHUP") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGHUP)
        assert process.wait(timeout=60) == 0


@needs_posix
def test_a_forked_process_ends_by_the_signal_itself() -> None:
    body = """
    import os
    child = os.fork()
    if not child:
        time.sleep(20)
        os._exit(0)
    time.sleep(0.5)  # a signal during the fork is lost
    os.kill(child, signal.SIGTERM)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    """
    assert printed(body.strip())[1:] == ("-15\n", "")


def test_an_unexpected_error_keeps_its_traceback_and_asks_for_a_report() -> None:
    status, _, errors = printed("raise KeyError('lost')")
    assert status == 1
    lines = errors.splitlines()
    assert lines[0].startswith("Traceback")
    assert lines[-2] == "KeyError: 'lost'"
    assert lines[-1].startswith("This is a bug in tsdsr.")


def test_an_error_of_the_machine_is_one_line() -> None:
    status, _, errors = printed("raise OSError(28, 'No space left on device', 'out/a.png')")
    assert (status, errors) == (1, "error: out/a.png: No space left on device\n")


@pytest.mark.parametrize("options", [[], ["--engine", "onnx"]])
def test_a_picture_is_upscaled_without_importing_torch(options: list[str], tmp_path: Path) -> None:
    """With everything installed, starting torch would take longer than the work."""
    Image.new("RGB", (32, 32), "olive").save(tmp_path / "a.png")
    arguments = ["upscale", str(tmp_path / "a.png"), "-o", str(tmp_path / "b.png"), *options]
    heavy = "torch", "diffusers", "transformers", "torchao", "bitsandbytes", "scipy", "rich"
    code = f"""
import sys
from tsdsr.__main__ import main
sys.argv[1:] = {arguments}
try:
    main()
except SystemExit as end:
    print(end.code, sorted(set({heavy}) & set(sys.modules)))
"""
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert made.stdout.splitlines()[-1] == "0 []", made.stderr
    assert (tmp_path / "b.png").is_file()
