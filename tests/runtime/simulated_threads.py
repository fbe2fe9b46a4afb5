"""Threads whose order comes from a seed: one runs at a time, and another may go on wherever they touch what they share.

Each is a real thread, so that code runs unchanged, but it only runs while it has been given its turn. The objects made
here stand for those of ``threading``, ``queue``, ``collections`` and ``select``; each of their operations is a point
where the turn may pass on. Time is virtual: it goes on when nobody can, to the next moment for which somebody waits.
*Actors* are processes: they do a step at once, whenever they may.

When time or steps run out, everything hangs, or goes round in circles: ``Hang`` is raised, and all threads are unwound.
"""

from __future__ import annotations

import _thread
import random
import select
import threading
from collections import deque
from collections.abc import Callable
from queue import Empty
from types import SimpleNamespace
from typing import Any, Protocol

LONGEST_S = 60.0
"""So much virtual time may pass."""
CHANGES, LET_GO = 0.02, 0.002
"""How often another thread is held up, and how often one that is goes on all the same."""
STEPS_MOST = 20_000
REAL_S = 60.0
"""So long the real threads may take to end."""


class Hang(Exception):
    """Nobody can go on."""


class Abandoned(BaseException):
    """Raised in each thread when everything hangs."""


class Actor(Protocol):
    """A process."""

    @property
    def due(self) -> float | None:
        """When it can do its next step; None: it waits."""

    def step(self) -> None: ...


class Strand:
    """A thread: whether it can go on, and its turn."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.turn = _thread.allocate_lock()
        self.turn.acquire()
        self.ready: Callable[[], bool] | None = None
        self.until: float | None = None
        self.is_over = False


class Scheduler:
    """Whose turn it is.

    Args:
        seed: of the order.

    Attributes:
        now: the virtual time.
        actors: processes.
        refused: the name of threads that cannot be started.
        crashes: what threads have raised.
        signals: pairs of a time and what a signal does in the main thread from then on, at its next point.
    """

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.now = 0.0
        self.actors: list[Actor] = []
        self.refused = ""
        self.signals: list[tuple[float, Callable[[], None]]] = []
        self.hang = ""
        self.crashes: list[BaseException] = []
        self._stay = self.chance.choice([0.0, 0.3, 0.7, 0.9])
        self._steps = 0
        self._held_up: Strand | None = None
        self._main = self._current = Strand("main")
        self._strands = [self._main]
        self._threads: list[threading.Thread] = []

    # the test's side ----------------------------------------------------------------------------------------------

    def run(self, main: Callable[[], Any]) -> Any:
        """Runs the main thread, and then the others to their end.

        Raises:
            Hang: somebody never comes to an end.
        """
        try:
            return main()
        except Abandoned:
            return None
        finally:
            self._end()
            if self.hang:
                raise Hang(self.hang)

    def _end(self) -> None:
        try:
            self.wait(self._are_others_over, None)
        except Abandoned:
            while not self._are_others_over():
                self._switch(next(strand for strand in self._strands[1:] if not strand.is_over))
        for thread in self._threads:
            thread.join(REAL_S)
            assert not thread.is_alive()

    def _are_others_over(self) -> bool:
        return all(strand.is_over for strand in self._strands[1:])

    # the threads' side --------------------------------------------------------------------------------------------

    def point(self) -> None:
        """Others may go on here."""
        if self.hang:
            raise Abandoned
        if self.chance.random() >= self._stay:
            self.wait(None, None)
        else:
            self._take_signals()

    def wait(self, ready: Callable[[], bool] | None, until: float | None) -> bool:
        """Others go on until something holds, or until a time. Gives whether it holds."""
        if self.hang:
            raise Abandoned
        strand = self._current
        strand.ready, strand.until = ready, until
        self._switch(self._next())
        if self.hang:
            raise Abandoned
        strand.ready = strand.until = None
        self._take_signals()
        return ready is None or ready()

    def sleep(self, seconds: float) -> None:
        self.wait(lambda: False, self.now + seconds)

    def monotonic(self) -> float:
        self.now += 1e-7
        return self.now

    def start(self, name: str, function: Callable[[], None]) -> Strand:
        strand = Strand(name)

        def run() -> None:
            strand.turn.acquire()
            try:
                if not self.hang:
                    function()
            except Abandoned:
                pass
            except BaseException as crash:
                self.crashes.append(crash)
            finally:
                strand.is_over = True
                following = self._next()
                self._current = following
                following.turn.release()

        thread = threading.Thread(target=run, name=name, daemon=True)
        self._threads.append(thread)
        self._strands.append(strand)
        thread.start()
        return strand

    def _take_signals(self) -> None:
        if self._current is self._main and self.signals and self.signals[0][0] <= self.now:
            _, act = self.signals.pop(0)
            act()

    def _switch(self, strand: Strand) -> None:
        before, self._current = self._current, strand
        if strand is not before:
            strand.turn.release()
            before.turn.acquire()

    def _next(self) -> Strand:
        """Whose turn it is; processes do their steps meanwhile."""
        while not self.hang:
            self._steps += 1
            living = [strand for strand in self._strands if not strand.is_over]
            able: list[Any] = [strand for strand in living if self._is_able(strand)]
            able += [actor for actor in self.actors if actor.due is not None and actor.due <= self.now]
            if self._steps > STEPS_MOST:
                self.hang = f"goes round in circles: {self._story(living)}"
            elif not able:
                self._pass_time(living)
            else:
                one = self._choice(able)
                if isinstance(one, Strand):
                    return one
                one.step()
        return next((strand for strand in self._strands if not strand.is_over), self._main)

    def _choice(self, able: list[Any]) -> Any:
        """One of those that can go on. Now and then another one is held up for long."""
        if self.chance.random() < CHANGES:
            self._held_up = self.chance.choice([None, *self._strands])
        free = [one for one in able if one is not self._held_up] if self.chance.random() > LET_GO else able
        return self.chance.choice(free or able)

    def _is_able(self, strand: Strand) -> bool:
        timed_out = strand.until is not None and strand.until <= self.now
        return timed_out or strand.ready is None or strand.ready()

    def _pass_time(self, living: list[Strand]) -> None:
        times = [time for time in (*(strand.until for strand in living), *(actor.due for actor in self.actors))
                 if time is not None]  # fmt: skip
        if not times or min(times) > LONGEST_S:
            self.hang = f"hangs: {self._story(living)}"
        else:
            self.now = max(self.now, min(times))

    def _story(self, living: list[Strand]) -> str:
        return f"at {self.now:.3f} s, {', '.join(strand.name for strand in living)} have not ended"

    # what threads share -------------------------------------------------------------------------------------------

    def threading(self) -> Any:
        """Stands for the module."""
        sim = self
        return SimpleNamespace(
            Thread=lambda **given: Thread(sim, **given), Condition=lambda: Condition(sim), Event=lambda: Event(sim)
        )


class Thread:
    def __init__(self, sim: Scheduler, target: Callable[..., None], name: str, daemon: bool, args: Any = ()) -> None:
        self._sim = sim
        self._name = name
        self._target = lambda: target(*args)
        self._strand: Strand | None = None

    def start(self) -> None:
        if self._name == self._sim.refused:
            raise RuntimeError("can't start new thread")
        self._strand = self._sim.start(self._name, self._target)
        self._sim.point()

    def is_alive(self) -> bool:
        return self._strand is not None and not self._strand.is_over

    def join(self, timeout: float | None = None) -> None:
        sim = self._sim
        sim.wait(lambda: not self.is_alive(), None if timeout is None else sim.now + timeout)


class Condition:
    def __init__(self, sim: Scheduler) -> None:
        self._sim = sim
        self._is_held = False
        self._waiting: list[list[bool]] = []

    def __enter__(self) -> None:
        self._sim.wait(lambda: not self._is_held, None)
        self._is_held = True

    def __exit__(self, *exception: Any) -> None:
        self._is_held = False
        if exception[0] is None:
            self._sim.point()

    def notify(self) -> None:
        if self._waiting:
            self._waiting.pop(0)[0] = True

    def wait_for(self, holds: Callable[[], Any]) -> Any:
        while not holds():
            notified = [False]
            self._waiting.append(notified)
            self._is_held = False
            self._sim.wait(lambda: notified[0] and not self._is_held, None)  # noqa: B023
            self._is_held = True
        return True


class Event:
    def __init__(self, sim: Scheduler) -> None:
        self._sim = sim
        self._is_set = False

    def set(self) -> None:
        self._sim.point()
        self._is_set = True

    def is_set(self) -> bool:
        self._sim.point()
        return self._is_set

    def clear(self) -> None:
        self._sim.point()
        self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        return self._sim.wait(lambda: self._is_set, None if timeout is None else self._sim.now + timeout)


class Queue:
    """Stands for ``SimpleQueue``."""

    def __init__(self, sim: Scheduler) -> None:
        self._sim = sim
        self._items: deque[Any] = deque()

    def put(self, item: Any) -> None:
        self._sim.point()
        self._items.append(item)

    def get(self, timeout: float) -> Any:
        if not self._sim.wait(lambda: bool(self._items), self._sim.now + timeout):
            raise Empty
        return self._items.popleft()

    def get_nowait(self) -> Any:
        if not self._items:
            raise Empty
        return self._items.popleft()


class Deque:
    """Stands for ``deque``."""

    def __init__(self, sim: Scheduler, items: Any = ()) -> None:
        self._sim = sim
        self._items: deque[Any] = deque(items)

    def append(self, item: Any) -> None:
        self._sim.point()
        self._items.append(item)

    def popleft(self) -> Any:
        self._sim.point()
        return self._items.popleft()

    def pop(self) -> Any:
        self._sim.point()
        return self._items.pop()

    def clear(self) -> None:
        self._items.clear()

    def __bool__(self) -> bool:
        self._sim.point()
        return bool(self._items)


class Wake:
    """Stands for that of ``sleeping``."""

    fd = 3

    def __init__(self, sim: Scheduler) -> None:
        self._sim = sim
        self._count = 0
        self.is_closed = False

    def set(self) -> None:
        self._sim.point()
        if not self.is_closed:
            self._count += 1
        self._sim.point()

    def is_readable(self) -> bool:
        return self._count > 0

    def wait(self, until: float | None) -> None:
        self._sim.wait(self.is_readable, until)
        self.clear()

    def clear(self) -> None:
        self._sim.point()
        assert not self.is_closed, "a descriptor is used that has been closed"
        self._count = 0

    def close(self) -> None:
        self.is_closed = True


class Poll:
    """Stands for ``select.poll``; ``readable`` says of each descriptor whether it is."""

    def __init__(self, sim: Scheduler, readable: dict[int, Callable[[], bool]]) -> None:
        self._sim = sim
        self._readable = readable
        self._fds: list[int] = []

    def register(self, fd: int, events: int) -> None:
        assert events == select.POLLIN
        self._fds.append(fd)

    def poll(self, ms: float | None) -> list[tuple[int, int]]:
        self._sim.wait(lambda: bool(self._ready()), None if ms is None else self._sim.now + ms / 1000)
        return [(fd, select.POLLIN) for fd in self._ready()]

    def _ready(self) -> list[int]:
        return [fd for fd in self._fds if self._readable[fd]()]
