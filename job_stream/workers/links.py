"""Links: how messages travel between a rank and its children.

A process link is a pair of connected sockets that keep message boundaries, so that one receive takes one whole parcel,
whoever does it: the lane, or the rank that takes an un-begun parcel back. A thread link is a queue with the same
methods.
"""

from __future__ import annotations

import array
import errno
import os
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from threading import Condition
from typing import Any, Protocol

from ..ground.limits import explained, refusal
from ..memory.arena import Arena
from ..memory.codec import INLINE_BYTES, MESSAGE_FDS, Codec
from .protocol import KINDS, FromWorker, ToWorker

__all__ = [
    "Link", "ProcessLink", "ThreadLink", "close_segment", "hang_up", "open_pair", "receive", "receive_all", "send",
    "try_send",
]  # fmt: skip

_BUFFER = 4 * INLINE_BYTES
# as numbers: the flags of the module are slow to combine
_CLOEXEC = int(getattr(socket, "MSG_CMSG_CLOEXEC", 0))  # elsewhere than on Linux there are no links to processes
DONTWAIT = int(socket.MSG_DONTWAIT)
_TRUNCATED = int(socket.MSG_CTRUNC)
_ANCILLARY = socket.CMSG_SPACE((MESSAGE_FDS + 8) * array.array("i").itemsize)


def open_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends.

    Raises:
        LimitError: there can be no more.
    """
    try:
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except OSError as error:
        raise explained(error, "there can be no connection to another process")  # noqa: B904


def send(end: socket.socket, data: bytes, fds: list[int], flags: int = 0) -> None:
    """Sends one message with descriptors."""
    if fds:
        end.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))], flags)
    else:
        end.send(data, flags)


def try_send(end: socket.socket, data: bytes, fds: list[int]) -> bool:
    """Sends without waiting, if there is room."""
    try:
        send(end, data, fds, DONTWAIT)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in (errno.ENOBUFS, errno.ETOOMANYREFS):  # the latter: too many descriptors under way
            return False
        raise
    return True


def hang_up(end: socket.socket) -> None:
    """Ends the connection for all who have this end open: they may be processes that know nothing of it."""
    with suppress(OSError):  # the other end has gone
        end.shutdown(socket.SHUT_RDWR)


def receive(end: socket.socket, flags: int = 0) -> tuple[bytes, list[int]] | None:
    """One message and its descriptors; None when the other end is closed.

    Raises:
        LimitError: this process cannot have so many descriptors; those that did not come are lost.
    """
    data, ancillary, state, _ = end.recvmsg(_BUFFER, _ANCILLARY, flags | _CLOEXEC)
    if not data:
        return None
    fds = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    if state & _TRUNCATED:
        for fd in fds:
            os.close(fd)
        raise refusal(errno.EMFILE, "a message between processes has lost the files that came with it")
    return data, fds.tolist()


def receive_all(end: socket.socket, decode: Callable[[bytes, list[int]], Any]) -> tuple[list[Any], bool]:
    """All messages that have come, and whether the other end is still open. Each is decoded before the next is taken,
    which may have done with its descriptors."""
    messages: list[Any] = []
    try:
        while message := receive(end, DONTWAIT):
            messages.append(decode(*message))
    except BlockingIOError:
        return messages, True
    except ConnectionResetError:  # closed before it had read everything
        pass
    return messages, False


def close_segment(owner: int, number: int, fd: int) -> None:
    """What a reader does with a segment that its owner does not wait for."""
    os.close(fd)


class Link(Protocol):
    """A worker's end of its connection to the rank."""

    def receive(self) -> Any:
        """The next message, which is waited for; None: the rank has hung up."""

    def send(self, message: FromWorker) -> None:
        """Sends a message to the rank."""


class ProcessLink:
    """A child's end: messages come from its inbox and go to the outbox that all children share."""

    def __init__(self, number: int, inbox: socket.socket, outbox: socket.socket, arena: Arena) -> None:
        self._number = number.to_bytes(4, "little")
        self._inbox = inbox
        self._outbox = outbox
        self._arena = arena
        self._codec = Codec(KINDS, arena.write, close_segment)

    def receive(self) -> Any:
        """The next message; None when the rank is gone."""
        message = receive(self._inbox)
        return None if message is None else self._codec.decode(*message, 0)

    def send(self, message: FromWorker) -> None:
        data, fds = self._codec.encode(message)
        send(self._outbox, self._number + data, fds)
        self._arena.sent()


class ThreadLink:
    """A thread lane's end. ``deliver`` takes what the lane sends."""

    def __init__(self, deliver: Callable[[FromWorker], None]) -> None:
        self._deliver = deliver
        self._messages: deque[ToWorker] = deque()
        self._changed = Condition()
        self._closed = False

    def receive(self) -> Any:
        with self._changed:
            self._changed.wait_for(lambda: self._messages or self._closed)
            return None if self._closed else self._messages.popleft()

    def send(self, message: FromWorker) -> None:
        self._deliver(message)

    def put(self, message: ToWorker) -> None:
        """From the rank: one more message for the lane."""
        with self._changed:
            self._messages.append(message)
            self._changed.notify()

    def take_back(self) -> list[ToWorker]:
        """From the rank: the messages that the lane has not taken."""
        with self._changed:
            messages, self._messages = list(self._messages), deque()
            return messages

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
