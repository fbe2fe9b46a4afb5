"""Packed values, on their way and when they are kept."""

import os

import numpy
import pytest

from job_stream.payload import Blob, Segment, pack, readOnce, unpack


@pytest.fixture
def in_segment():
    """Packs values into a segment; it is gone when nobody needs it any more."""

    def blob_of(value):
        parts = pack(value)
        fd = os.memfd_create("test")
        os.write(fd, b"".join(parts.frames))
        return Blob(
            [len(frame) for frame in parts.frames], Segment(fd, 0, 0, lambda owner, number, fd: os.close(fd)), 0, None
        )

    return blob_of  # fmt: skip


def test_what_has_one_part_is_read_once(in_segment, monkeypatch):
    read = readOnce(in_segment(["a", "b"]))
    monkeypatch.setattr(os, "preadv", None)
    assert unpack(read.frames()) == unpack([read.bytes()]) == ["a", "b"]


def test_what_has_parts_is_read_whole_and_a_change_stays_with_who_made_it(in_segment):
    read = readOnce(in_segment([numpy.arange(10_000), "b"]))
    array, _ = unpack(read.frames())
    array[:] = 0
    array, text = unpack(read.frames())
    assert (array == numpy.arange(10_000)).all()
    assert text == "b"


@pytest.mark.parametrize("payload", [pack(["a"]), Blob([5], None, 0, pack(["a"]).frames[0])])
def test_what_lies_in_the_process_is_left_as_it_is(payload):
    assert readOnce(payload) is payload
