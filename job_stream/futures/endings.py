"""What came of a call, on its way back: each outcome travels as a plain tuple that begins with its number."""

from __future__ import annotations

import pickle
from typing import Any, NamedTuple

from ..errors import StageError
from ..memory.exceptions import set_cause, unpack_error

__all__ = ["BROKEN", "DONE", "RAISED", "UNREAD", "Broken", "Done", "Outcome", "Raised", "Unread", "outcome_of"]

DONE, RAISED, BROKEN, UNREAD = range(4)


class Done(NamedTuple):
    """The function has returned; ``frames`` are those of its answer."""

    frames: tuple[Any, ...]

    def value(self) -> Any:
        """What it returned."""
        return pickle.loads(self.frames[0], buffers=self.frames[1:])


class Raised(NamedTuple):
    """The function has raised, or could not be called."""

    stage: str
    item: str
    traceback: str
    pid: int
    host: str
    rank: int | None
    exception: bytes

    def error(self) -> BaseException:
        """The exception, with what is known about it as its cause; or only that."""
        story = StageError(self.stage, self.item, self.traceback, self.pid, self.host, self.rank)
        error = unpack_error(self.exception)
        if error is None or isinstance(error, (SystemExit, KeyboardInterrupt)):
            return story  # must not end the script as if it had come from there
        if error.__cause__ is not None:
            story.__cause__ = error.__cause__
        set_cause(error, story)
        return error


class Broken(NamedTuple):
    """The initializer has raised."""

    raised: Raised


class Unread(NamedTuple):
    """A volume could not be opened; nothing has been called."""


Outcome = Done | Raised | Broken | Unread
_KINDS: tuple[Any, ...] = (Done, Raised, Broken, Unread)


def outcome_of(told: tuple[Any, ...]) -> Outcome:
    """An outcome as it came."""
    kind, *parts = told
    if kind == BROKEN:
        return Broken(Raised(*parts[0]))
    outcome: Outcome = _KINDS[kind](*parts)
    return outcome
