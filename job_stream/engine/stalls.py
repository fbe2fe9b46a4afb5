"""A stream that stands still although it is not over: that is a mistake of this engine, and must not be a silent one.

Where nothing has moved on rank 0 for some seconds and no user code runs there, it asks the others whether they stand
still, too. If all say so, each says what it waits for, and asks for work anew. Work in hand that takes hours is no
stall: whoever has some says that it moves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .lane_table import LaneTable
from .ledger import holder_of
from .messages import (
    AllStill,
    Ask,
    Event,
    Heard,
    Nothing,
    Probe,
    Probed,
    Refuse,
    Report,
    Reported,
    Save,
    Send,
    Stalled,
)
from .pauses import Pauses
from .rank_state import RankState
from .victims import Asking

__all__ = ["STALL_S", "Stalls", "story_of"]

STALL_S = 5.0
"""Nothing moves if nothing has happened for so long."""
LONGEST_S = 60.0
"""Where others are at work for long, they are asked less and less often, but so often at least."""
TALK = frozenset((Nothing, Save, Ask, Refuse, Report, Reported, Probe, Probed, AllStill))
"""Events and messages that move no work."""


class Stalls:
    """Finds out whether the stream stands still.

    Args:
        number: of this rank.
        is_at_rest: whether no user code runs here, and none is about to.

    Attributes:
        deadline: when rank 0 wants to look again.
    """

    def __init__(self, number: int, is_at_rest: Callable[[], bool]) -> None:
        self._primary = number == 0
        self._is_at_rest = is_at_rest
        self._moved: float | None = None
        self._round = 0
        self._missing: set[int] = set()
        self._pause = STALL_S
        self.deadline: float | None = None

    def saw(self, event: Event, now: float) -> None:
        """Something happened; most of it is a sign that work moves."""
        if self._moved is not None and (type(event.message) if type(event) is Heard else type(event)) in TALK:
            return
        self._moved = now
        self._pause = STALL_S
        self._missing.clear()

    def is_due(self, now: float) -> bool:
        """Whether to ask the others now; on rank 0 only."""
        if not self._primary or (self.deadline is not None and now < self.deadline):
            return False
        is_still = self._is_still(now)
        self.deadline = now + self._pause if is_still else max((self._moved or 0.0) + STALL_S, now + STALL_S / 5)
        return is_still

    def ask(self, others: Iterable[int]) -> list[Send]:
        """Asks all of them whether they stand still, too."""
        self._round += 1
        self._pause = min(2 * self._pause, LONGEST_S)
        self._missing = set(others)
        return [Send(rank, Probe(self._round)) for rank in sorted(self._missing)]

    def _is_still(self, now: float) -> bool:
        """Whether nothing has moved here for long, and nothing is about to."""
        return self._moved is not None and now - self._moved >= STALL_S and self._is_at_rest()

    def probed(self, probe: Probe, now: float) -> Send:
        """The answer to rank 0."""
        return Send(0, Probed(probe.number, self._is_still(now)))

    def heard(self, rank: int, answer: Probed) -> bool:
        """Whether all ranks have said by now that they stand still."""
        if answer.number != self._round or rank not in self._missing:
            return False
        self._missing.discard(rank)
        if not answer.is_still:
            self._missing.clear()
        return answer.is_still and not self._missing


def story_of(state: RankState, lane_table: LaneTable, asking: Asking, pauses: Pauses) -> Stalled:
    """What a rank waits for, in words."""
    ledger, size = state.ledger, len(state.pieces)
    waiting = sum(map(len, state.waiting))
    parts = [f"{size} pieces are open, of which {waiting} wait here and {lane_table.held} are with workers"]
    parts += [f"{_pieces(state, rank)} are with rank {rank}" for rank in sorted(ledger.debtors)]
    lenders = sorted({scope.debt.lender for scope in state.scopes.owing() if scope.debt is not None})
    parts += [f"owes rank {rank}" for rank in lenders]
    parts += [f"{sum(map(len, state.stores.values()))} calls of the keeper are open"]
    parts += ["pauses for rank 0"] if pauses.paused else []
    parts += [f"has asked rank {asking.asked}"] if asking.asked is not None else []
    parts += [f"waits at ranks {', '.join(map(str, sorted(asking.waiting_at)))}"] if asking.waiting_at else []
    return Stalled("; ".join(parts))


def _pieces(state: RankState, rank: int) -> int:
    return sum(len(loan.units) for _, loan in state.ledger.of(holder_of(rank)))
