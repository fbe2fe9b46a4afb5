"""Names in messages: what is known, and what was probably meant."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = ["listed", "meant"]


def listed(names: Iterable[Any]) -> str:
    """The names, in quotes and with commas."""
    return ", ".join(repr(name) for name in names)


def meant(name: Any, known: Iterable[str]) -> str:
    """A question whether the nearest of the known names was meant; nothing where none is near."""
    from difflib import get_close_matches  # slow to load, and only needed when something is wrong

    near = get_close_matches(str(name), list(known), 1)
    return f"; did you mean {near[0]!r}?" if near else ""
