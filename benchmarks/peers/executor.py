"""concurrent.futures.ProcessPoolExecutor."""

from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from typing import Any, ClassVar

from benchmarks.peers import Peer


class Executor(Peer):
    """`map` sends one item at a time, its default; `stream` is the same `map`, read as results come."""

    name: ClassVar[str] = "executor"
    item_s: ClassVar[float] = 120e-6
    startup_script: ClassVar[str] = """\
from concurrent.futures import ProcessPoolExecutor

def double(x):
    return 2 * x

if __name__ == '__main__':
    with ProcessPoolExecutor({workers}) as executor:
        print(list(executor.map(double, [21])))
"""

    def start(self, workers: int) -> None:
        self._executor = ProcessPoolExecutor(workers)

    def map(self, func: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        return list(self._executor.map(func, items))

    def stream(
        self, func: Callable[[Any], Any], items: Iterable[Any], handle: Callable[[Any], object], chunk: int = 1
    ) -> None:
        for result in self._executor.map(func, items, chunksize=chunk):
            handle(result)

    def close(self) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)
