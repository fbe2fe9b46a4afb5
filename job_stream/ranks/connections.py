"""Sockets between ranks: a *line* carries the messages of one rank to another, and nothing in the other direction.

A rank has a *door*, and gives all others a *card* with the ways to it. Who has something to say *calls*: at all
addresses of the other's host at once, and takes what answers first. The caller shows that it knows the token of the
card, which travelled through MPI, and says nothing else to who does not answer that. Ranks of one host meet on its
loopback, and where all are on one host they are to be reached by no other way.

A message is a prefix (kind, sizes), its head and its body.
"""

from __future__ import annotations

import secrets
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from time import monotonic
from typing import Any, NamedTuple

from .transport import Room

__all__ = ["FAREWELL", "MESSAGES", "WELCOME", "Card", "Dialing", "Door", "Greeting", "Incoming", "Line", "read_hello"]

MESSAGES, FAREWELL = range(2)
"""What a call is for: to say something, or only that the one who is called has been given up."""
WELCOME = b"w"
LOOPBACK = "127.0.0.1"

JOIN_BYTES = 64 << 10
"""Messages up to this size are copied together, since that costs less than to gather them."""
READ_BYTES = 64 << 10
TURN_BYTES = 8 << 20
"""Moved on one line before the others have their turn."""
VIEWS_AT_ONCE = 64
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0
"""Between two calls, if nobody has answered."""
CALL_S = 30.0
"""How long to go on calling a host that does not answer, or not to this."""

_PREFIX = struct.Struct("<BIQ")
_HELLO = struct.Struct("<16sIB")
_CARD = struct.Struct("<16sH512s")


class Card(NamedTuple):
    """How a rank is to be reached.

    Attributes:
        token: which a caller must know.
        port: at all its addresses.
        addresses: of its host, for others; none if there are none.
    """

    token: bytes
    port: int
    addresses: Sequence[str]

    def packed(self) -> bytes:
        text = b""
        for address in self.addresses:
            if len(text) + len(address) < 512:
                text += address.encode() + b" "
        return _CARD.pack(self.token, self.port, text)

    @staticmethod
    def unpacked(data: bytes) -> Card:
        token, port, text = _CARD.unpack(data)
        return Card(token, port, text.rstrip(b"\0").decode().split())


class Door:
    """Where others call.

    Args:
        addresses: of this host, for ranks on others; empty: there are none.
    """

    def __init__(self, addresses: Sequence[str]) -> None:
        self.socket = _everywhere() if addresses else socket.create_server((LOOPBACK, 0), backlog=socket.SOMAXCONN)
        self.socket.setblocking(False)
        self.card = Card(secrets.token_bytes(16), self.socket.getsockname()[1], addresses)

    def callers(self) -> Iterator[socket.socket]:
        """All who are calling."""
        with suppress(BlockingIOError):
            while True:
                try:
                    caller, _ = self.socket.accept()
                except ConnectionAbortedError:
                    continue
                caller.setblocking(False)
                yield caller


def _everywhere() -> socket.socket:
    if socket.has_dualstack_ipv6():
        with suppress(OSError):
            return socket.create_server(
                ("::", 0), family=socket.AF_INET6, dualstack_ipv6=True, backlog=socket.SOMAXCONN
            )
    return socket.create_server(("", 0), backlog=socket.SOMAXCONN)


class Greeting(NamedTuple):
    """What a caller says first."""

    token: bytes
    rank: int
    purpose: int


def read_hello(caller: socket.socket) -> Greeting | None:
    """What a caller has said; None: not yet.

    Raises:
        OSError: it has hung up.
    """
    try:
        data = caller.recv(_HELLO.size, socket.MSG_PEEK)
    except BlockingIOError:
        return None
    if not data:
        raise ConnectionResetError
    if len(data) < _HELLO.size:
        return None
    return Greeting(*_HELLO.unpack(caller.recv(_HELLO.size)))


class Dialing:
    """An attempt to reach a rank, which goes on until somebody has answered.

    Args:
        rank: who calls.
        card: of the one who is called.
        is_near: it may be on this host.
        purpose: of the call.
    """

    def __init__(self, rank: int, card: Card, is_near: bool, purpose: int = MESSAGES) -> None:
        self._hello = _HELLO.pack(card.token, rank, purpose)
        self._addresses = [(address, card.port) for address in (*[LOOPBACK] * is_near, *card.addresses)]
        self._tries: list[_Try] = []
        self._pause = FIRST_PAUSE_S
        self._next = 0.0
        self._end = monotonic() + CALL_S

    def answered(self) -> socket.socket | None:
        """The connection, if there is one by now.

        Raises:
            OSError: nobody has answered for long. A process may be late, its host is not.
        """
        if monotonic() >= self._end and not any(each.greeted for each in self._tries):
            self.close()
            raise ConnectionRefusedError
        if not self._tries and monotonic() >= self._next:
            self._next = monotonic() + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE_S)
            self._tries = [each for each in map(_dialled, self._addresses) if each is not None]
        for each in tuple(self._tries):
            try:
                if each.is_through(self._hello):
                    self._tries.remove(each)
                    self.close()
                    return each.socket
            except OSError:
                each.socket.close()
                self._tries.remove(each)
        return None

    def close(self) -> None:
        for each in self._tries:
            each.socket.close()
        self._tries.clear()


class _Try:
    """One way that is tried."""

    def __init__(self, connecting: socket.socket) -> None:
        self.socket = connecting
        self.greeted = False  # its host is there

    def is_through(self, hello: bytes) -> bool:
        """Whether the right one has answered.

        Raises:
            OSError: nobody has, or somebody else.
        """
        with suppress(BlockingIOError):
            if not self.greeted:
                self.socket.send(hello, socket.MSG_NOSIGNAL)  # all of it: it is the first
                self.greeted = True
            if self.socket.recv(len(WELCOME)) != WELCOME:
                raise ConnectionRefusedError
            return True
        return False


def _dialled(address: tuple[str, int]) -> _Try | None:
    """A connection that is being made; None: there can be none."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    calling: socket.socket | None = None
    try:
        calling = socket.socket(family, socket.SOCK_STREAM)
        calling.setblocking(False)
        calling.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        calling.connect(address)
    except BlockingIOError:
        pass
    except OSError:
        if calling is not None:
            calling.close()
        return None
    return _Try(calling) if calling is not None else None


class Line:
    """Messages to another rank: what has not been sent yet waits here.

    Args:
        call: starts a call to it.
    """

    def __init__(self, call: Callable[[], Dialing]) -> None:
        self._start = call
        self._call: Dialing | None = None
        self._socket: socket.socket | None = None
        self._waiting: deque[tuple[memoryview, Any]] = deque()

    @property
    def waiting(self) -> int:
        """How many pieces have not been sent."""
        return len(self._waiting)

    def put(self, kind: int, head: bytes, views: list[memoryview], keep: object) -> None:
        size = sum(view.nbytes for view in views)
        prefix = _PREFIX.pack(kind, len(head), size)
        if size <= JOIN_BYTES:
            self._waiting.append((memoryview(b"".join((prefix, head, *views))), None))
        else:
            self._waiting.append((memoryview(prefix + head), None))
            self._waiting.extend((view, keep) for view in views)

    def push(self) -> None:
        """Sends what can be sent without waiting.

        Raises:
            OSError: the other end is gone.
        """
        if self._socket is None:
            self._call = self._call or self._start()
            self._socket = self._call.answered()
            if self._socket is None:
                return
            self._call = None
        with suppress(BlockingIOError):
            left = TURN_BYTES
            while self._waiting and left > 0:
                views = [view for view, _ in islice(self._waiting, VIEWS_AT_ONCE)]
                sent = self._socket.sendmsg(views, (), socket.MSG_NOSIGNAL)
                left -= sent
                self._advance(sent)

    def _advance(self, sent: int) -> None:
        waiting = self._waiting
        while sent:
            view, keep = waiting[0]
            if sent < len(view):
                waiting[0] = view[sent:], keep
                return
            sent -= len(view)
            waiting.popleft()

    def close(self) -> None:
        """Hangs up, and drops what waits."""
        self._waiting.clear()
        if self._call is not None:
            self._call.close()
            self._call = None
        if self._socket is not None:
            self._socket.close()


class Incoming:
    """Messages of another rank.

    Args:
        caller: a connection whose hello has been read.
    """

    def __init__(self, caller: socket.socket) -> None:
        self.socket = caller
        self._read = bytearray()
        self._head = b""
        self._kind = 0
        self._token: Any = None
        self._body: memoryview | None = None

    @property
    def is_within(self) -> bool:
        """Whether a body is here in part."""
        return self._body is not None

    def messages(self, room: Room) -> Iterator[tuple[int, bytes, Any]]:
        """Kind, head and token of each message that has come by now, for one turn.

        Raises:
            OSError: the other end is gone; what had come before has been given.
        """
        left = TURN_BYTES
        with suppress(BlockingIOError):
            while left > 0:
                wanted = READ_BYTES
                if self._body is None:
                    data = self.socket.recv(READ_BYTES)
                    size = len(data)
                    self._read += data
                else:
                    wanted = len(self._body)
                    size = self.socket.recv_into(self._body)
                    self._body = self._body[size:]
                if not size:
                    raise ConnectionResetError
                left -= size
                yield from self._complete(room)
                if self._body is None and size < wanted:
                    return

    def _complete(self, room: Room) -> Iterator[tuple[int, bytes, Any]]:
        while self._body is None or not self._body:
            if self._body is not None:
                message = self._kind, self._head, self._token
                self._body = self._token = None
                yield message
            if not self._begin(room):
                return

    def _begin(self, room: Room) -> bool:
        """Begins with the next message; whether its head is here."""
        data = self._read
        if len(data) < _PREFIX.size:
            return False
        self._kind, head_size, size = _PREFIX.unpack_from(data)
        start = _PREFIX.size + head_size
        if len(data) < start:
            return False
        self._head = bytes(data[_PREFIX.size : start])
        body, self._token = room(size) if size else (memoryview(b""), None)
        here = min(size, len(data) - start)
        if here:
            body[:here] = data[start : start + here]
        del data[: start + here]
        self._body = body[here:]
        return True

    def close(self) -> None:
        self.socket.close()
