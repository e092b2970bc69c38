"""The study server: rejected requests, and blinding of the systems."""

from __future__ import annotations

import io
import json
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.study.conftest import STEMS, TINTS, Client, Make, serving
from tsdsr.errors import InvalidInputError
from tsdsr.study.definition import VOTES
from tsdsr.study.votes import read_votes


def test_a_session_from_beginning_to_end(port: int, tmp_path: Path) -> None:
    voter = Client(port)
    before = voter.state()
    assert (before["started"], before["total"], before["shown"], before["trials"]) == (False, 4, 3, [])
    assert voter.cookie is None  # looking at the page stores nothing
    trials = voter.state("POST")["trials"]
    attributes = voter.headers["set-cookie"].lower()
    assert "httponly" in attributes
    assert "samesite=strict" in attributes
    assert voter.state("POST")["trials"] == trials  # beginning again is going on
    for trial in trials:
        reds = [int(picture(voter, address)[..., 0].mean()) for address in trial["candidates"]]
        assert voter.vote(trial["candidates"][int(np.argmax(reds))]) == 201
    after = voter.state()
    assert (after["started"], after["trials"]) == (True, [])
    votes = read_votes(tmp_path / "study" / VOTES)
    assert {vote.image for vote in votes} == set(STEMS)
    assert {vote.choice for vote in votes} == {"alpha"}  # what looked red was the red one
    assert {vote.session for vote in votes} == {1}


def picture(voter: Client, address: str) -> np.ndarray:
    status, content = voter.ask("GET", f"/pictures/{address}")
    assert status == 200
    return np.asarray(Image.open(io.BytesIO(content)))


def test_votes_that_are_refused(port: int, tmp_path: Path) -> None:
    voter, other = Client(port), Client(port)
    trials = voter.state("POST")["trials"]
    foreign = other.state("POST")["trials"][0]["candidates"][0]
    good = {"choice": trials[0]["candidates"][0]}
    assert Client(port).vote(good["choice"]) == 401
    assert Client(port, f"{str(voter.cookie).split('=')[0]}=guess").vote(good["choice"]) == 401
    for choice in (foreign, trials[0]["input"], trials[0]["reference"], "alpha", ""):
        assert voter.vote(choice) == 404
    for body in (b"", b"{", b"[]", b'"x"', {"choice": 3}, {}, b"\xff", b"[" * 1000):
        assert voter.ask("POST", "/api/vote", body)[0] == 400
    assert voter.ask("POST", "/api/vote", good, **{"Content-Type": "text/plain"})[0] == 415
    assert voter.ask("POST", "/api/vote", b" " * 1025)[0] == 413
    assert voter.ask("GET", "/api/vote")[0] == 405
    assert read_votes(tmp_path / "study" / VOTES) == []
    assert voter.vote(good["choice"]) == 201
    for choice in trials[0]["candidates"]:
        assert voter.vote(choice) == 409
    assert len(read_votes(tmp_path / "study" / VOTES)) == 1


def test_responses_do_not_reveal_systems(port: int) -> None:
    voter = Client(port)
    trials = voter.state("POST")["trials"]
    sent = []
    for path in ("/", "/study.js", "/zoom.js", "/study.css", "/api/session"):
        status, content = voter.ask("GET", path)
        assert status == 200
        sent.append(content.decode() + json.dumps(voter.headers))
    for trial in trials:
        for address in trial["candidates"]:
            assert voter.ask("GET", f"/pictures/{address}")[0] == 200
            assert voter.headers["cache-control"] == "no-store"
            assert voter.headers["content-type"] == "image/png"
            assert not {"etag", "last-modified", "content-disposition"} & set(voter.headers)
            sent.append(json.dumps(voter.headers))
    text = "\n".join(sent)
    for name in (*TINTS, *STEMS):
        assert f'"{name}' not in text
        assert f"/{name}" not in text


def test_pictures_belong_to_their_session(port: int) -> None:
    voter, other = Client(port), Client(port)
    address = voter.state("POST")["trials"][0]["reference"]
    other.state("POST")
    assert voter.ask("GET", f"/pictures/{address}")[0] == 200
    for someone in (other, Client(port)):
        assert someone.ask("GET", f"/pictures/{address}")[0] == 404
    assert voter.ask("GET", "/pictures/..%2Fstudy.json")[0] == 404
    assert voter.ask("GET", "/study.json")[0] == 404


def test_a_port_in_use_is_reported(port: int) -> None:
    from tsdsr.web import bind

    with pytest.raises(InvalidInputError, match=f"port {port} .*--port"):
        bind("127.0.0.1", port)
    with pytest.raises(InvalidInputError, match="--host"):
        bind("host.invalid", 0)


def test_a_locked_database_is_answered_with_503_and_recovers(make: Make, tmp_path: Path) -> None:
    """Another program holds the database: no vote is lost, none is stored twice, and the server goes on."""
    make()
    with serving(tmp_path / "study", busy_seconds=0.2) as port:
        voter = Client(port)
        choice = voter.state("POST")["trials"][0]["candidates"][0]
        with closing(sqlite3.connect(tmp_path / "study" / VOTES, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for method, path, body in (("POST", "/api/vote", {"choice": choice}), ("POST", "/api/session", None)):
                status, content = (voter if body else Client(port)).ask(method, path, body)
                assert status == 503
                assert "wait a little and try again" in json.loads(content)["error"]
            other.execute("ROLLBACK")
        assert voter.vote(choice) == 201
        assert voter.vote(choice) == 409


def test_a_vote_waits_for_a_short_lock(make: Make, tmp_path: Path) -> None:
    make()
    with serving(tmp_path / "study", busy_seconds=10) as port:
        voter = Client(port)
        choice = voter.state("POST")["trials"][0]["candidates"][0]
        path = tmp_path / "study" / VOTES
        with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
            other.execute("BEGIN IMMEDIATE")
            release = threading.Timer(0.3, other.execute, ["ROLLBACK"])
            release.start()
            assert voter.vote(choice) == 201
            release.join()


def test_a_picture_that_is_gone_is_answered_with_503(port: int, tmp_path: Path) -> None:
    voter = Client(port)
    address = voter.state("POST")["trials"][0]["candidates"][0]
    for path in (tmp_path / "study" / "pictures").iterdir():
        path.unlink()
    assert voter.ask("GET", f"/pictures/{address}")[0] == 503
