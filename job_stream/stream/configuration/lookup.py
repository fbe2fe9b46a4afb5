"""Finds the classes that a configuration names."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import Any

from ...errors import PlanError
from ...ground.suggestions import did_you_mean
from ..classes import Frame, Job, Reducer

__all__ = ["Classes"]

_BASES: dict[str, type[Any]] = {"job": Job, "reducer": Reducer, "frame": Frame}


class Classes:
    """Finds classes by name.

    Args:
        own: the names of the script, where a name without a module is looked up.
    """

    def __init__(self, own: Mapping[str, Any]) -> None:
        self._own = own

    def find(self, role: str, where: str, given: Any) -> type[Any]:
        """The class that ``given``, a class or the name of one, stands for.

        Raises:
            PlanError: there is none, or it is not of the kind that the role asks for.
        """
        found = self._named(where, given) if isinstance(given, str) else given
        base = _BASES[role]
        if not isinstance(found, type):
            raise PlanError(f"{where}: type must be a class or the name of one, not {found!r:.80}")
        if issubclass(found, base):
            return found
        fitting = next((name for name, other in _BASES.items() if issubclass(found, other)), None)
        is_ = f"is a {fitting}" if fitting else "is none"
        raise PlanError(f"{where}: a {role} is a class derived from common.{base.__name__}, and {found.__name__} {is_}")

    def _named(self, where: str, name: str) -> Any:
        module, _, short = name.rpartition(".")
        names = vars(self._imported(where, name, module)) if module else self._own
        if short in names:
            return names[short]
        known = [other for other, value in names.items() if isinstance(value, type)]
        place = f"module {module!r} has" if module else "the script has"
        hint = did_you_mean(short, known) or ("" if module else "; a class of a module is named module.Class")
        raise PlanError(f"{where}: {place} no class {short!r}{hint}")

    def _imported(self, where: str, name: str, module: str) -> Any:
        """The module; what goes wrong inside it is not hidden."""
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise
            raise PlanError(f"{where}: module {module!r} of {name!r} cannot be imported: {error}; it is looked for in "
                            f"{', '.join(filter(None, sys.path[:1])) or 'the current folder'} and where Python has its "
                            "packages") from error  # fmt: skip
