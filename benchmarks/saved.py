"""Streams with and without checkpoints: ``python -m benchmarks.saved NAME AMOUNT WORKERS saved|plain`` prints seconds.

A process each, since a script may have one stream with checkpoints only.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import job_stream
from benchmarks.tasks import unchanged
from benchmarks.workloads.words import make_text, word_stream

INTERVAL_S = 1.0


class Saved:
    """The library, with a checkpoint for each stream."""

    def __init__(self, folder: str) -> None:
        self._path = str(Path(folder, "checkpoint"))

    def Work(self, items: Any, **keywords: Any) -> job_stream.Work:  # noqa: N802 - stands in for the module
        return job_stream.Work(items, checkpointFile=self._path, checkpointInterval=INTERVAL_S, **keywords)


def words(library: Any, amount: int, workers: int) -> float:
    pieces = make_text(amount)
    started = perf_counter()
    word_stream(library, pieces, workers).run()
    return perf_counter() - started


def items(library: Any, amount: int, workers: int) -> float:
    started = perf_counter()
    work = library.Work(range(amount), cpus=workers)
    work.job(unchanged)
    found = work.run()
    taken = perf_counter() - started
    if sorted(found) != list(range(amount)):
        raise SystemExit("the results are wrong")
    return taken


STREAMS = {"words": words, "items": items}


def main(arguments: Sequence[str]) -> None:
    name, amount, workers, kind = arguments
    with TemporaryDirectory() as folder:
        library = Saved(folder) if kind == "saved" else job_stream
        print(STREAMS[name](library, int(amount), int(workers)))


if __name__ == "__main__":
    main(sys.argv[1:])
