"""A run of a build before anything runs: which jobs take part, what they need of the machine, and what would happen.

Whatever can be refused is refused here: sources that are not there, variables of loops, more cores than any host has.
"""

from __future__ import annotations

import mmap
import os
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from job_stream import Work, hosts
from job_stream.errors import BuildError, JobStreamError

from .assessing import Assessor, unreadable
from .code import rebound
from .conductor import Conductor, Node
from .errands import JobOutcome
from .fingerprints import shortened
from .job import BuildJob
from .kinds import LOADS, bytes_of_memory
from .ordering import in_order
from .planning import BuildPlan, plan_of
from .records import JobRecord
from .resources import Demand, HostPlace, Queue, Resources

if TYPE_CHECKING:
    from .building import Build

if TYPE_CHECKING:
    from .building import Build
    from .run_events import RunEvents
    from .screen import Screen

__all__ = ["HaltFlag", "Preparation", "Selection"]


class HaltFlag:
    """A flag that workers of this host see: nothing new is to be begun."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 1)

    def __bool__(self) -> bool:
        return self._memory[0] != 0

    def set(self) -> None:
        self._memory[0] = 1


class Selection:
    """The jobs that take part in a run, needs first."""

    def __init__(self, build: Build, only: Iterable[str] | None) -> None:
        self.build = build
        chosen = [build.jobs[job_id] for job_id in (build.jobs if only is None else only)]
        wanted = [job for job in chosen if job.kind != "source"]  # one that nobody needs any more may be gone
        ordered = in_order(wanted, build.direct_needs)
        self.pruned = self._pruned(ordered)
        self.jobs = [job for job in ordered if job.id not in self.pruned and job.kind != "finish"]

    def _pruned(self, ordered: list[BuildJob]) -> dict[str, None]:
        pruned: dict[str, None] = {}
        for job in ordered:
            if job.is_pruned or any(need.id in pruned for need in self.build.direct_needs(job)):
                pruned[job.id] = None
        return pruned


class Preparation:
    """All that is known of a run, and what is done before it."""

    def __init__(self, build: Build, asked: Iterable[str], screen: Screen) -> None:
        self.build = build
        self.screen = screen
        self.asked = asked
        self.jobs: list[BuildJob] = []
        self.pruned: dict[str, None] = {}
        self.is_cancelled = False
        self.failures: dict[str, BaseException] = {}
        self.outcomes: dict[str, JobOutcome] = {}
        self.generated: dict[str, None] = {}
        self._attempts: dict[str, int] = {}
        self._deaths: dict[str, int] = {}
        self._known = frozenset(build.jobs)
        self._lock = threading.Lock()
        self._hashing: set[str] = set()
        self._to_hash: list[str] = []
        self._loads_recorded: set[str] = set()
        self.trouble: BaseException | None = None
        self.work: Work | None = None
        self.began_at: dict[str, float] = {}
        self.halt = HaltFlag()
        self.token: str | None = None
        self.logs = os.path.join(build.folder_text, "logs")
        self.has_logs = False
        self._loads_begun: set[str] = set()
        self.telling: RunEvents | None = None
        self._is_prepared = False

    # before anything runs ---------------------------------------------------------------------------------------------

    def prepare(self, selection: Selection) -> None:
        """Looks for what is missing, and has the conductor know all jobs."""
        self.jobs, self.pruned = selection.jobs, selection.pruned
        self.assessor = Assessor(self.build, self.build.records, self.asked, self.screen.warn)
        jobs = self.jobs
        self.check_sources(jobs)
        for job in jobs:
            check_variables(job)
        places, self.lanes = places_of(self.build.options)
        self.resources = Resources(places, self.build.options["limits"])
        self.queue = Queue(self.resources, ahead=self.lanes)
        self._demands = {job.id: self._demand_of(job) for job in jobs if not job.is_invariant}
        self.conductor = Conductor([self.node_of(job) for job in declared_first(jobs, self.build)], self.assessor,
                                   self.build.options["keepGoing"])  # fmt: skip
        self._is_prepared = True

    def _demand_of(self, job: BuildJob) -> Demand:
        options = job.options
        memory = bytes_of_memory(job.subject, options["memory"]) or 0
        demand = Demand(options["cores"], memory, options["limits"], options["host"])
        if demand.host is not None and len(self.resources.places) > 1:
            raise BuildError(f"{job.subject}: host= can be held only where all ranks are on one host, so far")
        if not demand.is_plain:
            self.resources.check(job.subject, demand)
        return demand

    def node_of(self, job: BuildJob) -> Node:
        """A job as the conductor sees it."""
        needs = [(need.id, path) for need, path in self.build.needs_of(job)]
        outputs, record = job.outputs, self.build.records.get(job.id)
        seconds = record.seconds if record is not None else None
        is_fleeting, priority = bool(outputs.temporary), job.options.get("priority", 0)
        lasting = [path for path in outputs.paths if path not in outputs.temporary] if is_fleeting else ()
        return Node(job.id, _role(job), needs, outputs.is_lazy, is_fleeting, priority, seconds,
                    [each.id for each in job.after], lasting)  # fmt: skip

    def check_sources(self, jobs: Iterable[BuildJob]) -> None:
        missing = [job.id for job in jobs if job.kind == "source" and not self._exists(job)]
        if missing:
            raise BuildError("; ".join(self._missing(path) for path in missing[:10]))

    def _exists(self, job: BuildJob) -> bool:
        path = self.build.absolute(job.id)
        if f"{self.build.folder_text}/".startswith(f"{path}/"):
            raise BuildError(f"{job.id!r} cannot be watched, since the build's own folder, which changes in every run, "
                             f"is in it: name what is needed of it ({job.where})")  # fmt: skip
        try:
            self.assessor.states.look(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise BuildError(unreadable(job, error)) from error
        return True

    def _missing(self, path: str) -> str:
        from difflib import get_close_matches

        users = [job.id for job in self.build.jobs.values()
                 if path in (need.id for need in self.build.direct_needs(job))]  # fmt: skip
        folder = os.path.dirname(path)
        known = [*self.build.makers, *self.build.jobs]
        with suppress(OSError):
            known += [os.path.join(folder, name) for name in os.listdir(self.build.absolute(folder or "."))]
        near = get_close_matches(path, [name for name in dict.fromkeys(known) if name != path], 3)
        hint = f"; near by: {', '.join(map(repr, near))}" if near else ""
        return f"{path!r} does not exist, and no job makes it; needed by {', '.join(map(repr, users[:5]))}{hint}"

    def _watch(self, job: BuildJob) -> None:
        if job.kind == "source" and self.assessor.is_dear(job.id):
            self._hashing.add(job.id)
            self._to_hash.append(job.id)
        else:
            found = self.assessor.watched(job)
            if job.unchanged is not None:
                self._record_value(job, found[job.id])
            self.conductor.watched(job.id, found)

    def _record_value(self, job: BuildJob, digest: str) -> None:
        """The value that later ones are to be compared with, where somebody says which changes matter."""
        old = self.build.records.get(job.id)
        if old is None or old.made_of != digest:
            params = {"": (digest, repr(job.watched))}
            self.build.records.done(job.id, JobRecord({}, {}, None, params, made_of=digest, ended=time.time()))

    def plan(self) -> BuildPlan:
        """What would run."""
        for job in self.jobs:
            if job.is_invariant:
                self.conductor.nodes[job.id].fingerprints = self.assessor.watched(job)
        return self.first_plan()

    def first_plan(self) -> BuildPlan:
        """What will run, as far as that can be known beforehand."""
        nodes = self.conductor.nodes
        exists = [job.id for job in map(self.build.jobs.__getitem__, nodes) if job.outputs.temporary
                  and any(os.path.exists(self.build.absolute(path)) for path in job.outputs.temporary)]  # fmt: skip
        return plan_of(nodes.values(), self.assessor, exists)

    @property
    def is_over(self) -> bool:
        """Whether nothing is to be run."""
        return not len(self.queue) and self.queue.is_idle and not self._hashing

    def demand(self, job: BuildJob) -> None:
        """Checks that a job which a generator declared can be run, and notes what it takes."""
        self._demands[job.id] = self._demand_of(job)


def check_variables(job: BuildJob) -> None:
    """Refuses a function that uses a variable which has got another value since the job was declared."""
    for name, before, now in rebound(job.function, job.captured) if job.captured else ():
        raise BuildError(
            f"{job.subject} uses `{name}`, which was {shortened(before)} when it was declared and is {shortened(now)} "
            f"now: pass it by params={{{name!r}: {name}}} or {name}={name} ({job.where})"
        )


def places_of(options: Mapping[str, Any]) -> tuple[list[HostPlace], int]:
    """What each host has, and how many workers there are; within a job, one core."""
    try:
        found = hosts()
    except JobStreamError:
        return [HostPlace(os.uname().nodename, 1, 1 << 62)], 1
    cores, memory = options["cores"], bytes_of_memory("build()", options["memory"])
    places = [HostPlace(host.name, cores or host.cpus, memory or host.memory) for host in found]
    return places, sum(place.cores for place in places)


def declared_first(jobs: Iterable[BuildJob], build: Build) -> list[BuildJob]:
    """In the order of their declaration, which is the order in which equals are begun."""
    chosen = {job.id: job for job in jobs}
    return [job for job in build.jobs.values() if job.id in chosen]


def _role(job: BuildJob) -> str:
    if job.is_invariant:
        return "watch"
    if job.kind in LOADS:
        return "load"
    return "file" if job.makes_files else "generate"
