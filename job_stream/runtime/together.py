"""A stream as one act of all ranks: each runs it at the same point of its script, and leaves it as the others do.

Whatever ends it on the primary, an init function or a checkpoint that cannot be read, a result function or Ctrl-C, ends
it everywhere; if all goes well, nobody goes on before the primary has called its last function. Streams have numbers
that must be the same everywhere, so they come one after the other. One that is run by code which only the primary runs
in the midst of another (an init, result or finish function, a generator of initial work) is no act of all: it stays
with the primary, which has workers, too.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from contextvars import ContextVar

from ..errors import JobStreamError, PlanError, WorldError
from ..ground.contexts import context
from ..ranks.cluster import Cluster, cluster
from ..ranks.cpus import hostCpuCount
from ..ranks.local import LocalTransport
from ..ranks.world import OWNER, rankOf, sizeOf
from ..stream.plan import Plan
from .reports import markShared

__all__ = ["isElsewhere", "quietly", "throughout"]

_within: ContextVar[bool] = ContextVar("job_stream.within", default=False)


def isElsewhere() -> bool:
    """Whether the primary of a stream that is run here is another rank."""
    return rankOf() > 0 and _isOfAll()


def _isOfAll() -> bool:
    """Whether a stream that is run here is one of several ranks."""
    return _isRank() and not _within.get()


def _isRank() -> bool:
    """Whether this process is one of several ranks. Their children are none, and work alone."""
    return sizeOf() > 1 and os.environ.get(OWNER) == str(os.getpid())


def _joining() -> Callable[[], Cluster]:
    return cluster if sizeOf() == 1 else _primaryAlone if _isRank() else _childAlone


def _primaryAlone() -> Cluster:
    joined = cluster()
    return Cluster(LocalTransport(joined.transport.peers[joined.rank].cpus))


def _childAlone() -> Cluster:
    return Cluster(LocalTransport(hostCpuCount()))


def quietly() -> AbstractContextManager[object]:
    """Within, no other thread calls MPI, so that this one may fork."""
    return cluster().transport.still() if _isRank() and _haveMet() else nullcontext()


def _haveMet() -> bool:
    return cluster.cache_info().currsize > 0


class _Turn:
    """Whose turn it is to run a stream."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @context
    def taken(self) -> Iterator[None]:
        """Within, it is this thread's.

        Raises:
            PlanError: it is another's.
        """
        if not self._lock.acquire(blocking=False):
            raise PlanError(
                f"a stream is under way already, in {_nameOf(self._thread)}: on several ranks streams run one after "
                "the other, since their order must be the same everywhere; run this one before or after it, or inside "
                "of a job"
            )
        try:
            self._thread = threading.current_thread()
            yield
        finally:
            self._thread = None
            self._lock.release()


def _nameOf(thread: threading.Thread | None) -> str:
    return "another thread" if thread is None else f"thread {thread.name!r}"


_turn = _Turn()


@context
def throughout(plan: Plan) -> Iterator[Callable[[], Cluster]]:
    """Around all that the run of a stream is in this process. Of several ranks, each leaves it when the primary does.

    Gives what joins those whom the stream is for.

    Raises:
        PlanError: another thread of this rank runs a stream.
    """
    if not _isOfAll():
        yield _joining()
        return
    with _turn.taken():
        token = _within.set(rankOf() == 0)
        try:
            yield cluster
        except BaseException as error:
            _end(plan, error)
            raise
        else:
            _end(plan, None)
        finally:
            _within.reset(token)


def _end(plan: Plan, error: BaseException | None) -> None:
    if isinstance(error, WorldError) and not _haveMet():
        return  # they could not, and are not asked again
    with suppress(JobStreamError):  # the ranks don't come together, or go on without this one: that is told elsewhere
        ranks = cluster()
        if error is not None and not ranks.hasTold:
            markShared(error)
        ranks.end(plan, error)
