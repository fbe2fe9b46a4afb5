"""The plan: the immutable stream of stages that every process of a run shares.

A *body* is what stands inside the stream or inside one frame. It is cut into *segments*: a reduce closes a segment,
and what it emits enters the next one; the last segment ends where outputs leave the body. Every point at which a value
can be is a *place*, and all places of a plan have one number line, so that a place travels as a small integer::

    stream:  job  frame  FOLD | job  END          body 0, segments 0 and 1
                    |
                    job  job  END                 body 1 (END: frameEnd is called)

A place's successor inside its segment is its number plus one. FOLD leads to the first place of the next segment. END
leads out of the body: to the results for the stream, to ``frameEnd`` for a frame.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from .errors import PlanError

__all__ = ["Body", "Builder", "Kind", "Place", "Plan", "Policy", "Segment", "Stage"]

Function = Callable[..., Any]


class Kind:
    """What happens to a value at a place."""

    JOB, MAP, FRAME, FOLD, END = "job", "map", "frame", "fold", "end"


class Policy(NamedTuple):
    """What to do when a call fails."""

    skip: bool = False
    retries: int = 0
    timeout_s: float | None = None


class Stage(NamedTuple):
    """One decorated function as the recorder saw it."""

    kind: str
    name: str
    function: Function
    processes: bool = True
    policy: Policy = Policy()
    store: Function | None = None
    emit: Function | None = None
    key: Function | None = None


class Place:
    """A point of the plan and what to do there."""

    __slots__ = ("body", "emit", "first", "function", "inner", "key", "kind", "name", "number", "policy",
                 "processes", "segment", "solo", "store")  # fmt: skip

    def __init__(self, number: int, kind: str, stage: Stage | None, body: int, segment: int, first: int) -> None:
        self.number = number
        self.kind = kind
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
        self.solo = self.policy.timeout_s is not None

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
    def usesProcesses(self) -> bool:
        return any(place.processes for place in self.places if place.kind != Kind.END)


def _nothing(*_: Any) -> None:
    return None


class _OpenBody:
    """A body while it is being recorded: stages, and frames as nested bodies."""

    def __init__(self, frame: Stage | None, parent: _OpenBody | None) -> None:
        self.frame = frame
        self.parent = parent
        self.end: Stage | None = None
        self.stages: list[Stage | _OpenBody] = []


class Builder:
    """Takes stages in source order and checks the shape of the stream as it grows."""

    def __init__(self) -> None:
        self._root = _OpenBody(None, None)
        self._open = self._root

    def add(self, stage: Stage) -> None:
        """Appends a job or a reduce."""
        self._open.stages.append(stage)

    def openFrame(self, stage: Stage) -> None:
        body = _OpenBody(stage, self._open)
        self._open.stages.append(body)
        self._open = body

    def closeFrame(self, stage: Stage) -> None:
        frame, parent = self._open.frame, self._open.parent
        if frame is None or parent is None:
            raise PlanError(f"frameEnd {stage.name!r} has no frame: put a @w.frame before it")
        processes = frame.processes and stage.processes
        self._open.frame, self._open.end = frame._replace(processes=processes), stage._replace(processes=processes)
        self._open = parent

    @property
    def openFrameName(self) -> str | None:
        return self._open.frame.name if self._open.frame else None

    @property
    def openFrameProcesses(self) -> bool | None:
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
            waiting.extend(self._lay(body, frame))
        self.plan = Plan(tuple(self._places), tuple(self._bodies))

    def _lay(self, body: _OpenBody, frame: Place | None) -> list[tuple[_OpenBody, Place | None]]:
        number = len(self._bodies)
        inner: list[tuple[_OpenBody, Place | None]] = []
        segments: list[Segment] = []
        first = len(self._places)
        if frame is not None:
            frame.inner = number
        for entry in body.stages:
            stage = entry.frame if isinstance(entry, _OpenBody) else entry
            assert stage is not None
            place = Place(len(self._places), stage.kind, stage, number, len(segments), first)
            self._places.append(place)
            if isinstance(entry, _OpenBody):
                inner.append((entry, place))
            elif place.kind == Kind.FOLD:
                segments.append(Segment(first, place.number, True))
                first = len(self._places)
        end = Place(len(self._places), Kind.END, body.end, number, len(segments), first)
        end.processes = end.processes and end.number > 0  # a stream without stages needs no process
        self._places.append(end)
        segments.append(Segment(first, len(self._places) - 1, False))
        self._bodies.append(Body(number, frame.number if frame else None, tuple(segments)))
        return inner
