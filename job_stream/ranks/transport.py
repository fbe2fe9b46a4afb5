"""The seam between a rank and the others: messages go out and come in, and ranks are seen to end.

A message is a *head* (bytes that the receiver is given as they are) and a *body* (any number of buffers, which the
receiver gets as one stretch in memory of its own choosing). What every transport promises:

- Nothing blocks. ``send`` starts, ``poll`` moves on what has been started and gives what is complete.
- Messages of one sender come in the order in which they were sent, however large they are.
- A rank that ends is reported once: ``Left`` when its script came to its end, ``Lost`` when it died or was given up.
  What it had sent before, and could still be received, comes first.
- A rank that one has given up is given up by all; it hears so itself, if it can.

A transport is used by one thread at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from ..memory.payload import Buffer

__all__ = ["Left", "Lost", "News", "Peer", "Received", "Room", "Transport"]

class Peer(NamedTuple):
    """What all ranks know about one of them.

    Attributes:
        host: name of its machine.
        cpus: lanes it may use.
        pid: its process.
        memory: bytes of memory that its host has, or that it was granted there.
    """

    host: str
    cpus: int
    pid: int
    memory: int = 0


class Received(NamedTuple):
    """A message; ``body`` is what ``room`` gave for it, now filled, or None where it has no body."""

    rank: int
    head: bytes
    body: Any


class Lost(NamedTuple):
    """A rank died, or was given up; this rank itself: the others have given it up."""

    rank: int


class Left(NamedTuple):
    """The script of a rank has ended: nothing more will come from it."""

    rank: int


News = Received | Lost | Left
Room = Callable[[int], tuple[memoryview, Any]]
"""Called with the size of a body in bytes: writable contiguous memory of that size, and what stands for it."""


class Transport(Protocol):
    """A rank's way to the others.

    Attributes:
        rank: number of this process.
        size: number of ranks when the world began.
        peers: all of them.
        recovers: the others live on when a rank dies.
        expelled: the others have given this rank up and live on without it.
    """

    expelled: bool

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...

    @property
    def peers(self) -> tuple[Peer, ...]: ...

    @property
    def recovers(self) -> bool: ...

    @property
    def busy(self) -> bool:
        """Whether something large is under way, or a rank about to be given up, so that it is worth polling soon."""
        ...

    @property
    def under_way(self) -> dict[int, int]:
        """How many messages are on their way to or from each rank, where there are any."""
        ...

    def send(self, rank: int, head: bytes, buffers: Sequence[Buffer] = (), keep: object = None) -> None:
        """Starts to send a message. What goes to a rank that has ended is dropped.

        Args:
            rank: another rank.
            head: what the receiver is given as it is; best below some 100 KiB.
            buffers: contiguous; must stay as they are until they have been sent.
            keep: is referenced for as long as the buffers are read.
        """
        ...

    def poll(self, room: Room) -> list[News]:
        """Moves on what is under way; what has become complete, in order for each sender."""
        ...

    def give_up(self, rank: int) -> None:
        """Takes a rank for lost without a report: drops what it sent and what is on its way to it.

        The others are told, and do the same.
        """
        ...

    def still(self) -> AbstractContextManager[Any]:
        """Within, other threads wait before they do anything here, so that this one may fork."""
        ...
