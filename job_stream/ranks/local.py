"""The world of one process: nobody to send to, and nothing ever comes."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from ..errors import EngineError
from ..memory.payload import Buffer
from .transport import News, Peer, Room

__all__ = ["LocalTransport"]


class LocalTransport:
    """A transport without others.

    Args:
        cpus: lanes that this process may use.
    """

    rank = 0
    size = 1
    recovers = False
    busy = False
    expelled = False

    def __init__(self, cpus: int) -> None:
        self.peers = (Peer(socket.gethostname(), cpus, os.getpid()),)

    @property
    def under_way(self) -> dict[int, int]:
        return {}

    def send(self, rank: int, head: bytes, buffers: Sequence[Buffer] = (), keep: object = None) -> None:
        raise EngineError(f"rank {rank} is sent a message in a world of one process")

    def poll(self, room: Room) -> list[News]:
        return []

    def give_up(self, rank: int) -> None:
        raise EngineError(f"rank {rank} is given up in a world of one process")

    def still(self) -> AbstractContextManager[Any]:
        return nullcontext()
