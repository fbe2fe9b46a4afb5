"""joblib.Parallel on its default backend, loky."""

from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar

from benchmarks.peers import Peer


class JoblibParallel(Peer):
    """`map` with automatic batches; `stream` unordered, in batches of `chunk` if that is more than one."""

    name: ClassVar[str] = "joblib"
    item_s: ClassVar[float] = 8e-6
    startup_script: ClassVar[str] = """\
from joblib import Parallel, delayed

def double(x):
    return 2 * x

if __name__ == '__main__':
    print(Parallel(n_jobs={workers})([delayed(double)(21)]))
"""

    @classmethod
    def available(cls) -> bool:
        return find_spec("joblib") is not None

    def start(self, workers: int) -> None:
        self._workers = workers

    def map(self, func: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        joblib = import_module("joblib")
        parallel = joblib.Parallel(n_jobs=self._workers)
        results: list[Any] = parallel(joblib.delayed(func)(item) for item in items)
        return results

    def stream(
        self, func: Callable[[Any], Any], items: Iterable[Any], handle: Callable[[Any], object], chunk: int = 1
    ) -> None:
        joblib = import_module("joblib")
        batch = chunk if chunk > 1 else "auto"
        parallel = joblib.Parallel(n_jobs=self._workers, batch_size=batch, return_as="generator_unordered")
        for result in parallel(joblib.delayed(func)(item) for item in items):
            handle(result)

    def close(self) -> None:
        """The processes outlive a call, for the next one to use; that is what makes them warm."""
        import_module("joblib.externals.loky").get_reusable_executor().shutdown(wait=True)
