"""The rank's hold on the nursery: orders to it, reports from it, and its end.

Neither side may rely on what other processes do. The end is said by shutting the socket down, since a process that
somebody else forked meanwhile may have it open as well. How the nursery ends is watched through a descriptor that
stands for it (``pidfd``), since a script may ignore SIGCHLD, or reap all children itself. And orders wait here until
there is room for them: if both sides were to wait for the other one to read, they would do so for ever.
"""

from __future__ import annotations

import os
import select
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ..errors import EngineError
from ..ground.limits import explained
from ..memory.codec import Codec
from ..workers.links import close_segment, hang_up, open_pair, receive_all, try_send
from ..workers.protocol import KINDS, ToNursery
from ..workers.streams import Forwarding
from ..workers.worker import Setup

__all__ = ["Hold", "Start"]

Start = Callable[[Setup, Forwarding, socket.socket, socket.socket, list[socket.socket]], int]
"""Starts a nursery and gives its pid. It is given the setup, where output goes, its ends of the connections for
commands and for what workers say, and the rank's ends of them."""


class Hold:
    """Starts the nursery when it is made.

    Args:
        setup: for the children.
        forwarding: of what they print.
        outbox: the children's way to the rank.
        replies: the rank's end of it, which is closed in the nursery.
        start: starts the nursery.

    Raises:
        LimitError: the system has refused.
    """

    def __init__(self, setup: Setup, forwarding: Forwarding, outbox: socket.socket,
                 replies: socket.socket, start: Start) -> None:  # fmt: skip
        self._socket, far = open_pair()
        self._codec = Codec(KINDS, _no_segments, close_segment)
        self._orders: deque[tuple[bytes, list[int]]] = deque()
        try:
            self.pid = start(setup, forwarding, far, outbox, [self._socket, replies])
        except BaseException as error:
            self._socket.close()
            raise explained(error, "no process for the workers can be started")  # noqa: B904
        finally:
            far.close()
        self._fd = _descriptor_of(self.pid)

    def register(self, poll: select.poll) -> None:
        """Registers what to wait for."""
        poll.register(self._socket, select.POLLIN)
        if self._fd is not None:
            poll.register(self._fd, select.POLLIN)

    def is_ready(self, ready: set[int]) -> bool:
        """Whether there are reports, or none will come any more, if these descriptors are ready."""
        return self._socket.fileno() in ready or self._fd in ready

    # orders -----------------------------------------------------------------------------------------------------------

    def order(self, message: ToNursery, *fds: int) -> None:
        """Has the nursery do something as soon as it can. The descriptors are to stay open until they have gone."""
        self._orders.append((self._codec.encode(message)[0], list(fds)))
        self.make_room()

    @property
    def wants_room(self) -> bool:
        """Whether there are orders that wait."""
        return bool(self._orders)

    def make_room(self) -> None:
        """Sends what waits, as far as there is room."""
        try:
            while self._orders and try_send(self._socket, *self._orders[0]):
                self._orders.popleft()
        except OSError as error:
            raise _gone() from error

    # reports ----------------------------------------------------------------------------------------------------------

    def reports(self) -> list[Any]:
        """What the nursery has to say.

        Raises:
            EngineError: it is gone.
        """
        has_ended = self._fd is not None and _is_readable(self._fd)
        messages, is_open = receive_all(self._socket, self._decode)
        if not is_open or has_ended:
            raise _gone()
        return messages

    def _decode(self, data: bytes, fds: list[int]) -> Any:
        return self._codec.decode(data, fds, 0)

    # the end ----------------------------------------------------------------------------------------------------------

    def end(self) -> None:
        """Lets the nursery end, with all its children, and waits until it has."""
        self._orders.clear()
        hang_up(self._socket)
        self._socket.close()
        if self._fd is None:
            with suppress(ChildProcessError):
                os.waitpid(self.pid, 0)
            return
        _await_readable(self._fd)
        with suppress(ChildProcessError):  # somebody else has reaped it, or it was not to be reaped
            os.waitid(os.P_PIDFD, self._fd, os.WEXITED)
        os.close(self._fd)
        self._fd = None

    def let_go(self) -> None:
        """In a process that was forked meanwhile."""
        self._orders.clear()
        self._socket.close()
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _descriptor_of(pid: int) -> int | None:
    """What stands for a process; None: this system has no such thing, or the process has gone already."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def _is_readable(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


def _await_readable(fd: int) -> None:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    poll.poll()


def _gone() -> EngineError:
    return EngineError("the process that forks the workers is gone; it was killed from outside")


def _no_segments(parts: list[Any]) -> tuple[int, int]:
    raise AssertionError("orders are small")
