"""What waits to be lent: suspects, pieces under way, and what the source still holds.

Pieces under way come before the source, the newest first (depth first), so that little waits at any moment. Suspects,
pieces that may have killed a lane, come before everything, one at a time.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import NamedTuple

from .ledger import Piece
from .messages import COUNTED, SourceSlice, WorkBatch
from .parcels import Costs
from .scopes import STREAM

__all__ = ["Backlog", "Part", "Source", "SourceState", "cut", "is_counted"]


MANY_LANES = 16
"""Where there are more, a parcel holds more pieces than a share of them, if each is small."""


def is_counted(work: WorkBatch) -> bool:
    """Whether the engine can cut the work, since it knows what its payload stands for."""
    return type(work.payload) in COUNTED and not (work.inner or work.resume)


def cut(work: WorkBatch, count: int) -> tuple[WorkBatch, WorkBatch]:
    """The first ``count`` items of counted work, and the others."""
    base, payload, step = work.base, work.payload, getattr(work.payload, "step", 1)
    begin = payload.start + work.skip * step
    first = work._replace(count=count, skip=0, payload=payload._replace(start=begin, stop=begin + count * step))
    end = begin + work.count * step
    later = None if base is None else base + work.skip + count
    rest = work._replace(count=work.count - count, skip=0, base=later,
                         payload=payload._replace(start=begin + count * step, stop=end))  # fmt: skip
    return first._replace(base=None if base is None else base + work.skip), rest


class Part(NamedTuple):
    """A part of the source: so many elements that every lane has, or (None) an iterator to be pulled.

    ``item_bytes``: what an element takes on its way to another rank, roughly. ``counted``: the elements are numbers of
    a range, so that any number of them travel as a ``RangeSlice``.
    """

    length: int | None
    item_bytes: int = 0
    counted: bool = False


class SourceState(NamedTuple):
    """How far the source has been lent, as plain data.

    The next item is number ``next`` of part ``part``; if that is an iterator, so many of its items have been pulled.
    ``position`` items were given in all; of these, ``pulled`` wait still.
    """

    part: int
    next: int
    position: int
    pulled: tuple[WorkBatch, ...]


class Source:
    """The initial work: its parts in order, and how far it has been lent.

    Pieces that were pulled wait here rather than on the stack, since work under way goes first.
    """

    def __init__(self, parts: tuple[Part, ...]) -> None:
        self._parts = parts
        self._part = 0
        self._next = 0
        self._position = 0
        self._pulled: deque[Piece] = deque()
        self._pulled_items = self._pulled_bytes = 0
        self.pulling = False
        self._skip_empty()

    def _skip_empty(self) -> None:
        while self._part < len(self._parts) and self._parts[self._part].length == self._next:
            self._part, self._next = self._part + 1, 0

    @property
    def exhausted(self) -> bool:
        """Whether everything has been lent."""
        return self._part == len(self._parts) and not self._pulled

    @property
    def left(self) -> int | None:
        """How many items are left; None: nobody knows."""
        left = self._pulled_items
        for number, part in enumerate(self._parts[self._part :]):
            if part.length is None:
                return None
            left += part.length - (self._next if number == 0 else 0)
        return left

    @property
    def item_bytes(self) -> int:
        """Of the current part."""
        return self._parts[self._part].item_bytes if self._part < len(self._parts) else 0

    @property
    def counted(self) -> bool:
        """Whether other ranks can cut what they are lent now."""
        return not self._pulled and self._part < len(self._parts) and self._parts[self._part].counted

    @property
    def wants_pull(self) -> bool:
        """Whether the current part is an iterator that nobody is pulling."""
        return not self.pulling and self._part < len(self._parts) and self._parts[self._part].length is None

    @property
    def pulled(self) -> bool:
        """Whether items come from an iterator now."""
        return bool(self._pulled) or (self._part < len(self._parts) and self._parts[self._part].length is None)

    @property
    def waiting(self) -> int:
        """How many pieces have been pulled and not lent."""
        return len(self._pulled)

    @property
    def waiting_bytes(self) -> int:
        """What they take."""
        return self._pulled_bytes

    @property
    def at_hand(self) -> int:
        """How many items could be lent at once."""
        length = self._parts[self._part].length if self._part < len(self._parts) else None
        return self._pulled_items + (length - self._next if length is not None else 0)

    @property
    def ready(self) -> bool:
        """Whether there is something to lend at once."""
        return bool(self._pulled) or (self._part < len(self._parts) and self._parts[self._part].length is not None)

    def gave(self, chunks: tuple[tuple[int, object], ...], done: bool) -> None:
        """Takes in what was pulled."""
        self.pulling = False
        for count, payload in chunks:
            self._keep(WorkBatch(STREAM, 0, count, payload, self._position))
            self._position += count
            self._next += count
        if done:
            self._part, self._next = self._part + 1, 0
            self._skip_empty()

    def _keep(self, work: WorkBatch) -> None:
        self._pulled.append(Piece(work))
        self._pulled_items += work.count
        self._pulled_bytes += work.payload.nbytes

    def take(self, items: int) -> Piece:
        """The next piece, of at most ``items`` items where they can be counted out."""
        if self._pulled:
            piece = self._pulled.popleft()
            self._pulled_items -= piece.work.count
            self._pulled_bytes -= piece.work.payload.nbytes
            return piece
        length = self._parts[self._part].length
        assert length is not None
        stop = min(self._next + items, length)
        work = WorkBatch(STREAM, 0, stop - self._next, SourceSlice(self._part, self._next, stop), self._position)
        self._position += work.count
        self._next = stop
        self._skip_empty()
        return Piece(work)

    def capture(self) -> SourceState:
        return SourceState(self._part, self._next, self._position, tuple(piece.work for piece in self._pulled))

    def restore(self, state: SourceState) -> None:
        """Goes on where ``capture`` was; the items that an iterator has given already will not be given again."""
        self._part, self._next, self._position, pulled = state
        for work in pulled:
            self._keep(work)


def _is_wide(piece: Piece) -> bool:
    return piece.work.count > 1 and is_counted(piece.work)


def _bytes_of(piece: Piece) -> int:
    return getattr(piece.work.payload, "nbytes", 0)


class Backlog:
    """What waits for lanes of one kind.

    Attributes:
        nbytes: what the values of it hold, but for suspects.
    """

    def __init__(self, costs: Costs) -> None:
        self.nbytes = 0
        self._costs = costs
        self._suspects: deque[Piece] = deque()
        self._stack: deque[Piece] = deque()
        self._items: Counter[int] = Counter()

    def __len__(self) -> int:
        return len(self._suspects) + len(self._stack)

    @property
    def wide(self) -> Piece | None:
        """The piece that comes next, if it is one of many items that can be cut."""
        return self._stack[-1] if not self._suspects and self._stack and _is_wide(self._stack[-1]) else None

    def pop(self) -> Piece:
        """The newest piece."""
        return self._gone(self._stack.pop())

    def _gone(self, piece: Piece) -> Piece:
        self._items[piece.work.place] -= piece.work.count
        self.nbytes -= _bytes_of(piece)
        return piece

    def replace(self, piece: Piece, other: Piece) -> None:
        """Puts a piece in the place of one that waits."""
        index = -1 if self._stack[-1] is piece else self._stack.index(piece)
        self._stack[index] = other
        self._items[piece.work.place] += other.work.count - piece.work.count
        self.nbytes += _bytes_of(other) - _bytes_of(piece)

    def push(self, piece: Piece) -> None:
        if piece.one_by_one:
            self._suspects.append(piece)
            return
        self._stack.append(piece)
        self._items[piece.work.place] += piece.work.count
        self.nbytes += _bytes_of(piece)

    @property
    def oldest(self) -> Piece | None:
        """The piece that another rank would be lent first."""
        return self._stack[0] if self._stack else None

    def share(self) -> Piece:
        """The oldest piece, for another rank."""
        return self._gone(self._stack.popleft())

    def seconds(self, unknown: float) -> float:
        """How much work other ranks could be lent; an item of which nothing is known takes ``unknown``."""
        if not self._stack:
            return 0.0
        return sum(self._costs.estimate(place, 1, unknown) * items for place, items in self._items.items())

    @property
    def pieces(self) -> list[Piece]:
        """All that waits, the oldest first."""
        return [*self._stack, *self._suspects]

    def discard(self, gone: set[int]) -> None:
        """Forgets the pieces of scopes that are gone."""
        self._suspects = deque(piece for piece in self._suspects if piece.work.scope not in gone)
        self._stack, before = deque(), self._stack
        self._items.clear()
        self.nbytes = 0
        for piece in before:
            if piece.work.scope not in gone:
                self.push(piece)

    def take(self, lanes: int) -> list[Piece]:
        """The pieces of the next parcel."""
        if self._suspects:
            return [self._suspects.popleft()]
        most = -(-len(self._stack) // (2 * lanes))
        least = self._costs.least(lanes) if lanes > MANY_LANES else 0.0
        parcel: list[Piece] = []
        seconds = limit = 0.0
        while self._stack and (len(parcel) < most or seconds < least):
            piece = self._stack[-1]
            each = self._costs.most(piece.work.place, piece.work.count)
            limit = limit or self._costs.parcel_seconds(each * len(self._stack), lanes)
            seconds += each
            if parcel and (seconds > limit or _is_wide(piece)):
                break
            parcel.append(self.pop())
        return parcel
