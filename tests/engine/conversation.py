"""Conversations between simulated ranks, written as text.

A conversation is a file of commands, one a line. Below each stands what happens because of it, indented; ``#`` opens a
line for the reader::

    # What a borrower had waits again when it dies.
    seed 5
    stages job job
    items 40
    ranks 3
    run 35
       0.57 ms  2 -> 0  Ask for 1 lanes, and wait
       ...
    kill 2
      35.00 ms  rank 2 dies
    run
      36.31 ms  1 -> 2  Ask for 1 lanes, and wait
      ...

First it is said what runs, then what happens. ``COMMANDS`` has all that can be said.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from engine_support import plan_of

from job_stream.engine import messages as m
from job_stream.errors import PlanError
from job_stream.simulate.cases import Case
from job_stream.simulate.reference import serial
from job_stream.simulate.simulated_cluster import SimulatedCluster
from job_stream.simulate.story import line_of
from job_stream.stream.plan import Kind, Plan

STAGES = (Kind.JOB, Kind.FOLD, Kind.FRAME, "frameEnd")


def case_of(plan: Plan, items: int, ranks: int, lanes: int = 1) -> Case:
    """A case in which nothing goes wrong by chance."""
    return Case(plan, items, False, ranks, lanes, (), 0.0, {}, True)


class Mistake(Exception):
    """A conversation says something that cannot be understood or done."""


class Line:
    """A command: its words, and where it stands."""

    def __init__(self, file: str, number: int, text: str) -> None:
        self.words = text.split()
        self._place = f"{file}, line {number}"

    def mistake(self, position: int, why: str) -> Mistake:
        return Mistake(f"{self._place}, {self.words[position]!r}: {why}")

    def number(self, position: int, least: int = 0, most: float = math.inf) -> int:
        word = self.words[position]
        if not word.isdecimal() or not least <= int(word) <= most:
            belongs = f"a whole number from {least}" + ("" if most == math.inf else f" to {most}")
            raise self.mistake(position, f"{belongs} belongs here")
        return int(word)


class Played(NamedTuple):
    """What a conversation is now: the text with all that is said, and what came out beside what is right."""

    text: str
    results: list[int]
    expected: list[int]


def play(file: str, text: str) -> Played:
    """Plays a conversation.

    Raises:
        Mistake: names line and word.
    """
    player = Player()
    for number, line in enumerate(text.splitlines(), 1):
        if not line.startswith(" "):
            player.told.append(line)
            if line.strip() and not line.startswith("#"):
                player.obey(Line(file, number, line))
    return player.played(file)


class Player:
    """Obeys commands, and keeps what is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self._seed = 1
        self._case = case_of(plan_of(Kind.JOB), 10, 2)
        self._started: SimulatedCluster | None = None
        self._now_s = 0.0

    def obey(self, line: Line) -> None:
        name = line.words[0]
        if name not in COMMANDS:
            raise line.mistake(0, f"is no command; there are {', '.join(COMMANDS)}")
        command = COMMANDS[name]
        form = command.form.split()
        least = sum(not word.startswith("[") for word in form)
        if len(line.words) < least or (len(line.words) > len(form) and not form[-1].endswith("...")):
            wrong = min(len(line.words) - 1, len(form))
            raise line.mistake(wrong, f"the command is: {command.form}: {command.meaning}")
        command.do(self, line)

    def played(self, file: str) -> Played:
        if self._started is None or not self._started.ranks[0].halted:
            raise Mistake(f"{file}: the stream is not over; the last command is: run")
        expected = serial(self._case.plan, 0, list(range(self._case.items)))
        return Played("\n".join(self.told) + "\n", sorted(self._started.results), sorted(expected))

    # what runs

    def seed(self, line: Line) -> None:
        self._before_it_runs(line)
        self._seed = line.number(1)

    def stages(self, line: Line) -> None:
        for position, word in enumerate(line.words[1:], 1):
            if word not in STAGES:
                raise line.mistake(position, f"is no stage; there are {', '.join(STAGES)}")
        try:
            self._set(line, plan=plan_of(*line.words[1:]))
        except PlanError as error:
            raise line.mistake(0, str(error)) from None

    def items(self, line: Line) -> None:
        self._set(line, items=line.number(1))

    def ranks(self, line: Line) -> None:
        self._set(line, size=line.number(1, 1))

    def lanes(self, line: Line) -> None:
        self._set(line, lanes=line.number(1, 1))

    def slow(self, line: Line) -> None:
        self._set(line, slow={**self._case.slow, self._rank(line, 1): float(line.number(2, 1))})

    def _set(self, line: Line, **values: object) -> None:
        self._before_it_runs(line)
        self._case = self._case._replace(**values)

    def _before_it_runs(self, line: Line) -> None:
        if self._started is not None:
            raise line.mistake(0, "what runs is said before anything happens")

    # what happens

    def run(self, line: Line) -> None:
        until_s = line.number(1) / 1000 if len(line.words) > 1 else math.inf
        if until_s < self._now_s:
            raise line.mistake(1, f"it is {self._now_s * 1000:g} ms already")
        cluster = self._cluster(line)
        while cluster.step(until_s):
            pass
        self._now_s = cluster.now if cluster.ranks[0].halted else until_s

    def kill(self, line: Line) -> None:
        rank = self._rank(line, 1)
        if rank == 0:
            raise line.mistake(1, "nothing goes on without rank 0")
        self._cluster(line).happen(rank, "die", self._now_s)

    def save(self, line: Line) -> None:
        self._cluster(line).happen(0, m.Save(), self._now_s)

    def lend(self, line: Line) -> None:
        """The borrower asks, and time goes on until it is lent something."""
        lender, borrower = self._rank(line, 1), self._rank(line, 2)
        if borrower == lender:
            raise line.mistake(2, "no rank lends to itself")
        cluster, ask, before = self._cluster(line), m.Ask(self._case.lanes, True), len(self.told)
        self._tell(f"{self._now_s * 1000:7.2f} ms  {borrower} -> {lender}  {line_of(self._case.plan, ask)}")
        cluster.happen(lender, m.Heard(borrower, ask), self._now_s)
        while not any(f" {lender} -> {borrower}  Lend " in told for told in self.told[before:]):
            if not cluster.step():
                raise line.mistake(0, f"rank {lender} had nothing to lend")
        self._now_s = cluster.now

    def _rank(self, line: Line, position: int) -> int:
        rank = line.number(position, 0, self._case.size - 1)
        if self._started is not None and rank in self._started.dead:
            raise line.mistake(position, "is dead")
        return rank

    def _cluster(self, line: Line) -> SimulatedCluster:
        if self._started is None:
            self._started = SimulatedCluster(self._seed, self._case, self._tell)
        elif self._started.ranks[0].halted:
            raise line.mistake(0, "the stream is over")
        return self._started

    def _tell(self, text: str) -> None:
        self.told.append(text)


class Command(NamedTuple):
    """``form``: its words; one in brackets may be left out, and of one with dots there may be many."""

    form: str
    meaning: str
    do: Callable[[Player, Line], None]


COMMANDS = {
    command.form.split()[0]: command
    for command in (
        Command("seed NUMBER", "stands for all that is left to chance; 1 unless said", Player.seed),
        Command("stages STAGE...", f"of {', '.join(STAGES)}; one job unless said", Player.stages),
        Command("items NUMBER", "has the source; 10 unless said", Player.items),
        Command("ranks NUMBER", "take part; 2 unless said", Player.ranks),
        Command("lanes NUMBER", "has each rank; 1 unless said", Player.lanes),
        Command("slow RANK TIMES", "has whatever its lanes do take so many times as long", Player.slow),
        Command("run [MS]", "until so many milliseconds after the beginning, or to the end", Player.run),
        Command("kill RANK", "has it die", Player.kill),
        Command("lend LENDER BORROWER", "has the borrower ask, and waits until it is lent something", Player.lend),
        Command("save", "has rank 0 save the state", Player.save),
    )
}
