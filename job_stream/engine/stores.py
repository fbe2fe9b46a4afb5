"""The live stores of open frames and reductions, which a keeper process holds.

The keeper is a borrower like any other: what was given to it is kept here until a copy of the store that contains it
has come back. So when the keeper dies, a new one is given the last copy and the calls since then; answers that had
counted already are not counted again.

A store is named (scope, place), and goes to the keeper only when something has to be called on it; until then the
payload that a lane repaid is the store.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

from ..plan import Plan
from .messages import Action, Call, StartKeeper

__all__ = ["Entry", "Stores"]

Name = tuple[int, int]
COPY_AFTER_CALLS = 200
COPY_AFTER_BYTES = 16 << 20
DEATHS = 3


class Entry(NamedTuple):
    """A call given to the keeper. ``scope``: whom its answer concerns."""

    number: int
    kind: str
    store: Name
    place: int
    payload: Any

    @property
    def origin(self) -> int:
        """The number of the call that gave what this call asks for more of, or gave itself."""
        return int(self.payload) if self.kind == "more" else self.number


def _suspect(entry: Entry) -> int | Name:
    """What a death over a call is put down to: a store is handed over anew each time, a call keeps its number."""
    return entry.store if entry.kind == "adopt" else entry.number


class _Record:
    """What is needed to make a store anew."""

    def __init__(self, copy: Any) -> None:
        self.copy = copy
        self.live = False
        self.log: list[Entry] = []
        self.bytes = 0
        self.lazy = False  # a call gave a long Multiple: a new keeper needs all calls to make it again


class _Blame:
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
        self._blame: dict[int | Name, _Blame] = {}
        self._last = 0
        self._started = False
        self._actions: list[Action] = []

    # what the rank asks for -------------------------------------------------------------------------------------------

    def adopt(self, name: Name, payload: Any) -> None:
        """Takes a store as a lane repaid it."""
        self._records[name] = _Record(payload)

    def holds(self, name: Name) -> bool:
        return name in self._records

    def isLive(self, name: Name) -> bool:
        """Whether the keeper has a store, so that its payload here is old."""
        return self._records[name].live

    def remove(self, name: Name) -> Any:
        """The payload of a store that is not live, which is forgotten here."""
        return self._records.pop(name).copy

    def forget(self, scope: int) -> None:
        """Drops the stores of a scope that nobody waits for any more."""
        for name in self.named(scope):
            del self._records[name]

    def named(self, scope: int) -> list[Name]:
        """The stores of a scope."""
        return [name for name in self._records if name[0] == scope]

    def call(self, kind: str, name: Name, place: int, payload: Any) -> None:
        """Gives the keeper a call; its answer is taken in by ``answered``."""
        self._enliven(name)
        self._remember(self._records[name], self._give(kind, name, place, payload))

    def _enliven(self, name: Name) -> None:
        record = self._records[name]
        if not record.live:
            record.live = True
            self._give("adopt", name, name[1], record.copy)

    def __contains__(self, call: int) -> bool:
        return call in self._open

    def takeActions(self) -> list[Action]:
        """The actions that have come up since the last call."""
        actions, self._actions = self._actions, []
        return actions

    def _give(self, kind: str, name: Name, place: int, payload: Any) -> Entry:
        self._last += 1
        entry = Entry(self._last, kind, name, place, payload)
        self._open[entry.number] = entry
        self._send(entry)
        return entry

    def _remember(self, record: _Record, entry: Entry) -> None:
        record.log.append(entry)
        record.bytes += getattr(entry.payload, "nbytes", 0)
        large = max(COPY_AFTER_BYTES, 4 * getattr(record.copy, "nbytes", 0))
        record.lazy = record.lazy or entry.kind == "more"
        long = len(record.log) >= COPY_AFTER_CALLS or record.bytes > large
        if long and not record.lazy and entry.kind in ("end", "merge"):
            self._give("copy", entry.store, entry.place, None)
            record.bytes = 0

    def _send(self, entry: Entry) -> None:
        if not self._started:
            self._started = True
            self._actions.append(StartKeeper(self._processes))
        blame = self._blame.get(_suspect(entry))
        careful, without = blame is not None, tuple(blame.without) if blame else ()
        self._actions.append(
            Call(self._processes, entry.number, entry.kind, entry.store, entry.place, entry.payload, careful, without)
        )

    # what the keeper did ----------------------------------------------------------------------------------------------

    def answered(self, number: int, payload: Any) -> Entry | None:
        """Takes an answer in. None: nobody waits for it."""
        entry = self._open.pop(number, None)
        if entry is None:
            return None
        self._blame.pop(_suspect(entry), None)
        if entry.kind == "copy":
            self._copied(entry, payload)
            return None
        if entry.kind == "adopt":
            return None
        if entry.kind == "checkout":
            self._records.pop(entry.store, None)
        return entry

    def _copied(self, copy: Entry, payload: Any) -> None:
        record = self._records.get(copy.store)
        if record is not None:
            record.copy = payload
            record.log = [entry for entry in record.log if entry.number > copy.number]

    def died(self, index: int, timed: bool) -> tuple[Entry, int, int] | None:
        """A new keeper takes over. Returns the call, the value and the attempts, when a value has to be given up."""
        guilty = self._accuse(index, timed)
        waiting, self._open = self._open, OrderedDict()
        self._started = False
        for name, record in self._records.items():
            if record.live:
                self._replay(name, record, waiting)
        return guilty

    def _replay(self, name: Name, record: _Record, waiting: OrderedDict[int, Entry]) -> None:
        self._give("adopt", name, name[1], record.copy)
        for entry in record.log:
            if entry.number in waiting:
                self._open[entry.number] = entry
            self._send(entry)

    def _accuse(self, index: int, timed: bool) -> tuple[Entry, int, int] | None:
        if not self._open:
            return None
        entry = next(iter(self._open.values()))
        blame = self._blame.setdefault(_suspect(entry), _Blame())
        blame.deaths[index] = deaths = blame.deaths.get(index, 0) + 1
        policy = self._plan.places[entry.place].policy
        if deaths <= policy.retries if timed else deaths < DEATHS + 1:
            return None
        blame.without.append(index)
        return entry, index, deaths
