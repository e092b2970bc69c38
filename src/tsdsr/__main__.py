"""The ``tsdsr`` process: standard streams, signals and exit status around the command.

The installed script ``tsdsr`` and ``python -m tsdsr`` run :func:`main`. Only the standard library is imported before
the command, so that an interrupt during the imports is handled too.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import signal
import sys
import traceback
from types import FrameType

_ENDED = {"SIGTERM": "terminated", "SIGHUP": "ended: the terminal was closed"}
"""Signals that end the command after its temporary files are removed, and the message of each."""

ESCAPED_ASCII = "escaped-ascii"
"""Another name of ASCII. Typer considers a stream named "ascii" misconfigured and writes UTF-8 past it."""


class PrintedText(io.TextIOWrapper):
    """A text stream whose writes never raise: a failed print must not end a long run.

    Characters that the encoding lacks are escaped. After a failed write (a closed pipe, a full disk) everything goes to
    the null device.

    Attributes:
        failure (OSError | None): why writing failed first.
    """

    failure: OSError | None = None

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as error:
            self._give_up(error)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self.failure = self.failure or error
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.fileno())
        os.close(null)


class Ended(SystemExit):
    """A signal ends the command; ``finally`` clauses run."""

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)
        self.message = _ENDED[signal.Signals(signum).name]


def main() -> None:
    """Run the command with the arguments of the process and exit.

    The exit status is 0, 1 if files failed or the program did, 2 for invalid arguments, 128 plus the number of the
    signal that ended the command, or 141 if the reader of standard output went away.
    """
    try:
        _use_printed_text()
        _listen()
        from tsdsr.cli import app

        app()
    except SystemExit as error:
        if isinstance(error, Ended):
            _say(error.message)
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except KeyboardInterrupt:
        _say("interrupted")
        status = 128 + signal.SIGINT
    except Exception:  # the last resort, with the traceback; Typer takes sys.excepthook for itself
        traceback.print_exc()
        _say("This is a bug in tsdsr. Please report it with the lines above and the command.")
        status = 1
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the work is over: Ctrl-C ends the process at once
    sys.exit(_flushed(status))


def _use_printed_text() -> None:
    """Make stdout and stderr streams that never raise. A closed one is opened on the null device.

    A closed descriptor would otherwise be given to the next file that is opened, and messages would end up in it.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    codecs.register(_find_codec)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            is_ascii = codecs.lookup(stream.encoding).name == "ascii"
            encoding = ESCAPED_ASCII if is_ascii else stream.encoding
            printed = PrintedText(
                stream.buffer, encoding, "backslashreplace", None, stream.line_buffering, stream.write_through
            )
            setattr(sys, name, printed)


def _find_codec(name: str) -> codecs.CodecInfo | None:
    if name.replace("-", "_") != ESCAPED_ASCII.replace("-", "_"):
        return None
    ascii = codecs.lookup("ascii")
    return codecs.CodecInfo(
        ascii.encode,
        ascii.decode,
        ascii.streamreader,
        ascii.streamwriter,
        ascii.incrementalencoder,
        ascii.incrementaldecoder,
        name=ESCAPED_ASCII,
    )


def _listen() -> None:
    """Turn signals that would end the process at once into an exception. Ignored signals stay ignored (``nohup``)."""
    process = os.getpid()

    def end(signum: int, frame: FrameType | None) -> None:
        if os.getpid() != process:  # a forked data loading process
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
            return
        signal.signal(signum, signal.SIG_IGN)  # once is enough
        raise Ended(signum)

    for name in _ENDED:
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, end)


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _flushed(status: int) -> int:
    """Flush what was printed; return the exit status, which says if standard output could not be written."""
    sys.stdout.flush()
    failure = sys.stdout.failure if isinstance(sys.stdout, PrintedText) else None
    if failure is not None and failure.errno == errno.EPIPE:
        return 141  # what a shell reports for SIGPIPE
    if failure is not None and not status:
        _say(f"error: standard output cannot be written: {failure.strerror}")
        return 1
    return status


if __name__ == "__main__":
    main()
