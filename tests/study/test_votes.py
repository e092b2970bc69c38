"""The vote store: one vote per image, durability, and concurrent readers."""

from __future__ import annotations

import csv
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.child_processes import started
from tests.signals import as_in_a_terminal
from tests.study.conftest import Client, Make
from tsdsr.errors import DatasetError
from tsdsr.study.definition import VOTES
from tsdsr.study.votes import DoubleVoteError, Vote, VoteStore, read_votes, votes_csv, votes_json

SHOWN = ("beta", "alpha", "gamma")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[VoteStore]:
    with closing(VoteStore(tmp_path / VOTES)) as opened:
        yield opened


def test_one_vote_a_session_and_image(store: VoteStore, tmp_path: Path) -> None:
    (first, _), (second, _) = store.begin(), store.begin()
    store.add(Vote(first, "cat", SHOWN, "alpha"))
    store.add(Vote(second, "cat", SHOWN, "beta"))
    with pytest.raises(DoubleVoteError):
        store.add(Vote(first, "cat", SHOWN, "gamma"))
    assert store.voted(first) == {"cat"}
    votes = read_votes(tmp_path / VOTES)  # while the store is open
    assert [(v.session, v.shown, v.choice, v.position) for v in votes] == [
        (first, SHOWN, "alpha", 2),
        (second, SHOWN, "beta", 1),
    ]
    assert votes[0].voted.endswith("+00:00")


def test_a_race_has_one_winner(store: VoteStore, tmp_path: Path) -> None:
    session, _ = store.begin()

    def add(k: int) -> int:
        try:
            store.add(Vote(session, f"image {k % 5}", SHOWN, SHOWN[k % 3]))
        except DoubleVoteError:
            return 0
        return 1

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(add, range(100))) == 5
    assert len(read_votes(tmp_path / VOTES)) == 5


def test_another_writer_is_held_to_the_same(store: VoteStore, tmp_path: Path) -> None:
    session, token = store.begin()
    with closing(VoteStore(tmp_path / VOTES)) as other:
        assert other.session_of(token) == session
        other.add(Vote(session, "cat", SHOWN, "alpha"))
    with pytest.raises(DoubleVoteError):
        store.add(Vote(session, "cat", SHOWN, "alpha"))


def test_tokens_stay_with_the_voters(store: VoteStore, tmp_path: Path) -> None:
    session, token = store.begin()
    assert store.session_of(token) == session
    assert store.session_of("made up") is None
    assert not any(token.encode() in file.read_bytes() for file in tmp_path.glob(f"{VOTES}*"))


def test_durability_is_asked_for(store: VoteStore) -> None:
    values = [store._connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    assert values == ["wal", 2]  # 2 is FULL: on disk when a statement returns


def test_files_that_hold_no_votes(tmp_path: Path) -> None:
    assert read_votes(tmp_path / "none") == []
    text = tmp_path / "text"
    text.write_text("no database" * 200)
    other = tmp_path / "other"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("PRAGMA user_version = 7")
    for path in (text, other):
        for use in (VoteStore, read_votes):
            with pytest.raises(DatasetError, match=path.name):
                use(path)


def test_exports(make: Make) -> None:
    study = make()
    votes = [Vote(1, "cat", SHOWN, "alpha", "2026-01-01T00:00:00+00:00"), Vote(2, "tree", SHOWN, "gamma", "later")]
    rows = list(csv.DictReader(votes_csv(study, votes).splitlines()))
    assert rows[0] == {
        "session": "1",
        "image": "cat",
        "category": "Animals",
        "choice": "alpha",
        "position": "2",
        "voted": "2026-01-01T00:00:00+00:00",
        "shown_1": "beta",
        "shown_2": "alpha",
        "shown_3": "gamma",
    }
    data = json.loads(votes_json(study, votes))
    assert data["votes"][1] == {
        "session": 2,
        "image": "tree",
        "category": "Vegetation",
        "shown": list(SHOWN),
        "choice": "gamma",
        "position": 3,
        "voted": "later",
    }
    assert data["images"][0] == {"image": "cat", "category": "Animals"}


def test_acknowledged_votes_survive_a_kill(make: Make, tmp_path: Path) -> None:
    """The real command, killed by SIGKILL right after an answer, loses nothing and goes on where it was."""
    pytest.importorskip("uvicorn")
    make()
    folder = tmp_path / "study"
    command = [sys.executable, "-m", "tsdsr", "study", "serve", str(folder), "--port", "0"]

    options: dict[str, Any] = {
        "stdout": subprocess.PIPE,
        "text": True,
        "env": {**os.environ, "PYTHONUNBUFFERED": "1"},
        "preexec_fn": as_in_a_terminal,
    }

    def port_of(process: subprocess.Popen[str]) -> int:
        assert process.stdout is not None
        return int(process.stdout.readline().split("/")[2].split(":")[1])

    with started(command, **options) as process:
        voter = Client(port_of(process))
        trials = voter.state("POST")["trials"]
        answered = [voter.vote(trials[0]["candidates"][0]), voter.vote(trials[1]["candidates"][2])]
        process.kill()
        process.wait()
    assert answered == [201, 201]
    assert len(read_votes(folder / VOTES)) == 2

    with started(command, **options) as process:
        voter.port = port_of(process)
        assert voter.state()["trials"] == trials[2:]
        assert voter.vote(trials[0]["candidates"][1]) == 409
        assert voter.vote(trials[3]["candidates"][1]) == 201
        process.terminate()
        process.wait(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert [vote.position for vote in read_votes(folder / VOTES)] == [1, 3, 2]
    assert not (folder / f"{VOTES}-wal").exists()  # ended tidily: the database is one file again
