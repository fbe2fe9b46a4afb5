"""A stream in which nothing moves although it is not over says what each rank waits for, and asks for it again."""

from __future__ import annotations

import re
import textwrap
from itertools import pairwise
from pathlib import Path

import pytest
from conversation import case_of
from engine_support import Payload, only, plan_of
from mpi_support import mpirun
from support import Script

from job_stream.engine import messages as m
from job_stream.engine.backlog import Part
from job_stream.engine.rank import Rank
from job_stream.engine.stalls import LONGEST_S, STALL_S
from job_stream.simulate.simulated_cluster import SimulatedCluster
from job_stream.stream.plan import Kind


def sent(kind: type, actions: list) -> list:
    """Messages of a kind to other ranks."""
    return [send.message for send in only(m.Send, actions) if type(send.message) is kind]


def lent_away(ranks: int = 2) -> Rank:
    """Rank 0, whose own work was done at 0.2 s, while some is still with rank 1."""
    rank = Rank(plan_of(Kind.JOB, Kind.JOB), (Part(2),), 1, 0, (1,) * ranks)
    with_lanes = only(m.Lend, rank.handle(m.Nothing(), 0.0))
    rank.handle(m.Heard(1, m.Ask(1, True)), 0.1)
    products = (m.WorkBatch(0, 1, 1, Payload("item")),) * 8
    while with_lanes:
        lend = with_lanes.pop()
        closed = ((lend.loan, tuple(name for name, _ in lend.units)),)
        with_lanes += only(m.Lend, rank.handle(m.Repaid(lend.lane, lend.loan, closed, products), 0.2))
        products = ()
    assert rank.debtors == {1}
    return rank


def test_rank_0_asks_the_others_when_nothing_has_moved_for_long():
    rank = lent_away(3)
    assert not sent(m.Probe, rank.handle(m.Nothing(), 0.1 + STALL_S))
    assert rank.deadline <= 1.2 + STALL_S
    assert sent(m.Probe, rank.handle(m.Nothing(), rank.deadline)) == [m.Probe(1)] * 2


def test_all_are_told_when_all_stand_still():
    rank = lent_away(3)
    rank.handle(m.Nothing(), 6.0)
    rank.handle(m.Nothing(), 12.0)
    assert not only(m.Stalled, rank.handle(m.Heard(1, m.Probed(2, True)), 12.1))
    actions = rank.handle(m.Heard(2, m.Probed(2, True)), 12.1)
    assert len(sent(m.AllStill, actions)) == 2
    (stalled,) = only(m.Stalled, actions)
    assert "are with rank 1" in stalled.story


@pytest.mark.parametrize("late", [m.Probed(1, True), m.Probed(2, False)])
def test_nobody_is_told_when_one_moves_or_answers_another_question(late: m.Probed):
    rank = lent_away(3)
    rank.handle(m.Nothing(), 6.0)
    rank.handle(m.Nothing(), 20.0)
    rank.handle(m.Heard(1, late), 20.1)
    actions = rank.handle(m.Heard(2, m.Probed(2, True)), 20.1)
    assert not only(m.Stalled, actions) + sent(m.AllStill, actions)


def test_an_answer_counts_no_more_when_something_has_moved_since_it_was_asked_for():
    rank = lent_away(3)
    rank.handle(m.Nothing(), 6.0)
    rank.handle(m.Heard(1, m.Probed(1, True)), 6.1)
    rank.handle(m.Heard(1, m.Lend(0, 7, ((0, m.WorkBatch(0, 1, 1, Payload("item"))),))), 6.1)
    assert not only(m.Stalled, rank.handle(m.Heard(2, m.Probed(1, True)), 6.2))


def test_a_rank_at_work_says_that_it_moves():
    rank = Rank(plan_of(Kind.JOB), (), 1, 1, (1, 1))
    rank.handle(m.Nothing(), 0.0)
    rank.handle(m.Heard(0, m.Lend(0, 1, ((0, m.WorkBatch(0, 0, 1, Payload("item"))),))), 0.0)
    assert sent(m.Probed, rank.handle(m.Heard(0, m.Probe(1)), 3600.0)) == [m.Probed(1, False)]


def test_a_rank_without_work_says_that_it_stands_still():
    rank = Rank(plan_of(Kind.JOB), (), 1, 1, (1, 1))
    rank.handle(m.Nothing(), 0.0)
    assert sent(m.Probed, rank.handle(m.Heard(0, m.Probe(1)), 1.0)) == [m.Probed(1, False)]
    assert sent(m.Probed, rank.handle(m.Heard(0, m.Probe(2)), 1.0 + STALL_S)) == [m.Probed(2, True)]


def test_a_rank_that_hears_of_it_asks_again():
    rank = Rank(plan_of(Kind.JOB), (), 1, 1, (1, 1))
    assert m.Ask(1, True, 0.0) in sent(m.Ask, rank.handle(m.Nothing(), 0.0))
    assert not sent(m.Ask, rank.handle(m.Nothing(), 0.001))
    actions = rank.handle(m.Heard(0, m.AllStill()), 10.0)
    assert only(m.Stalled, actions)
    assert m.Ask(1, True, 0.0) in sent(m.Ask, actions)


@pytest.mark.parametrize("where", ["worker", "result function", "iterator"])
def test_long_user_code_is_no_stall(where: str):
    rank = Rank(plan_of(Kind.JOB), (Part(None if where == "iterator" else 2),), 1, 0, (1,))
    actions = rank.handle(m.Nothing(), 0.0)
    if where == "result function":
        for lend in only(m.Lend, actions):
            output = m.Output(0, 1, 1, Payload("result"))
            rank.handle(m.Repaid(lend.lane, lend.loan, ((lend.loan, (0,)),), (output,)), 0.0)
    for now in range(5, 7200, 5):
        assert not only(m.Stalled, rank.handle(m.Nothing(), float(now)))


def test_others_are_asked_less_and_less_often_while_they_are_at_work():
    rank = lent_away()
    times = []
    now = 0.2
    while now < 1000:
        now = max(rank.deadline, now + 0.1)
        if sent(m.Probe, rank.handle(m.Nothing(), now)):
            times.append(now)
            rank.handle(m.Heard(1, m.Probed(len(times), False)), now)
    pauses = [b - a for a, b in pairwise(times)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_S


def test_a_loan_that_is_lost_on_the_way_is_found_out(monkeypatch: pytest.MonkeyPatch):
    send = SimulatedCluster._send
    lost = []

    def lose(cluster: SimulatedCluster, number: int, action: m.Send) -> None:
        if type(action.message) is m.Lend and not lost:
            lost.append(action)
        else:
            send(cluster, number, action)

    monkeypatch.setattr(SimulatedCluster, "_send", lose)
    with pytest.raises(AssertionError, match=r"all ranks stand still; rank 0: .* are with rank"):
        SimulatedCluster(1, case_of(plan_of(Kind.JOB), 40, 2)).run()


# real ranks ---------------------------------------------------------------------------------------------------------

FORGETFUL = """
    import time
    from job_stream import Work, getRank
    from job_stream.engine import pauses, stalls
    from job_stream.engine.lane_table import LaneTable

    stalls.STALL_S = 0.5
    begin, idlest, restate = time.monotonic(), LaneTable.idlest, pauses.Pauses.restate

    def forgetful(lane_table, *given):  # nothing is lent to any worker, until the ranks are to ask again
        return idlest(lane_table, *given) if told else None

    def again(lane_table):
        told.append(True)

    told = []
    LaneTable.idlest, LaneTable.ask_again = forgetful, again
    w = Work(range(10))
    w.job(lambda number: number)
    results = w.run()
    if getRank() == 0:
        print(sorted(results))
"""


def script(folder: Path) -> Path:
    path = folder / "script.py"
    path.write_text(textwrap.dedent(FORGETFUL))
    return path


def test_a_stream_that_stands_still_says_so_and_goes_on(tmp_path: Path):
    done = Script(script(tmp_path), ()).ended()
    assert (done.code, done.out) == (0, f"{list(range(10))}\n")
    assert done.err.count("nothing has moved") == 1
    assert "pieces are open" in done.err


def test_each_rank_says_once_what_it_waits_for(tmp_path: Path):
    done = mpirun(script(tmp_path), 3)
    assert (done.code, done.out) == (0, f"{list(range(10))}\n")
    assert done.err.count("nothing has moved") == 1
    assert sorted(re.findall(r"job_stream: (rank \d): \d+ pieces are open", done.err)) == ["rank 0", "rank 1", "rank 2"]
