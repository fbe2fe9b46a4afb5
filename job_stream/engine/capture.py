"""The state of the stream as plain data, and a rank made from it.

What rank 0 has on record is complete and consistent between any two events, since whoever lends keeps a copy and
nothing counts until it is repaid. So nothing has to stop for a capture: what lanes and other ranks hold is open here,
and is simply work again for whoever goes on. Left out is what rank 0 has borrowed itself, since that is lent by
somebody who borrowed it, in the end, from rank 0.

A ``State`` consists of tuples, numbers and texts, and of payloads, which are not touched. The payload ``Span`` refers
to the parts of the source, which whoever goes on has to supply again.
"""

from __future__ import annotations

from typing import NamedTuple

from .backlog import SourceState
from .books import Books
from .filing import Filing
from .ledger import Piece
from .messages import Deliver, Work
from .progress import Progress
from .scopes import STREAM, ScopeState
from .stores import StoreState

__all__ = ["KeeperState", "PieceState", "State", "capture", "restore"]


class PieceState(NamedTuple):
    """An open piece, and what its deaths have taught about it."""

    work: Work
    careful: bool
    deaths: int
    attempts: int


class KeeperState(NamedTuple):
    """The stores of one kind, and the number of the last call that was made on them."""

    processes: bool
    last: int
    stores: tuple[StoreState, ...]


class State(NamedTuple):
    """All that is left to do.

    Args:
        source: how far the initial work has been lent.
        pieces: what waits, and after it what is lent.
        scopes: the stream and all open frames, the outer ones first.
        keepers: the stores.
        deliveries: results that the main thread is not done with, in order.
        results: how many it is done with.
        last_scope: the number of the last scope.
        last_loan: the number of the last loan.
    """

    source: SourceState
    pieces: tuple[PieceState, ...]
    scopes: tuple[ScopeState, ...]
    keepers: tuple[KeeperState, ...]
    deliveries: tuple[Deliver, ...]
    results: int
    last_scope: int
    last_loan: int


def capture(books: Books, filing: Filing, progress: Progress) -> State:
    """The state that the parts of rank 0 are in."""
    family = books.scopes.families()[STREAM]
    scopes = tuple(ScopeState(scope.number, scope.body.number, scope.parent, scope.place, tuple(sorted(scope.active)),
                              scope.key) for scope in family)  # fmt: skip
    numbers = {scope.number for scope in family}
    keepers = tuple(KeeperState(processes, stores.last, stores.capture(numbers, progress.more))
                    for processes, stores in books.stores.items())  # fmt: skip
    return State(books.source.capture(), _pieces(books, numbers), scopes, keepers, filing.outstanding, filing.results,
                 books.scopes.last, books.ledger.last)  # fmt: skip


def _pieces(books: Books, scopes: set[int]) -> tuple[PieceState, ...]:
    return tuple(PieceState(piece.work, piece.careful, piece.deaths, piece.attempts)
                 for piece in books.pieces if piece.work.scope in scopes)  # fmt: skip


def restore(state: State, books: Books, filing: Filing, progress: Progress) -> None:
    """Puts the parts of a new rank 0 into a state."""
    books.scopes.restore(state.scopes, state.last_scope)
    books.source.restore(state.source)
    books.close_source()
    books.ledger.restore(state.last_loan)
    for saved in state.pieces:
        _open(books, saved)
    for keeper in state.keepers:
        for entry, call in books.stores[keeper.processes].restore(keeper.stores, keeper.last):
            progress.restore(entry, call)
    filing.restore(state.deliveries, state.results)
    books.touched.update(scope.number for scope in state.scopes)


def _open(books: Books, saved: PieceState) -> None:
    piece = Piece(saved.work)
    piece.careful, piece.deaths, piece.attempts = saved.careful, saved.deaths, saved.attempts
    books.open(piece.work)
    books.give_back([piece])
