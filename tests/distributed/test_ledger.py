"""The ledger of attempts."""

from __future__ import annotations

from tsdsr.distributed.ledger import Attempt, Ledger


def test_an_attempt_that_ends_leaves_nothing() -> None:
    ledger = Ledger()
    assert ledger.begin("a") == Attempt()
    assert ledger.begin("b", ended="a") == Attempt()
    assert ledger.begin("a", ended="b") == Attempt()
    assert list(ledger._attempts) == ["a"]  # memory: the batches in work only


def test_a_batch_whose_attempt_never_ended_is_known() -> None:
    ledger = Ledger()
    ledger.begin("a")
    assert ledger.begin("a") == Attempt(killed=1)
    ledger.begin_file("a", 0)
    ledger.end_file("a", 0, {"status": "done"})
    ledger.begin_file("a", 1)
    assert ledger.begin("a") == Attempt(2, {0: {"status": "done"}}, frozenset({1}))
    ledger.end_file("a", 1, {"status": "killed"})
    assert ledger.begin("a").lost == frozenset()
    ledger.begin("b", ended="a")
    assert "a" not in ledger._files


def test_loads_are_counted_until_one_succeeds() -> None:
    ledger = Ledger()
    assert [ledger.begin_load("x"), ledger.begin_load("x"), ledger.begin_load("y")] == [1, 2, 1]
    ledger.end_load("x")
    assert ledger.begin_load("x") == 1
