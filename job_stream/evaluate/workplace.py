"""Where user code finds itself: what it can ask about its worker, and about all of them."""

from __future__ import annotations

from typing import NamedTuple

from .ending import Ending

__all__ = ["Workplace"]


class Workplace(NamedTuple):
    """Of an evaluator."""

    worker: int = 0
    """The number of the lane; 0: none, or the keeper."""

    cpus: int = 1
    """How many lanes this rank has."""

    all_cpus: int = 1
    """How many all ranks have together."""

    ending: Ending | None = None
    """The end of the run, where this process may go on after it."""
