"""How the function of a job is called, by the kind of job."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errands import Task

__all__ = ["ACTIONS"]


def _call(task: Task, paths: Any, keywords: dict[str, Any]) -> Any:
    """The function as it is, with the paths as its left-over parameters."""
    values = tuple(paths.values()) if task.kind == "temp+" else (paths,)
    given = dict(zip(task.filling, values, strict=False))
    if "" in given:
        return task.function(*values[: len(task.filling)], **keywords)
    return task.function(**given, **keywords)


ACTIONS: Mapping[str, Callable[[Task, Any, dict[str, Any]], Any]] = {"call": _call, "attribute": _call}
"""By the name that a job has of it."""
