"""A live source: each item's ticket hears of its end once, whatever that is."""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest
from support import DEADLINE_S, Counter, children, descendants, die, wait_until

from job_stream.errors import LaneDied, StageError, StageTimeout
from job_stream.memory.payload import unpack
from job_stream.runtime.live import PARCEL_ITEMS, Item, LiveRun, LiveSource
from job_stream.stream.checks import policy_of
from job_stream.stream.plan import Plan, Policy
from job_stream.stream.recorder import Recording

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


class Told:
    """A ticket that keeps what it hears."""

    def __init__(self, is_wanted: bool = True, again: Any = None) -> None:
        self.is_wanted = is_wanted
        self.again = again
        self.heard: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()

    def begin(self) -> bool:
        return self.is_wanted

    def end(self, outcome: Any) -> Any:
        self.heard.put(("ended", outcome))
        again, self.again = self.again, None
        return again

    def give_up(self, error: StageError) -> None:
        self.heard.put(("given up", error))

    def fail(self, error: BaseException) -> None:
        self.heard.put(("failed", error))

    def only(self) -> tuple[str, Any]:
        """What it hears, which must be one thing."""
        heard = self.heard.get(timeout=DEADLINE_S)
        assert self.heard.empty()
        return heard


def plan_of(function: Any, **policy: Any) -> Plan:
    recording = Recording(True, policy_of("run", Policy(), "skip", policy.get("retries", 0), policy.get("timeout")))
    recording.map(lambda value: (1e-4, function(value)), "function")
    return recording.plan()


class Run:
    """A live run of a function, which ends with the block."""

    def __init__(self, function: Any, lanes: int = 2, **policy: Any) -> None:
        self.live = LiveRun(plan_of(function, **policy), lanes, None, lambda error: error)
        self.source = self.live.source

    def put(self, value: Any, told: Told | None = None) -> Told:
        told = told or Told()
        assert self.source.put(Item(value, "kind", 0, told))
        return told

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.source.finish()
        self.live.join(DEADLINE_S)
        assert not self.live.is_alive


def square(number: int) -> int:
    return number * number


# --- ends -------------------------------------------------------------------------------------------------------------
def test_an_item_that_is_done_is_told():
    with Run(square) as run:
        tickets = [run.put(number) for number in range(500)]
        assert [told.only() for told in tickets] == [("ended", i * i) for i in range(500)]
        wait_until(lambda: run.source.is_idle, "the last to be taken")


def test_an_item_that_is_skipped_is_told():
    with Run(lambda number: 1 // number) as run:
        what, error = run.put(0).only()
        assert (what, type(error)) == ("given up", StageError)
        assert "skipped" in error.traceback
        assert run.put(1).only() == ("ended", 1)


def test_an_item_that_is_repeated_is_told_once(once):
    def fails_once(number: int) -> int:
        if once():
            raise ValueError("once")
        return number

    with Run(fails_once, retries=1) as run:
        assert run.put(3).only() == ("ended", 3)


def test_an_item_that_ends_its_lane_is_told_and_others_are_done():
    with Run(lambda number: die() if number == 3 else number) as run:
        tickets = [run.put(number) for number in range(10)]
        heard = [told.only() for told in tickets]
        assert heard[:3] + heard[4:] == [("ended", number) for number in range(10) if number != 3]
        assert (heard[3][0], type(heard[3][1])) == ("given up", LaneDied)


def test_an_item_that_takes_too_long_is_told():
    with Run(lambda number: signal.pause() if number else number, timeout=0.3) as run:
        what, error = run.put(1).only()
        assert (what, type(error)) == ("given up", StageTimeout)
        assert run.put(0).only() == ("ended", 0)


def test_an_item_may_be_followed_by_another_in_its_place():
    with Run(square) as run:
        second = Told()
        first = run.put(3, Told(again=Item(4, "kind", 0, second)))
        run.source.finish()  # what is done again is done even so
        assert first.only() == ("ended", 9)
        assert second.only() == ("ended", 16)


def test_where_the_run_is_ended_all_are_told(gate):
    with Run(lambda number: gate.wait()) as run:
        tickets = [run.put(number) for number in range(50)]
        run.live.terminate(CancelledError())
        assert {(what, type(error)) for what, error in map(Told.only, tickets)} == {("failed", CancelledError)}
        run.live.join(DEADLINE_S)
        assert not run.source.put(Item(0, "kind", 0, Told()))


def test_where_the_run_fails_all_are_told():
    class Unpackable:
        def __reduce__(self) -> Any:
            raise TypeError("not this one")

    run = LiveRun(plan_of(square), 1, None, lambda error: RuntimeError(f"it has failed: {error}"))
    told = Told()
    assert run.source.put(Item(Unpackable(), "kind", 0, told))
    what, error = told.only()
    assert what == "failed"
    assert "it has failed" in str(error)
    run.join(DEADLINE_S)
    assert not run.is_alive


# --- withdrawing ------------------------------------------------------------------------------------------------------
def test_an_item_that_was_withdrawn_before_it_began_is_not_done(gate, tally):
    with Run(lambda number: (gate.wait(), tally.note(number)), lanes=1) as run:
        first = run.put(0)
        run.source.await_look(DEADLINE_S)
        rest = [run.put(number, Told(is_wanted=number % 2 == 0)) for number in range(1, 20)]
        gate.open()
        for told in (first, *rest[1::2]):
            assert told.only()[0] == "ended"
    assert sorted(tally.numbers()) == list(range(0, 20, 2))
    assert all(told.heard.empty() for told in rest[::2])


def test_all_that_no_lane_has_been_given_can_be_taken_back(gate):
    with Run(lambda number: gate.wait(), lanes=1) as run:
        tickets = [run.put(number) for number in range(200)]
        run.source.await_look(DEADLINE_S)
        withdrawn = run.source.withdraw()
        gate.open()
        rest = [told for told in tickets if told not in withdrawn]
        assert [told.only()[0] for told in rest] == ["ended"] * len(rest)
    assert len(withdrawn) >= 150
    assert all(told.heard.empty() for told in withdrawn)


def test_what_lanes_could_have_is_not_taken_back():
    with Run(square) as run:
        assert run.put(1).only() == ("ended", 1)
        told = run.put(2)  # the engine waits for it, and has just been woken
        run.source.await_look(DEADLINE_S)
        assert run.source.withdraw() == []
        assert told.only() == ("ended", 4)


# --- threads ----------------------------------------------------------------------------------------------------------
def test_items_may_be_put_in_from_many_threads():
    tickets: dict[int, Told] = {}

    def put(start: int) -> None:
        for number in range(start, start + 100):
            tickets[number] = run.put(number)

    with Run(square) as run:
        threads = [threading.Thread(target=put, args=(100 * number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {number: told.only() for number, told in tickets.items()} == {i: ("ended", i * i) for i in range(800)}


def test_nothing_is_forked_after_it_was_made():
    with Run(square) as run:
        before = descendants()
        assert before
        assert run.put(3).only() == ("ended", 9)
        assert [pid for pid in children(os.getpid()) if pid not in before] == []


def test_a_run_without_items_sleeps():
    """How often its threads and its processes were woken is counted; that takes no more on a machine that is busy."""
    with Run(square) as run:
        assert run.put(3).only() == ("ended", 9)
        before = {path: _naps(path) for path in _statuses()}
        assert len(before) >= 4
        time.sleep(1.5)
        woken = {path: _naps(path) - count for path, count in before.items()}
    assert sum(woken.values()) <= 20, woken


def _statuses() -> list[Path]:
    threads = [thread.native_id for thread in threading.enumerate() if thread.name.startswith("job_stream")]
    own = [Path(f"/proc/self/task/{thread}/status") for thread in threads]
    return own + [path for pid in descendants() for path in Path(f"/proc/{pid}/task").glob("*/status")]


def _naps(path: Path) -> int:
    words = dict(line.split(":") for line in path.read_text().splitlines())
    return int(words["voluntary_ctxt_switches"])


# --- how much is given at a time --------------------------------------------------------------------------------------
class Bound:
    """A source, and what it gave to an engine that asks for all it can have."""

    def __init__(self, lanes: int) -> None:
        self.source = LiveSource()
        self.gave: list[Any] = []
        self.woken = Counter()
        self.source.bind(lambda parts: parts, self.gave.append, self._wake)
        self.source.begun(lanes)

    def _wake(self) -> None:
        self.woken.value += 1

    def put(self, *values: Any, kind: str = "kind") -> None:
        for value in values:
            self.source.put(Item(value, kind, 0, Told()))

    def taken(self) -> list[list[Any]]:
        """What travels together, when more is asked for."""
        self.gave.clear()
        self.source.request(1)
        return [unpack(parts.frames) for given in self.gave for _, parts in given.chunks]

    def learn(self, seconds: float, *kinds: str) -> None:
        """Has the source know what items of these kinds take."""
        for kind in kinds:
            self.put(0, kind=kind)
            position = self.source._position
            assert self.taken() == [[0]]
            self.source.ended([(seconds, None)], position)


def test_items_of_which_nothing_is_known_travel_alone():
    bound = Bound(2)
    bound.put(*range(10))
    assert bound.taken() == [[0], [1]]


def test_short_items_travel_together_and_long_ones_do_not_behind_them():
    bound = Bound(2)
    bound.learn(1e-6, "short")
    bound.learn(1.0, "long")
    bound.put(*range(4000), kind="short")
    bound.put("long", "long", kind="long")
    parcels = bound.taken()
    assert all(len(parcel) <= min(PARCEL_ITEMS, -(-4002 // 4)) for parcel in parcels)
    assert sum(map(len, parcels)) > 500


def test_who_puts_items_in_wakes_the_engine_only_where_it_waits_for_them():
    bound = Bound(2)
    bound.put(1)
    assert bound.woken.value == 0
    assert bound.taken() == [[1]]
    assert bound.taken() == []
    bound.put(2, 3)
    assert bound.woken.value == 1
