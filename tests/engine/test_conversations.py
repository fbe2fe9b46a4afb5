"""Whole conversations between ranks, as text: each shows a rule at work.

After a change that is meant to change what ranks say: ``pytest tests/engine/test_conversations.py --rewrite``, and read
the difference.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from engine_support import plan_of

from job_stream.simulate.cases import Case
from job_stream.simulate.reference import serial
from job_stream.simulate.simulated_cluster import SimulatedCluster
from job_stream.stream.plan import Kind, Plan

FOLDER = Path(__file__).with_name("conversations")


def case_of(plan: Plan, items: int, ranks: int, deaths: tuple[tuple[float, int], ...] = ()) -> Case:
    return Case(plan, items, False, ranks, 1, deaths, 0.0, {}, True)


CONVERSATIONS = {
    "a_reduction_over_two_ranks": (1, case_of(plan_of(Kind.JOB, Kind.FOLD), 40, 2)),
    "a_frame_whose_children_are_lent": (1, case_of(plan_of(Kind.FRAME, Kind.JOB, "frameEnd"), 3, 3)),
    "a_borrower_dies": (5, case_of(plan_of(Kind.JOB, Kind.JOB), 40, 3, ((0.035, 2),))),
    "a_lender_dies_that_had_borrowed": (11, case_of(plan_of(Kind.JOB, Kind.JOB, Kind.FOLD), 120, 4, ((0.045, 2),))),
    "the_state_is_saved": (
        4,
        case_of(plan_of(Kind.FRAME, Kind.JOB, "frameEnd"), 8, 3)._replace(slow={1: 20.0}, saves=(0.02,)),
    ),
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_the_conversation_is_the_one_on_record(name: str, request: pytest.FixtureRequest) -> None:
    seed, case = CONVERSATIONS[name]
    lines: list[str] = []
    assert SimulatedCluster(seed, case, lines.append).run() == sorted(serial(case.plan, 0, list(range(case.items))))
    path, text = FOLDER / f"{name}.txt", "\n".join(lines) + "\n"
    if request.config.getoption("--rewrite"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_the_conversations_show_what_they_are_named_for() -> None:
    texts = {name: (FOLDER / f"{name}.txt").read_text(encoding="utf-8") for name in CONVERSATIONS}
    assert "became fold at fold" in texts["a_reduction_over_two_ranks"]
    assert "rank 2 dies" in texts["a_borrower_dies"]
    assert "Cancel loan" in texts["a_lender_dies_that_had_borrowed"]
    assert all(word in texts["the_state_is_saved"] for word in ("Report 1", "open at frame", "Reported 1", "0 saves"))
    assert "at job" in texts["a_frame_whose_children_are_lent"]
