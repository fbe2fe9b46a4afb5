"""The state of the stream as plain data, and a rank made from it.

What rank 0 has on record is complete and consistent between any two events, since whoever lends keeps a copy and
nothing counts until it is repaid. So nothing has to stop for a capture: what lanes and other ranks hold is open here,
and is simply work again for whoever goes on. Left out is what rank 0 has borrowed itself, since that is lent by
somebody who borrowed it, in the end, from rank 0.

A ``State`` consists of tuples, numbers and texts, and of payloads, which are not touched. The payload ``SourceSlice``
refers to the parts of the source, which whoever goes on has to supply again.
"""

from __future__ import annotations

from typing import NamedTuple

from .backlog import SourceState
from .completion import Progress
from .ledger import Piece
from .messages import Deliver, WorkBatch
from .rank_state import RankState
from .routing import Router
from .scopes import STREAM, ScopeState
from .stores import StoreState

__all__ = ["KeeperState", "PieceState", "State", "capture", "restore"]


class PieceState(NamedTuple):
    """An open piece, and what its deaths have taught about it."""

    work: WorkBatch
    one_by_one: bool
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


def capture(state: RankState, router: Router, progress: Progress) -> State:
    """The state that the parts of rank 0 are in."""
    family = state.scopes.families()[STREAM]
    scopes = tuple(ScopeState(scope.number, scope.body.number, scope.parent, scope.place, tuple(sorted(scope.active)),
                              scope.key) for scope in family)  # fmt: skip
    numbers = {scope.number for scope in family}
    keepers = tuple(KeeperState(processes, stores.last, stores.capture(numbers, progress.more))
                    for processes, stores in state.stores.items())  # fmt: skip
    return State(state.source.capture(), _pieces(state, numbers), scopes, keepers, router.outstanding, router.results,
                 state.scopes.last, state.ledger.last)  # fmt: skip


def _pieces(state: RankState, scopes: set[int]) -> tuple[PieceState, ...]:
    return tuple(PieceState(piece.work, piece.one_by_one, piece.deaths, piece.attempts)
                 for piece in state.pieces if piece.work.scope in scopes)  # fmt: skip


def restore(captured: State, state: RankState, router: Router, progress: Progress) -> None:
    """Puts the parts of a new rank 0 into a state."""
    state.scopes.restore(captured.scopes, captured.last_scope)
    state.source.restore(captured.source)
    state.close_source()
    state.ledger.restore(captured.last_loan)
    for saved in captured.pieces:
        _open(state, saved)
    held = [store for keeper in captured.keepers for store in keeper.stores]
    for keeper in captured.keepers:  # a stage may have been moved from processes to threads, or back
        own = tuple(store for store in held if state.plan.places[store.place].processes == keeper.processes)
        for entry, call in state.stores[keeper.processes].restore(own, keeper.last):
            progress.restore(entry, call)
    router.restore(captured.deliveries, captured.results)
    state.touched.update(scope.number for scope in captured.scopes)


def _open(state: RankState, saved: PieceState) -> None:
    piece = Piece(saved.work)
    piece.one_by_one, piece.deaths, piece.attempts = saved.one_by_one, saved.deaths, saved.attempts
    state.open(piece.work)
    state.give_back([piece])
