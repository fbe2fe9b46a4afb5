"""What the command line refuses to do."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from ..errors import JobStreamError

__all__ = ["LauncherError", "nearest"]


class LauncherError(JobStreamError):
    """What was asked for cannot be started; says why, and the way out."""


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of a message about a word that is not known: what it may have been meant to be, and all that is known."""
    known = list(known)
    close = get_close_matches(word, known, 1)
    meant = f"; did you mean {close[0]!r}?" if close and word not in known else ""
    return f"{meant} (known: {', '.join(known)})"
