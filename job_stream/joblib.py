"""The backend ``job_stream`` of joblib: what is parallel in scikit-learn and others runs on workers and ranks.

Importing this registers it::

    import joblib
    import job_stream.joblib

    with joblib.parallel_config(backend="job_stream", n_jobs=-1):
        GridSearchCV(...).fit(x, y)

The workers stay between calls of ``Parallel``, for five minutes without one. They end with the script.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from .errors import WorldError
from .evaluate.context import current
from .futures.keeping import KeptWorkers, batch
from .futures.packer import Packer
from .futures.service import Service
from .inline import getCpuCount, getRank
from .memory.volumes import LentShelf

try:
    from joblib import __version__, register_parallel_backend
    from joblib.disk import memstr_to_bytes
    from joblib.parallel import AutoBatchingMixin, FallbackToBackend, ParallelBackendBase, SequentialBackend
except ImportError as missing:
    raise ImportError("job_stream.joblib needs joblib 1.4 or later: pip install 'joblib>=1.4'") from missing

__all__ = ["JobStreamBackend"]

OLDEST = 1, 4
MAX_NBYTES = "1M"
MODES = {"r": True, "c": False}
"""Whether arrays that lie in memory once are read-only, by joblib's ``mmap_mode``."""
NEVER = 1 << 62
OF_JOBLIB = frozenset((
    "context", "idle_worker_timeout", "max_nbytes", "mmap_mode", "prefer", "require", "temp_folder", "verbose",
))  # fmt: skip
"""What joblib tells each backend."""


class JobStreamBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """Makes the calls of ``joblib.Parallel`` in workers of job_stream, on all ranks.

    Arrays of ``max_nbytes`` or more lie in memory once on each host. Calls are given read-only views of them, with
    ``mmap_mode="c"`` copies. They must not be changed while the call of ``Parallel`` is under way.
    """

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True
    default_n_jobs = -1

    _service: Service | None = None
    _packer: Packer | None = None

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many calls are made at the same time: -1 are all workers of all ranks, -2 all but one."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None or current() is not None:
            return 1
        return n_jobs if n_jobs > 0 else max(1, getCpuCount() + 1 + n_jobs)

    def configure(self, n_jobs: int | None = 1, parallel: Any = None, **keywords: Any) -> int:
        """Has workers ready; gives how many.

        Raises:
            TypeError: a keyword that neither joblib nor this knows.
            ValueError: mmap_mode is one in which calls would write to what others read.
            WorldError: this is another rank than the primary.
        """
        keywords = {**self.backend_kwargs, **keywords}
        if unknown := keywords.keys() - OF_JOBLIB:
            raise TypeError(f"the backend 'job_stream' does not know {', '.join(sorted(unknown))}")
        number = self.effective_n_jobs(n_jobs)
        if number == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        shelf = _shelf(keywords.get("max_nbytes", MAX_NBYTES), keywords.get("mmap_mode", "r"))
        service = _kept.taken(number)
        if not isinstance(service, Service):
            raise WorldError(f"this is rank {getRank()}, and only rank 0 makes calls: have the script run there alone, "
                             "as 'mpirun -n 4 python -m job_stream.futures script.py'")  # fmt: skip
        self.parallel = parallel
        self._shelf = shelf
        self._service = service
        self._under_way: set[Future[Any]] = set()
        return number

    def start_call(self) -> None:
        """From now on arrays are known by their identity."""
        assert self._service is not None
        self._packer = self._service.packer.with_shelf(self._shelf())

    def stop_call(self) -> None:
        """What lies in memory for this call is not needed any more."""
        self._packer = None

    def submit(self, func: Callable[[], Any], callback: Callable[[Future[Any]], Any] | None = None) -> Future[Any]:
        """Has a batch of calls made."""
        assert self._service is not None
        future = self._service.call(batch, (func, self.inner_max_num_threads), {}, self._packer)
        self._under_way.add(future)
        future.add_done_callback(self._under_way.discard)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """What a batch gave."""
        return out.result()

    def terminate(self) -> None:
        """The call of Parallel is over; the workers stay."""
        if self._service is not None:
            _kept.give_back(self._service)
            self._service = None
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Ends what is under way, with the workers; where others use these, what they have not begun."""
        service, self._service = self._service, None
        if service is not None and not _kept.drop(service):
            for future in list(self._under_way):
                future.cancel()
            _kept.give_back(service)
        if ensure_ready:
            self.configure(self.parallel.n_jobs, self.parallel, **self.parallel._backend_kwargs)

    def get_nested_backend(self) -> tuple[Any, None]:
        """Within a call, one after the other: the workers fill the CPUs."""
        return SequentialBackend(nesting_level=(self.nesting_level or 0) + 1), None


def _shelf(max_nbytes: int | str | None, mmap_mode: str | None) -> Callable[[], LentShelf]:
    """Makes what large arrays are put on, as joblib's words say."""
    if max_nbytes is None or mmap_mode is None:
        return lambda: LentShelf(NEVER, False)
    if mmap_mode not in MODES:
        raise ValueError(f"mmap_mode must be 'r', 'c' or None with the backend 'job_stream', not {mmap_mode!r}: calls "
                         "may run on other hosts, and cannot write to the arrays of the script")  # fmt: skip
    nbytes = memstr_to_bytes(max_nbytes) if isinstance(max_nbytes, str) else max_nbytes
    return lambda: LentShelf(nbytes, MODES[mmap_mode])


def _check_version() -> None:
    if tuple(int(part) for part in __version__.split(".")[:2]) < OLDEST:
        raise ImportError(f"job_stream.joblib needs joblib 1.4 or later, and this is {__version__}")


_kept = KeptWorkers()
_check_version()
register_parallel_backend("job_stream", JobStreamBackend)
