"""The launcher's end of the connections to ranks: who is listened to, and what becomes known."""

from __future__ import annotations

import selectors
import socket
import sys

import pytest
from support import wait_until

from job_stream.launcher import switchboard
from job_stream.launcher.run import LaunchedRun
from job_stream.launcher.signal_queue import SignalQueue
from job_stream.launcher.switchboard import MAX_STRANGERS, Switchboard, addresses_towards
from job_stream.launcher.verdict import End


class Board:
    """A switchboard, and ushers played by the test."""

    def __init__(self):
        self.selector = selectors.DefaultSelector()
        self.board = Switchboard(self.selector, ["127.0.0.1"])
        port, self.token, _ = self.board.environment["JOBS_LAUNCHER"].split()
        self.port = int(port)
        self.calls = []

    def call(self, text: bytes) -> socket.socket:
        self.calls.append(socket.create_connection(("127.0.0.1", self.port)))
        self.calls[-1].sendall(text)
        return self.calls[-1]

    def usher(self, rank: int) -> socket.socket:
        before = self.board.started
        link = self.call(f"hello {self.token} {rank} node{rank} 7\n".encode())
        self.until(lambda: self.board.started > before)
        assert link.recv(99) == b"welcome\n"
        return link

    def until(self, happened) -> None:
        def look():
            for key, _ in self.selector.select(0.01):
                key.data()
            return happened()

        wait_until(look, "the switchboard to notice")


@pytest.fixture
def board():
    board = Board()
    yield board
    board.board.close()
    board.selector.close()
    for call in board.calls:
        call.close()


def test_ends_are_known_in_the_order_in_which_they_come(board):
    ushers = [board.usher(rank) for rank in range(3)]
    assert board.board.running == 3
    for rank, status in ((2, 0), (0, -9), (1, 75)):
        ushers[rank].sendall(f"end {status}\n".encode())
        board.until(lambda: board.board.ends and board.board.ends[-1].rank == rank)  # noqa: B023
    assert board.board.ends == [End(2, 0, "node2", 7), End(0, -9, "node0", 7), End(1, 75, "node1", 7)]
    assert board.board.running == 0


def test_it_is_known_who_had_joined_the_others(board):
    for rank, text in ((1, b"joined\nend -9\n"), (2, b"end -9\n")):
        board.usher(rank).sendall(text)
        board.until(lambda: board.board.ends and board.board.ends[-1].rank == rank)  # noqa: B023
    assert [end.joined for end in board.board.ends] == [True, False]


def test_who_hangs_up_without_a_word_is_lost(board):
    board.usher(4).close()
    board.until(lambda: board.board.ends)
    assert board.board.ends == [End(4, None, "node4", 7)]
    assert board.board.connected == 0


def test_an_end_is_noted_and_the_usher_told_so(board):
    link = board.usher(4)
    link.sendall(b"end 3\n")
    board.until(lambda: board.board.ends)
    assert link.recv(99) == b"noted\n"


def test_who_hangs_up_after_the_end_has_said_all(board):
    with board.usher(4) as link:
        link.sendall(b"end 3\n")
    board.until(lambda: not board.board.connected)
    assert board.board.ends == [End(4, 3, "node4", 7)]


def test_a_message_may_come_in_parts(board):
    link = board.usher(0)
    link.sendall(b"en")
    board.until(lambda: True)
    link.sendall(b"d 3\n")
    board.until(lambda: board.board.ends)
    assert board.board.ends[0].status == 3


def test_signals_go_to_all_ranks(board):
    ushers = [board.usher(rank) for rank in range(2)]
    board.board.signal(15)
    assert [usher.recv(99) for usher in ushers] == [b"signal 15\n"] * 2


@pytest.mark.parametrize(
    "text",
    [b"hello wrong 0 host 1\n", "hello ü 0 host 1\n".encode(), b"\xff\n", b"end 0\n", b"GET / HTTP/1.1\n", b"x" * 9999],
    ids=["wrong token", "odd token", "no text", "no hello", "HTTP", "too long"],
)  # fmt: skip
def test_strangers_are_hung_up_on(board, text):
    stranger = board.call(text)
    board.until(lambda: is_closed(stranger))
    assert board.board.started == 0
    assert not board.board.ends
    board.usher(0)


def test_strangers_are_few_and_keep_nobody_out_for_ever(board, monkeypatch):
    first = board.usher(0)
    strangers = [board.call(b"hel") for _ in range(MAX_STRANGERS + 20)]
    board.until(lambda: len(board.board._links) == MAX_STRANGERS + 1)
    for _ in range(20):
        board.until(lambda: True)
    assert len(board.board._links) == MAX_STRANGERS + 1
    last = board.call(f"hello {board.token} 1 node1 7\n".encode())

    def heard():
        board.board.hang_up_on_strangers()
        return board.board.started == 2

    assert 0 < board.board.poll_policy() <= switchboard.STRANGE_S
    monkeypatch.setattr(switchboard, "STRANGE_S", 0.5)
    board.until(heard)
    assert last.recv(99) == b"welcome\n"
    board.until(lambda: (board.board.hang_up_on_strangers(), board.board.poll_policy())[1] is None)
    assert all(is_closed(stranger) for stranger in strangers)
    first.sendall(b"end 0\n")
    board.until(lambda: board.board.ends)


def test_a_stranger_is_hung_up_on_while_nothing_else_happens(monkeypatch):
    monkeypatch.setattr(switchboard, "STRANGE_S", 0.05)
    waits = (
        "import os, socket; port = int(os.environ['JOBS_LAUNCHER'].split()[0]); "
        "assert socket.create_connection(('127.0.0.1', port)).recv(9) == b''"
    )
    with SignalQueue() as signal_queue:
        assert LaunchedRun([sys.executable, "-c", waits], {}, 1, False, ["127.0.0.1"], signal_queue).wait().code == 0


def is_closed(link: socket.socket) -> bool:
    link.setblocking(False)
    try:
        return link.recv(99) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def test_this_machine_is_known_by_an_address_that_others_can_use():
    addresses = addresses_towards(["localhost", "no-such-host.invalid"])
    assert addresses
    assert addresses == ["127.0.0.1"] or not any(address.startswith("127.") for address in addresses)
