"""What went wrong, in words: in which stage, with which item, on which rank."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import suppress
from typing import Any

from ..engine.messages import COUNTED, Fail, Skip
from ..engine.stalls import STALL_S
from ..errors import JobStreamError, LaneDied, StageError, StageTimeout
from ..evaluate.calls import bare
from ..evaluate.failures import UserFailure, describe
from ..evaluate.packing import unpack_any
from ..ground.texts import cut, link_before, shorten
from ..memory.exceptions import set_cause, unpack_error
from ..ranks.transport import Transport
from ..stream.plan import Kind, Plan
from ..values import Failure
from .source import InitialWork

__all__ = ["Reporter", "RunCancelled", "caused", "mark_shared", "summary", "tell_stalled"]

LINE_CHARACTERS = 500


class RunCancelled(JobStreamError):
    """Ends a run that was cancelled, on all ranks; ``run()`` returns where it comes."""


def summary(failures: list[Failure]) -> str:
    """A line about the items that were skipped."""
    first, count = failures[0], len(failures)
    items = "1 item was skipped" if count == 1 else f"{count} items were skipped"
    reason = cut(first.reason.strip().rpartition("\n")[2], LINE_CHARACTERS)
    return f"job_stream: {items}; the first: stage {first.stage!r}, item {shorten(first.item)}: {reason}"


def caused(error: BaseException, stage: str, item: str, text: str, rank: int | None = None) -> BaseException:
    """An exception of this process, with what is known about it as its cause."""
    return _told(error, StageError(stage, item, text, os.getpid(), socket.gethostname(), rank))


def _told(error: BaseException, story: StageError) -> BaseException:
    """An exception that has its story as its cause; what was its cause is that of the story now."""
    if error.__cause__ is not None:
        story.__cause__ = error.__cause__
    else:
        story.__context__, story.__suppress_context__ = link_before(error), True
    set_cause(error, story)
    return error


def mark_shared(error: BaseException) -> None:
    """All ranks raise this exception, so only the primary has to print it."""
    with suppress(Exception):
        error._job_stream_shared = True  # type: ignore[attr-defined]


def tell_stalled(story: str, transport: Transport | None) -> None:
    """Tells the user that a stream stands still, and what this rank waits for.

    Args:
        story: what the engine waits for.
        transport: the way to other ranks; None: there are none.
    """
    who = "" if transport is None else f" rank {transport.rank}:"
    messages = [f"{count} messages from or to rank {rank} are under way"
                for rank, count in sorted(transport.under_way.items())] if transport is not None else []  # fmt: skip
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
        rank: number of this rank; None where there is only one.
    """

    def __init__(self, plan: Plan, source: InitialWork, rank: int | None) -> None:
        self._plan = plan
        self._source = source
        self._rank = rank

    # what user code raised --------------------------------------------------------------------------------------------

    def user_error(self, failure: UserFailure) -> BaseException:
        """The user's exception with what is known about it as its cause; or only that."""
        cause = StageError(failure.stage, failure.item, failure.traceback, failure.pid, failure.host, self._rank)
        error = failure.exception if isinstance(failure.exception, BaseException) else unpack_error(failure.exception)
        if error is None or isinstance(error, (SystemExit, KeyboardInterrupt)):
            return cause  # must not end the script as if it had come from there
        return _told(error.with_traceback(None), cause)

    def source_error(self, error: BaseException) -> BaseException:
        """The exception that an iterator of the initial work raised."""
        return caused(error, "initial work", "<the next one>", describe(error), self._rank)

    # values that cannot travel ----------------------------------------------------------------------------------------

    def unreadable(self, error: Exception) -> BaseException:
        """A result that cannot be unpickled."""
        stages = [place.name for place in self._plan.places if place.kind != Kind.END]
        return caused(error, stages[-1] if stages else "initial work", "<its output>", describe(error), self._rank)

    def unpackable(self, error: Exception, place: int) -> BaseException:
        """Something that waits in front of a stage cannot be pickled."""
        return caused(error, self._plan.places[place].name, "<what it was to be given>", str(error), self._rank)

    def unpackable_source(self, error: Exception) -> BaseException:
        """Something of the initial work cannot be pickled."""
        return caused(error, "initial work", "<some of it>", str(error), self._rank)

    # items that were given up -----------------------------------------------------------------------------------------

    def skipped(self, action: Skip) -> Failure:
        """An item whose stage raised."""
        try:
            (item,) = unpack_any(action.payload)
        except Exception:
            item = "<an item that could not be unpickled>"
        return Failure(item, action.stage, action.attempts, action.reason)

    def given_up(self, action: Fail) -> list[Failure]:
        """Items that cost a worker process each time."""
        name = self._plan.places[action.place].name
        return [Failure(item, name, action.attempts, action.cause) for item in self._items_of(action)]

    def last_straw(self, action: Fail) -> StageError:
        """The same where the run is to end with it."""
        kind = StageTimeout if action.timed else LaneDied
        tries = f" ({action.attempts} times)" if action.attempts > 1 else ""
        text = f"{kind.__name__}: {action.cause}{tries}"
        name, item = self._plan.places[action.place].name, shorten(self._items_of(action)[0])
        return kind(name, item, text, host=socket.gethostname(), rank=self._rank)

    def _items_of(self, action: Fail) -> list[Any]:
        if action.payload is None:
            return ["<no item>"]
        if action.during_unpickling:
            return [f"<{action.count} items of {action.payload.nbytes} bytes that kill whoever unpickles them>"]
        counted = type(action.payload) in COUNTED
        values = self._source.values_of(action.payload) if counted else unpack_any(action.payload)
        items = list(values[action.index : action.index + action.count])
        return [bare(item) for item in items]
