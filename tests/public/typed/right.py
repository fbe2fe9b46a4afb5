"""A user's script in which every type is right: no checker has anything to say about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from job_stream import Args, Multiple, Work, common, map, rng
from job_stream.baked import Sweep, sweep

if TYPE_CHECKING:
    from typing_extensions import Unpack, assert_type

    from job_stream.keywords import WorkKeywords
else:

    def assert_type(value: object, kind: object) -> None:
        pass


def stream(**keywords: Unpack[WorkKeywords]) -> Work:
    return Work(range(10), **keywords)


with Work(["a", "list"], seed=1, onError="skip") as w:
    assert_type(w, Work)

    @w.init
    def prepare() -> list[str]:
        return ["more"]

    @w.job
    def length(word: str) -> int:
        return len(word)

    @w.job(useMultiprocessing=False, retries=2, onError="raise")
    def twice(number: int) -> Multiple:
        return Multiple([number, number])

    @w.frame(store=list, emit=len, key=hash)
    def again(store: list[int], first: int) -> int | None:
        return first if not store else None

    @w.frameEnd()
    def back(store: list[int], number: int) -> None:
        store.append(number)

    @w.reduce(store=list)
    def collect(store: list[int], works: list[int], others: list[list[int]]) -> None:
        store.extend(works)
        for other in others:
            store.extend(other)

    @w.result(retries=1)
    def show(numbers: list[int]) -> None:
        print(numbers)


assert_type(prepare(), "list[str]")
assert_type(length("abc"), int)
assert_type(twice(2), Multiple)
assert_type(again([], 1), "int | None")
assert_type(back([], 1), None)
assert_type(collect([], [1], []), None)
assert_type(show([1]), None)


class Double(common.Job):
    def handleWork(self, work: int) -> None:
        self.emit(2 * work)


v = stream(timeout=1.5, cpus=2, checkpointFile="v.checkpoint")
v.job(Double)


@v.finish
def total(numbers: list[float]) -> float:
    return sum(numbers)


assert_type(total([1.0]), float)
common.run({"jobs": [{"type": Double}]}, timeLimit=10.0, handleResult=print)


def scaled(number: int, by: float = 1.0) -> float:
    return by * number


def joined(*words: str) -> str:
    return "".join(words)


assert_type(map(str, [1, 2]), "list[str]")
assert_type(map(len, ["a", "list"], cpus=2), "list[int]")
assert_type(map(scaled, range(3), [0.5, 1.0, 1.5]), "list[float]")
assert_type(map(scaled, [Args(1, by=2.0)], retries=1), "list[float]")
assert_type(map(lambda number: number + 1, [1, 2]), "list[int]")
assert_type(map(joined, "a", "b", "c", "d"), "list[str]")
assert_type(map(float, np.arange(3)), "list[float]")

with sweep({"sides": [6, 20]}, trials=100, seed=1, onError="skip") as s:
    assert_type(s, Sweep)

    @s.job
    def throw(id: int, trial: int, sides: int) -> dict[str, float]:
        return {"points": float(rng().integers(1, sides + 1))}


assert_type(throw(0, 1, 6), "dict[str, float]")
table = s.table
