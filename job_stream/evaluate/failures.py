"""What happens when user code raises: retry, skip, or stop the run.

A failure leaves as one of two exceptions. ``ItemSkipped`` stays inside the evaluator, which records it and goes on;
``StageFailed`` leaves the evaluator and ends the run.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from time import monotonic_ns
from typing import Any, NamedTuple

from ..errors import (
    EngineError,
    JobStreamError,
    LaneDied,
    LimitError,
    PayloadError,
    PlanError,
    StageTimeout,
)
from ..ground.limits import explained
from ..ground.texts import said, shorten, story, told
from ..memory.payload import pack, unpack
from ..memory.words import NOTE_STARTED, Words
from ..stream.plan import Place
from ..values import Failure
from .calls import bare
from .turn import Turn

__all__ = [
    "Failures",
    "ItemSkipped",
    "StageFailed",
    "Unreadable",
    "UserFailure",
    "cannot_be_read",
    "cannot_travel",
    "describe",
    "failure_of",
    "given_up",
    "has_not_run",
    "ours",
]  # fmt: skip


class UserFailure(NamedTuple):
    """User code failed in a lane or keeper; ``exception`` is the packed exception, or nothing; from a thread, the
    exception itself."""

    stage: str
    item: str
    traceback: str
    pid: int
    host: str
    exception: bytes | BaseException


class Unreadable:
    """Stands for an item in messages."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


class _Failure(Exception):
    def __init__(self, stage: str, item: Any, attempts: int, error: BaseException, number: int) -> None:
        super().__init__(stage)
        self.stage = stage
        self.item = bare(item)
        self.attempts = attempts
        self.error = error
        self.number = number
        self.scope = 0


class StageFailed(_Failure):
    """User code failed and the run must stop."""


class ItemSkipped(_Failure):
    """User code failed and the item is to be skipped."""


class Failures:
    """Applies the policy of a place to its failures, and keeps what was skipped.

    Args:
        note: where the start of a call with a time limit is written down.
        turn: is left while user code runs.

    Attributes:
        scope: of the work that is being done; the lane keeps it up to date.
        attempts: how many it took when ``again`` was successful last.
    """

    def __init__(self, note: Words, turn: Turn) -> None:
        self.skipped: list[ItemSkipped] = []
        self.scope = 0
        self.attempts = 1
        self._note = note
        self._turn = turn

    def call(self, place: Place, part: str, item: Any, function: Callable[..., Any], *arguments: Any) -> Any:
        """``function(*arguments)`` under the policy of the place; ``part`` names store or emit."""
        turn = self._turn
        turn.is_away = True
        try:
            return self.timed(function, *arguments) if place.time_limited else function(*arguments)
        except BaseException as error:
            failed = error
        finally:
            turn.is_away = False
            if turn.is_claimed:
                turn.wait()
        return self.again(place, item, failed, lambda: function(*arguments), part)

    def timed(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Calls with the start written down, for the one who enforces the limit."""
        self._note[NOTE_STARTED] = monotonic_ns()
        try:
            return function(*arguments)
        finally:
            self._note[NOTE_STARTED] = 0

    def alive(self) -> None:
        """The call under way has its whole time from now on, if it has a limit."""
        if self._note[NOTE_STARTED]:
            self._note[NOTE_STARTED] = monotonic_ns()

    def again(
        self,
        place: Place,
        item: Any,
        error: BaseException,
        retry: Callable[[], Any] | None,
        part: str = "",
        attempts: int = 1,
    ) -> Any:
        """What a retry gives; ``attempts`` have been made. If none succeeds, and the policy is to pass that on, a
        ``Failure``.

        Raises:
            Skipped: no retry succeeded, and the policy is to skip.
            Failed: no retry succeeded, and the policy is to stop.
        """
        while retry is not None and attempts <= place.policy.retries:
            attempts += 1
            self.attempts = attempts
            self._turn.is_away = True
            try:
                return self.timed(retry) if place.time_limited else retry()
            except BaseException as latest:
                error = latest
            finally:
                self._turn.is_away = False
                if self._turn.is_claimed:
                    self._turn.wait()
        stage = f"{place.name} ({part})" if part else place.name
        if place.policy.passes and isinstance(error, Exception):
            return Failure(bare(item), stage, attempts, describe(error), _portable(error))
        raise (ItemSkipped if place.policy.skip else StageFailed)(stage, item, attempts, error, place.number) from error

    def record(self, skipped: ItemSkipped) -> None:
        skipped.scope = self.scope
        self.skipped.append(skipped)

    def drain(self) -> list[ItemSkipped]:
        """What was skipped since the last call."""
        skipped, self.skipped = self.skipped, []
        return skipped


def _portable(error: Exception) -> Exception:
    """The exception, or one with its text where it would not arrive in another process."""
    try:
        if type(unpack(pack(error).frames)) is type(error):
            return error
    except Exception:
        pass
    return JobStreamError(told(error))


def given_up(place: Place, item: Any, cause: str, attempts: int, timed: bool) -> Failure:
    """What goes on in the place of an item that has ended its worker."""
    kind = StageTimeout if timed else LaneDied
    error = kind(place.name, shorten(item), f"{kind.__name__}: {cause}", host=socket.gethostname())
    return Failure(item, place.name, attempts, cause, error)


def describe(error: BaseException) -> str:
    """The traceback of an exception as text of bounded length, from the user's code on."""

    def ours(name: str) -> bool:
        return name.startswith(__name__.rpartition(".")[0])

    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None and ours(trace.tb_frame.f_globals.get("__name__", "")):
        trace = trace.tb_next
    return story(error, trace) + _way_out(error)


def _way_out(error: BaseException) -> str:
    """What to do about an object that was made in another thread."""
    if type(error).__module__ != "sqlite3" or "thread" not in said(error):
        return ""
    return ("This ran in a thread of job_stream's. Open the connection in the function or generator that uses it, or "
            "with sqlite3.connect(..., check_same_thread=False)\n")  # fmt: skip


def ours(where: str, error: Exception) -> StageFailed:
    """A mistake of job_stream itself, or a limit that it has met: it must end the run rather than be tried again."""
    mistake = explained(error, f"{where} cannot go on")
    if not isinstance(mistake, (LimitError, PayloadError)):
        mistake = EngineError(f"job_stream made a mistake in {where}: {told(error)}")
        mistake.__cause__ = error
    return StageFailed(f"job_stream, {where}", "<none>", 1, mistake, 0)


def cannot_travel(stage: str, what: str, error: Exception, number: int) -> StageFailed:
    """What came of a stage cannot be packed."""
    failed = StageFailed(stage, Unreadable(f"<its {what}>"), 1, error, number)
    failed.__cause__ = error
    return failed


def has_not_run(stage: str, value: Any, number: int) -> StageFailed:
    """What a stage gave, which nobody takes, is a generator or a coroutine: nothing of it has been done."""
    error = PlanError(f"stage {stage!r} gave a {type(value).__name__}, which nobody takes, so nothing in it ever runs: "
                      "return Multiple(...) of a generator, and call asyncio.run(...) with a coroutine")  # fmt: skip
    return StageFailed(stage, Unreadable("<its output>"), 1, error, number)


def cannot_be_read(place: Place, count: int, error: Exception) -> StageFailed:
    """What a stage was to be given cannot be unpickled."""
    items = f"{count} items" if count > 1 else "an item"
    return StageFailed(place.name, Unreadable(f"<{items} that could not be unpickled>"), 1, error, place.number)


def failure_of(failed: StageFailed, pack_error: Callable[[BaseException], bytes | BaseException]) -> UserFailure:
    """A failure as a message: the exception itself, made fit for its way, and what is known about it as text."""
    return UserFailure(failed.stage, shorten(failed.item), describe(failed.error), os.getpid(), socket.gethostname(),
                       pack_error(failed.error))  # fmt: skip
