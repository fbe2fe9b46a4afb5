"""A checkpoint with much open work: ``python -m benchmarks.openwork FOLDER TASKS STORE_BYTES WORKERS``.

Prints, as JSON, the seconds from starting a run that goes on from it until its first item runs, and the longest time
between two calls on the frame's store while further checkpoints are written. The checkpoint is made by the engine
itself: a frame of which each child is a task of its own, and whose store is large.
"""

import json
import mmap
import sys
from collections.abc import Sequence
from time import perf_counter

import numpy as np

from benchmarks.contenders import WrongAnswer
from job_stream import Object, Work, checkpointInfo
from job_stream.checkpoints.saver import Saver
from job_stream.checkpoints.stopping import TimeLimit
from job_stream.engine import messages as m
from job_stream.engine.capture import State
from job_stream.engine.rank import Rank
from job_stream.engine.scopes import STREAM
from job_stream.memory.payload import pack
from job_stream.runtime.source import InitialWork
from job_stream.stream.plan import Plan, Results

INTERVAL_S = 0.4
ARRAY_BYTES = 1 << 20
FIRST, LAST_CALL, LONGEST, SAVED = range(4)


class Board:
    """A few numbers that all processes of the run see."""

    def __init__(self) -> None:
        self.numbers = np.frombuffer(mmap.mmap(-1, mmap.PAGESIZE), np.float64)

    def begin(self) -> None:
        if not self.numbers[FIRST]:
            self.numbers[FIRST] = perf_counter()

    def call(self) -> None:
        now, last = perf_counter(), self.numbers[LAST_CALL]
        self.numbers[LAST_CALL] = now
        if last:
            self.numbers[LONGEST] = max(self.numbers[LONGEST], now - last)


def stream(path: str, workers: int, board: Board) -> Work:
    work = Work([0], cpus=workers, checkpointFile=path, checkpointInterval=INTERVAL_S)

    @work.frame(emit=lambda store: store.items)
    def begin(store: Object, first: int) -> None:
        """The one round is under way when the run goes on."""

    @work.job
    def child(item: int) -> int:
        board.begin()
        return item

    @work.frameEnd
    def end(store: Object, item: int) -> None:
        store.items += 1
        board.call()

    return work


def open_state(plan: Plan, source: InitialWork, tasks: int, store_bytes: int) -> State:
    """The state of a run in which the frame is open, with so many children."""
    rank = Rank(plan, source.parts_for(1), 1)
    lend = next(action for action in rank.handle(m.Nothing()) if type(action) is m.Lend)
    arrays = [np.full(ARRAY_BYTES, n % 256, np.uint8) for n in range(store_bytes // ARRAY_BYTES)]
    frame = m.Open(-1, STREAM, 0, pack([Object(items=0, arrays=arrays), 0, 1, 0]), ())
    (place,) = (place.number for place in plan.places if place.name == "child")
    children = (m.WorkBatch(-1, place, 1, pack([item])) for item in range(tasks))
    names = tuple(name for name, _ in lend.units)
    rank.handle(m.Repaid(lend.lane, lend.loan, ((lend.loan, names),), (frame, *children)))
    return rank.capture()


def write(path: str, tasks: int, store_bytes: int) -> None:
    work = stream(path, 1, Board())
    plan, source = work._recording.plan(), InitialWork([[0]])
    saver = Saver(path, INTERVAL_S, TimeLimit(None), plan, Results.KEPT)
    saver.begin(tuple(part.length for part in source.parts))
    saver.save(open_state(plan, source, tasks, store_bytes))
    saver.close()
    found = checkpointInfo(path).open
    if found != tasks:
        raise WrongAnswer(f"the checkpoint has {found:,} open tasks instead of {tasks:,}")


def main(arguments: Sequence[str]) -> None:
    folder, *numbers = arguments
    tasks, store_bytes, workers = map(int, numbers)
    path, board = f"{folder}/checkpoint", Board()
    write(path, tasks, store_bytes)
    started = perf_counter()
    results = stream(path, workers, board).run()
    if results != [tasks]:
        raise WrongAnswer(f"{results} instead of {[tasks]}")
    print(json.dumps({"first": board.numbers[FIRST] - started, "longest": board.numbers[LONGEST],
                      "run": perf_counter() - started}))  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
