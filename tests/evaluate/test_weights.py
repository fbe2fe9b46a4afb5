"""How many bytes values hold, as far as a lane finds out, and what it makes of that."""

from __future__ import annotations

import mmap
from types import SimpleNamespace
from typing import Any

import numpy
import pytest

from job_stream import Args
from job_stream.evaluate.pace import BATCH_MOST, Pace
from job_stream.evaluate.weights import GATHER_BYTES, Gathered, gather_limit, weigh
from job_stream.values import Pair, Sent

MB = 1_000_000


@pytest.mark.parametrize(
    "value",
    [
        bytes(MB),
        bytearray(MB),
        "x" * MB,
        memoryview(bytes(MB)),
        numpy.zeros(MB, dtype=numpy.uint8),
        numpy.broadcast_to(numpy.uint8(0), (MB,)),
        [bytes(MB)],
        (1, bytes(MB), 2),
        {"part": bytes(MB)},
        {bytes(MB)},
        [0] * (MB // 8),
        [bytes(1000)] * 1000,
        Pair(1, bytes(MB)),
        Sent("on", numpy.zeros(MB, dtype=numpy.uint8)),
        Args(1, key=bytes(MB)),
        SimpleNamespace(data=bytes(MB)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_size_of_a_value_is_about_what_it_holds(value: Any) -> None:
    assert 0.9 * MB < weigh([value]) < 1.2 * MB
    assert 0.9 * MB < weigh([1, value, None]) < 1.2 * MB
    assert 80 * MB < weigh([value] * 100) < 120 * MB


@pytest.mark.parametrize("value", [1, 2.0, None, True, object(), print, 10**30], ids=lambda value: type(value).__name__)
def test_small_values_weigh_nothing(value: Any) -> None:
    assert weigh([value]) == weigh([value] * 1000) == 0


def test_an_object_that_answers_to_any_name_is_not_asked() -> None:
    class Any:
        def __getattr__(self, name: str) -> int:
            raise AssertionError(name)

        def __getattribute__(self, name: str) -> int:
            raise AssertionError(name)

    assert weigh([Any()]) == 0


def test_batches_of_large_values_become_small_and_large_again() -> None:
    gathered = Gathered(1)
    pace = Pace(1, gathered)
    pace.batches[0] = 1024
    pace.weighed(0, 1024, 4 * gathered.limit)
    assert pace.batches[0] == pace.most[0] == 128
    pace.weighed(0, 1, 10 * gathered.limit)
    assert pace.batches[0] == pace.most[0] == 1
    for _ in range(20):
        pace.weighed(0, pace.most[0], 0)
    assert pace.most[0] == BATCH_MOST


def test_values_of_known_size_gather_up_to_the_limit() -> None:
    gathered = Gathered(2)
    gathered.learn(1, 10, 10_000)
    assert gathered.rooms[1] == gathered.limit // 1000
    gathered.learn(1, 1, 1 << 40)
    assert gathered.rooms[1] == 1
    gathered.learn(1, 10, 0)
    assert gathered.rooms[1] > 1 << 20


def test_it_is_noticed_when_the_process_grows_though_nothing_was_touched() -> None:
    gathered = Gathered(1)
    gathered.clear()
    assert gathered.growth() < gathered.limit
    assert not gathered.is_full
    with mmap.mmap(-1, 4 * gathered.limit):
        assert gathered.growth() >= 4 * gathered.limit
        assert gathered.is_full
        gathered.clear()
        assert not gathered.is_full
        assert gathered.growth() < gathered.limit


def test_all_lanes_together_gather_a_quarter_of_what_there_may_be() -> None:
    assert gather_limit(1 << 30, 1) == GATHER_BYTES
    assert gather_limit(32 << 20, 8) == 1 << 20
    assert gather_limit(1, 100) == 1
    assert gather_limit(0, 0) == GATHER_BYTES
