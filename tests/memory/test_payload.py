"""Packed values, on their way and when they are kept."""

import os

import numpy
import pytest

from job_stream.errors import PayloadError
from job_stream.memory.mappings import Mappings
from job_stream.memory.payload import Blob, MemorySegment, pack, read_once, unpack


@pytest.fixture
def in_segment():
    """Packs values into a segment; it is gone when nobody needs it any more."""

    def blob_of(value):
        parts = pack(value)
        fd = os.memfd_create("test")
        os.write(fd, b"".join(parts.frames))
        return Blob(
            [len(frame) for frame in parts.frames],
            MemorySegment(fd, 0, 0, lambda owner, number, fd: os.close(fd)),
            0,
            None,
        )

    return blob_of  # fmt: skip


def test_what_has_one_part_is_read_once(in_segment, monkeypatch):
    read = read_once(in_segment(["a", "b"]))
    monkeypatch.setattr(os, "preadv", None)
    assert unpack(read.frames()) == unpack([read.bytes()]) == ["a", "b"]


def test_what_has_parts_is_read_whole_and_a_change_stays_with_who_made_it(in_segment):
    read = read_once(in_segment([numpy.arange(10_000), "b"]))
    array, _ = unpack(read.frames())
    array[:] = 0
    array, text = unpack(read.frames())
    assert (array == numpy.arange(10_000)).all()
    assert text == "b"


@pytest.mark.parametrize("payload", [pack(["a"]), Blob([5], None, 0, pack(["a"]).frames[0])])
def test_what_lies_in_the_process_is_left_as_it_is(payload):
    assert read_once(payload) is payload


def segment_of(size):
    fd = os.memfd_create("test")
    os.write(fd, bytes(range(256)) * (size // 256))
    return fd


def test_what_is_large_is_read_like_what_is_small(in_segment):
    array = numpy.arange(1 << 18)
    read, text = unpack(in_segment([array, "b"]).frames())
    assert (read == array).all()
    assert text == "b"
    read[:] = 0  # it is the reader's own


def test_segments_stay_mapped_up_to_a_limit_and_are_seen_as_they_are():
    mappings = Mappings()
    mappings.limit = 3 << 12
    fds = [segment_of(size) for size in (1 << 12, 1 << 12, 1 << 13, 1 << 14)]
    for fd in fds:
        assert mappings.stretch(fd, 255, 2) == b"\xff\0"
        assert mappings.mapped <= mappings.limit
    os.pwrite(fds[1], b"new", 0)
    assert mappings.stretch(fds[1], 0, 3) == b"new"
    os.ftruncate(fds[1], 1 << 13)
    assert mappings.stretch(fds[1], 1 << 12, 2) == b"\0\0"
    with pytest.raises(PayloadError, match="shorter than announced"):
        mappings.stretch(fds[0], 1 << 12, 1)
    for fd in fds:
        os.close(fd)
