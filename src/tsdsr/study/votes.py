"""Vote store in SQLite.

One connection writes. An acknowledged vote is on disk, and a second vote on the same image is rejected. For each voter
the store holds a number, the time the session began, and a hash of the cookie.
"""

from __future__ import annotations

import csv
import io
import json
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from tsdsr.errors import DatasetError
from tsdsr.files import StrPath
from tsdsr.hashing import hash_text
from tsdsr.study.definition import Study

FORMAT = 1

_SCHEMA = """
CREATE TABLE sessions (id INTEGER PRIMARY KEY, token TEXT NOT NULL UNIQUE, started TEXT NOT NULL);
CREATE TABLE votes (
    session INTEGER NOT NULL REFERENCES sessions (id),
    image TEXT NOT NULL,
    shown TEXT NOT NULL,
    choice TEXT NOT NULL,
    voted TEXT NOT NULL,
    UNIQUE (session, image)
);
"""

BUSY_SECONDS = 5.0
"""How long a request waits for the database while another program or request uses it."""


class DoubleVoteError(DatasetError):
    """The session has already voted on this image."""


class VotesUnavailableError(DatasetError):
    """The database cannot be used now: another program has locked it, or the disk is full or read-only."""


@dataclass(frozen=True)
class Vote:
    """One vote.

    Attributes:
        session (int): number of the session.
        image (str): stem of the image.
        shown (tuple of str): systems shown, in order of position.
        choice (str): chosen system.
        voted (str): time of the vote, ISO 8601 in UTC.
    """

    session: int
    image: str
    shown: tuple[str, ...]
    choice: str
    voted: str = ""

    @property
    def position(self) -> int:
        """Position of the chosen system, starting at 1."""
        return self.shown.index(self.choice) + 1


class VoteStore:
    """Thread-safe writer of the votes of a study.

    Args:
        path (str | PathLike): database file; created if missing.
        busy_seconds (float): how long to wait while another program has locked the database.

    Raises:
        DatasetError: The file is not a vote database or cannot be written.
    """

    def __init__(self, path: StrPath, busy_seconds: float = BUSY_SECONDS) -> None:
        self._path, self._busy_seconds = Path(path), busy_seconds
        self._lock = threading.Lock()
        try:
            # isolation_level=None is autocommit: every statement is its own transaction.
            self._connection = sqlite3.connect(
                path, timeout=busy_seconds, isolation_level=None, check_same_thread=False
            )
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute("PRAGMA foreign_keys = ON")
            if not _version(self._connection):
                self._connection.executescript(f"BEGIN;{_SCHEMA}PRAGMA user_version = {FORMAT};COMMIT;")
            _check_version(self._connection, self._path)
        except sqlite3.Error as error:
            raise DatasetError(f"{path}: cannot be used for votes ({error})") from error

    def begin(self) -> tuple[int, str]:
        """Begin a session. Return its number and its token, which is stored only in the cookie.

        Raises:
            VotesUnavailableError: The database cannot be used now; also raised by the other methods.
        """
        token = secrets.token_urlsafe(32)
        with self._exclusive() as connection:
            row = connection.execute("INSERT INTO sessions (token, started) VALUES (?, ?)", (hash_text(token), _now()))
            assert row.lastrowid is not None
            return row.lastrowid, token

    def session_of(self, token: str) -> int | None:
        """Return the session of a token, or None if there is none."""
        with self._exclusive() as connection:
            row = connection.execute("SELECT id FROM sessions WHERE token = ?", (hash_text(token),)).fetchone()
        return None if row is None else int(row[0])

    def add(self, vote: Vote) -> None:
        """Store a vote with the current time. The vote is on disk when this returns.

        Raises:
            DoubleVoteError: The session has already voted on this image.
        """
        row = (vote.session, vote.image, json.dumps(vote.shown), vote.choice, _now())
        with self._exclusive() as connection:
            try:
                connection.execute("INSERT INTO votes VALUES (?, ?, ?, ?, ?)", row)
            except sqlite3.IntegrityError as error:
                raise DoubleVoteError(f"session {vote.session} has voted on {vote.image}") from error

    def voted(self, session: int) -> set[str]:
        """Return the stems of the images that a session has voted on."""
        with self._exclusive() as connection:
            rows = connection.execute("SELECT image FROM votes WHERE session = ?", (session,)).fetchall()
        return {row[0] for row in rows}

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _exclusive(self) -> Iterator[sqlite3.Connection]:
        """Use the connection alone. SQLite itself retries until ``busy_seconds`` have passed."""
        if not self._lock.acquire(timeout=self._busy_seconds):
            raise VotesUnavailableError(f"{self._path}: other requests have used it for {self._busy_seconds:g} s")
        try:
            yield self._connection
        except sqlite3.OperationalError as error:
            raise VotesUnavailableError(f"{self._path}: cannot be used now ({error})") from error
        finally:
            self._lock.release()


def read_votes(path: StrPath) -> list[Vote]:
    """Read all votes. A server may write at the same time. Return an empty list if there is no database yet.

    Raises:
        DatasetError: The file is not a vote database.
    """
    path = Path(path)
    if not path.exists():
        return []
    try:
        # "rw" does not create a missing file and, unlike "ro", leaves no empty -wal and -shm files behind.
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=10)) as connection:
            connection.execute("PRAGMA query_only = ON")
            _check_version(connection, path)
            rows = connection.execute("SELECT session, image, shown, choice, voted FROM votes ORDER BY rowid")
            return [Vote(s, image, tuple(json.loads(shown)), choice, at) for s, image, shown, choice, at in rows]
    except (sqlite3.Error, ValueError) as error:
        raise DatasetError(f"{path}: cannot be read as votes ({error})") from error


def votes_csv(study: Study, votes: Sequence[Vote]) -> str:
    """Format votes as CSV, one row per vote. Columns ``shown_1`` … hold the systems by position."""
    category = {image.stem: image.category or "" for image in study.images}
    positions = range(1, study.shown + 1)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["session", "image", "category", "choice", "position", "voted", *(f"shown_{k}" for k in positions)])
    for v in votes:
        writer.writerow([v.session, v.image, category[v.image], v.choice, v.position, v.voted, *v.shown])
    return out.getvalue()


def votes_json(study: Study, votes: Sequence[Vote]) -> str:
    """Format the study's title, systems and images, and all votes, as JSON."""
    category = {image.stem: image.category for image in study.images}
    data = {
        "title": study.title,
        "systems": study.systems,
        "images": [{"image": stem, "category": name} for stem, name in category.items()],
        "votes": [
            {
                "session": v.session,
                "image": v.image,
                "category": category[v.image],
                "shown": v.shown,
                "choice": v.choice,
                "position": v.position,
                "voted": v.voted,
            }
            for v in votes
        ],
    }
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _check_version(connection: sqlite3.Connection, path: Path) -> None:
    if (version := _version(connection)) != FORMAT:
        raise DatasetError(f"{path}: votes of format {version} cannot be read; this version writes {FORMAT}")


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
