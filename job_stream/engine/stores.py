"""The live stores of open frames and reductions, which a keeper process holds.

The keeper is a borrower like any other: what was given to it is kept here until a copy of the store that contains it
has come back. So when the keeper dies, a new one is given the last copy and the calls since then; answers that had
counted already are not counted again. The same copies and calls are what a checkpoint holds of a store. Before one is
taken, calls are held back for a moment, while fresh copies come.

A store is named (scope, place), and goes to the keeper only when something has to be called on it; until then the
payload that a lane repaid is the store.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container
from typing import NamedTuple

from ..stream.plan import Plan
from .messages import Action, Call, CallKind, Payload, StartKeeper

__all__ = ["CallState", "Entry", "StoreState", "Stores"]

Name = tuple[int, int]
COPY_AFTER_CALLS = 200
COPY_AFTER_BYTES = 16 << 20
CALL_BYTES = 512
"""About what it takes to remember a call, beside its payload."""
THREADS = 1 << 32
"""The calls of a keeper that is a thread have numbers from here on, so that every answer is known by its number."""


class Entry(NamedTuple):
    """A call given to the keeper."""

    number: int
    kind: CallKind
    store: Name
    place: int
    payload: Payload

    @property
    def origin(self) -> int:
        """The number of the call that gave what this call asks for more of, or gave itself."""
        return int(self.payload) if self.kind is CallKind.MORE else self.number


class CallState(NamedTuple):
    """A call as plain data. ``kind``: that of CallKind; ``answered``: what came of it has counted; ``more``: it gave a
    long Multiple, of which the next elements are to be asked for."""

    number: int
    kind: str
    place: int
    payload: Payload
    answered: bool
    more: bool

    @classmethod
    def of(cls, entry: Entry, answered: bool, more: bool) -> CallState:
        return cls(entry.number, entry.kind.value, entry.place, entry.payload, answered, more)

    def entry(self, store: Name) -> Entry:
        return Entry(self.number, CallKind(self.kind), store, self.place, self.payload)


class StoreState(NamedTuple):
    """A store as plain data: a copy, and the calls that it does not contain yet, in order."""

    scope: int
    place: int
    copy: Payload
    calls: tuple[CallState, ...]
    lazy: bool


def _suspect(entry: Entry) -> int | Name:
    """What a death over a call is put down to: a store is handed over anew each time, a call keeps its number."""
    return entry.store if entry.kind is CallKind.ADOPT else entry.number


class _Record:
    """What is needed to make a store anew."""

    def __init__(self, copy: Payload) -> None:
        self.copy = copy
        self.live = False
        self.log: list[Entry] = []
        self.bytes = 0
        self.is_copied = False
        self.lazy = False  # a call gave a long Multiple: a new keeper needs all calls to make it again

    @property
    def is_long(self) -> bool:
        """Whether the calls weigh so much that it is time for another copy. If that was so after a fixed number of
        them, a store that grows with each call would take a time that grows with the square of their number."""
        copy = getattr(self.copy, "nbytes", 0)
        if self.bytes > max(COPY_AFTER_BYTES, 4 * copy):
            return True
        return len(self.log) >= COPY_AFTER_CALLS and self.bytes + CALL_BYTES * len(self.log) >= copy

    @property
    def leaves(self) -> bool:
        """Whether it is on its way out, and the keeper will have it no more."""
        return bool(self.log) and self.log[-1].kind is CallKind.CHECKOUT


class _Blamed:
    """What deaths have taught about one call."""

    def __init__(self) -> None:
        self.deaths: dict[int, int] = {}
        self.without: list[int] = []


class Stores:
    """The stores of one kind of keeper."""

    def __init__(self, plan: Plan, processes: bool) -> None:
        self._plan = plan
        self._processes = processes
        self._records: dict[Name, _Record] = {}
        self._open: OrderedDict[int, Entry] = OrderedDict()
        self._held: dict[int, Entry] | None = None
        self._blame: dict[int | Name, _Blamed] = {}
        self._last = 0 if processes else THREADS
        self._started = False
        self._actions: list[Action] = []

    # what the rank asks for -------------------------------------------------------------------------------------------

    def adopt(self, name: Name, payload: Payload) -> None:
        """Takes a store as a lane repaid it."""
        self._records[name] = _Record(payload)

    def holds(self, name: Name) -> bool:
        return name in self._records

    def is_live(self, name: Name) -> bool:
        """Whether the keeper has a store, so that its payload here is old."""
        return self._records[name].live

    def remove(self, name: Name) -> Payload:
        """The payload of a store that is not live, which is forgotten here."""
        return self._records.pop(name).copy

    def forget(self, scope: int) -> None:
        """Drops the stores of a scope that nobody waits for any more."""
        for name in self.named(scope):
            del self._records[name]

    def named(self, scope: int) -> list[Name]:
        """The stores of a scope."""
        return [name for name in self._records if name[0] == scope]

    def call(self, kind: CallKind, name: Name, place: int, payload: Payload) -> None:
        """Gives the keeper a call; its answer is taken in by ``answered``."""
        self._enliven(name)
        self._remember(self._records[name], self._give(kind, name, place, payload))

    def _enliven(self, name: Name) -> None:
        record = self._records[name]
        if not record.live:
            record.live = True
            self._give(CallKind.ADOPT, name, name[1], record.copy)

    def __contains__(self, call: int) -> bool:
        return call in self._open

    def take_actions(self) -> list[Action]:
        """The actions that have come up since the last call."""
        actions, self._actions = self._actions, []
        return actions

    def _give(self, kind: CallKind, name: Name, place: int, payload: Payload) -> Entry:
        self._last += 1
        entry = Entry(self._last, kind, name, place, payload)
        self._open[entry.number] = entry
        self._send(entry)
        return entry

    def _remember(self, record: _Record, entry: Entry) -> None:
        record.log.append(entry)
        record.bytes += getattr(entry.payload, "nbytes", 0)
        if record.is_long and not (record.is_copied or record.lazy) and entry.kind.takes_in:
            self._give(CallKind.COPY, entry.store, entry.place, None)
            record.is_copied, record.bytes = True, 0

    def _send(self, entry: Entry) -> None:
        if self._held is not None:
            self._held[entry.number] = entry
            return
        if not self._started:
            self._started = True
            self._actions.append(StartKeeper(self._processes))
        blame = self._blame.get(_suspect(entry))
        one_by_one, without = blame is not None, tuple(blame.without) if blame else ()
        self._actions.append(Call(self._processes, entry.number, entry.kind.told, entry.store, entry.place,
                                  entry.payload, one_by_one, without))  # fmt: skip

    # what the keeper did ----------------------------------------------------------------------------------------------

    def answered(self, number: int, payload: Payload, more: bool) -> Entry | None:
        """Takes an answer in. None: nobody waits for it. ``more``: the keeper holds a long Multiple from now on."""
        entry = self._open.pop(number, None)
        if entry is None:
            return None
        self._blame.pop(_suspect(entry), None)
        if entry.kind is CallKind.COPY:
            self._copied(entry, payload)
            return None
        if entry.kind in (CallKind.ADOPT, CallKind.DROP):
            return None
        if entry.kind is CallKind.CHECKOUT:
            self._records.pop(entry.store, None)
        elif more and entry.store in self._records:
            self._records[entry.store].lazy = True
        return entry

    def _copied(self, copy: Entry, payload: Payload) -> None:
        record = self._records.get(copy.store)
        if record is not None and not record.lazy:
            record.copy, record.is_copied = payload, False
            record.log = [entry for entry in record.log if entry.number > copy.number]

    def died(self, index: int, timed: bool) -> tuple[Entry, int, int] | None:
        """A new keeper takes over. Returns the call, the value and the attempts, when a value has to be given up."""
        guilty = self._accuse(index, timed)
        waiting, self._open = self._open, OrderedDict()
        self._started, self._held = False, None
        for name, record in self._records.items():
            if record.live:
                self._replay(name, record, waiting)
        return guilty

    def _replay(self, name: Name, record: _Record, waiting: Container[int]) -> None:
        record.live, record.is_copied = True, False
        self._give(CallKind.ADOPT, name, name[1], record.copy)
        for entry in record.log:
            if entry.number in waiting:
                self._open[entry.number] = entry
            self._send(entry)

    def _accuse(self, index: int, timed: bool) -> tuple[Entry, int, int] | None:
        entry = next(iter(self._open.values()), None)
        if entry is None or self._is_held(entry):
            return None
        blame = self._blame.setdefault(_suspect(entry), _Blamed())
        blame.deaths[index] = deaths = blame.deaths.get(index, 0) + 1
        policy = self._plan.places[entry.place].policy
        if deaths <= policy.retries if timed else deaths <= policy.deaths:
            return None
        blame.without.append(index)
        return entry, index, deaths

    # what is saved ----------------------------------------------------------------------------------------------------

    def hold(self) -> None:
        """Keeps calls back from now on, and asks for fresh copies of what the keeper has."""
        for name, record in self._records.items():
            if record.live and record.log and not record.lazy and not record.leaves:
                self._give(CallKind.COPY, name, name[1], None)
        self._held = {}

    @property
    def quiet(self) -> bool:
        """Whether the keeper has answered all that it was given before calls were held back."""
        return self._held is None or len(self._held) == len(self._open)

    @property
    def working(self) -> bool:
        """Whether the keeper has been given something to do."""
        return len(self._open) > len(self._held or ())

    def __len__(self) -> int:
        """How many calls are open."""
        return len(self._open)

    def release(self) -> None:
        """Lets calls go again."""
        held, self._held = self._held or {}, None
        for entry in held.values():
            self._send(entry)

    def _is_held(self, entry: Entry) -> bool:
        return self._held is not None and entry.number in self._held

    def is_fresh(self, name: Name) -> bool:
        """Whether what is here of a store, its copy and the calls held back, is all there is to know."""
        return all(self._is_held(entry) for entry in self._records[name].log)

    def copy_of(self, name: Name) -> Payload:
        """The copy of a store."""
        return self._records[name].copy

    def part(self, name: Name) -> tuple[Payload, list[Payload]]:
        """The copy of a fresh store, and what was to be put into it by calls held back; both are forgotten here."""
        record = self._records.pop(name)
        for entry in record.log:
            del self._open[entry.number]
            if self._held is not None:
                del self._held[entry.number]
        if record.live:
            self._give(CallKind.DROP, name, name[1], None)
        return record.copy, [entry.payload for entry in record.log if entry.kind is not CallKind.CHECKOUT]

    def capture(self, scopes: Container[int], more: Container[int]) -> tuple[StoreState, ...]:
        """The stores of these scopes as plain data. ``more``: the calls that gave long Multiples."""
        return tuple(StoreState(*name, record.copy, self._call_states(record, more), record.lazy)
                     for name, record in self._records.items() if name[0] in scopes)  # fmt: skip

    def _call_states(self, record: _Record, more: Container[int]) -> tuple[CallState, ...]:
        return tuple(CallState.of(entry, answered=entry.number not in self._open, more=entry.number in more)
                     for entry in record.log)  # fmt: skip

    @property
    def last(self) -> int:
        """The number of the last call."""
        return self._last

    def restore(self, states: tuple[StoreState, ...], last: int) -> list[tuple[Entry, CallState]]:
        """Takes stores over as ``capture`` gave them, and hands them to a new keeper where calls are to be made; gives
        these calls."""
        self._last = last
        calls = []
        for state in states:
            name = (state.scope, state.place)
            self._records[name] = record = _Record(state.copy)
            record.lazy = state.lazy
            own = [(call.entry(name), call) for call in state.calls]
            record.log = [entry for entry, _ in own]
            if own:
                self._replay(name, record, {call.number for _, call in own if not call.answered})
            calls += own
        return calls
