"""Checks that several recipes make of what they are given."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from job_stream.errors import PlanError

__all__ = ["checkWhole", "hint"]


def checkWhole(what: str, value: Any, least: int) -> None:
    """Raises PlanError for what is no whole number, or below ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise PlanError(f"{what} must be a whole number from {least} on, not {value!r:.80}")


def hint(name: str, known: Iterable[str]) -> str:
    """Names what may be meant by an unknown name."""
    near = get_close_matches(name, list(known), 1, 0.4)
    return f"; did you mean {near[0]!r}?" if near else ""
