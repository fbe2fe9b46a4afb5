"""Classes for the tests of streams that a configuration describes, and how such a stream is run."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from job_stream import common


def results_of(config: Any, work: Iterable[Any], **keywords: Any) -> list[Any]:
    """Runs work through a configuration; the results are sorted."""
    results: list[Any] = []
    common.work = work
    common.run(config, handleResult=results.append, **{"cpus": 2, **keywords})
    return sorted(results)


class Same(common.Job):
    def handleWork(self, work):
        self.emit(work)


class Double(common.Job):
    def handleWork(self, work):
        self.emit(2 * work)


class Add(common.Job):
    def handleWork(self, work):
        self.emit(work + self.config["amount"])


class Tag(common.Job):
    """Says in its configuration what it is."""

    def handleWork(self, work):
        self.emit((self.config["tag"], work))


class UpTo(common.Job):
    def handleWork(self, work):
        for number in range(work):
            self.emit(number)


class Sort(common.Job):
    """Has the targets 'even' and 'odd'."""

    def handleWork(self, work):
        self.emit(work, "odd" if work % 2 else "even")


class CountDown(common.Job):
    """Has the targets 'again' and 'done'."""

    def handleWork(self, work):
        number, steps = work
        if number > 0:
            self.emit((number - 1, steps + 1), "again")
        else:
            self.emit(steps, "done")


class Process(common.Job):
    def handleWork(self, work):
        self.emit(os.getpid())


class Sum(common.Reducer):
    def handleInit(self, store):
        store.total = 0

    def handleAdd(self, store, work):
        store.total += work

    def handleJoin(self, store, other):
        store.total += other.total

    def handleDone(self, store):
        self.emit(store.total)


class SortedSum(Sum):
    """Has the targets 'even' and 'odd'."""

    def handleDone(self, store):
        self.emit(store.total, "odd" if store.total % 2 else "even")


class Halves(Sum):
    """Recurs halves: of odd numbers to the job 'odd', of even ones to the input."""

    def handleAdd(self, store, work):
        store.total += work
        if work > 1:
            self.recur(work // 2, "odd" if work % 2 else None)


class Rounds(common.Frame):
    """Takes as many rounds as the number that enters, and collects what comes."""

    def handleFirst(self, store, work):
        store.left, store.came = work, []
        self.recur(0)

    def handleNext(self, store, work):
        store.came.append(work)

    def handleDone(self, store):
        store.left -= 1
        if store.left > 0:
            self.recur(len(store.came))
        else:
            self.emit(sorted(store.came))


class OtherRounds(Rounds):
    """The same, but the later rounds begin at the job 'later'."""

    def recur(self, work, target=None):
        super().recur(work, "later" if work else None)
