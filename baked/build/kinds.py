"""The kinds of jobs: what each makes, and the keywords that all take.

A kind says what is left of a job when it is over. Files last or are temporary, values live in the process that runs who
needs them, generators leave other jobs behind, and invariants are only watched. Everything else about jobs is said in
terms of the groups below.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypedDict

from job_stream.errors import BuildError

__all__ = [
    "FILES", "GENERATORS", "INVARIANTS", "LOADS", "OPTIONS", "BuildJobKeywords", "checked_options", "nearest",
]  # fmt: skip

FILES = frozenset({"file", "files", "temp", "temps", "temp+", "cached", "program", "notebook", "plot"})
"""Kinds that make files."""

LOADS = frozenset({"load", "attribute"})
"""Kinds that make a value in the process of who needs it."""

GENERATORS = frozenset({"generate", "inject"})
"""Kinds that declare other jobs."""

INVARIANTS = frozenset({"source", "sources", "params", "function", "versions"})
"""Kinds that are watched and have nothing to run."""

class BuildJobKeywords(TypedDict, total=False):
    """The keywords of every job of a build."""

    needs: Any
    after: Any
    params: Mapping[str, Any] | None
    cores: int | str
    memory: int | str | None
    limits: Mapping[str, int]
    host: str | None
    timeout: float | None
    retries: int
    priority: float
    isolate: bool
    codeChanges: bool
    ignore: Iterable[Any]
    logs: str | None
    tags: Iterable[str]
    title: str | None


OPTIONS: dict[str, Any] = {
    "cores": 1, "memory": None, "limits": {}, "host": None, "timeout": None, "retries": 0, "priority": 0,
    "isolate": True, "codeChanges": True, "ignore": (), "logs": None, "tags": (),
    "title": None,
}  # fmt: skip
"""What holds where a job does not say it."""

LOGS = ("failed", "all", "echo")


def nearest(name: object, known: Iterable[str]) -> str:
    """': did you mean ...?', or nothing where nothing is near."""
    from difflib import get_close_matches

    found = get_close_matches(str(name), list(known), 1)
    return f": did you mean {found[0]!r}?" if found else ""


def checked_options(subject: str, given: Mapping[str, Any], extra: Iterable[str] = ()) -> dict[str, Any]:
    """The options of a job, with those that were not given.

    Raises:
        BuildError: a keyword is unknown, or its value makes no sense.
    """
    if not given:
        return OPTIONS
    known = (*OPTIONS, "needs", "after", "params", *extra)
    for name in given:
        if name not in OPTIONS:
            raise BuildError(f"{subject} does not know the keyword {name!r}{nearest(name, known)}")
    for name, check in _CHECKS.items():
        if name in given:
            check(subject, given[name])
    return {**OPTIONS, **given}


def check_cores(subject: str, cores: object) -> None:
    if isinstance(cores, bool) or not (cores == "all" or (isinstance(cores, int) and (cores == -1 or cores > 0))):
        raise BuildError(f"{subject}: cores={cores!r} is neither a number from 1 on, -1 (all but one) nor 'all'")


def bytes_of_memory(subject: str, memory: object) -> int | None:
    """Bytes, of a number or of a text such as '8G'."""
    if memory is None:
        return None
    size = _parsed(memory)
    if size is None or size <= 0:
        raise BuildError(f"{subject}: memory={memory!r} is no number of bytes above 0, nor a text such as '8G'")
    return size


def _parsed(memory: object) -> int | None:
    if isinstance(memory, int) and not isinstance(memory, bool):
        return memory
    if not isinstance(memory, str):
        return None
    text = memory.strip().upper().removesuffix("B").removesuffix("I")
    shift = {"K": 10, "M": 20, "G": 30, "T": 40}.get(text[-1:], 0)
    try:
        return int(float(text[:-1] if shift else text) * (1 << shift))
    except (ValueError, OverflowError):
        return None


def check_limits(subject: str, limits: object) -> None:
    if not isinstance(limits, Mapping):
        raise BuildError(f"{subject}: limits={limits!r} is no mapping of names to numbers, such as {{'db': 1}}")
    for name, count in limits.items():
        if not isinstance(name, str) or isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise BuildError(f"{subject}: limits={{{name!r}: {count!r}}} is no name with a whole number from 1 on")


def check_logs(subject: str, logs: object) -> None:
    if logs is not None and logs not in LOGS:
        raise BuildError(f"{subject}: logs={logs!r} is none of {', '.join(map(repr, LOGS))}")


def _check_retries(subject: str, retries: object) -> None:
    if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
        raise BuildError(f"{subject}: retries={retries!r} is no whole number from 0 on")


def _check_timeout(subject: str, timeout: object) -> None:
    if timeout is not None and (
        isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0
    ):
        raise BuildError(f"{subject}: timeout={timeout!r} is no number of seconds above 0")


def _check_priority(subject: str, priority: object) -> None:
    if isinstance(priority, bool) or not isinstance(priority, (int, float)) or priority != priority:
        raise BuildError(f"{subject}: priority={priority!r} is no number")


def _check_host(subject: str, host: object) -> None:
    if host is not None and not (isinstance(host, str) and host):
        raise BuildError(f"{subject}: host={host!r} is neither 'primary' nor the name of a host")


def _check_flag(name: str) -> Callable[[str, object], None]:
    def check(subject: str, value: object) -> None:
        if not isinstance(value, bool):
            raise BuildError(f"{subject}: {name}={value!r} is neither True nor False")

    return check


_CHECKS: dict[str, Callable[[str, Any], object]] = {
    "cores": check_cores, "memory": bytes_of_memory, "limits": check_limits, "logs": check_logs,
    "retries": _check_retries, "timeout": _check_timeout, "priority": _check_priority, "host": _check_host,
    "isolate": _check_flag("isolate"), "codeChanges": _check_flag("codeChanges"),
}  # fmt: skip


def text_of_path(path: object) -> str | None:
    """The text of what may stand for a path; None where it cannot."""
    if isinstance(path, str):
        return path
    if isinstance(path, os.PathLike):
        text = os.fspath(path)
        return text if isinstance(text, str) else None
    return None
