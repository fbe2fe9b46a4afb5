"""Stages as classes: ``Job``, ``Frame`` and ``Reducer``, for stages that need to set something up in their process.

``Work.job``, ``Work.frame`` and ``Work.reduce`` take classes derived from these in place of functions; a frame that is
a class is ended by ``frameEnd`` of the same class. Each process makes one instance of a class, when the first item
comes, and calls its ``postSetup`` before anything else.

Example:
    >>> from job_stream import Work, common
    >>> class Double(common.Job):
    ...     def handleWork(self, work):
    ...         self.emit(2 * work)
    >>> w = Work([1, 2])
    >>> w.job(Double) is Double
    True
    >>> sorted(w.run())
    [2, 4]
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, ClassVar

from .errors import PlanError
from .values import Multiple, Object

__all__ = ["Frame", "Job", "Reducer", "adapt", "isStage"]


class _Stage:
    """What the three kinds of class have in common."""

    USE_MULTIPROCESSING: ClassVar[bool] = True
    config: dict[str, Any]

    def __init__(self) -> None:
        self.config = {}
        self._emitted: list[Any] = []
        self._recurred: list[Any] = []

    def postSetup(self) -> None:
        """Called once for each instance, in the process that runs it, before any work."""

    def emit(self, work: Any) -> None:
        """Sends work on to the next stage; None: nothing."""
        self._emitted.append(work)

    def _takeEmitted(self) -> Any:
        emitted, self._emitted = self._emitted, []
        return _asAnswer(emitted)

    def _takeRecurred(self) -> Any:
        recurred, self._recurred = self._recurred, []
        return _asAnswer(recurred)


class Job(_Stage):
    """A job as a class."""

    def handleWork(self, work: Any) -> None:
        """Takes one item; what it gives to ``emit`` goes on."""
        raise TypeError(f"{type(self).__name__} must define handleWork(self, work)")


class _Gathering(_Stage):
    """A reducer or frame: what it recurs goes through its stages again."""

    def recur(self, work: Any) -> None:
        """Sends work through the stages of the reduction or frame again."""
        self._recurred.append(work)

    def handleDone(self, store: Any) -> None:
        """Called at the end; what it gives to ``emit`` goes on."""
        self.emit(store)


class Reducer(_Gathering):
    """A reduce as a class. The store is an ``Object``."""

    def handleInit(self, store: Any) -> None:
        """Prepares an empty store."""

    def handleAdd(self, store: Any, work: Any) -> None:
        """Takes one item in."""
        raise TypeError(f"{type(self).__name__} must define handleAdd(self, store, work)")

    def handleJoin(self, store: Any, other: Any) -> None:
        """Merges another store into this one."""
        raise TypeError(f"{type(self).__name__} must define handleJoin(self, store, other)")


class Frame(_Gathering):
    """A frame and its frameEnd as one class. The store is an ``Object``."""

    def handleFirst(self, store: Any, work: Any) -> None:
        """Called with the item that enters the frame."""
        raise TypeError(f"{type(self).__name__} must define handleFirst(self, store, work)")

    def handleNext(self, store: Any, work: Any) -> None:
        """Called with each item that comes through the frame's stages."""
        raise TypeError(f"{type(self).__name__} must define handleNext(self, store, work)")


def _asAnswer(values: list[Any]) -> Any:
    return None if not values else values[0] if len(values) == 1 else Multiple(values)


def isStage(function: Any) -> bool:
    """Whether a class stands for a stage."""
    return isinstance(function, type) and issubclass(function, _Stage)


class _Instances:
    """One instance of a class for each process, or each thread where the stage runs in threads."""

    def __init__(self, kind: type[Any]) -> None:
        self._kind = kind
        self._local = threading.local()

    def get(self) -> Any:
        instance = getattr(self._local, "instance", None)
        if instance is None:
            instance = self._kind()
            if not hasattr(instance, "_emitted"):
                raise TypeError(f"{self._kind.__name__}.__init__ must call super().__init__()")
            instance.postSetup()
            self._local.instance = instance
        return instance


def adapt(role: str, kind: type[Any]) -> dict[str, Callable[..., Any]]:
    """The functions that a class stands for, by the name of the parameter of ``Work`` that takes them.

    Raises:
        PlanError: the class is of another kind.
    """
    base = {"job": Job, "reduce": Reducer, "frame": Frame}[role]
    if not issubclass(kind, base):
        raise PlanError(f"{role} takes a class derived from common.{base.__name__}; {kind.__name__} is not")
    return _ADAPTERS[role](_Instances(kind))


def _adaptJob(instances: _Instances) -> dict[str, Callable[..., Any]]:
    def job(work: Any) -> Any:
        stage = instances.get()
        stage.handleWork(work)
        return stage._takeEmitted()

    return {"function": job}


def _adaptReducer(instances: _Instances) -> dict[str, Callable[..., Any]]:
    def store() -> Any:
        made = Object()
        instances.get().handleInit(made)
        return made

    def reduce(store: Any, works: list[Any], others: list[Any]) -> Any:
        stage = instances.get()
        for work in works:
            stage.handleAdd(store, work)
        for other in others:
            stage.handleJoin(store, other)
        if stage._emitted:
            stage._takeEmitted()
            raise TypeError(f"{type(stage).__name__} may emit in handleDone only, when the reduction has drained")
        return stage._takeRecurred()

    def emit(store: Any) -> Any:
        stage = instances.get()
        stage.handleDone(store)
        if stage._recurred:
            stage._takeRecurred()
            raise TypeError(f"{type(stage).__name__} may not recur in handleDone: the reduction has drained")
        return stage._takeEmitted()

    return {"function": reduce, "store": store, "emit": emit}


def _adaptFrame(instances: _Instances) -> dict[str, Callable[..., Any]]:
    """What is emitted before the frame's end goes on with what its end emits."""

    def newStore() -> Any:
        return Object(begun=False, user=Object(), emitted=[])

    def frame(store: Any, first: Any) -> Any:
        stage = instances.get()
        if not store.begun:
            store.begun = True
            stage.handleFirst(store.user, first)
            if stage._recurred:
                return _recurred(stage, store)
        stage.handleDone(store.user)
        return _recurred(stage, store)

    def end(store: Any, work: Any) -> Any:
        stage = instances.get()
        stage.handleNext(store.user, work)
        return _recurred(stage, store)

    return {"function": frame, "end": end, "store": newStore, "emit": lambda store: _asAnswer(store.emitted)}


def _recurred(stage: Any, store: Any) -> Any:
    store.emitted += stage._emitted
    stage._emitted = []
    return stage._takeRecurred()


_ADAPTERS = {"job": _adaptJob, "reduce": _adaptReducer, "frame": _adaptFrame}
