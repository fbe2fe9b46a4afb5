"""A user's exception on its way from the process where it was raised to the one where it is told."""

from __future__ import annotations

import os
import pickle
import sys
from traceback import extract_tb, format_exception
from typing import NamedTuple

__all__ = ["JobTraceback", "Mishap", "mishap_of", "text_of"]

_HERE = os.path.dirname(os.path.abspath(__file__))
_FOREIGN = (os.path.dirname(os.__file__) + os.sep, os.path.join(sys.prefix, "lib"))


class JobTraceback(Exception):
    """The traceback of a job's exception in the process where it was raised, as text; it is its ``__cause__``."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}" if self.args else ""


class Mishap(NamedTuple):
    """An exception that has been raised.

    Attributes:
        pickled: the exception; None where it cannot be pickled.
        line: its class and text in one line.
        traceback: all of it.
        where: file and line, the innermost of the user's own.
    """

    pickled: bytes | None
    line: str
    traceback: str
    where: str

    def exception(self) -> BaseException:
        """The exception itself, or a RuntimeError with its text."""
        error: BaseException | None = None
        if self.pickled is not None:
            try:
                error = pickle.loads(self.pickled)
            except Exception:  # its class may not exist here, or its constructor may want more
                error = None
        if not isinstance(error, BaseException):
            error = RuntimeError(self.line)
        error.__cause__ = JobTraceback(self.traceback, self.where)
        return error


def mishap_of(error: BaseException) -> Mishap:
    """What is left of an exception that was caught."""
    lines = format_exception(type(error), error, error.__traceback__)
    text = text_of(error)
    last = f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__
    return Mishap(_pickled(error), last, "".join(lines), _place(error))


def text_of(error: BaseException) -> str:
    """What an exception says; its class is the user's, and may be unable to."""
    try:
        return str(error).strip()
    except Exception:
        return "(its text cannot be told)"


def _pickled(error: BaseException) -> bytes | None:
    try:
        packed = pickle.dumps(error)
        pickle.loads(packed)
    except Exception:  # whatever a class of the user's does when it is pickled
        return None
    return packed


def _place(error: BaseException) -> str:
    frames = [frame for frame in extract_tb(error.__traceback__) if not frame.filename.startswith(_HERE)]
    own = [frame for frame in frames if not frame.filename.startswith(_FOREIGN)] or frames
    return f"{own[-1].filename}:{own[-1].lineno}" if own else ""
