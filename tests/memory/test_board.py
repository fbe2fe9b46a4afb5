"""The shared words of the processes of a run: each living child has its own."""

import pytest

from job_stream.errors import LimitError
from job_stream.memory import words as boards
from job_stream.memory.words import NOTE_LOAN, SharedWords


@pytest.fixture
def board():
    return SharedWords(shared=False)


def test_no_two_living_children_share_words(board):
    board.note(0)[NOTE_LOAN], board.free(0)[5] = 4711, 1
    for child in range(1, 3 * boards._SLOTS):
        board.seat(child)
        assert list(board.note(child)) == [0] * 8
        assert not any(board.free(child))
        board.note(child)[NOTE_LOAN] = board.free(child)[5] = 1
        if child > 2:
            board.leave(child - 2)
    assert (board.note(0)[NOTE_LOAN], board.free(0)[5]) == (4711, 1)


def test_a_child_sees_what_the_rank_sees(board):
    board.seat(1)
    slot = board.seat(7000)
    board.note(7000)[NOTE_LOAN] = 5
    board.take(9000, slot)
    assert board.note(9000)[NOTE_LOAN] == 5


def test_more_children_at_a_time_than_there_are_slots_are_refused(board, monkeypatch):
    monkeypatch.setattr(boards, "_SLOTS", 3)
    for child in range(3):
        board.seat(child)
    with pytest.raises(LimitError, match=r"2 workers at a time at most.*cpus="):
        board.seat(3)
    board.leave(1)
    board.seat(3)
