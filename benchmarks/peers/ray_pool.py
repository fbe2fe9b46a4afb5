"""ray.util.multiprocessing.Pool on a Ray of this machine; it is told not to report its use to its makers."""

import os
from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar

from benchmarks.peers import Peer

NO_REPORTS = "RAY_USAGE_STATS_ENABLED"


class RayPool(Peer):
    """`map` with the default chunk size, `stream` with `imap_unordered`, on actors instead of plain processes."""

    name: ClassVar[str] = "ray"
    item_s: ClassVar[float] = 8e-6
    startup_script: ClassVar[str] = f"""\
import os
os.environ['{NO_REPORTS}'] = '0'
from ray.util.multiprocessing import Pool

def double(x):
    return 2 * x

if __name__ == '__main__':
    with Pool({{workers}}) as pool:
        print(pool.map(double, [21]))
"""

    @classmethod
    def available(cls) -> bool:
        return find_spec("ray") is not None

    def start(self, workers: int) -> None:
        os.environ[NO_REPORTS] = "0"
        import_module("ray").init(num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        self._pool = import_module("ray.util.multiprocessing").Pool(workers)

    def map(self, func: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        results: list[Any] = self._pool.map(func, items)
        return results

    def stream(
        self, func: Callable[[Any], Any], items: Iterable[Any], handle: Callable[[Any], object], chunk: int = 1
    ) -> None:
        for result in self._pool.imap_unordered(func, items, chunk):
            handle(result)

    def close(self) -> None:
        self._pool.terminate()
        self._pool.join()
        import_module("ray").shutdown()
