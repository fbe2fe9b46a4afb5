"""Pauses while results pile up at rank 0: they spread to whoever owes something, and end everywhere, whoever dies."""

from __future__ import annotations

import random
from collections import deque

import pytest
from engine_support import Payload, only, plan_of

from job_stream.engine import messages as m
from job_stream.engine.backlog import Part
from job_stream.engine.pauses import Pauses
from job_stream.engine.rank import Rank
from job_stream.engine.routing import RESULTS_BYTES
from job_stream.stream.plan import Kind


class Gossip:
    """Ranks that owe each other something, as chance has it, and pass words of pauses on."""

    def __init__(self, seed: int, size: int) -> None:
        self.chance = random.Random(seed)
        self.ranks = {number: Pauses() for number in range(size)}
        self.debtors = {number: set[int]() for number in range(size)}
        self.under_way: dict[tuple[int, int], deque[int]] = {}
        self.deaths: list[tuple[int, int]] = []
        self.full = False

    def step(self) -> None:
        chance = self.chance
        kind = chance.choice(["turn", "owe", "repay", "hear", "hear", "hear", "learn"])
        one, other = chance.choice(list(self.ranks)), chance.choice(list(self.ranks))
        if kind == "turn":
            self.full = not self.full
            self.ranks[0].note(self.full)
        elif kind == "owe" and one != other:
            self.debtors[one].add(other)
        elif kind == "repay":
            self.debtors[one].discard(other)
        elif kind == "hear":
            self.hear()
        elif kind == "learn" and self.deaths:
            self.learn()
        self.tell()

    def tell(self) -> None:
        for number, pauses in self.ranks.items():
            for send in pauses.tell(self.debtors[number]):
                self.under_way.setdefault((number, send.rank), deque()).append(send.message.change)

    def hear(self) -> None:
        pairs = [pair for pair, words in self.under_way.items() if words]
        if pairs:
            sender, receiver = self.chance.choice(pairs)
            change = self.under_way[sender, receiver].popleft()
            if receiver in self.ranks:
                self.ranks[receiver].heard(sender, change)

    def die(self) -> None:
        dead = self.chance.choice([number for number in self.ranks if number])
        del self.ranks[dead]
        self.deaths += [(number, dead) for number in self.ranks]

    def learn(self) -> None:
        """One rank learns of one death, when all that the dead had sent it has come."""
        number, dead = self.deaths.pop(self.chance.randrange(len(self.deaths)))
        while self.under_way.get((dead, number)):
            change = self.under_way[dead, number].popleft()
            if number in self.ranks:
                self.ranks[number].heard(dead, change)
        self.debtors[number].discard(dead)
        if number in self.ranks:
            self.ranks[number].died(dead)
            if number == 0:
                self.ranks[0].renew()

    def settle(self) -> None:
        """All that is under way arrives; results do not pile up any more."""
        self.ranks[0].note(False)
        while True:
            self.tell()
            if self.deaths:
                self.learn()
            elif any(self.under_way.values()):
                self.hear()
            else:
                return

    @property
    def paused(self) -> list[int]:
        return [number for number, pauses in self.ranks.items() if pauses.paused]


def gossip(seed: int) -> list[int]:
    """Who pauses in the end."""
    ranks = Gossip(seed, 2 + seed % 5)
    for number in range(200):
        ranks.step()
        if number % 60 == 59 and len(ranks.ranks) > 2:
            ranks.die()
    ranks.settle()
    return ranks.paused


def test_a_pause_ends_everywhere_whoever_owes_whom_and_whoever_dies():
    assert [seed for seed in range(600) if gossip(seed)] == []


@pytest.mark.parametrize("rule", ["died", "tell"])
def test_a_rule_that_is_left_out_leaves_ranks_paused(rule: str, monkeypatch: pytest.MonkeyPatch):
    tell = Pauses.tell

    def tell_only_debtors(pauses: Pauses, debtors: set[int]) -> list[m.Send]:
        return [send for send in tell(pauses, debtors) if pauses.paused or send.rank in debtors]

    mutants = {"died": lambda pauses, rank: pauses._told.pop(rank, None), "tell": tell_only_debtors}
    monkeypatch.setattr(Pauses, rule, mutants[rule])
    assert any(gossip(seed) for seed in range(600))


def test_a_pause_reaches_whoever_owes_something():
    ranks = Gossip(0, 4)
    ranks.debtors |= {0: {1}, 1: {2}, 2: {3, 1}}
    ranks.ranks[0].note(True)
    while not ranks.tell() and any(ranks.under_way.values()):
        ranks.hear()
    assert ranks.paused == [0, 1, 2, 3]


def test_a_rank_that_came_to_pause_by_one_that_died_is_told_again_by_rank_0():
    first, second = Pauses(), Pauses()
    first.note(True)
    (begin,) = first.tell({2})
    second.heard(1, begin.message.change)
    second.died(1)
    assert not second.paused
    first.renew()
    (again,) = first.tell({2})
    second.heard(0, again.message.change)
    assert second.paused


def lent(loan: int) -> m.Lend:
    return m.Lend(0, loan, ((0, m.WorkBatch(0, 0, 1, Payload("item"))),))


def pauses_in(actions: list, rank: int) -> list[m.Pause]:
    return [send.message for send in only(m.Send, actions) if send.rank == rank and type(send.message) is m.Pause]


def test_two_ranks_that_owe_each_other_something_do_not_keep_each_other_paused():
    """Both have work of the other's, and hear of a pause by the other."""
    one = Rank(plan_of(Kind.JOB), (), 1, 1, (1, 1, 1))
    one.handle(m.Heard(0, lent(1)))
    one.handle(m.Heard(2, m.Ask(1, True)))
    one.handle(m.Heard(0, m.Lend(0, 2, tuple((name, m.WorkBatch(0, 0, 1, Payload("item"))) for name in range(9)))))
    assert one.debtors == {2}
    one.handle(m.Heard(2, lent(1)))
    assert pauses_in(one.handle(m.Heard(0, m.Pause(1))), 2) == [m.Pause(1)]
    assert pauses_in(one.handle(m.Heard(2, m.Pause(1))), 2) == []
    assert one.paused
    assert pauses_in(one.handle(m.Heard(0, m.Pause(2))), 2) == [m.Pause(2)]
    assert not one.paused


def test_rank_0_alone_knows_whether_results_pile_up():
    zero = Rank(plan_of(Kind.JOB), (Part(100),), 1, 0, (1, 1))
    (lend, *_) = only(m.Lend, zero.handle(m.Nothing()))
    zero.handle(m.Heard(1, m.Pause(1)))
    assert not zero.paused
    large = Payload("results", RESULTS_BYTES + 1)
    zero.handle(m.Repaid(1, lend.loan, ((lend.loan, (0,)),), (m.Output(0, 1, 1, large),)))
    assert zero.paused
    zero.handle(m.Heard(1, m.Pause(8)))
    assert zero.paused
    zero.handle(m.ResultsTaken(1, large.nbytes))
    assert not zero.paused
