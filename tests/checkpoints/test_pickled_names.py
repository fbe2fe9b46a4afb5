"""What checkpoints and journals hold of job_stream's own classes, by name: what may neither be renamed nor moved."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from pathlib import Path

import pytest
from support import wait_until

from job_stream import Args, Multiple, Object, Work, common
from job_stream.checkpoints.format import FORMAT
from job_stream.errors import CheckpointError

PUBLIC = {"job_stream.values", "job_stream.errors"}
"""``values`` says what else depends on its names; exceptions are public anyway."""


class Doubles(common.Job):
    def handleWork(self, x):
        self.emit(Multiple([x, -x]))


class Sums(common.Reducer):
    def handleInit(self, store):
        store.sum = 0

    def handleAdd(self, store, x):
        store.sum += x

    def handleJoin(self, store, other):
        store.sum += other.sum

    def handleDone(self, store):
        self.emit(store.sum)


def plain(w):
    w.job(lambda x: Args(x, y=x))
    w.job(lambda x, y: Multiple(Object(value=x + i) for i in range(3)))
    w.job(lambda item: time.sleep(0.002) or item)


def failing(w):
    def risky(x):
        if x % 5 == 0:
            raise ValueError(x)
        return x

    w.job(risky)
    w.job(lambda x: time.sleep(0.002) or x)


def frames(w):
    @w.frame
    def head(store, x):
        store.rounds = getattr(store, "rounds", 0) + 1
        return Multiple([x, x + 1]) if store.rounds < 4 else None

    w.job(lambda x: time.sleep(0.002) or x)

    @w.frameEnd
    def end(store, x):
        store.last = x


def classes(w):
    w.job(Doubles)
    w.job(lambda x: time.sleep(0.002) or x)

    @w.frame
    def head(store, x):
        store.rounds = getattr(store, "rounds", 0) + 1
        return x if store.rounds < 2 else None

    w.reduce(Sums)
    w.job(lambda total: time.sleep(0.002) or total)
    w.frameEnd(lambda store, x: None)


STREAMS = [
    *((stream, keywords) for stream in (plain, frames, classes) for keywords in ({}, {"seed": 3})),
    *((failing, {"onError": how}) for how in ("skip", "pass")),
    (failing, {"onError": "pass", "seed": 3}),
]


def names_in(folder: Path) -> set[str]:
    """The modules of job_stream whose classes or functions are pickled in the files of a folder."""
    data = b""
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # one that lasts for a moment
            data += path.read_bytes() if path.is_file() else b""
    return {name.decode() for name in re.findall(rb"job_stream(?:\.[a-z_]+)+", data)}


def number_of(path: Path) -> int:
    """By which a file is told from the one that takes its place; 0: there is none yet."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


@pytest.mark.parametrize(("stream", "keywords"), STREAMS)
@pytest.mark.parametrize("kept", [True, False], ids=["results kept", "results handled"])
def test_only_public_names_are_pickled(tmp_path, stream, keywords, kept):
    found, looks, path = set(), [], tmp_path / "checkpoint"
    w = Work(range(60), checkpointFile=path, checkpointInterval=0.01, cpus=2, **keywords)
    stream(w)

    @w.job(useMultiprocessing=False)
    def look(x):
        if len(looks) < 6:  # until a checkpoint has been written meanwhile
            looks.append(number_of(path))
            wait_until(lambda: number_of(path) not in (0, looks[-1]), "the next checkpoint")
        found.update(names_in(tmp_path))
        return x

    if not kept:
        w.result(lambda x: None)
    w.run()
    assert found <= PUBLIC
    if "seed" in keywords:
        assert "job_stream.values" in found, "a stream with a seed has pairs, so the test has seen nothing"


def test_a_checkpoint_of_another_format_is_refused_with_the_reason(tmp_path):
    path = tmp_path / "checkpoint"
    w = Work(range(5), checkpointFile=path)
    w.job(lambda x: x)
    w.result(lambda x: w.cancel())
    w.run()
    data = path.read_bytes()
    path.write_bytes(data[:8] + (FORMAT - 1).to_bytes(2, "little") + data[10:])
    with pytest.raises(CheckpointError, match=f"has format {FORMAT - 1}, and this version of job_stream reads format"):
        w.run()
