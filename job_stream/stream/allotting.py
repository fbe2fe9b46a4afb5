"""What a job's ``where`` and ``cores`` say of an item: a host and a number of cores that it needs there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import PlanError
from ..ground.texts import shorten
from .checks import is_whole

__all__ = ["Allotting"]


class Allotting:
    """A function of an item: the name of its host (empty: any) and how many cores it needs.

    Args:
        stage: the name of the job.
        where: the name of a host, 'primary', None for any, or a function of the item that gives one of these.
        cores: how many, or a function of the item that gives that; None: one.

    Raises:
        PlanError: where or cores are neither.
    """

    def __init__(self, stage: str, where: str | Callable[[Any], Any] | None, cores: int | Callable[[Any], Any] | None):
        self._stage = stage
        self._where, self._cores = where, 1 if cores is None else cores
        names = [name for name, given in (("where", where), ("cores", cores)) if given is not None]
        self.__name__ = f"{stage} ({', '.join(names)})"
        if not callable(where):
            self._check_host(where)
        if not callable(self._cores):
            self._check_cores(self._cores)

    def __call__(self, item: Any) -> tuple[str, int]:
        host = self._where(item) if callable(self._where) else self._where
        cores = self._cores(item) if callable(self._cores) else self._cores
        return self._check_host(host), self._check_cores(cores)

    def _check_host(self, host: Any) -> str:
        if host is None:
            return ""
        if isinstance(host, str) and host:
            return str(host)
        raise PlanError(f"job {self._stage!r}: where must be the name of a host as hosts() has it, 'primary', None, or "
                        f"a function of the item that gives one of these, not {shorten(host, 80)}")  # fmt: skip

    def _check_cores(self, cores: Any) -> int:
        if is_whole(cores, 1):
            return int(cores)
        raise PlanError(f"job {self._stage!r}: cores must be a whole number from 1 on, or a function of the item that "
                        f"gives one, not {shorten(cores, 80)}")  # fmt: skip
