"""Who owes what: pieces of work and the loans they are in.

1. A piece is in exactly one place: waiting here, or lent in one loan.
2. The lender keeps a lent piece until it is repaid.
3. A repayment is atomic: all of its units are closed and all its products filed, or nothing is.
4. Whatever a borrower holds may be dropped without harm.
5. A repayment for a unit that is not open is ignored.
"""

from __future__ import annotations

from typing import Any

from ..errors import EngineError
from .messages import WorkBatch

__all__ = ["Ledger", "Loan", "Piece", "holder_of"]


class Piece:
    """Work and what its deaths have taught about it."""

    __slots__ = ("attempts", "deaths", "one_by_one", "work")

    def __init__(self, work: WorkBatch) -> None:
        self.work = work
        self.one_by_one = work.one_by_one
        self.deaths = 0
        self.attempts = 0


class Loan:
    """Pieces lent to a lane or to another rank, by unit number."""

    __slots__ = ("computed", "lane", "units")

    def __init__(self, lane: int, units: dict[int, Piece]) -> None:
        self.lane = lane
        self.units = units
        self.computed: set[int] = set()

    @property
    def running(self) -> bool:
        return len(self.computed) < len(self.units)


def holder_of(rank: int) -> int:
    """The number of a rank among the borrowers, and back: lanes have positive ones."""
    return -1 - rank


class Ledger:
    """All loans out."""

    def __init__(self) -> None:
        self._loans: dict[int, Loan] = {}
        self._of: dict[int, dict[int, Loan]] = {}
        self._debtors: set[int] = set()
        self._last_loan = 0

    def lend(self, lane: int, pieces: list[Piece]) -> int:
        """Records a new loan and gives its number."""
        self._last_loan += 1
        self._add(self._last_loan, Loan(lane, dict(enumerate(pieces))))
        return self._last_loan

    def _add(self, number: int, loan: Loan) -> None:
        self._loans[number] = loan
        self._of.setdefault(loan.lane, {})[number] = loan
        if loan.lane < 0:
            self._debtors.add(holder_of(loan.lane))

    def _remove(self, number: int) -> Loan:
        loan = self._loans.pop(number)
        own = self._of[loan.lane]
        del own[number]
        if not own:
            del self._of[loan.lane]
            self._debtors.discard(holder_of(loan.lane))
        return loan

    def of(self, lane: int) -> list[tuple[int, Loan]]:
        """The loans of a lane, oldest first."""
        return list(self._of.get(lane, {}).items())

    @property
    def debtors(self) -> set[int]:
        """The ranks that owe something."""
        return self._debtors

    def payload(self, number: int, name: int) -> Any:
        """The payload of a unit."""
        return self._loans[number].units[name].work.payload

    def scope_of(self, number: int, name: int) -> int:
        """The scope of a unit."""
        return self._loans[number].units[name].work.scope

    @property
    def pieces(self) -> list[Piece]:
        """All that is lent, the oldest loans first."""
        return [piece for loan in self._loans.values() for piece in loan.units.values()]

    @property
    def last(self) -> int:
        """The number of the last loan."""
        return self._last_loan

    def restore(self, last: int) -> None:
        """Goes on with the numbers of loans."""
        self._last_loan = last

    def is_open(self, lane: int, units: tuple[tuple[int, tuple[int, ...]], ...]) -> bool:
        """Whether the lane still owes all these units."""
        for number, names in units:
            loan = self._loans.get(number)
            if loan is None or loan.lane != lane or any(name not in loan.units for name in names):
                return False
        return True

    def close(self, number: int, names: tuple[int, ...]) -> list[Piece]:
        """Takes units out of a loan."""
        loan = self._loans[number]
        pieces = [loan.units.pop(name) for name in names]
        loan.computed.difference_update(names)
        if not loan.units:
            self._remove(number)
        return pieces

    def keep(
        self, lane: int, number: int, kept: tuple[tuple[int, WorkBatch], ...], origin: Piece | None
    ) -> list[Piece]:
        """Adds units that the borrower goes on with; they are as suspect as the one they came from."""
        if number not in self._loans:
            self._add(number, Loan(lane, {}))
        loan = self._loans[number]
        pieces = []
        for name, work in kept:
            if name in loan.units:
                raise EngineError(f"unit {name} of loan {number} is kept twice")
            loan.units[name] = piece = Piece(work)
            if origin is not None:
                piece.one_by_one, piece.deaths = origin.one_by_one, origin.deaths
            pieces.append(piece)
        return pieces

    def compute(self, number: int, names: tuple[int, ...]) -> list[Piece]:
        """Notes which units of a loan have been computed, and are to be closed later; gives their pieces."""
        loan = self._loans[number]
        loan.computed.update(names)
        return [loan.units[name] for name in names]

    def drop(self, number: int) -> Loan:
        return self._remove(number)

    def __len__(self) -> int:
        return len(self._loans)
