"""Stages as classes: ``Job``, ``Frame`` and ``Reducer``, for stages that need to set something up in their process.

Derive from one of them, and say what is to be done in its methods. Each process makes an instance of its own when the
first item comes, and calls its ``postSetup`` before anything else; where a stage runs in threads, they share it. When
the process has nothing more to do, it calls ``postRun``. What a call emits is gathered, and goes on when the call has
returned: nothing of a call that failed goes on.

``adapting`` makes functions of them.
"""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

__all__ = ["Frame", "Job", "Reducer", "StageClass"]


class Outlet(Protocol):
    """Where an instance puts what it sends in one direction."""

    def put(self, work: Any, target: str | None) -> None:
        """Takes work for one of the targets; None: for the only one."""


class StageClass:
    """What the three kinds of class have in common.

    Attributes:
        config: the stage's own part of the configuration, a copy for this instance.
    """

    USE_MULTIPROCESSING: ClassVar[bool] = True
    config: dict[str, Any]
    _emitted: Outlet
    _recurred: Outlet

    def postSetup(self) -> None:
        """Called once for each instance, in the process that runs it, before any work."""

    def postRun(self) -> None:
        """Called once for each instance when its worker ends in order: closes what ``postSetup`` has opened.

        It is not called where a worker dies or is killed, or is still inside a call when a run fails. Nothing can be
        emitted any more. An error is told on stderr and changes nothing else: all work is done by then.
        """

    def emit(self, work: Any, target: str | None = None) -> None:
        """Sends work on.

        Args:
            work: None: nothing; a ``Multiple``: each element.
            target: one of those that ``to`` names; needed where it names several.

        Raises:
            PlanError: there is no such target, or several and none was named.
        """
        self._emitted.put(work, target)


class Job(StageClass):
    """A job as a class."""

    def handleWork(self, work: Any) -> None:
        """Takes one item; what it gives to ``emit`` goes on."""
        raise TypeError(f"{type(self).__name__} must define handleWork(self, work)")


class _Gathering(StageClass):
    """A reducer or frame: what it recurs goes through its stages again."""

    def recur(self, work: Any, target: str | None = None) -> None:
        """Sends work through the stages of the reduction or frame again, which goes on then.

        Args:
            work: None: nothing; a ``Multiple``: each element.
            target: the job of the module where it enters; by default the module's input.

        Raises:
            PlanError: the module has no job of this name.
        """
        self._recurred.put(work, target)

    def handleDone(self, store: Any) -> None:
        """Called at the end; what it gives to ``emit`` goes on."""
        self.emit(store)


class Reducer(_Gathering):
    """A reduce as a class. The store is an ``Object``.

    When all has come in, ``handleDone`` is called, and again each time that all is in which it recurred; the reduction
    has ended when that is nothing.
    """

    def handleInit(self, store: Any) -> None:
        """Prepares an empty store."""

    def handleAdd(self, store: Any, work: Any) -> None:
        """Takes one item in."""
        raise TypeError(f"{type(self).__name__} must define handleAdd(self, store, work)")

    def handleJoin(self, store: Any, other: Any) -> None:
        """Merges another store into this one."""
        raise TypeError(f"{type(self).__name__} must define handleJoin(self, store, other)")


class Frame(_Gathering):
    """A frame and its frameEnd as one class. The store is an ``Object``.

    When all that was recurred has come back, ``handleDone`` is called: what it recurs begins another round; if that is
    nothing, the frame has ended.
    """

    def handleFirst(self, store: Any, work: Any) -> None:
        """Called with the item that enters the frame."""
        raise TypeError(f"{type(self).__name__} must define handleFirst(self, store, work)")

    def handleNext(self, store: Any, work: Any) -> None:
        """Called with each item that comes through the frame's stages."""
        raise TypeError(f"{type(self).__name__} must define handleNext(self, store, work)")
