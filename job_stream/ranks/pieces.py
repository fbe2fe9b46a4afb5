"""A body as what MPI sends at once: large buffers cut up, small neighbours joined."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..memory.payload import Buffer

__all__ = ["cut_up"]

JOIN_BYTES = 64 << 10
"""Buffers below this size are copied together, since a piece costs more than the copy."""


def cut_up(views: Sequence[memoryview], limit: int) -> Iterator[Buffer]:
    """The pieces of a body, none of them larger than ``limit`` bytes; what isn't joined isn't copied."""
    small: list[memoryview] = []
    for view in views:
        if len(view) < JOIN_BYTES:
            if sum(map(len, small)) + len(view) > min(limit, 16 * JOIN_BYTES):
                yield from _cut(small, limit)
                small = []
            small.append(view)
            continue
        yield from _cut(small, limit)
        small = []
        yield from _cut([view], limit)
    yield from _cut(small, limit)


def _cut(views: Sequence[memoryview], limit: int) -> Iterator[Buffer]:
    if not views:
        return
    whole = memoryview(b"".join(views)) if len(views) > 1 else views[0]
    for begin in range(0, len(whole), limit):
        yield whole[begin : begin + limit]
