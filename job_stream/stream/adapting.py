"""The functions that a class of ``classes`` stands for, and what its instances send with.

An instance has an outbox for each direction, which is open only while a method runs that may send: where there is
nobody who would pass it on, it is told so.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeGuard

from ..errors import PlanError
from ..ground.suggestions import did_you_mean, listed
from ..values import Again, Multiple, Object, Reduction, Sent
from .checks import check_answers
from .classes import Frame, Job, Reducer, StageClass
from .plan import Plan

__all__ = ["Targets", "adapt", "as_answer", "close_instances", "is_stage"]


class Targets(NamedTuple):
    """What may be named as the second argument of ``emit`` or ``recur``.

    Args:
        names: of the targets.
        needed: whether one has to be named.
        apart: whether they lead to different places, so that work has to say where it is going.
    """

    names: tuple[str, ...] = ()
    needed: bool = False
    apart: bool = False


NO_TARGETS = Targets()


class _Shut:
    """Stands for the works of an outbox while nothing may be sent."""

    __slots__ = ("_methods", "_stage", "_verb")

    def __init__(self, stage: str, verb: str, methods: str) -> None:
        self._stage = stage
        self._verb = verb
        self._methods = methods

    def append(self, works: Any) -> Any:
        raise PlanError(f"{self._verb} in stage {self._stage!r} is possible only while {self._methods} runs")

    extend = __iadd__ = append


class _Outbox:
    """What a stage sends in one direction during a call.

    Args:
        stage: its name in messages.
        verb: what this is called.
        targets: that may be named.
        methods: those during which it is open, in words.
    """

    def __init__(self, stage: str, verb: str, targets: Targets, methods: str) -> None:
        self._stage = stage
        self._verb = verb
        self._targets = targets
        self.needs_target = targets.needed
        self.shut = _Shut(stage, verb, methods)
        self.works: Any = self.shut

    def __enter__(self) -> list[Any]:
        """Opens it; gives the list in which works are gathered."""
        works: list[Any] = []
        self.works = works
        return works

    def __exit__(self, *error: object) -> None:
        self.works = self.shut

    def put(self, work: Any, target: str | None) -> None:
        if self.needs_target if target is None else target not in self._targets.names:
            raise self._refusal(target)
        if type(work) is Multiple:
            self._put_all(work.workList, target)
        elif work is not None:
            self.works.append(work if target is None else self._addressed(work, target))

    def _put_all(self, works: Any, target: str | None) -> None:
        there = (self._addressed(work, target) for work in works if work is not None)
        if type(works) in (list, tuple):
            self.works.extend(there)
            return
        for first in there:  # a Multiple of nothing is nothing, and that has to be known at once
            self.works += [first, Multiple(there)]
            return

    def _addressed(self, work: Any, target: str | None) -> Any:
        return work if target is None or not self._targets.apart else Sent(target, work)

    def _refusal(self, target: str | None) -> PlanError:
        where, names = f"{self._verb} in stage {self._stage!r}", self._targets.names
        if target is None:
            return PlanError(f"{where} must name its target, as there are several: {listed(names)}")
        if not names:
            return PlanError(f"{where} cannot name a target, as there is one way only: leave out {target!r}")
        return PlanError(f"{where} has no target {target!r}, but {listed(names)}{did_you_mean(target, names)}")


class _OutboxOfThreads(_Outbox, threading.local):
    """The same for several threads: each has what it sends to itself."""


def as_answer(works: list[Any]) -> Any:
    """What a function returns that sends these on."""
    if len(works) < 2:
        return works[0] if works else None
    return Multiple(_spread(works)) if any(type(work) is Multiple for work in works) else Multiple(works)


def _spread(works: list[Any]) -> Iterator[Any]:
    for work in works:
        if type(work) is Multiple:
            yield from work.workList
        else:
            yield work


def is_stage(function: object) -> TypeGuard[type[StageClass]]:
    """Whether a class stands for a stage."""
    return isinstance(function, type) and issubclass(function, StageClass)


# as functions ---------------------------------------------------------------------------------------------------------


class _Instances:
    """One instance of a class for each process."""

    def __init__(self, kind: type[Any], name: str, config: Mapping[Any, Any], emits: Targets, recurs: Targets) -> None:
        self._kind = kind
        self._name = name
        self._config = config
        self._emits = emits
        self._recurs = recurs
        self._lock = threading.Lock()
        self._instance: Any = None

    def get(self) -> Any:
        instance = self._instance
        return self._first() if instance is None else instance

    def _first(self) -> Any:
        with self._lock:
            if self._instance is None:
                self._instance = self._made()
            return self._instance

    def _made(self) -> Any:
        instance = self._kind()
        emitting, recurring = next(methods for base, methods in _SENDING.items() if issubclass(self._kind, base))
        outbox = _Outbox if threading.current_thread() is threading.main_thread() else _OutboxOfThreads
        instance.config = _copied(self._config)
        instance._emitted = outbox(self._name, "emit", self._emits, emitting)
        instance._recurred = outbox(self._name, "recur", self._recurs, recurring)
        instance.postSetup()
        return instance

    def close(self) -> None:
        """Ends the instance of this process, if there is one, and if its class says how that is done."""
        if self._kind.postRun is StageClass.postRun:
            return
        with self._lock:
            instance, self._instance = self._instance, None
        if instance is not None:
            instance.postRun()


_SENDING = {
    Job: ("handleWork", ""),
    Reducer: ("handleDone", "handleAdd, handleJoin or handleDone"),
    Frame: ("handleFirst, handleNext or handleDone",) * 2,
}
"""During which methods a class may emit, and during which it may recur."""


_METHODS = (
    "postSetup", "postRun", "handleWork", "handleInit", "handleAdd", "handleJoin", "handleDone", "handleFirst",
    "handleNext",
)  # fmt: skip


def _copied(config: Any) -> Any:
    """A copy as deep as there are mappings and lists; other values are those of the configuration."""
    if isinstance(config, Mapping):
        return {key: _copied(value) for key, value in config.items()}
    return [_copied(value) for value in config] if isinstance(config, list) else config


def adapt(role: str, kind: type[Any], name: str, config: Mapping[Any, Any], emits: Targets = NO_TARGETS,
          recurs: Targets = NO_TARGETS) -> dict[str, Callable[..., Any]]:  # fmt: skip
    """The functions that a class stands for, by the name of the parameter of ``Work`` that takes them.

    Args:
        role: 'job', 'reduce' or 'frame'.
        kind: the class.
        name: of the stage in messages.
        config: what the instances get as their configuration.
        emits, recurs: the targets that they know.

    Raises:
        PlanError: the class is of another kind.
    """
    base = {"job": Job, "reduce": Reducer, "frame": Frame}[role]
    if not issubclass(kind, base):
        raise PlanError(f"{role} takes a class derived from common.{base.__name__}; {kind.__name__} is not")
    for method in _METHODS:
        check_answers(f"{role} {name!r}: {method}", getattr(kind, method, None), "call self.emit(...) instead")
    instances = _Instances(kind, name, config, emits, recurs)
    parts = _ADAPTERS[role](instances)
    for part in parts.values():
        part.__dict__["standsFor"] = kind  # so that a change of the class's code can be noticed
        part.__dict__["instances"] = instances
    return parts


def close_instances(plan: Plan) -> None:
    """The run is over for this process: ends the instances that it has made of classes. Errors are told."""
    for place in plan.places:
        instances = getattr(place.function, "__dict__", {}).get("instances")
        if type(instances) is not _Instances:
            continue
        try:
            instances.close()
        except BaseException:
            import traceback  # not at once: it is slow to load

            traceback.print_exc()


def _adapt_job(instances: _Instances) -> dict[str, Callable[..., Any]]:
    get = instances.get

    def job(*work: Any, **named: Any) -> Any:  # called for each item, so what it takes counts
        stage = get()
        outbox = stage._emitted
        works: list[Any] = []
        outbox.works = works
        try:
            stage.handleWork(*work, **named)
        finally:
            outbox.works = outbox.shut
        return works[0] if len(works) == 1 else as_answer(works) if works else None

    return {"function": job}


def _adapt_reducer(instances: _Instances) -> dict[str, Callable[..., Any]]:
    def store() -> Reduction:
        made = Object()
        instances.get().handleInit(made)
        return Reduction(made)

    def reduce(store: Reduction, works: list[Any], others: list[Reduction]) -> Any:
        stage, own = instances.get(), store.store
        with stage._recurred as recurred:
            for work in works:
                stage.handleAdd(own, work)
            for other in others:
                stage.handleJoin(own, other.store)
                store.rounds = max(store.rounds, other.rounds)
        return as_answer(recurred)

    def emit(store: Reduction) -> Any:
        stage = instances.get()
        with stage._emitted as emitted, stage._recurred as recurred:
            stage.handleDone(store.store)
        if not recurred:
            return as_answer(emitted)
        store.rounds += 1
        return Again(as_answer(recurred), list(_spread(emitted)))

    return {"function": reduce, "store": store, "emit": emit}


def _adapt_frame(instances: _Instances) -> dict[str, Callable[..., Any]]:
    """What is emitted before the frame's end goes on with what its end emits."""

    def new_store() -> Any:
        return Object(begun=False, user=Object(), emitted=[])

    def frame(store: Any, /, *first: Any, **named: Any) -> Any:
        stage = instances.get()
        if not store.begun:
            recurred = _recurred(stage, store, stage.handleFirst, *first, **named)
            store.begun = True
            if recurred is not None:
                return recurred
        return _recurred(stage, store, stage.handleDone)

    def end(store: Any, /, *work: Any, **named: Any) -> Any:
        stage = instances.get()
        return _recurred(stage, store, stage.handleNext, *work, **named)

    return {"function": frame, "end": end, "store": new_store, "emit": lambda store: as_answer(store.emitted)}


def _recurred(stage: Any, store: Any, handle: Callable[..., Any], /, *work: Any, **named: Any) -> Any:
    """What a call recurs; what it emits waits in the store, once the call has come to its end."""
    with stage._emitted as emitted, stage._recurred as recurred:
        handle(store.user, *work, **named)
    store.emitted += list(_spread(emitted))
    return as_answer(recurred)


_ADAPTERS = {"job": _adapt_job, "reduce": _adapt_reducer, "frame": _adapt_frame}
