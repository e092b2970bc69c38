"""Votes in SQLite: one connection writes, a vote that was acknowledged is on disk, a second one is refused.

What is stored of a voter is a number, the time they began, and a hash of their cookie.
"""

from __future__ import annotations

import csv
import io
import json
import secrets
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from tsdsr.errors import DatasetError
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


class DoubleVoteError(DatasetError):
    """This session has voted on this image."""


@dataclass(frozen=True)
class Vote:
    """One choice.

    Attributes:
        session (int): whose.
        image (str): stem.
        shown (tuple of str): systems that were shown, by position.
        choice (str): the one that was chosen.
        voted (str): when, ISO 8601 in UTC.
    """

    session: int
    image: str
    shown: tuple[str, ...]
    choice: str
    voted: str = ""

    @property
    def position(self) -> int:
        """Where the chosen one was, from 1."""
        return self.shown.index(self.choice) + 1


class VoteStore:
    """The writer of a study's votes; its methods may be called from any thread.

    Args:
        path (Path): the database; made when missing.

    Raises:
        DatasetError: not a database of votes, or it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        try:
            # Every statement is a transaction of its own: isolation_level=None is autocommit.
            self._connection = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute("PRAGMA foreign_keys = ON")
            if not _version(self._connection):
                self._connection.executescript(f"BEGIN;{_SCHEMA}PRAGMA user_version = {FORMAT};COMMIT;")
            _check_version(self._connection, path)
        except sqlite3.Error as error:
            raise DatasetError(f"{path}: cannot be used for votes ({error})") from error

    def begin(self) -> tuple[int, str]:
        """A new session: its number, and the token that only its cookie knows."""
        token = secrets.token_urlsafe(32)
        with self._lock:
            row = self._connection.execute(
                "INSERT INTO sessions (token, started) VALUES (?, ?)", (hash_text(token), _now())
            )
            assert row.lastrowid is not None
            return row.lastrowid, token

    def session_of(self, token: str) -> int | None:
        """The session a token belongs to, if any."""
        with self._lock:
            row = self._connection.execute("SELECT id FROM sessions WHERE token = ?", (hash_text(token),)).fetchone()
        return None if row is None else int(row[0])

    def add(self, vote: Vote) -> None:
        """Store a vote, stamped with the time; when this returns, it is on disk.

        Raises:
            DoubleVoteError: the session has voted on this image.
        """
        row = (vote.session, vote.image, json.dumps(vote.shown), vote.choice, _now())
        with self._lock:
            try:
                self._connection.execute("INSERT INTO votes VALUES (?, ?, ?, ?, ?)", row)
            except sqlite3.IntegrityError as error:
                raise DoubleVoteError(f"session {vote.session} has voted on {vote.image}") from error

    def voted(self, session: int) -> set[str]:
        """Stems of the images a session has voted on."""
        with self._lock:
            rows = self._connection.execute("SELECT image FROM votes WHERE session = ?", (session,)).fetchall()
        return {row[0] for row in rows}

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._connection.close()


def read_votes(path: Path) -> list[Vote]:
    """All votes, also while a server writes more; none when nobody has been served yet.

    Raises:
        DatasetError: not a database of votes.
    """
    if not path.exists():
        return []
    try:
        # "rw" makes no file that is missing and, unlike "ro", leaves no empty -wal and -shm files behind.
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=10)) as connection:
            connection.execute("PRAGMA query_only = ON")
            _check_version(connection, path)
            rows = connection.execute("SELECT session, image, shown, choice, voted FROM votes ORDER BY rowid")
            return [Vote(s, image, tuple(json.loads(shown)), choice, at) for s, image, shown, choice, at in rows]
    except (sqlite3.Error, ValueError) as error:
        raise DatasetError(f"{path}: cannot be read as votes ({error})") from error


def votes_csv(study: Study, votes: Sequence[Vote]) -> str:
    """A row a vote; the systems shown are in columns ``shown_1`` … by position."""
    category = {image.stem: image.category or "" for image in study.images}
    positions = range(1, study.shown + 1)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["session", "image", "category", "choice", "position", "voted", *(f"shown_{k}" for k in positions)])
    for v in votes:
        writer.writerow([v.session, v.image, category[v.image], v.choice, v.position, v.voted, *v.shown])
    return out.getvalue()


def votes_json(study: Study, votes: Sequence[Vote]) -> str:
    """The study's title, systems and images, and every vote."""
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
