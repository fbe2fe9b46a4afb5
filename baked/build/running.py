"""One run of a build: a stream of one item, whose frame is the conductor and whose job is a worker's attempt.

The frame runs in a thread of the script's own process on the primary, so what it knows is live: records are written as
jobs end, and signals need nothing but flags. Workers are given one errand at a time. Every rank takes part in the
stream, also where there is nothing to do, since the others cannot know that.
"""

from __future__ import annotations

import mmap
import os
import re
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from job_stream import Multiple, Work, getRank, hosts
from job_stream.errors import BuildError, JobContractError, JobDied, JobStreamError, JobTimeout, LaneDied

from .access import complaints
from .assessing import Assessor
from .code import rebound
from .conductor import Conductor, Node, Order, Status
from .errands import Errand, JobOutcome, Task, Worker, discard, is_isolated, packed_tasks, perform_task, task_of
from .fingerprints import Fingerprint, shortened
from .generating import adopt, generation_of
from .job import BuildJob
from .kinds import LOADS, bytes_of_memory
from .mishaps import mishap_of
from .ordering import in_order
from .planning import BuildPlan, plan_of
from .records import JobRecord
from .resources import Demand, HostPlace, Queue, Resources

if TYPE_CHECKING:
    from .building import Build
    from .screen import Screen

__all__ = ["BuildRun", "Selection"]

_DEATHS = 3
"""How often a worker may die under a job that has a process of its own, until the job is given up."""


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
        wanted = [build.jobs[job_id] for job_id in (build.jobs if only is None else only)]
        self.is_all = only is None
        ordered = in_order(wanted, build.direct_needs)
        self.pruned = self._pruned(ordered)
        self.jobs = [job for job in ordered if job.id not in self.pruned and job.kind != "finish"]

    def _pruned(self, ordered: list[BuildJob]) -> dict[str, None]:
        pruned: dict[str, None] = {}
        for job in ordered:
            if job.is_pruned or any(need.id in pruned for need in self.build.direct_needs(job)):
                pruned[job.id] = None
        return pruned


class BuildRun:
    """Takes a build through one run."""

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
        return Node(job.id, _role(job), needs, outputs.is_lazy, is_fleeting, priority, seconds)

    def check_sources(self, jobs: Iterable[BuildJob]) -> None:
        missing = [job.id for job in jobs if job.kind == "source" and not self._exists(job.id)]
        if missing:
            raise BuildError("; ".join(self._missing(path) for path in missing[:10]))

    def _exists(self, path: str) -> bool:
        try:
            self.assessor.states.look(self.build.absolute(path))
        except OSError:
            return False
        return True

    def _missing(self, path: str) -> str:
        from difflib import get_close_matches

        users = [job.id for job in self.build.jobs.values() if path in (need.id for need in self.build.direct_needs(job))]
        folder = os.path.dirname(path)
        known = [*self.build.makers, *self.build.jobs]
        with suppress(OSError):
            known += [os.path.join(folder, name) for name in os.listdir(self.build.absolute(folder or "."))]
        near = get_close_matches(path, [name for name in dict.fromkeys(known) if name != path], 3)
        hint = f"; near by: {', '.join(map(repr, near))}" if near else ""
        return f"{path!r} does not exist, and no job makes it; needed by {', '.join(map(repr, users[:5]))}{hint}"

    def start(self) -> None:
        """Decides as far as that goes without running anything."""
        self.conductor.start()
        for job in self.jobs:
            if job.is_invariant:
                self._watch(job)
        self._perform_orders()

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

    def accept(self, accepted: Iterable[str]) -> None:
        """Records files that are there as made from what there is now."""
        for job in self.jobs:
            node = self.conductor.nodes[job.id]
            node.needs_before = self.conductor.fingerprints_of_needs(node)
            node.fingerprints = self._present(job, node.needs_before)
        for job_id in accepted:
            job = self.build.jobs[job_id]
            states = self.assessor.outputs_of(job)
            gone = [path for path in job.outputs.paths if path not in states and path not in job.outputs.temporary]
            if gone or not job.makes_files:
                raise BuildError(f"accept() takes files that are there: {job.subject} has no {', '.join(gone) or 'files'}")
            self._record(job, states)

    def _present(self, job: BuildJob, needs: Mapping[str, str]) -> Mapping[str, str]:
        if job.is_invariant:
            return self.assessor.watched(job)
        if job.kind in LOADS:
            return {job.id: self.assessor.of_load(job.id, needs)}
        states = self.assessor.outputs_of(job)
        return {path: states[path].digest if path in states else "" for path in job.outputs.paths}

    def first_plan(self) -> BuildPlan:
        """What will run, as far as that can be known beforehand."""
        nodes = [self.conductor.nodes[job.id] for job in self.jobs]
        exists = [job.id for job in self.jobs if job.outputs.temporary
                  and any(os.path.exists(self.build.absolute(path)) for path in job.outputs.temporary)]  # fmt: skip
        return plan_of(nodes, self.assessor, exists)

    @property
    def is_over(self) -> bool:
        """Whether nothing is to be run."""
        return not len(self.queue) and self.queue.is_idle and not self._hashing

    # the stream -------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Runs what is to be run; on other ranks than the primary, helps."""
        work = Work([0], checkpointFile=False, stats=False, cpus=self._cpus())
        options = self.build.options
        worker = Worker(self.build, self.build.folder_text, options["isolate"], options["logs"], self.halt,
                        None if options["undeclared"] == "off" else str(self.build.root))  # fmt: skip

        @work.frame(where="primary", useMultiprocessing=False)
        def conduct(store: Any, first: Any) -> Any:
            if self.trouble is not None:
                raise self.trouble
            return self._next()

        @work.job(alone=True, onError="pass", deaths=1)
        def attempt(errand: Errand) -> JobOutcome:
            return worker.perform(errand)

        @work.frameEnd(useMultiprocessing=False)
        def take_in(store: Any, outcome: Any) -> Any:
            with self._lock:
                self._take_in(outcome)
            return self._next()

        self.work = work
        work.run()

    # from outside -----------------------------------------------------------------------------------------------------

    def stop(self) -> int:
        """Has nothing new begun; how many jobs are under way. Also from a signal handler."""
        self.halt.set()
        if not self._is_prepared:
            return 0
        self.conductor.stop()
        return sum(node.status is Status.RUNNING for node in list(self.conductor.nodes.values()))

    def cancel(self) -> None:
        """Ends what is under way. Also from a signal handler."""
        self.is_cancelled = True
        self.stop()
        if self.work is not None:
            self.work.cancel()

    def told(self) -> str:
        """How far it is, in a line."""
        statuses = [node.status for node in self.conductor.nodes.values() if node.role != "watch"]
        running = [job_id for job_id, node in self.conductor.nodes.items() if node.status is Status.RUNNING]
        now = time.time()
        shown = ", ".join(f"{job_id} {now - self.began_at[job_id]:.0f} s" for job_id in running[:3])
        more = f" and {len(running) - 3} more" if len(running) > 3 else ""
        return (f"build: made {statuses.count(Status.MADE)}, kept {statuses.count(Status.KEPT)}, "
                f"failed {len(self.failures)}, running {len(running)}: {shown}{more}")  # fmt: skip

    def told_at_length(self) -> str:
        """Each job that is under way, and what waits for what."""
        if not self._is_prepared:
            return "build: nothing runs yet"
        now, lines = time.time(), [self.told()]
        for node in list(self.conductor.nodes.values()):
            if node.status is Status.RUNNING:
                lines.append(f"  {node.id}: for {now - self.began_at[node.id]:.1f} s")
            elif node.status in {Status.WANTED, Status.WAITING} and node.role != "watch":
                waits_for = [need.id for need, _ in node.needs if not need.is_settled] + [n.id for n in node.awaited]
                lines.append(f"  {node.id} waits for {', '.join(waits_for) or 'a free core'}")
        return "\n".join(lines)

    def _cpus(self) -> int | None:
        """How many workers this rank is to have, where the build says how many cores it uses of each host."""
        cores = self.build.options["cores"]
        try:
            here = next(host for host in hosts() if getRank() in host.ranks)
        except JobStreamError:
            return None
        return None if cores is None else max(1, cores // len(here.ranks))

    def _next(self) -> Any:
        """The errands that can be given out now; nothing where there are none, which ends the loop if none is out."""
        with self._lock:
            errands = [Errand(job_id, files=(self.build.absolute(job_id),), token=self.token) for job_id in self._take_hashing()]
            errands += self._issue()
            return Multiple(errands[::-1]) if errands else None  # the stream takes the last one first

    def _take_hashing(self) -> list[str]:
        given, self._to_hash = self._to_hash, []
        return given

    def _issue(self) -> Iterator[Errand]:
        self._perform_orders()
        while begun := self.queue.begin():
            for job_id in begun:
                if not self.conductor.can_begin(job_id):
                    self.queue.done(job_id)
                    self._perform_orders()
                    continue
                errand = self._begun(job_id)
                if errand is not None:
                    yield errand
        self.screen.progress(self)

    def _begun(self, job_id: str) -> Errand | None:
        """What a worker is told to do; None where that cannot be told, so that the job has failed."""
        try:
            return self._begin(job_id)
        except BuildError as error:
            self.queue.done(job_id)
            self._fail(self.build.jobs[job_id], error)
            self._perform_orders()
            return None

    def _begin(self, job_id: str) -> Errand:
        node = self.conductor.nodes[job_id]
        loads = self.conductor.loads_of(node)
        strange = [name for name in (*loads, job_id) if name not in self._known]
        tasks = packed_tasks([self._task(name) for name in strange]) if strange else None
        self.conductor.began(job_id, loads)
        self.began_at[job_id] = time.time()
        self.build.records.begin(job_id)
        return Errand(job_id, tuple(loads), tasks, token=self.token)

    def _task(self, job_id: str) -> Task:
        options = self.build.options
        return task_of(self.build, self.build.jobs[job_id], options["isolate"], options["logs"])

    # orders -----------------------------------------------------------------------------------------------------------

    def _perform_orders(self) -> None:
        """What the conductor wants done, until it wants nothing more."""
        while self.conductor.orders:
            orders, self.conductor.orders = self.conductor.orders, []
            for order in orders:
                self._perform(order)

    def _perform(self, order: Order) -> None:
        node = self.conductor.nodes[order.job_id]
        if order.verb == "run":
            self.queue.add(node.id, self._demands[node.id], node.priority, node.way_length, node.number)
        elif order.verb == "generate":
            self._generate(node)
        elif order.verb == "remove":
            self._remove(self.build.jobs[node.id])
        else:
            self._record(self.build.jobs[node.id], self.assessor.outputs_of(self.build.jobs[node.id]))

    def _remove(self, job: BuildJob) -> None:
        for path in job.outputs.temporary:
            absolute = self.build.absolute(path)
            self.assessor.states.note(absolute, None)
            with suppress(FileNotFoundError):
                os.unlink(absolute)
                self.build.records.removed(path)

    def _generate(self, node: Node) -> None:
        """Runs a generator here, in the process where jobs can be declared."""
        if not self.conductor.can_begin(node.id):
            return
        job = self.build.jobs[node.id]
        loads = self.conductor.loads_of(node)
        self.conductor.began(node.id, loads)
        begin = time.time()
        try:
            with generation_of(self.build, job) as generation:
                values = self._values(loads)
                returned = perform_task(self._task(job.id)._replace(function=_with(job, self.build)), values)
                added, edges = adopt(self.build, generation, returned, self)
        except Exception as error:
            self._fail(job, mishap_of(error).exception() if not isinstance(error, BuildError) else error)
            return
        job.seconds = time.time() - begin
        self.generated.update(dict.fromkeys(each.id for each in added))
        self.conductor.generated(job.id, [self.node_of(each) for each in added], edges)
        for each in added:
            if each.is_invariant:
                self._watch(each)

    def _values(self, loads: Iterable[str]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for load in loads:
            value = perform_task(self._task(load), values)
            values[load] = value.value if isinstance(value, Fingerprint) else value
        return values

    def demand(self, job: BuildJob) -> None:
        """Checks that a job which a generator declared can be run, and notes what it takes."""
        self._demands[job.id] = self._demand_of(job)

    # what comes back --------------------------------------------------------------------------------------------------

    def _take_in(self, outcome: Any) -> None:
        if not isinstance(outcome, JobOutcome):
            self._take_failure(outcome)
        elif outcome.is_blind:
            raise BuildError(f"the host {outcome.host} does not see the folder {self.build.folder}: builds on several hosts "
                             "need one that all of them share")  # fmt: skip
        elif outcome.job in self._hashing:
            self._take_hash(outcome)
        else:
            self.queue.done(outcome.job)
            self._take_outcome(self.build.jobs[outcome.job], outcome)

    def _take_hash(self, outcome: JobOutcome) -> None:
        self._hashing.discard(outcome.job)
        job = self.build.jobs[outcome.job]
        self.assessor.states.note(self.build.absolute(job.id), outcome.states[0])
        self.conductor.watched(job.id, self.assessor.watched(job))

    def _take_failure(self, failure: Any) -> None:
        """A worker has died, or something of ours went wrong there."""
        job = self.build.jobs[failure.item.job]
        if job.id in self._hashing:
            self._hashing.discard(job.id)
            self.conductor.watched(job.id, self.assessor.watched(job))
            return
        self.queue.done(job.id)
        deaths = self._deaths[job.id] = self._deaths.get(job.id, 0) + 1
        if is_isolated(job, self.build.options["isolate"]) and deaths < _DEATHS and isinstance(failure.exception, LaneDied):
            self.conductor.again(job.id)
            return
        error = failure.exception
        if isinstance(error, LaneDied):
            error = JobDied(f"{job.subject} ended the worker that it ran in: {failure.reason.strip()}",
                            *_end_in(failure.reason))  # fmt: skip
        self._fail(job, error)

    def _take_outcome(self, job: BuildJob, outcome: JobOutcome) -> None:
        self._note(job, outcome)
        if outcome.is_given_back:
            self.conductor.stopped(job.id)
        elif outcome.guilty is not None:
            self._fail_load(job, outcome)
        elif outcome.is_success:
            self._succeed(job, outcome)
        else:
            attempts = self._attempts[job.id] = self._attempts.get(job.id, 0) + 1
            if attempts <= job.options["retries"] and not self.conductor.is_stopping:
                self.conductor.again(job.id)
            else:
                self._fail(job, self._error_of(job, outcome))

    def _note(self, job: BuildJob, outcome: JobOutcome) -> None:
        self.outcomes[job.id] = outcome
        job.stdout, job.stderr = outcome.stdout, outcome.stderr
        job.seconds, job.maxMemory = outcome.seconds, outcome.max_memory or None
        job.host, job.pid = outcome.host, outcome.pid or None
        if (job.options["logs"] or self.build.options["logs"]) == "echo":
            self.screen.echo(job, outcome)

    def _succeed(self, job: BuildJob, outcome: JobOutcome) -> None:
        said = complaints(self.build, job, outcome.opened) if outcome.opened else []
        if said and self.build.options["undeclared"] == "error":
            discard(map(self.build.absolute, job.outputs.paths), job.details.get("keep_broken", False))
            self._fail(job, JobContractError("; ".join(said)))
            return
        for text in said:
            self.screen.warn(text)
        states = {path: state for path, state in zip(job.outputs.paths, outcome.states, strict=True) if state}
        for path, state in states.items():
            self.assessor.states.note(self.build.absolute(path), state)
        for load, text in outcome.explicit.items():
            self._note_explicit(job, load, text)
        self._record_loads(job, outcome)
        self.conductor.ended(job.id, {path: state.digest for path, state in states.items()})
        self._record(job, states)
        self._warn_of_changes(job)

    def _note_explicit(self, job: BuildJob, load: str, text: str) -> None:
        """A value has said its own fingerprint, which is what its users are to have on record."""
        from .fingerprints import fingerprint_of

        before = self.conductor.nodes[job.id].needs_before
        if load in before:
            before[load] = fingerprint_of(text)

    def _record_loads(self, job: BuildJob, outcome: JobOutcome) -> None:
        for load in self.conductor.loads_of(self.conductor.nodes[job.id]):
            if load not in self._loads_recorded:
                self._loads_recorded.add(load)
                needs = self.conductor.nodes[load].needs_before
                made_of = self.assessor.made_of(self.build.jobs[load], needs)
                self._write(self.build.jobs[load], {}, made_of, outcome.explicit.get(load))

    def _record(self, job: BuildJob, states: Mapping[str, Any]) -> None:
        self._write(job, states)

    def _write(self, job: BuildJob, states: Mapping[str, Any], made_of: str | None = None, explicit: str | None = None
               ) -> None:  # fmt: skip
        node, old = self.conductor.nodes[job.id], self.build.records.before(job.id)
        code = self.assessor.code_of(job)
        if not job.options["codeChanges"] and old is not None:
            code = old.code
        prints = {path: value for path, value in node.fingerprints.items()
                  if path in states and states[path].digest != value}  # fmt: skip
        outcome = self.outcomes.get(job.id)
        record = JobRecord(
            needs=dict(node.needs_before), outputs=dict(states), code=code, params=self.assessor.params_of(job),
            logical=prints, made_of=made_of, explicit=explicit,
            seconds=outcome.seconds if outcome else (old.seconds if old is not None else None),
            cpu=outcome.cpu if outcome else None, max_memory=outcome.max_memory if outcome else None,
            host=outcome.host if outcome else "", reasons=tuple(node.reasons), sources=self._source_states(node),
            ended=time.time(),
        )  # fmt: skip
        self._note_code(job)
        self.build.records.done(job.id, record)

    def _note_code(self, job: BuildJob) -> None:
        """The source behind the hash goes on record once; what of it cannot be watched is said then."""
        found = self.assessor.code_print(job)
        if found is not None and self.build.records.code(found):
            for name, kind in found.unwatched:
                self.screen.warn(f"not watched: {name} ({kind}), which {job.id} uses; give params= if it matters")

    def _source_states(self, node: Node) -> dict[str, Any]:
        found = {}
        for need, _ in node.needs:
            if need.role == "watch" and self.build.jobs[need.id].kind == "source":
                state = self.assessor.states.look(self.build.absolute(need.id))
                if state is not None:
                    found[need.id] = state
        return found

    def _warn_of_changes(self, job: BuildJob) -> None:
        """A source that was changed while the job ran: the record has what it was before."""
        for path, state in self._source_states(self.conductor.nodes[job.id]).items():
            with suppress(OSError):
                info = os.stat(self.build.absolute(path))
                if (info.st_mtime_ns, info.st_size) != (state.mtime_ns, state.size) and not os.path.isdir(
                    self.build.absolute(path)
                ):
                    self.screen.warn(f"{path} changed while {job.id} was made from it, so that runs again next time")

    # failures ---------------------------------------------------------------------------------------------------------

    def _fail(self, job: BuildJob, error: BaseException) -> None:
        self.failures[job.id] = job.exception = error
        job.exitCode = getattr(error, "exitCode", None)
        node = self.conductor.nodes[job.id]
        self.build.records.failed(job.id, str(error), node.reasons)
        self.conductor.failed(job.id)
        for path in job.outputs.paths:
            self.assessor.states.note(self.build.absolute(path), None)
        self.screen.failed(self, job, error)

    def _fail_load(self, job: BuildJob, outcome: JobOutcome) -> None:
        load = self.build.jobs[str(outcome.guilty)]
        if load.id not in self.failures and outcome.mishap is not None:
            self._fail(load, outcome.mishap.exception())
        self.build.records.failed(job.id, f"blocked by {load.id}", [])
        self.conductor.blocked(job.id)

    def _error_of(self, job: BuildJob, outcome: JobOutcome) -> BaseException:
        if outcome.is_late:
            return JobTimeout(f"{job.subject} took longer than its timeout of {job.options['timeout']:g} s, so it was "
                              "ended with all that it had started")  # fmt: skip
        if outcome.mishap is not None:
            return outcome.mishap.exception()
        if outcome.broken:
            return JobContractError(f"{job.subject} has not made what it was to make: {'; '.join(outcome.broken)}")
        return _death(job, outcome)

    # the end ----------------------------------------------------------------------------------------------------------

    def close(self, is_killed: bool) -> None:
        """Notes how all has ended; what was under way when the run was ended is removed."""
        if is_killed:
            for node in self.conductor.nodes.values():
                if node.status is Status.RUNNING:
                    job = self.build.jobs[node.id]
                    discard((self.build.absolute(path) for path in job.outputs.paths),
                            job.details.get("keep_broken", False))  # fmt: skip
            self.conductor.stop()
        self.conductor.end()
        if not is_killed:
            self._perform_orders()
        for node in self.conductor.nodes.values():
            job = self.build.jobs[node.id]
            is_loaded = node.id in self.conductor.loads_used and node.status is Status.KEPT
            job.state = "made" if is_loaded else node.status.value
            job.reasons = node.reasons
        for job_id in self.pruned:
            self.build.jobs[job_id].state = "pruned"


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


def _with(job: BuildJob, build: Build) -> Any:
    """A generator's function, which gets the build by position or by name."""
    if not job.filling:
        return job.function
    if job.filling == ("",):
        return lambda path, **keywords: job.function(build, **keywords)
    return lambda **keywords: job.function(**{**keywords, job.filling[0]: build})


def _death(job: BuildJob, outcome: JobOutcome) -> JobDied:
    status = outcome.status or 0
    if os.WIFSIGNALED(status):
        name = _signal_name(os.WTERMSIG(status))
        memory = " (out of memory?)" if outcome.is_oom else ""
        return JobDied(f"{job.subject} was ended by {name}{memory}", None, name)
    code = os.waitstatus_to_exitcode(status)
    return JobDied(f"{job.subject} ended its process with exit code {code} instead of returning", code, None)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _end_in(reason: str) -> tuple[int | None, str | None]:
    """The exit code or signal that the engine's words about a dead worker name."""
    name = re.search(r"\bSIG[A-Z0-9]+\b", reason)
    code = re.search(r"exit code (\d+)", reason)
    return (int(code[1]) if code and not name else None), (name[0] if name else None)
