"""What an error of the engine tells: the last events of the rank, and what it did."""

from __future__ import annotations

import gc
import typing
import weakref

import pytest
from engine_support import Payload, only, plan_of

from job_stream.engine import messages as m
from job_stream.engine.backlog import Part
from job_stream.engine.history import HEADS, KEPT, LINE_CHARACTERS
from job_stream.engine.rank import Rank
from job_stream.errors import EngineError


def working_rank(items: int = 1000) -> tuple[Rank, m.Lend]:
    rank = Rank(plan_of("job"), (Part(items),), lanes=1)
    loan, *_ = only(m.Lend, rank.handle(m.Nothing()))
    return rank, loan


def repaid(loan: m.Lend, payload: Payload) -> m.Repaid:
    names = tuple(name for name, _ in loan.units)
    return m.Repaid(loan.lane, loan.loan, ((loan.loan, names),), (m.Output(0, 1, 1, payload),))


def test_an_error_of_the_engine_tells_what_came_before():
    rank, loan = working_rank()
    rank.handle(repaid(loan, Payload("a")), 0.25)
    with pytest.raises(EngineError) as caught:
        rank.handle(m.ResultsTaken(7, 10), 0.5)
    what, head, *story = str(caught.value).splitlines()
    assert what == "7 results were taken of a delivery of 1"
    assert head == "What rank 0 was told last, and what it did:"
    names = tuple(name for name, _ in loan.units)
    assert [line.partition(" -> ")[0] for line in story] == [
        "  0.0000 Nothing ",
        f"  0.2500 Repaid {loan.lane}, {loan.loan}, {((loan.loan, names),)}, (), ()",
        "  0.5000 ResultsTaken 7, 10",
    ]
    assert "Lend" in story[0]
    assert "Deliver" in story[1]


def test_any_mistake_of_the_engine_is_told_so():
    rank, _ = working_rank()
    with pytest.raises(EngineError, match=r"^KeyError: <class 'str'>\nWhat rank 0 was told last") as caught:
        rank.handle("nothing that it knows")  # type: ignore[arg-type]
    assert type(caught.value.__cause__) is KeyError


def test_the_story_is_short_however_long_the_run_was():
    rank, _ = working_rank()
    for _ in range(3 * KEPT):
        rank.handle(m.Heard(1, m.Cancel(10**1000)))
    with pytest.raises(EngineError) as caught:
        rank.handle("nothing that it knows")  # type: ignore[arg-type]
    _, _, *story = str(caught.value).splitlines()
    assert len(story) == KEPT + 1
    assert all(len(line) <= 2 * LINE_CHARACTERS + len(" -> ") for line in story)


def test_the_story_keeps_no_payload_alive():
    rank, loan = working_rank()
    payload = Payload("large")
    gone = weakref.ref(payload)
    rank.handle(repaid(loan, payload))
    rank.handle(m.ResultsTaken(1, payload.nbytes))
    del payload
    gc.collect()
    assert gone() is None


def test_of_every_event_something_is_kept():
    assert HEADS.keys() == set(typing.get_args(m.Event))
