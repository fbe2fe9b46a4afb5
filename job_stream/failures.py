"""What went wrong, in words: in which stage, with which item, on which rank."""

from __future__ import annotations

import os
import pickle
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from .cluster import cluster
from .engine.messages import COUNTED, Fail, Skip
from .engine.stalls import STALL_S
from .errors import JobStreamError, LaneDied, StageError, StageTimeout
from .lanes.calls import bare
from .lanes.failures import describe, shorten
from .lanes.packing import unpackAny
from .plan import Kind, Plan
from .source import InitialWork
from .transports.base import Transport
from .wire import UserFailure
from .world import sizeOf

__all__ = ["Failure", "Reporter", "caused", "markShared", "raisedByAll", "summary", "tellStalled"]


class Failure(NamedTuple):
    """An item that was skipped.

    Attributes:
        item: the value that the stage was given; its ``repr`` where it could not be brought back.
        stage: name of the function that failed.
        attempts: how often it was called.
        reason: the traceback, or the signal or time limit that ended the worker.
    """

    item: Any
    stage: str
    attempts: int
    reason: str


def summary(failures: list[Failure]) -> str:
    """A line about the items that were skipped."""
    first, count = failures[0], len(failures)
    items = "1 item was skipped" if count == 1 else f"{count} items were skipped"
    reason = first.reason.strip().splitlines()[-1] if first.reason.strip() else ""
    return f"job_stream: {items}; the first: stage {first.stage!r}, item {shorten(first.item)}: {reason}"


def caused(error: BaseException, stage: str, item: str, text: str, rank: int | None = None) -> BaseException:
    """An exception of this process, with what is known about it as its cause."""
    error.__cause__ = StageError(stage, item, text, os.getpid(), socket.gethostname(), rank)
    return error


def markShared(error: BaseException) -> None:
    """All ranks raise this exception, so only the primary has to print it."""
    with suppress(Exception):
        error._jobStreamShared = True  # type: ignore[attr-defined]


@contextmanager
def raisedByAll(plan: Plan) -> Iterator[None]:
    """Within, the primary prepares a stream, and the others wait for it: what is raised here is raised there, too."""
    try:
        yield
    except (Exception, SystemExit) as error:
        if sizeOf() > 1:
            _raiseElsewhere(plan, error)
        raise


def _raiseElsewhere(plan: Plan, error: BaseException) -> None:
    with suppress(JobStreamError):  # the ranks don't come together: then that is not what matters here
        ranks = cluster()
        ranks.begin(plan)
        markShared(error)
        ranks.tell(error)


def tellStalled(story: str, transport: Transport | None) -> None:
    """Tells the user that a stream stands still, and what this rank waits for.

    Args:
        story: what the engine waits for.
        transport: the way to other ranks; None: there are none.
    """
    who = "" if transport is None else f" rank {transport.rank}:"
    messages = [f"{count} messages from or to rank {rank} are under way"
                for rank, count in sorted(transport.underWay.items())] if transport is not None else []  # fmt: skip
    if transport is None or transport.rank == 0:
        print(
            f"job_stream: nothing has moved for {STALL_S:g} s although the stream is not over, and no function runs. "
            "This is a mistake of job_stream; please report it, with these lines. The work is asked for again",
            file=sys.stderr,
        )
    print(f"job_stream:{who} {'; '.join([story, *messages])}", file=sys.stderr, flush=True)


class Reporter:
    """Makes failures and exceptions of what is known about them.

    Args:
        plan: the stream.
        source: the initial work.

    Attributes:
        rank: number of this rank; None where there is only one.
    """

    def __init__(self, plan: Plan, source: InitialWork) -> None:
        self._plan = plan
        self._source = source
        self.rank: int | None = None

    # what user code raised --------------------------------------------------------------------------------------------

    def userError(self, failure: UserFailure) -> BaseException:
        """The user's exception with what is known about it as its cause; or only that."""
        cause = StageError(failure.stage, failure.item, failure.traceback, failure.pid, failure.host, self.rank)
        try:
            error = pickle.loads(failure.exception)
        except Exception:
            return cause
        if isinstance(error, (SystemExit, KeyboardInterrupt)) or not isinstance(error, BaseException):
            return cause  # must not end the script as if it had come from there
        error.__cause__ = cause
        return error

    def sourceError(self, error: BaseException) -> BaseException:
        """The exception that an iterator of the initial work raised."""
        return caused(error, "initial work", "<the next one>", describe(error), self.rank)

    # values that cannot travel ----------------------------------------------------------------------------------------

    def unreadable(self, error: Exception) -> BaseException:
        """A result that cannot be unpickled."""
        stages = [place.name for place in self._plan.places if place.kind != Kind.END]
        return caused(error, stages[-1] if stages else "initial work", "<its output>", describe(error), self.rank)

    def unpackable(self, error: Exception, place: int) -> BaseException:
        """Something that waits in front of a stage cannot be pickled."""
        return caused(error, self._plan.places[place].name, "<what it was to be given>", str(error), self.rank)

    def unpackableSource(self, error: Exception) -> BaseException:
        """Something of the initial work cannot be pickled."""
        return caused(error, "initial work", "<some of it>", str(error), self.rank)

    # items that were given up -----------------------------------------------------------------------------------------

    def skipped(self, action: Skip) -> Failure:
        """An item whose stage raised."""
        try:
            (item,) = unpackAny(action.payload)
        except Exception:
            item = "<an item that could not be unpickled>"
        return Failure(item, action.stage, action.attempts, action.reason)

    def givenUp(self, action: Fail) -> list[Failure]:
        """Items that cost a worker process each time."""
        name = self._plan.places[action.place].name
        return [Failure(item, name, action.attempts, action.cause) for item in self._itemsOf(action)]

    def lastStraw(self, action: Fail) -> StageError:
        """The same where the run is to end with it."""
        kind = StageTimeout if action.timed else LaneDied
        tries = f" ({action.attempts} times)" if action.attempts > 1 else ""
        text = f"{kind.__name__}: {action.cause}{tries}"
        name, item = self._plan.places[action.place].name, shorten(self._itemsOf(action)[0])
        return kind(name, item, text, host=socket.gethostname(), rank=self.rank)

    def _itemsOf(self, action: Fail) -> list[Any]:
        if action.payload is None:
            return ["<no item>"]
        if action.opaque:
            return [f"<{action.count} items of {action.payload.nbytes} bytes that kill whoever unpickles them>"]
        counted = type(action.payload) in COUNTED
        values = self._source.valuesOf(action.payload) if counted else unpackAny(action.payload)
        items = list(values[action.index : action.index + action.count])
        return [bare(item) for item in items]
