"""What is under way between two ranks through MPI.

Each large message holds a fragment of MPI's shared memory until the other rank takes it up. One that is stopped would
use up all fragments and silence this rank for all the others. So only some are given to MPI at once, and the others
wait, in their order.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from ..memory.payload import Buffer
from .base import Channel

if TYPE_CHECKING:
    from mpi4py import MPI

__all__ = ["BODY", "HEAD", "Arriving", "MpiChannel", "Sending"]

HEAD, BODY = 1, 2
"""The tags."""

EAGER_BYTES = 2 << 10
"""MPI copies messages up to this size at once, so their number is not limited."""
SENDS_AT_ONCE = 16
"""Larger messages under way to one rank. Open MPI has 512 fragments of 32 KiB for all the ranks of a host."""


class Sending:
    """What must not be touched or freed before MPI has sent it; without a request, MPI has not been given it yet."""

    __slots__ = ("data", "keep", "request", "tag")

    def __init__(self, tag: int, data: Buffer, keep: object) -> None:
        self.tag = tag
        self.data = data
        self.keep = keep
        self.request: Any = None

    @property
    def limited(self) -> bool:
        return len(self.data) > EAGER_BYTES


class Arriving:
    """A message whose head is here; ``requests`` are the pieces of its body that may not be."""

    __slots__ = ("head", "kind", "requests", "token")

    def __init__(self, kind: int, head: bytes, token: Any, requests: deque[MPI.Request]) -> None:
        self.kind = kind
        self.head = head
        self.token = token
        self.requests = requests


class MpiChannel(Channel):
    """What is under way between this rank and another.

    Attributes:
        waiting: what MPI has not been given yet.
        sending: what it has been given; ``limited`` of them count.
        heads: those that are being received.
        arriving: messages whose head is here, but perhaps not their body.
    """

    __slots__ = ("arriving", "heads", "limited", "sending", "waiting")

    def __init__(self, rank: int) -> None:
        super().__init__(rank)
        self.waiting: deque[Sending] = deque()
        self.sending: deque[Sending] = deque()
        self.limited = 0
        self.heads: deque[tuple[bytearray, MPI.Request]] = deque()
        self.arriving: deque[Arriving] = deque()

    @property
    def count(self) -> int:
        return len(self.sending) + len(self.waiting) + len(self.heads) + len(self.arriving)

    @property
    def large(self) -> bool:
        return bool(self.arriving or self.waiting) or any(sending.tag == BODY for sending in self.sending)

    def may_start(self, sending: Sending) -> bool:
        return self.limited < SENDS_AT_ONCE or not sending.limited
