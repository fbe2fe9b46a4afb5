"""What the command line refuses to do."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import JobStreamError
from ..ground.suggestions import did_you_mean

__all__ = ["LauncherError", "not_known", "shorten"]


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


def not_known(word: str, known: Iterable[str]) -> str:
    """The end of a message about a word that is not known: what it may have been meant to be, and all that is known."""
    known = list(known)
    return f"{did_you_mean(word, known) if word not in known else ''} (known: {', '.join(known)})"
