"""How many bytes values hold, as far as that is cheap to know, and what that says about how many may lie in a lane.

Batches and slices are bounded by the time of the user's code. That bounds what is new in memory as well, since memory
takes time to be touched; but not values whose pages nobody has touched yet, views of what is there already, or one
large object that is given again and again. These become large only when they are packed. So values are weighed, too:

- Once for each batch: what it gave, and what was taken of a Multiple for it. Where these are many, some of them are
  looked at that lie far from each other; and where the first and the last one are plain numbers, none. The next batch
  is so small that it weighs no more than a lane may gather (``Pace.weighed``).
- What a value takes when it is packed is known when the first ones have been. So objects of any kind are bounded by
  their number from then on (``Gathered.learn``); before, a few of them are handed over.
- Whatever is new has grown the process, touched or not. That is looked at before a batch becomes larger than the one
  before, and when many values have come (``Gathered.growth``). So one large object among many small ones, or inside of
  one that nobody can look into, is noticed by the time that its batch is done, and there are few with it.

What is left is a batch of many values that suddenly all are large, and take no time to make: that one goes wrong once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from ..ground.footprint import Footprint
from ..values import Args, Pair, Sent, bytes_of

__all__ = ["GATHER_BYTES", "LIGHT", "Gathered", "gather_limit", "weigh"]

GATHER_BYTES = 8 << 20
"""So much gathers in a lane at most before it is handed over: enough for the journey not to count."""
FIRST = 16
"""So many values gather at most while it is not known what they take."""
SAMPLE = 8
MANY = 512
"""So many values take so long that a look at the process does not count."""

LIGHT = frozenset((bool, complex, float, int, type(None)))
"""The kinds of values that are not looked at any closer."""
_TEXTS = (bytes, bytearray, str)
_ROWS = (list, tuple, set, frozenset)


def weigh(values: Sequence[Any]) -> int:
    """About how many bytes values hold; 0 where that is not known."""
    count = len(values)
    if count <= SAMPLE:
        return sum(_size(value) for value in values if type(value) not in LIGHT)
    step = count // SAMPLE
    return step * sum(_size(value) for value in values[::step] if type(value) not in LIGHT)


def _size(value: Any) -> int:
    """The size of a value; its parts are looked at, but not theirs."""
    kind = type(value)
    if kind in _TEXTS:
        return len(value)
    if kind is Pair or kind is Sent:
        return _size(value[1])
    if kind in _ROWS:
        return _size_of_parts(value, len(value))
    if kind is dict:
        return _size_of_parts(value.values(), len(value))
    if kind is Args:
        return _size_of_parts((*value.args, *value.kwargs.values()), SAMPLE)
    if hasattr(kind, "nbytes"):
        return bytes_of(value)
    try:
        attributes = object.__getattribute__(value, "__dict__")
    except Exception:
        return 0
    return _size_of_parts(attributes.values(), len(attributes))


def _size_of_parts(parts: Iterable[Any], count: int) -> int:
    try:
        size = sum(len(part) if type(part) in _TEXTS else bytes_of(part) for part in islice(parts, SAMPLE))
    except RuntimeError:  # another thread has changed it meanwhile
        return 0
    return 8 * count + (size if count <= SAMPLE else size * count // SAMPLE)


def gather_limit(memory: int, lanes: int) -> int:
    """So many bytes gather in each of so many lanes of a rank that may take so much memory (0: nobody has said it)."""
    return max(min(GATHER_BYTES, memory // (4 * max(lanes, 1))), 1) if memory else GATHER_BYTES


class Gathered:
    """What lies in a lane for the way home.

    Args:
        places: how many there are.

    Attributes:
        limit: so many bytes may.
        is_full: whether there are more, and it is time to hand them over.
        rooms: so many values may, by the place at which they wait.
    """

    def __init__(self, places: int) -> None:
        self.limit = GATHER_BYTES
        self.is_full = False
        self.rooms = [FIRST] * places
        self._nbytes = 0
        self._footprint = Footprint()
        self._cleared_at = self._seen_at = 0
        self._unseen = 0

    def is_look_due(self, count: int) -> bool:
        """So many values have come: whether there are many that the process may have grown with."""
        self._unseen += count
        return self._unseen >= MANY

    def growth(self) -> int:
        """By so many bytes the process has grown since this was asked last; what may lie here has grown as well."""
        now, before = self._footprint.bytes(), self._seen_at
        self._seen_at, self._unseen = now, 0
        if not before:
            self._cleared_at = now
            return 0
        if now - self._cleared_at > self.limit:
            self.is_full = True
        return now - before

    def add(self, nbytes: int) -> None:
        """So many bytes more do."""
        self._nbytes += nbytes
        if self._nbytes > self.limit:
            self.is_full = True

    def learn(self, place: int, count: int, nbytes: int) -> None:
        """So many values at a place took so many bytes when they were packed."""
        self.rooms[place] = max(self.limit * count // max(nbytes, 1), 1)

    def clear(self) -> None:
        """All has been handed over."""
        self._nbytes = 0
        self.is_full = False
        self._cleared_at = self._seen_at = self._footprint.bytes()
