"""multiprocessing.Pool."""

from collections.abc import Callable, Iterable
from multiprocessing import Pool
from typing import Any, ClassVar

from benchmarks.peers import Peer


class ProcessPool(Peer):
    """`map` with the default chunk size, `stream` with `imap_unordered`."""

    name: ClassVar[str] = "pool"
    item_s: ClassVar[float] = 0.5e-6
    startup_script: ClassVar[str] = """\
from multiprocessing import Pool

def double(x):
    return 2 * x

if __name__ == '__main__':
    with Pool({workers}) as pool:
        print(pool.map(double, [21]))
"""

    def start(self, workers: int) -> None:
        self._pool = Pool(workers)

    def map(self, func: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        return self._pool.map(func, items)

    def stream(
        self, func: Callable[[Any], Any], items: Iterable[Any], handle: Callable[[Any], object], chunk: int = 1
    ) -> None:
        for result in self._pool.imap_unordered(func, items, chunk):
            handle(result)

    def close(self) -> None:
        self._pool.terminate()
        self._pool.join()
