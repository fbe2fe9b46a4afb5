"""How the threads of a run hear of each other, and how a run ends: who wakes whom, and in which order all is closed.

**Who writes what, and wakes whom.** A run has a main thread (the script's), an engine thread, and where they are needed
a source thread, lanes that are threads, and one that writes a checkpoint.

=============  =====================================================  ==================================================
who            writes                                                 and then wakes
=============  =====================================================  ==================================================
main           ``ResultsTaken`` into the events                       the engine, only if it may wait for that: the rank
                                                                      is full or has halted
main           that it leaves (``Shutdown.is_left``)                  the engine
source         ``SourceGave`` or an exception into the events         the engine
source         an item, as the first of a request                     the engine, which takes it when it is due
lane (thread)  what it repays, into the events                        the engine
writer         how it went, and then that nothing is being written    the engine; the main thread, if it waits for the
                                                                      first checkpoint
signal         what is asked for (of the saver)                       the engine
engine         deliveries, errors, the end, into the deliveries       the main thread
engine         a request for items                                    the source
engine         why there will be no checkpoint (``Saver.fail``)       the main thread
=============  =====================================================  ==================================================

Lanes that are processes, the nursery and other ranks wake the engine through descriptors, or are looked for.

1. *First write, then wake. First take the wake-up back, then look.* Otherwise what is written between the look and the
   taking back would be slept over.
2. *What is written without a wake-up is looked at before each sleep.* A wake-up for each result that is taken would
   cost two system calls and a turn of the loop. So the main thread writes ``ResultsTaken``, and wakes the engine only
   if the rank then is full or has halted. If it becomes full just after that question, there is a delivery to come, and
   the question is asked again. If it halts just after, there may be none: so the engine thread looks at the events once
   more before it lingers.
3. *The engine thread alone touches the rank, the lanes and the transport.* Others read ``Rank.full`` and ``halted``,
   nothing else.
4. *The main thread never sleeps without bound*: a signal that comes just before such a sleep would be noticed only
   after it. It looks up every half a second. The engine thread may sleep for ever, so what it waits for must wake it.

**How a run comes to its end.** The engine thread leaves its loop when the rank has halted, when something has failed
(``Shutdown.fail``; the first error counts), or when the main thread leaves (a result function has raised, or a
signal). It then goes the steps of ``Closing``, in their order, each once, whatever those before it raised; what they
raise is told to the main thread as any failure. The order is this for these reasons:

- ``tell_others``: an error first of all, since other ranks compute for nothing meanwhile.
- ``tell_watchers``: while there still are workers, whose figures are in memory that they share; and before they are
  closed, which takes a moment in which rank 0 hears of the figures of others.
- ``close_processes``, ``close_forwarding``: workers end before what forwards their output, so that all of it arrives.
- ``close_threads``, ``close_source``: user code in these cannot be ended by force; each is waited for for a moment.
- ``gather_figures``: what the others have told by now.
- ``stay``: the work is done, but the primary may be calling functions of the script still. All ranks wait for that.
- ``linger``: checkpoints are written while results are handled, which may take longer than all the work. It comes late,
  since no worker is needed for it, and after ``stay``, which only starts a thread on the primary.
- ``say_over``: the main thread may return. It waits for that in any case, so this is done whatever happens.

The engine thread says so when it begins, by taking the right to go these steps. Where it never begins (there can be no
more threads, or Ctrl-C came before), the main thread takes it and goes them.

**What both threads use** (``Release``) is closed by the one of them that is through with the run last. That is the main
thread, which joins the engine thread. But a second Ctrl-C may end its wait; then the engine thread does it. What is in
the deliveries may lie in the buffers, and whoever wakes the engine may do so until the thread has ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from enum import Enum
from queue import Empty, SimpleQueue
from typing import NamedTuple, TypeAlias

from ..engine.messages import Deliver, Event, Fail
from ..errors import StageError
from ..evaluate.failures import UserFailure
from .sleeping import Wake

__all__ = ["WAIT_S", "Closing", "Delivery", "GivenUp", "Mailbox", "Posted", "Release", "Request", "Shutdown"]

WAIT_S = 0.5


class Request(Enum):
    """What the main thread is asked to do."""

    PULL = "pull"
    """Items of the source are wanted that only the main thread can pull."""


class GivenUp(NamedTuple):
    """Among deliveries, of a live source: items that were given up, and why."""

    action: Fail
    error: StageError


Posted: TypeAlias = Event | UserFailure | BaseException
"""What other threads have for the engine thread; an exception ends the run."""

Delivery: TypeAlias = Deliver | Request | GivenUp | BaseException | None
"""What there is for the main thread; an exception ends the run, None says that all is over."""


class Mailbox:
    """What the threads of a run have for each other.

    Attributes:
        events: for the engine thread. Whoever appends something decides whether that is worth a wake-up; see above.
        deliveries: for the main thread.
        wake: wakes the engine thread.
    """

    def __init__(self) -> None:
        self.events: deque[Posted] = deque()
        self.deliveries: SimpleQueue[Delivery] = SimpleQueue()
        self.wake = Wake()

    def post(self, event: Posted) -> None:
        """Something for the engine thread, which is to hear of it now."""
        self.events.append(event)
        self.wake.set()

    def next_delivery(self) -> Delivery:
        """The next delivery; waits for it."""
        while True:
            with suppress(Empty):
                return self.deliveries.get(timeout=WAIT_S)

    def close(self) -> None:
        """Nobody can be woken any more."""
        self.wake.close()

    def drop(self) -> None:
        """Lets go of what nobody has taken."""
        self.events.clear()
        with suppress(Empty):
            while True:
                self.deliveries.get_nowait()


class Closing(NamedTuple):
    """What the engine thread does when its loop is over, in this order; why in this order is said above."""

    tell_others: Callable[[], None]
    tell_watchers: Callable[[], None]
    close_processes: Callable[[], None]
    close_forwarding: Callable[[], None]
    close_threads: Callable[[], None]
    close_source: Callable[[], None]
    gather_figures: Callable[[], None]
    stay: Callable[[], None]
    linger: Callable[[], None]
    say_over: Callable[[], None]


class Release(NamedTuple):
    """What is done, in this order, when both threads are through with the run."""

    close_wake: Callable[[], None]
    close_buffers: Callable[[], None]
    end_family: Callable[[], None]
    drop: Callable[[], None]


class Shutdown:
    """Whether a run is to end, why, and how far it has come with that.

    Attributes:
        is_left: the main thread has left, and takes nothing any more; it alone says so.
        has_failed: the engine thread ends the run with an error; it alone says so.
        is_complete: the stream has ended, and nothing had failed by then.
        error: what the run ends with.
    """

    def __init__(self) -> None:
        self.is_left = self.has_failed = self.is_complete = False
        self.error: BaseException | None = None
        self._closing, self._releasing = deque([True]), deque([True])
        self._through: set[str] = set()

    def fail(self, error: BaseException) -> bool:
        """The engine thread ends the run with an error. Gives whether that counts: another one may have come before."""
        if self.has_failed:
            return False
        self.has_failed = True
        self.error = error
        return True

    def raised(self, error: BaseException) -> bool:
        """The main thread raises an error. Gives whether it is its own, and not what the engine thread has given it."""
        if self.error is not None:
            return False
        self.error = error
        return True

    def close(self, steps: Closing, fail: Callable[[BaseException], None]) -> None:
        """Goes these steps, in order, whatever one of them raises; ``fail`` is told."""
        with ExitStack() as stack:
            for step in reversed(steps):
                stack.callback(_attempt, step, fail)

    def is_to_close(self) -> bool:
        """Whether it is for this thread to go the steps of ``Closing``: for the first that asks."""
        return _is_taken(self._closing)

    def release(self, thread: str, steps: Release) -> None:
        """A thread is through with the run: the last of the two goes these steps, in order, whatever one raises."""
        self._through.add(thread)
        if len(self._through) < 2 or not _is_taken(self._releasing):
            return
        with ExitStack() as stack:
            for step in reversed(steps):
                stack.callback(step)


def _is_taken(token: deque[bool]) -> bool:
    """Takes the only token there is; False: another thread has it. (``deque`` needs no lock for that.)"""
    with suppress(IndexError):
        return token.pop()
    return False


def _attempt(step: Callable[[], None], fail: Callable[[BaseException], None]) -> None:
    try:
        step()
    except BaseException as error:
        fail(error)
