"""Who is given a host: first come, first served, and a large piece waits for no longer than what runs there already."""

from __future__ import annotations

import pytest

from job_stream.engine.allotments import Allotments
from job_stream.engine.ledger import Piece
from job_stream.engine.messages import ANYWHERE, PRIMARY, WorkBatch


def piece(host: str = ANYWHERE, cores: int = 1) -> Piece:
    return Piece(WorkBatch(0, 1, 1, None, needs=(host, cores)))


def pushed(allotments: Allotments, *pieces: Piece) -> list[tuple[int, Piece]]:
    for one in pieces:
        allotments.push(one)
    return allotments.serve()


def test_as_many_are_given_as_there_are_cores() -> None:
    allotments = Allotments(("north", "south"), (2, 1))
    pieces = [piece() for _ in range(5)]
    assert [one for _, one in pushed(allotments, *pieces)] == pieces[:3]
    assert len(allotments) == 2


def test_the_host_with_most_cores_free_comes_first() -> None:
    allotments = Allotments(("north", "south"), (2, 3))
    assert [rank for rank, _ in pushed(allotments, *(piece() for _ in range(5)))] == [1, 0, 1, 0, 1]


def test_each_is_given_to_its_host() -> None:
    allotments = Allotments(("north", "south", "north"), (1, 1, 1))
    given = pushed(allotments, piece("south"), piece("north"), piece(PRIMARY), piece("north"))
    assert [rank for rank, _ in given] == [1, 0, 2]
    assert [one.work.needs for one in allotments.pieces] == [(PRIMARY, 1)]


def test_cores_of_other_ranks_of_the_host_are_used_up_too() -> None:
    allotments = Allotments(("north",) * 4, (1,) * 4)
    given = pushed(allotments, large := piece(cores=3), piece(), piece())
    assert given[0] == (0, large)
    assert len(given) == 2


def test_a_large_piece_is_not_overtaken_on_its_host_for_ever() -> None:
    allotments = Allotments(("north",), (4,))
    (_, first), (_, second) = pushed(allotments, piece(), piece())
    large = piece(cores=4)
    assert pushed(allotments, large, piece(), piece()) == []
    allotments.release(first)
    assert allotments.serve() == []
    allotments.release(second)
    assert allotments.serve() == [(0, large)]


def test_what_needs_another_host_goes_past_a_large_piece() -> None:
    allotments = Allotments(("north", "south"), (2, 2))
    pushed(allotments, piece("north"))
    small = piece("south")
    assert pushed(allotments, piece("north", 2), piece("north"), small) == [(1, small)]


def test_what_comes_back_is_the_next() -> None:
    allotments = Allotments(("north",), (1,))
    first, second = piece(), piece()
    assert pushed(allotments, first, second) == [(0, first)]
    allotments.push(first)
    assert allotments.serve() == [(0, first)]
    assert allotments.pieces == [second]


def test_the_cores_of_a_dead_rank_are_gone() -> None:
    allotments = Allotments(("north", "south"), (1, 2))
    (_, lost), *_ = pushed(allotments, piece("south", 2))
    allotments.push(waiting := piece("south"))
    allotments.push(lost)
    allotments.lost(1)
    assert {one for one, _ in allotments.take_refused()} == {lost, waiting}
    assert allotments.serve() == []
    assert pushed(allotments, small := piece()) == [(0, small)]


@pytest.mark.parametrize(
    ("needs", "words"),
    [
        (("east", 1), "it is for the host 'east', of which this stream has no rank: 'north', 'south'"),
        ((ANYWHERE, 4), "it needs 4 cores, and no host has more than 3"),
        (("south", 2), "it needs 2 cores, and its host has not more than 1"),
        ((PRIMARY, 4), "it needs 4 cores, and its host has not more than 3"),
    ],
)
def test_what_no_host_can_do_is_refused(needs: tuple[str, int], words: str) -> None:
    assert Allotments(("north", "south", "north"), (2, 1, 1)).refusal(needs) == words


def test_a_host_that_is_lost_is_told_from_one_that_never_was() -> None:
    allotments = Allotments(("north", "south"), (1, 1))
    allotments.lost(1)
    assert allotments.refusal(("south", 1)) == "it is for the host 'south', which is lost"
    assert not allotments.refusal((ANYWHERE, 1))
