"""The jobs of a build in an order in which they can be made, or the circle that keeps them from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from job_stream.errors import CycleError

from .job import BuildJob

__all__ = ["in_order"]


def in_order(jobs: Iterable[BuildJob], needs_of: Callable[[BuildJob], Sequence[BuildJob]]) -> list[BuildJob]:
    """The jobs and all that they need, needs first, by depth-first search.

    Raises:
        CycleError: there is a circle; names all jobs on it.
    """
    ordered: dict[str, BuildJob] = {}
    for start in jobs:
        if start.id in ordered:
            continue
        under_way = {start.id: start}
        stack = [(start, iter(needs_of(start)))]
        while stack:
            job, rest = stack[-1]
            need = next((need for need in rest if need.id not in ordered), None)
            if need is None:
                stack.pop()
                under_way.pop(job.id)
                ordered[job.id] = job
            elif need.id in under_way:
                raise CycleError(_told(list(under_way.values()), need))
            else:
                under_way[need.id] = need
                stack.append((need, iter(needs_of(need))))
    return list(ordered.values())


def _told(under_way: list[BuildJob], first: BuildJob) -> str:
    circle = under_way[under_way.index(first) :]
    names = " -> ".join(repr(job.id) for job in [*circle, first])
    places = "; ".join(f"{job.id!r} at {job.where}" for job in circle[:5])
    return f"jobs need each other in a circle: {names} (declared: {places})"
