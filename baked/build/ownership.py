"""What is the project's own, and what is foreign: the standard library, what is installed, job_stream."""

from __future__ import annotations

import importlib.util
import os
import site
import sys
from contextlib import suppress
from types import FunctionType, ModuleType
from typing import Any

__all__ = ["OURS", "absolute", "file_of_module", "is_own", "is_own_path", "own_behind"]

OURS = "job_stream"


def _foreign_folders() -> tuple[str, ...]:
    """Of the standard library and of what is installed; ``sysconfig`` knows them, too, but takes its time."""
    folders = {os.path.dirname(os.__file__)}
    try:
        folders.update(site.getsitepackages())
        folders.add(site.getusersitepackages())
    except Exception:  # there are environments with a ``site`` of their own
        from sysconfig import get_path

        folders.update(filter(None, map(get_path, ("stdlib", "platstdlib", "purelib", "platlib"))))
    return tuple(os.path.join(os.path.realpath(folder), "") for folder in folders if folder)


_FOREIGN = _foreign_folders()
_is_own_file: dict[str, bool] = {}


def is_own(thing: Any) -> bool:
    """Whether a function, class or module is the project's own: neither job_stream nor installed."""
    name = thing.__name__ if isinstance(thing, ModuleType) else getattr(thing, "__module__", None)
    if isinstance(name, str) and name.partition(".")[0] in (OURS, "builtins"):
        return False
    if isinstance(thing, FunctionType):
        return is_own_path(thing.__code__.co_filename)
    module = thing if isinstance(thing, ModuleType) else sys.modules.get(name or "")
    if module is None:
        return True  # made by exec, or in a notebook
    path = getattr(module, "__file__", None)
    return is_own_path(path) if path else module.__name__ == "__main__"


def is_own_path(path: str) -> bool:
    known = _is_own_file.get(path)
    if known is None:
        real = os.path.realpath(path)
        known = path.startswith("<") or not real.startswith(_FOREIGN)
        known = _is_own_file[path] = known and not path.startswith("<frozen")
    return known


def own_behind(thing: Any) -> Any:
    """The project's own function that a foreign decorator, such as contextlib's, has put something around."""
    if is_own(thing) or not hasattr(thing, "__wrapped__"):
        return None
    from inspect import unwrap

    with suppress(ValueError):  # it wraps itself
        wrapped = unwrap(thing, stop=is_own)
        return wrapped if is_own(wrapped) else None
    return None


def absolute(name: str, package: str) -> str:
    """The name of a module, of which dots at its begin stand for packages around."""
    with suppress(ImportError, ValueError):
        return importlib.util.resolve_name(name, package)
    return name


def file_of_module(name: str) -> str | None:
    """Where a module would be loaded from; nothing is loaded to find that out, not even the packages around it."""
    top, *inner = name.split(".")
    spec = None
    with suppress(ImportError, ValueError, AttributeError):
        spec = importlib.util.find_spec(top)
    if spec is None:
        return None
    path, folders = spec.origin, list(spec.submodule_search_locations or ())
    for part in inner:
        places = [os.path.join(folder, part, "__init__.py") for folder in folders]
        places += [os.path.join(folder, f"{part}.py") for folder in folders]
        path = next(filter(os.path.isfile, places), None)
        folders = [os.path.join(folder, part) for folder in folders]
    return path
