"""What the command line refuses to do."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from ..errors import JobStreamError

__all__ = ["LauncherError", "nearest", "shorten"]


SHORT = 120
"""Characters of something unknown in a message."""


class LauncherError(JobStreamError):
    """What was asked for cannot be started; says why, and the way out."""


def shorten(what: object, quoted: bool = True) -> str:
    """Something from a file of the user's for a message, whatever it is."""
    try:
        text = repr(what) if quoted else str(what)
    except (ValueError, RecursionError):  # a number of too many digits, or too deep a nesting
        text = f"<{type(what).__name__}>"
    return text if len(text) <= SHORT else f"{text[:SHORT]}..."


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of a message about a word that is not known: what it may have been meant to be, and all that is known."""
    known = list(known)
    close = get_close_matches(word[:SHORT], known, 1)
    did_you_mean = f"; did you mean {close[0]!r}?" if close and word not in known else ""
    return f"{did_you_mean} (known: {', '.join(known)})"
