"""What a generator has declared: taken over as a whole, or taken back as a whole.

While it runs, declarations are noted. What it returns, if it is an inject job, becomes needs of all that need it. Then
it is checked that nothing that was there before got other needs, that nothing was declared in vain, that there is no
circle, and that all of it can be run here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from job_stream.errors import JobContractError

from .declaring import Generation
from .job import BuildJob
from .ordering import in_order

if TYPE_CHECKING:
    from .building import Build
    from .running import BuildRun

__all__ = ["adopt", "generation_of"]

Edge = tuple[str, str, "str | None"]


@contextmanager
def generation_of(build: Build, generator: BuildJob) -> Iterator[Generation]:
    """Notes what is declared meanwhile; takes it back if anything goes wrong."""
    generation = build.generation = Generation(generator, {}, [])
    before = set(build.jobs)
    try:
        yield generation
    except BaseException:
        for job_id in [job_id for job_id in build.jobs if job_id not in before]:
            build.forget(build.jobs[job_id])
        for job, target in generation.added:
            if target in job.others:
                job.others.remove(target)
        raise
    finally:
        build.generation = None


def adopt(build: Build, generation: Generation, returned: Any, run: BuildRun) -> tuple[list[BuildJob], list[Edge]]:
    """The jobs that are new to the run, and the needs that jobs of the run got.

    Raises:
        BuildError: something of it cannot be.
    """
    generator = generation.generator
    users = [build.jobs[user.id] for user in run.conductor.nodes[generator.id].users]
    if generator.kind == "inject":
        injected = build.flat(generator, (returned,))
        for user in users:
            build._extend(user, injected)
        if generator.details["must_use"]:
            _check_used(build, generation, injected)
    known = run.conductor.nodes
    ordered = in_order([*generation.declared.values(), *users], build.direct_needs)
    added = [job for job in ordered if job.id not in known]
    run.check_sources(added)
    for job in added:
        job.generated_by = generator.id
        if not job.is_invariant:
            run.demand(job)
    added = [job for job in added if job.kind != "finish"]
    edges = [(job.id, *_edge(build, target)) for job, target in generation.added if job.id in known]
    return added, edges


def _edge(build: Build, target: Any) -> tuple[str, str | None]:
    need, path = build.resolved(target)
    return need.id, path


def _check_used(build: Build, generation: Generation, injected: list[Any]) -> None:
    """Everything that was declared has to be for those who need the inject job."""
    targets = [*injected, *(target for _, target in generation.added)]
    used = {job.id for job in in_order([build.resolved(target)[0] for target in targets], build.direct_needs)}
    vain = [job.id for job in generation.declared.values() if job.id not in used and not job.is_invariant]
    if vain:
        raise JobContractError(
            f"{generation.generator.subject} declared {', '.join(map(repr, vain))}, which it did not return, and "
            "nobody needs: return them, or declare it with mustUse=False"
        )


