"""What shared memory is kept for the next values, and how much of it."""

from __future__ import annotations

import os

import pytest

from job_stream.memory.arena import Arena
from job_stream.memory.mappings import Mappings
from job_stream.memory.payload import Blob, MemorySegment, pack

MB = 1 << 20


@pytest.fixture
def free():
    return bytearray(100)


@pytest.fixture
def arena(free):
    arena = Arena(free, 10 * MB)
    yield arena
    arena.close()


def kept(arena: Arena) -> int:
    return sum(arena._sizes.values())


def test_a_segment_that_was_read_is_written_again(arena: Arena, free: bytearray):
    first, _ = arena.write([bytes(8 * MB)])
    free[first] = 1
    assert arena.write([bytes(7 * MB)])[0] == first


def test_one_that_is_too_large_to_be_kept_is_written_again_if_it_is_wanted_at_once(arena: Arena, free: bytearray):
    first, _ = arena.write([bytes(50 * MB)])
    free[first] = 1
    assert arena.write([bytes(50 * MB)])[0] == first


def test_no_more_stays_than_is_to_be_kept(arena: Arena, free: bytearray):
    for number in [arena.write([bytes(6 * MB)])[0] for _ in range(5)]:
        free[number] = 1
    arena.write([bytes(100_000)])
    assert kept(arena) <= 11 * MB


def test_a_huge_segment_does_not_stay_for_small_values(arena: Arena, free: bytearray):
    large, _ = arena.write([bytes(50 * MB)])
    free[large] = 1
    number, _ = arena.write([bytes(100_000)])
    assert kept(arena) <= MB
    free[number] = 1
    assert arena.write([bytes(90_000)])[0] == number


def test_what_is_being_read_is_left_alone(arena: Arena, free: bytearray):
    numbers = [arena.write([bytes(6 * MB)])[0] for _ in range(5)]
    assert len(set(numbers)) == 5
    assert kept(arena) == 30 * MB


def test_no_more_stays_mapped_to_be_read_than_may():
    mappings = Mappings()
    mappings.keep_at_most(10 * MB)
    for _ in range(5):
        fd = os.memfd_create("test")
        os.ftruncate(fd, 4 * MB)
        mappings.stretch(fd, 0, 4 * MB)
        os.close(fd)
    assert mappings.mapped <= 10 * MB


def test_values_that_were_read_where_they_lie_do_not_change_with_that_memory(arena: Arena):
    value = [bytes(2 * MB), "x" * MB, bytearray(MB), [1, 2]]
    parts = pack([value])
    number, fd = arena.write(parts.frames)
    blob = Blob([len(frame) for frame in parts.frames], MemorySegment(fd, -1, number, lambda *_: None), 0, None)
    (found,) = blob.unpacked()
    os.pwrite(fd, b"\xff" * (5 * MB), 0)
    assert found == value
    found[2][0] = 1
