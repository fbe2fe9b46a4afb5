"""What becomes of the results of a run. It has a module of its own since all streams ask, also without checkpoints."""

from __future__ import annotations

from enum import Enum

__all__ = ["Results"]


class Results(Enum):
    """What becomes of the results of a run, which its journal has to note."""

    KEPT = "keep"
    """The run keeps them, for its end."""

    HANDLED = "call"
    """A function of the script gets each."""

    DROPPED = ""
    """Nobody wants them."""
