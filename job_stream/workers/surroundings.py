"""What user code finds around it in threads of ours: the same as in the thread that runs the stream.

Workers that are processes have it by fork. Threads begin with nothing: a decimal precision, ``numpy.errstate``, a
context variable that the script has set would silently not hold in them. What is in ``threading.local()`` objects of
others cannot be copied.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

__all__ = ["Surroundings"]


class Surroundings:
    """Those of the thread where this is made."""

    def __init__(self) -> None:
        self._context = copy_context()
        self._settings = [setting for take in _TAKEN if (setting := take()) is not None]

    def call(self, function: Callable[[], None]) -> None:
        """Calls a function in them; what it changes is seen by no other call."""
        self._context.copy().run(self._call_settled, function)

    def _call_settled(self, function: Callable[[], None]) -> None:
        for setting in self._settings:
            setting()
        function()


def _take_decimal() -> Callable[[], None] | None:
    decimal = sys.modules.get("decimal")
    # a context variable, but it leads to an object that threads would change for each other
    return None if decimal is None else lambda: decimal.setcontext(decimal.getcontext().copy())


def _take_numpy() -> Callable[[], None] | None:
    numpy: Any = sys.modules.get("numpy")
    version = getattr(numpy, "__version__", "2")
    if int(version.partition(".")[0]) >= 2:  # from then on it is in context variables
        return None
    errors, call = numpy.geterr(), numpy.geterrcall()

    def restore() -> None:
        numpy.seterr(**errors)
        numpy.seterrcall(call)

    return restore


def _take_sklearn() -> Callable[[], None] | None:
    sklearn: Any = sys.modules.get("sklearn")
    if not hasattr(sklearn, "get_config"):
        return None
    settings = sklearn.get_config()
    return lambda: sklearn.set_config(**settings)


_TAKEN = (_take_decimal, _take_numpy, _take_sklearn)
