"""Collatz sequences as a stream of classes: which number of each block takes the most steps to come down to 1?

    python examples/collatz.py [LIMIT]

How the classes are put together is in collatz.yaml: a job that sends work back to itself, and a reduction for each
block within one for all of them.
"""

import sys
from pathlib import Path

from job_stream import common

BLOCK = 1000


class Numbers(common.Job):
    """All numbers of a block, each with how far it has come: here nowhere yet."""

    def handleWork(self, block):
        for number in block:
            self.emit((number, number, 0))


class Steps(common.Job):
    """Some steps of a sequence. One that takes longer comes again, so it can be met by another worker."""

    def handleWork(self, work):
        start, number, steps = work
        for _ in range(self.config["atOnce"]):
            if number == 1:
                self.emit((steps, start), "done")
                return
            number = 3 * number + 1 if number % 2 else number // 2
            steps += 1
        self.emit((start, number, steps), "again")


class Longest(common.Reducer):
    def handleInit(self, store):
        store.longest = (0, 0)

    def handleAdd(self, store, work):
        store.longest = max(store.longest, work)

    def handleJoin(self, store, other):
        store.longest = max(store.longest, other.longest)

    def handleDone(self, store):
        self.emit(store.longest)


class Table(common.Reducer):
    def handleInit(self, store):
        store.rows = []

    def handleAdd(self, store, work):
        steps, start = work
        store.rows.append((start, steps))

    def handleJoin(self, store, other):
        store.rows += other.rows

    def handleDone(self, store):
        self.emit(sorted(store.rows))


def show(rows):
    for start, steps in rows:
        print(f"{start:6} takes {steps} steps")


limit = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
common.work = [range(first, min(first + BLOCK, limit)) for first in range(1, limit, BLOCK)]
common.run(Path(__file__).with_name("collatz.yaml"), handleResult=show)
