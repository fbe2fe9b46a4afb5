"""dask.distributed on a cluster of local processes."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from itertools import islice
from typing import Any, ClassVar

from benchmarks.peers import Peer


class DaskFutures(Peer):
    """`map` is a future for each item, what `Client.map` does; in `stream` a future is for `chunk` items."""

    name: ClassVar[str] = "dask"
    item_s: ClassVar[float] = 1e-3
    startup_script: ClassVar[str] = """\
from distributed import Client

def double(x):
    return 2 * x

if __name__ == '__main__':
    with Client(n_workers={workers}, threads_per_worker=1, dashboard_address=None) as client:
        print(client.gather(client.map(double, [21])))
"""

    @classmethod
    def available(cls) -> bool:
        return find_spec("distributed") is not None

    def start(self, workers: int) -> None:
        client = import_module("distributed").Client
        self._client = client(n_workers=workers, threads_per_worker=1, dashboard_address=None)

    def map(self, func: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        # Not pure: dask would hash every item, to find out what it has done before.
        results: list[Any] = self._client.gather(self._client.map(func, list(items), pure=False))
        return results

    def stream(
        self, func: Callable[[Any], Any], items: Iterable[Any], handle: Callable[[Any], object], chunk: int = 1
    ) -> None:
        futures = self._client.map(partial(call_with_each, func), list(chunks_of(items, chunk)), pure=False)
        for _, results in import_module("distributed").as_completed(futures, with_results=True):
            for result in results:
                handle(result)

    def close(self) -> None:
        """The client has started the cluster, and ends it."""
        self._client.close()


def chunks_of(items: Iterable[Any], size: int) -> Iterable[list[Any]]:
    """The items in lists of `size`; the last one may be shorter."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def call_with_each(func: Callable[[Any], Any], chunk: Sequence[Any]) -> list[Any]:
    """What a worker does with a chunk."""
    return [func(item) for item in chunk]
