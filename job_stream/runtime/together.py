"""A stream as one act of all ranks: each runs it at the same point of its script, and leaves it as the others do.

Whatever ends it on the primary, an init function or a checkpoint that cannot be read, a result function or Ctrl-C, ends
it everywhere; if all goes well, nobody goes on before the primary has called its last function. Streams have numbers
that must be the same everywhere, so they come one after the other. One that is run by code which only the primary runs
in the midst of another (an init, result or finish function, a generator of initial work) is no act of all: it stays
with the primary, which has workers, too.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from contextvars import ContextVar
from time import monotonic
from typing import Any

from ..errors import JobStreamError, PlanError, WorldError
from ..ground.contexts import context
from ..ranks.cluster import Cluster, cluster
from ..ranks.cpus import host_cpu_count
from ..ranks.local import LocalTransport
from ..ranks.world import is_the_rank, rank_of, size_of
from ..stream.plan import Plan
from .reports import mark_shared

__all__ = [
    "Terminated", "close_openings", "is_elsewhere", "is_kept_to_primary", "keep_to_primary", "next_opening", "quietly",
    "shared", "throughout",
]  # fmt: skip

STEP_S = 0.2
PATIENCE_S = 10.0
"""Who has waited for so long for another stream to end says so."""

_within: ContextVar[bool] = ContextVar("job_stream.within", default=False)


class Terminated(BaseException):
    """The run is to end at once, whatever is under way: its results are not wanted any more. All ranks raise it, and
    none of their scripts hears of it."""


class _Home:
    """Whether the script runs on the primary alone."""

    is_alone = False


_home = _Home()


def is_elsewhere() -> bool:
    """Whether the primary of a stream that is run here is another rank."""
    return rank_of() > 0 and _is_of_all()


def _is_of_all() -> bool:
    """Whether a stream that is run here is one of several ranks."""
    return _is_rank() and not (_within.get() or _home.is_alone)


def _is_rank() -> bool:
    """Whether this process is one of several ranks. Their children are none, and work alone."""
    return size_of() > 1 and is_the_rank()


def _joining() -> Callable[[], Cluster]:
    return cluster if size_of() == 1 else _primary_alone if _is_rank() else _child_alone


def _primary_alone() -> Cluster:
    joined = cluster()
    return Cluster(LocalTransport(joined.transport.peers[joined.rank].cpus))


def _child_alone() -> Cluster:
    return Cluster(LocalTransport(host_cpu_count()))


def quietly() -> AbstractContextManager[object]:
    """Within, no other thread calls MPI, so that this one may fork."""
    return cluster().transport.still() if _is_rank() and _have_met() else nullcontext()


def _have_met() -> bool:
    return cluster.cache_info().currsize > 0


class _StreamTurn:
    """Whose turn it is to run a stream."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @context
    def taken(self, is_patient: Callable[[], bool] | None = None) -> Iterator[None]:
        """Within, it is this thread's.

        Args:
            is_patient: whether to wait on for it, asked now and then; None: nobody waits.

        Raises:
            PlanError: it is another's.
        """
        if not (self._lock.acquire(blocking=False) or (is_patient is not None and self._await(is_patient))):
            raise PlanError(
                f"a stream is under way already, in {_name_of(self._thread)}: on several ranks streams run one after "
                "the other, since their order must be the same everywhere; run this one before or after it, or inside "
                "of a job"
            )
        try:
            self._thread = threading.current_thread()
            yield
        finally:
            self._thread = None
            self._lock.release()

    def _await(self, is_patient: Callable[[], bool]) -> bool:
        """Waits for the lock; says so where that takes long."""
        since, has_told = monotonic(), False
        while is_patient():
            if self._lock.acquire(timeout=STEP_S):
                return True
            if not has_told and monotonic() - since > PATIENCE_S:
                has_told = True
                print(f"job_stream: {threading.current_thread().name!r} waits for the stream of "
                      f"{_name_of(self._thread)} to end: on several ranks they run one after the other; shut the first "
                      "executor down", file=sys.stderr, flush=True)  # fmt: skip
        return False


def _name_of(thread: threading.Thread | None) -> str:
    return "another thread" if thread is None else f"thread {thread.name!r}"


_turn = _StreamTurn()


@context
def throughout(plan: Plan, is_patient: Callable[[], bool] | None = None,
               opening: Any = None) -> Iterator[Callable[[], Cluster]]:  # fmt: skip
    """Around all that the run of a stream is in this process. Of several ranks, each leaves it when the primary does.

    Gives what joins those whom the stream is for.

    Args:
        plan: the stream.
        is_patient: whether to wait on for another stream to end, asked now and then; None: nobody waits.
        opening: told to the other ranks before, which wait for that (``next_opening``); None: they know.

    Raises:
        PlanError: another thread of this rank runs a stream.
    """
    if not (_is_of_all() if opening is None else _is_rank()):
        yield _joining()
        return
    with _turn.taken(is_patient):
        if opening is not None:
            cluster().share(opening)
        token = _within.set(rank_of() == 0)
        try:
            yield cluster
        except BaseException as error:
            _end(plan, error)
            raise
        else:
            _end(plan, None)
        finally:
            with suppress(ValueError):  # an iteration that was forgotten is closed in any context
                _within.reset(token)


def keep_to_primary() -> None:
    """Has the streams of this process be its own from now on, but for those with an opening: the other ranks run no
    script."""
    _home.is_alone = True


def is_kept_to_primary() -> bool:
    """Whether the other ranks run no script."""
    return _home.is_alone and _is_rank()


def next_opening() -> Any:
    """What the primary says before its next stream; None: there are no more."""
    with _turn.taken():
        return cluster().share(None)


def close_openings() -> None:
    """There are no more streams with openings; the other ranks need not wait for any."""
    if _is_rank():
        with _turn.taken(lambda: True):
            cluster().share(None)


def shared(value: Any) -> Any:
    """The primary's value, on every rank."""
    if not _is_of_all():
        return value
    with _turn.taken():
        return cluster().share(value)


def _end(plan: Plan, error: BaseException | None) -> None:
    if isinstance(error, WorldError) and not _have_met():
        return  # they could not, and are not asked again
    with suppress(JobStreamError):  # the ranks don't come together, or go on without this one: that is told elsewhere
        ranks = cluster()
        if error is not None and not ranks.has_told:
            mark_shared(error)
        ranks.end(plan, error)
