"""The plan: the immutable stream of stages that every process of a run shares.

A *body* is what stands inside the stream or inside one frame. It is cut into *segments*: a reduce closes a segment,
and what it emits enters the next one; the last segment ends where outputs leave the body. Every point at which a value
can be is a *place*, and all places of a plan have one number line, so that a place travels as a small integer::

    stream:  job  frame  FOLD | job  END          body 0, segments 0 and 1
                    |
                    job  job  END                 body 1 (END: frameEnd is called)

A place's successor (``next``) is the place after it, unless its outputs are *routed*: to any place of its segment, the
last one included. So routes stay within a segment, and whoever counts what is open there needs not know of them. Where
outputs can go several ways, a SWITCH follows the place: it passes each value on to the target that the value names
(``Sent``). One at the begin of a body does the same for what is recurred. FOLD leads to the first place of the next
segment. END leads out of the body: to the results for the stream, to ``frameEnd`` for a frame. An ALLOT before a job
asks what each value needs there: a host, a number of cores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, NamedTuple

from ..errors import PlanError

__all__ = ["LAST", "Body", "Builder", "Kind", "Place", "Plan", "Policy", "ResultsUse", "Routes", "Segment", "Stage"]

Function = Callable[..., Any]
Routes = Mapping[str, int]
"""Where values go, by the target that they name; those that name none go where the first one leads."""

LAST = -1
"""Where a segment ends, as the goal of a route."""


class Kind:
    """What happens to a value at a place."""

    JOB, MAP, SWITCH, ALLOT, FRAME, FOLD, END = "job", "map", "switch", "allot", "frame", "fold", "end"


class ResultsUse(Enum):
    """What becomes of the results of a stream."""

    KEPT = "keep"
    """The run keeps them, for its end."""

    HANDLED = "call"
    """A function of the script gets each."""

    DROPPED = ""
    """Nobody wants them."""


class Policy(NamedTuple):
    """What to do when a call fails, or ends its worker: that many times, until the item is given up.

    ``passes``: a ``Failure`` goes on in its place; where that is not possible, the item is skipped.
    """

    skip: bool = False
    retries: int = 0
    timeout_s: float | None = None
    deaths: int = 3
    passes: bool = False


class Stage(NamedTuple):
    """One decorated function as the recorder saw it.

    Attributes:
        alone: an item is lent by itself, and its end is told at once.
        primary: it runs on the primary only.
        allotted: each item is given to a host that has what it needs; an ALLOT stands before it.
    """

    kind: str
    name: str
    function: Function
    processes: bool = True
    policy: Policy = Policy()
    store: Function | None = None
    emit: Function | None = None
    key: Function | None = None
    alone: bool = False
    primary: bool = False
    allotted: bool = False


class Place:
    """A point of the plan and what to do there.

    Attributes:
        next: the place where its outputs go.
        routes: of a switch, the places where values go, by target.
        first: the first place of its segment.
        inner: of a frame, the number of the body inside it.
        alone: an item is lent by itself; one with a time limit always is.
        primary: what is here is lent to no other rank.
        allotted: what is here is given by the primary to a host that has what it needs, and lent on to nobody.
    """

    __slots__ = ("allotted", "alone", "body", "emit", "first", "function", "inner", "key", "kind", "name", "next",
                 "number", "policy", "primary", "processes", "routes", "segment", "store", "time_limited")  # fmt: skip

    def __init__(self, number: int, kind: str, stage: Stage | None, body: int, segment: int, first: int) -> None:
        self.number = number
        self.kind = kind
        self.next = number + 1
        self.routes: Routes = {}
        self.body = body
        self.segment = segment
        self.first = first
        self.inner = -1
        self.name = stage.name if stage else "the end of the stream"
        self.function: Function = stage.function if stage else _nothing
        self.processes = stage.processes if stage else True
        self.policy = stage.policy if stage else Policy()
        self.store = stage.store if stage else None
        self.emit = stage.emit if stage else None
        self.key = stage.key if stage else None
        self.time_limited = self.policy.timeout_s is not None
        self.alone = self.time_limited or (stage is not None and stage.alone)
        self.primary = stage is not None and stage.primary
        self.allotted = stage is not None and stage.allotted

    def __repr__(self) -> str:
        return f"Place({self.number}, {self.kind}, {self.name!r})"


class Segment(NamedTuple):
    """The places ``first`` to ``last``; ``last`` is a FOLD, or the END of its body."""

    first: int
    last: int
    folds: bool


class Body(NamedTuple):
    """What stands inside the stream (``frame`` is None) or inside the frame at the place ``frame``."""

    number: int
    frame: int | None
    segments: tuple[Segment, ...]

    @property
    def end(self) -> int:
        return self.segments[-1].last


class Plan(NamedTuple):
    """The places and bodies of a stream."""

    places: tuple[Place, ...]
    bodies: tuple[Body, ...]

    @property
    def uses_processes(self) -> bool:
        return any(place.processes for place in self.places if place.kind != Kind.END)

    def origins(self, number: int) -> list[Place]:
        """The stages whose outputs may wait at a place; none: only initial work may."""
        place = self.places[number]
        body = self.bodies[place.body]
        before = [other for other in self.places if other.body == place.body and _leads_to(other, number)]
        found = {one.number: one for other in before
                 for one in (self.origins(other.number) if other.kind in _PASSING else [other])}  # fmt: skip
        if number == body.segments[0].first and body.frame is not None:
            found[body.frame] = self.places[body.frame]
        return list(found.values())

    def ahead(self, number: int) -> list[Place]:
        """The places of a segment that values at one of them may come to, that one included."""
        found = {number: self.places[number]}
        waiting = [number]
        for at in waiting:  # grows while it is walked
            place = self.places[at]
            if place.kind in (Kind.FOLD, Kind.END):
                continue
            goals = [goal for goal in (place.next, *place.routes.values()) if goal not in found]
            found |= {goal: self.places[goal] for goal in goals}
            waiting += dict.fromkeys(goals)
        return list(found.values())


_PASSING = (Kind.SWITCH, Kind.ALLOT)


def _leads_to(place: Place, number: int) -> bool:
    return place.kind != Kind.END and (number == place.next or number in place.routes.values())


def _nothing(*_: Any) -> None:
    return None


class _OpenBody:
    """A body while it is being recorded: stages, and frames as nested bodies."""

    def __init__(self, frame: Stage | None, parent: _OpenBody | None) -> None:
        self.frame = frame
        self.parent = parent
        self.end: Stage | None = None
        self.entries: list[Stage | _OpenBody] = []
        self.routes: dict[int, Routes] = {}
        self.entrance: Routes = {}

    def append(self, entry: Stage | _OpenBody) -> int:
        self.entries.append(entry)
        return len(self.entries) - 1


class Builder:
    """Takes stages in source order and checks the shape of the stream as it grows."""

    def __init__(self) -> None:
        self._root = _OpenBody(None, None)
        self._open = self._root

    def add(self, stage: Stage) -> int:
        """Appends a job or a reduce to the body that is open; gives its number among the entries there."""
        return self._open.append(stage)

    def open_frame(self, stage: Stage) -> int:
        """Appends a frame to the body that is open, and opens its own; gives its number in the one around it."""
        body = _OpenBody(stage, self._open)
        number = self._open.append(body)
        self._open = body
        return number

    def close_frame(self, stage: Stage) -> None:
        frame, parent = self._open.frame, self._open.parent
        if frame is None or parent is None:
            raise PlanError(f"frameEnd {stage.name!r} has no frame: put a @w.frame before it")
        processes = frame.processes and stage.processes
        self._open.frame, self._open.end = frame._replace(processes=processes), stage._replace(processes=processes)
        self._open = parent

    def route(self, entry: int, routes: Routes) -> None:
        """Sends what comes of a job or frame of the open body to entries of the same segment, or to its end (LAST)."""
        self._open.routes[entry] = routes

    def enter(self, routes: Routes) -> None:
        """Sends what enters the open body, and what is recurred into it, to entries of its first segment."""
        self._open.entrance = routes

    @property
    def open_frame_name(self) -> str | None:
        return self._open.frame.name if self._open.frame else None

    @property
    def is_bound_to_primary(self) -> bool:
        """Whether what stands in the open body may be promised to run on the primary: the frame around it is there."""
        return self._open.frame is None or self._open.frame.primary

    @property
    def open_frame_processes(self) -> bool | None:
        return self._open.frame.processes if self._open.frame else None

    def plan(self) -> Plan:
        """The finished plan.

        Raises:
            PlanError: a frame is still open.
        """
        if self._open.frame is not None:
            raise PlanError(f"frame {self._open.frame.name!r} has no end: put a @w.frameEnd after it")
        return _Layout(self._root).plan


class _Layout:
    """Numbers the places of recorded bodies."""

    def __init__(self, root: _OpenBody) -> None:
        self._places: list[Place] = []
        self._bodies: list[Body] = []
        waiting: list[tuple[_OpenBody, Place | None]] = [(root, None)]
        for body, frame in waiting:  # grows while it is walked: bodies come in order of depth
            laid = _LaidBody(body, len(self._bodies), self._places)
            self._bodies.append(Body(laid.number, frame.number if frame else None, tuple(laid.segments)))
            if frame is not None:
                frame.inner = laid.number
            waiting.extend(laid.inner)
        self.plan = Plan(tuple(self._places), tuple(self._bodies))


class _LaidBody:
    """The places of one body, which are appended to those of all."""

    def __init__(self, body: _OpenBody, number: int, places: list[Place]) -> None:
        self.number = number
        self.segments: list[Segment] = []
        self.inner: list[tuple[_OpenBody, Place | None]] = []
        self._places = places
        self._first = len(places)
        self._entries: list[int] = []
        self._routed: list[tuple[Place, Routes]] = []
        if body.entrance:
            self._switch(body.frame.name if body.frame else "the stream", "input", body.entrance)
        for index, entry in enumerate(body.entries):
            self._lay(entry, body.routes.get(index, {}))
        self._end(body.end)
        for place, routes in self._routed:
            self._join(place, routes)
        if body.entrance:
            entrance = places[self.segments[0].first]
            entrance.processes = places[entrance.next].processes

    def _append(self, kind: str, stage: Stage | None) -> Place:
        place = Place(len(self._places), kind, stage, self.number, len(self.segments), self._first)
        self._places.append(place)
        return place

    def _lay(self, entry: Stage | _OpenBody, routes: Routes) -> None:
        stage = entry.frame if isinstance(entry, _OpenBody) else entry
        assert stage is not None
        place = self._append(stage.kind, stage)
        self._entries.append(place.number)
        if isinstance(entry, _OpenBody):
            self.inner.append((entry, place))
        if place.kind == Kind.FOLD:
            assert not routes
            self._close(folds=True)
        elif len(routes) == 1:
            self._routed.append((place, routes))
        elif routes:
            self._switch(place.name, "routes", routes).processes = place.processes

    def _switch(self, name: str, what: str, routes: Routes) -> Place:
        place = self._append(Kind.SWITCH, Stage(Kind.SWITCH, f"{name} ({what})", _nothing))
        self._routed.append((place, routes))
        return place

    def _end(self, stage: Stage | None) -> None:
        end = self._append(Kind.END, stage)
        end.processes = end.processes and end.number > 0  # a stream without stages needs no process
        self._close(folds=False)

    def _close(self, folds: bool) -> None:
        self.segments.append(Segment(self._first, len(self._places) - 1, folds))
        self._first = len(self._places)

    def _join(self, place: Place, routes: Routes) -> None:
        goals = {target: self.segments[place.segment].last if entry == LAST else self._entries[entry]
                 for target, entry in routes.items()}  # fmt: skip
        assert all(self._places[goal].segment == place.segment for goal in goals.values())
        place.next = next(iter(goals.values()))
        if place.kind == Kind.SWITCH:
            place.routes = goals
