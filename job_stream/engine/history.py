"""What a rank was told last, and what it decided: the story that an error of the engine is told with.

Events and actions are not kept as they are, since they hold payloads: 64 of these may be gigabytes of somebody's
memory, and objects that a script expects to be gone. So of each event its numbers are kept, and of its actions their
kinds. That is done for every event there is, hence without a call of a function written in Python, but for messages of
other ranks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from operator import itemgetter
from typing import Any

from ..errors import EngineError
from .messages import (
    Action,
    Answered,
    Event,
    Heard,
    KeeperLost,
    LaneForked,
    LaneLost,
    Lend,
    Nothing,
    RankLost,
    Repaid,
    ResultsTaken,
    Returned,
    Save,
    SourceGave,
)

__all__ = ["History"]

KEPT = 64
LINE_CHARACTERS = 200

_whole = itemgetter(slice(None))
_lent = itemgetter(0, 1)
_repaid = itemgetter(0, 1, 2, 4, 5)


def _heard(event: Heard) -> tuple[Any, ...]:
    rank, message = event
    kind = type(message)
    head = _repaid if kind is Repaid else _lent if kind is Lend else _whole
    return rank, kind.__name__, head(message)


HEADS: dict[type, Callable[[Any], Any]] = {
    SourceGave: itemgetter(1), Repaid: _repaid, Returned: _whole, LaneForked: _whole, LaneLost: _whole,
    Answered: itemgetter(0, 3), KeeperLost: _whole, ResultsTaken: _whole, Save: _whole, Nothing: _whole,
    Heard: _heard, RankLost: _whole,
}  # fmt: skip
"""What is kept of an event: all of it that is no payload."""


class History:
    """The last events of a rank.

    Attributes:
        last: of each its time, its kind, what is in it, and the kinds of actions it led to; the oldest first.
    """

    def __init__(self) -> None:
        self.last: deque[tuple[float, type, Any, tuple[type, ...]]] = deque(maxlen=KEPT)

    def mistake(self, rank: int, event: Event, actions: Iterable[Action], now: float, error: Exception) -> EngineError:
        """The error that says what went wrong with an event, and what came before it."""
        what = str(error) if isinstance(error, EngineError) else f"{type(error).__name__}: {error}"
        head = HEADS[type(event)](event) if type(event) in HEADS else ""
        story = [*self.last, (now, type(event), head, tuple(map(type, actions)))]
        return EngineError("\n".join([what, f"What rank {rank} was told last, and what it did:", *map(_line, story)]))


def _line(told: tuple[float, type, Any, tuple[type, ...]]) -> str:
    time, event, head, actions = told
    done = ", ".join(action.__name__ for action in actions) or "nothing"
    fields = head if isinstance(head, tuple) else (head,)
    text = f"  {time:.4f} {event.__name__} {', '.join(map(str, fields))}"
    return f"{text[:LINE_CHARACTERS]} -> {done[:LINE_CHARACTERS]}"
