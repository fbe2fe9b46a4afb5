"""Names in messages: what is known, and what was probably meant."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = ["did_you_mean", "listed", "nearest"]

SHORT = 80
"""Characters of a name that is shown."""
MOST_NAMES = 12


def listed(names: Iterable[Any]) -> str:
    """The names, in quotes and with commas; each of them, and all together, of a bearable length."""
    names = list(names)
    more = f" and {len(names) - MOST_NAMES:,} more" if len(names) > MOST_NAMES else ""
    return ", ".join(f"{name!r:.{SHORT}}" for name in names[:MOST_NAMES]) + more


def did_you_mean(name: Any, known: Iterable[str]) -> str:
    """A question whether the nearest of the known names was meant; nothing where none is near."""
    near = nearest(name, known)
    return f"; did you mean {near!r}?" if near is not None else ""


def nearest(name: Any, known: Iterable[str]) -> str | None:
    """The known name that was probably meant; None: none is near."""
    from difflib import get_close_matches  # slow to load, and only needed when something is wrong

    near = get_close_matches(str(name)[:SHORT], [each for each in known if len(each) <= SHORT], 1)
    return near[0] if near else None
