"""A lane by itself: what it takes from its link, and what it repays."""

from __future__ import annotations

import threading
from copy import deepcopy
from math import inf
from threading import Semaphore
from typing import Any

import pytest
from support import DEADLINE_S, wait_until

from job_stream import Multiple, Object
from job_stream.engine.messages import Lend, Open, Output, Repaid, Resume, WorkBatch
from job_stream.evaluate.copies import Copies
from job_stream.evaluate.evaluator import Evaluator
from job_stream.evaluate.packing import LivePacking, Packing, PicklePacking
from job_stream.evaluate.workplace import Workplace
from job_stream.memory.payload import Live
from job_stream.memory.words import REPORTS, WANTED, SharedWords
from job_stream.runtime.source import InitialWork
from job_stream.stream.plan import LAST, Builder, Kind, Plan, Stage
from job_stream.values import Sent
from job_stream.workers import lane as lanes
from job_stream.workers import reporting, surplus
from job_stream.workers.interruption import Interruption
from job_stream.workers.lane import Lane
from job_stream.workers.surplus import DRAW_BYTES, DRAW_ITEMS


class Large:
    """Says that it is large."""

    nbytes = DRAW_BYTES


class Link:
    """Gives a lane one parcel, while another lane has nothing to do; ends it with its first answer."""

    def __init__(self, lend: Lend, flags: Any) -> None:
        self._waiting: list[Any] = [lend, None]
        self._flags = flags
        self.answer: Any = None
        flags[WANTED] = 1

    def receive(self) -> Any:
        return self._waiting.pop(0)

    def send(self, message: Any) -> None:
        self._flags[WANTED] = 0
        self.answer = self.answer or message
        if message.awaits:
            self._waiting.insert(0, Resume(1))


def lane_of(plan: Plan, link: Link | Notes | Far, board: SharedWords, packing: Packing | None = None,
            seed: int | None = None, report_s: float = inf) -> Lane:  # fmt: skip
    note, packing = board.note(1), packing or LivePacking()
    evaluator = Evaluator(plan, None, note, seed, workplace=Workplace(worker=1), packing=packing)
    return Lane(link, evaluator, packing, InitialWork([]), note, board.flags, frozenset(), report_s)


def run(lane: Lane) -> None:
    """Runs a lane to its end, in a thread of its own: it makes that one in which jobs run."""
    thread = threading.Thread(target=lane.run)
    thread.start()
    thread.join(DEADLINE_S)
    assert not thread.is_alive()


@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.parametrize("wrapped", [lambda element: element, lambda element: Sent("on", element)], ids=["", "sent"])
def test_no_more_of_a_large_multiple_is_taken_for_others_than_fits(seed: int | None, wrapped: Any) -> None:
    def elements(_: Any) -> Multiple:
        return Multiple(wrapped(Large()) for _ in range(10 * DRAW_ITEMS))

    builder = Builder()
    fan = builder.add(Stage(Kind.JOB, "fan", elements))
    work = builder.add(Stage(Kind.JOB, "work", lambda element: None))
    builder.route(fan, {"on": work, "out": LAST})
    board = SharedWords(shared=False)
    link = Link(Lend(1, 1, ((0, WorkBatch(0, fan, 1, Live([0]), base=0)),)), board.flags)
    run(lane_of(builder.plan(), link, board, seed=seed))
    assert sum(product.count for product in link.answer.products) == DRAW_ITEMS
    assert [rest.inner for _, rest in link.answer.kept] == [DRAW_ITEMS]


# what is under way, for a checkpoint ----------------------------------------------------------------------------------


class Notes:
    """A link that gives a lane parcels, and notes what it answers."""

    def __init__(self, *lends: Lend) -> None:
        self._waiting: list[Any] = [*lends, None]
        self.answers: list[Repaid] = []

    def receive(self) -> Any:
        return self._waiting.pop(0)

    def send(self, message: Any) -> None:
        self.answers.append(message)


ROUNDS = 200


def looping(board: SharedWords, event: Any, saved: bool, work: Any = abs) -> list[Repaid]:
    """What a lane repays that runs one frame of many rounds, with one item each; something happens in the second."""

    def head(store: Object, first: int) -> int | None:
        store.rounds += 1
        if store.rounds == 2:
            event()
        return store.rounds if store.rounds <= ROUNDS else None

    builder = Builder()
    stage = Stage(Kind.FRAME, "head", head, store=lambda: Object(rounds=0), emit=lambda store: store)
    frame = builder.open_frame(stage)
    builder.add(Stage(Kind.JOB, "work", work))
    builder.close_frame(Stage(Kind.END, "end", lambda store, number: None))
    link = Notes(Lend(1, 1, ((0, WorkBatch(0, frame, 1, Live([0]), base=0)),)))
    run(lane_of(builder.plan(), link, board, report_s=0.0 if saved else inf))
    return link.answers


def is_handed_over(answers: list[Repaid]) -> bool:
    return any(type(product) is Open for answer in answers for product in answer.products)


@pytest.mark.parametrize("wanted", [0, 1])
def test_a_frame_is_handed_over_when_the_state_is_asked_for_whether_or_not_others_want_work(
    wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "SLICE_S", 0)
    monkeypatch.setattr(surplus, "WORTH_S", 1e9)  # what is left of it is never worth a journey
    board = SharedWords(shared=False)

    def ask() -> None:
        board.flags[WANTED] = wanted
        board.flags[REPORTS] = 1

    assert is_handed_over(looping(board, ask, saved=False))
    assert not is_handed_over(looping(board, lambda: None, saved=False))


def test_a_frame_in_which_one_thing_follows_the_other_stays_though_others_want_work_and_its_items_take_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks, look = Semaphore(0), Interruption.look

    def counted(self: Interruption) -> float | None:
        delay = look(self)
        looks.release()
        return None if delay is None else 1e-3

    def slow(number: int) -> int:
        for _ in range(10 if number == 2 else 0):
            assert looks.acquire(timeout=DEADLINE_S)
        return number

    monkeypatch.setattr(Interruption, "look", counted)
    board = SharedWords(shared=False)
    board.flags[WANTED] = 1
    assert not is_handed_over(looping(board, lambda: None, saved=False, work=slow))


@pytest.mark.parametrize("saved", [True, False])
def test_with_checkpoints_a_frame_is_handed_over_now_and_then_without_being_asked_for(
    saved: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "SLICE_S", 0)
    assert is_handed_over(looping(SharedWords(shared=False), lambda: None, saved)) == saved


@pytest.mark.parametrize("saved", [True, False])
def test_with_checkpoints_what_is_done_of_a_long_parcel_is_repaid_before_its_end(
    saved: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "REPORT_SHARE", 0)
    builder = Builder()
    job = builder.add(Stage(Kind.JOB, "work", abs))
    board = SharedWords(shared=False)
    link = Notes(Lend(1, 1, tuple((unit, WorkBatch(0, job, 1, Live([unit]), base=unit)) for unit in range(3))))
    run(lane_of(builder.plan(), link, board, report_s=0.0 if saved else inf))
    closed = [names for answer in link.answers for _, names in answer.closed]
    assert closed == ([(0,), (1,), (2,)] if saved else [(0, 1, 2)])


# in the midst of a step -----------------------------------------------------------------------------------------------


def bare(value: Any) -> int:
    return int(value[0] if type(value) is list else value)


class Copying(PicklePacking):
    """Packs values by copying them."""

    def pack(self, values: Any) -> Any:
        return Live(deepcopy(list(values)))


class Far:
    """A link whose far end keeps what is open, as the rank does; ``values`` are those of each open unit."""

    def __init__(self, lend: Lend) -> None:
        self._waiting: list[Any] = [lend, None]
        self.open = {(lend.loan, name): values_of(work) for name, work in lend.units}
        self.payloads = {(lend.loan, name): work.payload for name, work in lend.units}
        self.outputs: list[Any] = []
        self.handed: list[Any] = []

    def receive(self) -> Any:
        return self._waiting.pop(0)

    def send(self, message: Any) -> None:
        assert type(message) is Repaid, message
        closed = [(loan, name) for loan, names in message.closed for name in names]
        for unit in closed:
            del self.open[unit]
        for product in message.products:
            (self.outputs if type(product) is Output else self.handed).extend(product.payload.values)
        for name, work in message.kept:
            payload = self.payloads[closed[-1]] if work.payload is None else work.payload
            self.payloads[message.loan, name] = payload
            self.open[message.loan, name] = values_of(work._replace(payload=payload))


    def everything(self) -> list[int]:
        """All values that there are, wherever they are."""
        still = [value for values in self.open.values() for value in values]
        return [bare(value) for value in [*self.outputs, *self.handed, *still]]


def values_of(work: WorkBatch) -> list[Any]:
    values: list[Any] = work.payload.values
    return values[work.skip : work.skip + work.count]


@pytest.mark.parametrize("stuck", [0, 7, 30, 31, 62, 99])
def test_whatever_a_lane_repays_in_the_midst_of_a_step_each_value_is_done_open_or_handed_over(
    stuck: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values that their function changes are stuck, and the lane has repaid some before and goes on with the rest."""
    monkeypatch.setattr(lanes, "SLICE_S", 0)
    monkeypatch.setattr(Copies, "take", lambda self, place, value: None)
    board = SharedWords(shared=False)
    everything: list[int] = []
    looks, look = [0], Interruption.look

    def counted(self: Interruption) -> float | None:
        delay = look(self)
        looks[0] += 1
        return None if delay is None else 1e-3

    monkeypatch.setattr(Interruption, "look", counted)

    def take(values: list[int]) -> int:
        number = values.pop()
        if number == stuck:
            board.flags[WANTED] = 1
            looks[0] = 0
            wait_until(lambda: looks[0] > 10, "somebody to look")
            board.flags[WANTED] = 0
            everything.extend(link.everything())
        return number

    builder = Builder()
    first = builder.add(Stage(Kind.JOB, "wrap", lambda number: [number]))
    builder.add(Stage(Kind.JOB, "take", take))
    lend = Lend(1, 1, ((0, WorkBatch(0, first, 100, Live(list(range(100))), base=0)),))
    link = Far(lend)
    run(lane_of(builder.plan(), link, board, packing=Copying()))
    assert sorted(everything) == list(range(100))
    assert sorted(link.outputs + [bare(value) for value in link.handed]) == list(range(100))
