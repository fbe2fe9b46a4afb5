"""A lane by itself: what it takes from its link, and what it repays."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from support import DEADLINE_S

from job_stream import Multiple
from job_stream.engine.messages import Lend, Work
from job_stream.lanes.board import WANTED, Board
from job_stream.lanes.keyed import newEvaluator
from job_stream.lanes.lane import DRAW_BYTES, DRAW_ITEMS, Lane
from job_stream.lanes.packing import LivePacking
from job_stream.payload import Live
from job_stream.plan import LAST, Builder, Kind, Stage
from job_stream.values import Sent


class Large:
    """Says that it is large."""

    nbytes = DRAW_BYTES


class Link:
    """Gives a lane one parcel, while another lane has nothing to do; ends it with its first answer."""

    def __init__(self, lend: Lend, flags: Any) -> None:
        self._waiting: list[Any] = [lend, None]
        self._flags = flags
        self.answer: Any = None
        flags[WANTED] = 1

    def receive(self) -> Any:
        return self._waiting.pop(0)

    def send(self, message: Any) -> None:
        self._flags[WANTED] = 0
        self.answer = self.answer or message


@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.parametrize("wrapped", [lambda element: element, lambda element: Sent("on", element)], ids=["", "sent"])
def test_no_more_of_a_large_multiple_is_taken_for_others_than_fits(seed: int | None, wrapped: Any) -> None:
    def elements(_: Any) -> Multiple:
        return Multiple(wrapped(Large()) for _ in range(10 * DRAW_ITEMS))

    builder = Builder()
    fan = builder.add(Stage(Kind.JOB, "fan", elements))
    work = builder.add(Stage(Kind.JOB, "work", lambda element: None))
    builder.route(fan, {"on": work, "out": LAST})
    board = Board(shared=False)
    link = Link(Lend(1, 1, ((0, Work(0, fan, 1, Live([0]), base=0)),)), board.flags)
    evaluator = newEvaluator(builder.plan(), None, board.note(1), seed)
    lane = Lane(1, link, evaluator, LivePacking(), None, board.note(1), board.flags, False)
    thread = threading.Thread(target=lane.run)  # of its own: a lane makes its thread one in which jobs run
    thread.start()
    thread.join(DEADLINE_S)
    assert sum(product.count for product in link.answer.products) == DRAW_ITEMS
    assert [rest.inner for _, rest in link.answer.kept] == [DRAW_ITEMS]
