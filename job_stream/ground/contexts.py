"""Context managers written as generators that leave what passes through them as it is.

Those of ``contextlib`` give an exception its traceback back by an assignment, which exceptions of users may not allow
(a frozen dataclass): then they would be replaced by an error about that.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from functools import wraps
from types import TracebackType
from typing import Generic, ParamSpec, TypeVar, cast

__all__ = ["context"]

P = ParamSpec("P")
T = TypeVar("T")


class _Context(AbstractContextManager[T], Generic[T]):
    def __init__(self, steps: Generator[T, None, None]) -> None:
        self._steps = steps

    def __enter__(self) -> T:
        return next(self._steps)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> bool:  # fmt: skip
        try:
            if error is None:
                next(self._steps)
            else:
                self._steps.throw(error)
        except StopIteration as end:
            return error is not None and end is not error
        except BaseException as raised:
            # a generator makes a RuntimeError of a StopIteration that passes through it
            if raised is error or (isinstance(error, StopIteration) and raised.__cause__ is error):
                return False
            raise
        raise RuntimeError("the generator of a context goes on after its end")


def context(function: Callable[P, Iterator[T]]) -> Callable[P, AbstractContextManager[T]]:
    """Makes a context manager of a generator function that yields once."""

    @wraps(function)
    def made(*arguments: P.args, **keywords: P.kwargs) -> AbstractContextManager[T]:
        return _Context(cast("Generator[T, None, None]", function(*arguments, **keywords)))

    return made
