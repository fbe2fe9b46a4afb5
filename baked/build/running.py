"""One run of a build: a stream of one item, whose frame is the conductor and whose job is a worker's attempt.

The frame runs in a thread of the script's own process on the primary, so what it knows is live: records are written as
jobs end, and signals need nothing but flags. Workers are given one errand at a time. Every rank takes part in the
stream, also where there is nothing to do, since the others cannot know that.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from job_stream import Multiple, Work, getRank, hosts
from job_stream.errors import BuildError, JobStreamError

from .bookkeeping import Bookkeeping
from .conductor import JobOrder, Node, Status
from .errands import Errand, JobOutcome, Task, Worker, discard, left_by, packed_tasks, perform_task, task_of
from .fingerprints import Fingerprint
from .generating import Edge, adopt, generation_of
from .job import BuildJob
from .joblogs import holds_logs, remove_logs
from .mishaps import mishap_of
from .preparing import Selection

if TYPE_CHECKING:
    from .building import Build

__all__ = ["BuildRun", "Selection"]

SHOWN = 5
"""Of so many jobs that another one waits for the names are told."""


class BuildRun(Bookkeeping):
    """Takes a build through one run."""

    def start(self) -> None:
        """Decides as far as that goes without running anything."""
        self.has_logs = holds_logs(self.logs)
        self.conductor.start()
        for job in self.jobs:
            if job.is_invariant:
                self._watch(job)
        self._perform_orders()

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
        shown = ", ".join(f"{self._shown(job_id)} {now - self.began_at[job_id]:.0f} s" for job_id in running[:3])
        more = f" and {len(running) - 3} more" if len(running) > 3 else ""
        return (f"{self.screen.name}: made {statuses.count(Status.MADE)}, kept {statuses.count(Status.KEPT)}, "
                f"failed {len(self.failures)}, running {len(running)}: {shown}{more}")  # fmt: skip

    def told_at_length(self) -> str:
        """Each job that is under way, and what waits for what."""
        if not self._is_prepared:
            return f"{self.screen.name}: nothing runs yet"
        now, lines = time.time(), [self.told()]
        for node in list(self.conductor.nodes.values()):
            if node.status is Status.RUNNING:
                lines.append(f"  {self._shown(node.id)}: for {now - self.began_at[node.id]:.1f} s")
            elif node.status in {Status.WANTED, Status.WAITING} and node.role != "watch":
                before = [self.conductor.nodes[job_id] for job_id in node.after_ids]
                waits_for = [need.id for need in (*(need for need, _ in node.needs), *before) if not need.is_settled]
                names = list(map(self._shown, [*waits_for, *(need.id for need in node.awaited)]))
                shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
                lines.append(f"  {self._shown(node.id)} waits for {shown or 'a free core'}")
        return "\n".join(lines)

    def _shown(self, job_id: str) -> str:
        return self.build.jobs[job_id].shown

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
            if self.telling is not None:
                self.telling.look(self.outcomes)
            errands = [Errand(job_id, files=(self.build.absolute(job_id),), token=self.token)
                       for job_id in self._take_hashing()]  # fmt: skip
            errands += self._issue()
            if self.telling is not None:
                self.telling.look(self.outcomes)
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
        self._remove_logs([job_id, *(load for load in loads if load not in self._loads_begun)])
        self._loads_begun.update(loads)
        self.build.records.begin(job_id)
        return Errand(job_id, tuple(loads), tasks, token=self.token)

    def _remove_logs(self, job_ids: list[str]) -> None:
        """What an earlier attempt has written, which is not to be taken for what this one writes."""
        if self.has_logs:
            for job_id in job_ids:
                remove_logs(self.logs, job_id)

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

    def _perform(self, order: JobOrder) -> None:
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
        begin, found = time.time(), self._generated(job, loads)
        while isinstance(found, BaseException):
            if not self.may_try_again(job):
                self._fail(job, found)
                return
            found = self._generated(job, loads)
        added, edges = found
        job.seconds = time.time() - begin
        self.build.records.generated(job.id)
        self.generated.update(dict.fromkeys(each.id for each in added))
        self.conductor.generated(job.id, [self.node_of(each) for each in added], edges)
        for each in added:
            if each.is_invariant:
                self._watch(each)

    def _generated(self, job: BuildJob, loads: Iterable[str]) -> tuple[list[BuildJob], list[Edge]] | BaseException:
        """What a generator has declared, or why nothing of it counts."""
        try:
            with generation_of(self.build, job) as generation:
                values = self._values(loads)
                returned = perform_task(self._task(job.id)._replace(function=_with(job, self.build)), values)
                return adopt(self.build, generation, returned, self)
        except SystemExit as leaving:
            return left_by(job.subject, leaving)
        except BuildError as error:
            return error
        except Exception as error:
            return mishap_of(error).exception()

    def _values(self, loads: Iterable[str]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for load in loads:
            value = perform_task(self._task(load), values)
            values[load] = value.value if isinstance(value, Fingerprint) else value
        return values

    # the end ----------------------------------------------------------------------------------------------------------

    def close(self, is_killed: bool) -> None:
        """Notes how all has ended; what was under way when the run was ended is removed."""
        if is_killed:
            for node in self.conductor.nodes.values():
                if node.status is Status.RUNNING:
                    job = self.build.jobs[node.id]
                    discard(map(self.build.absolute, job.outputs.paths), job.details)
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



def _with(job: BuildJob, build: Build) -> Any:
    """A generator's function, which gets the build by position or by name."""
    if not job.filling:
        return job.function
    if job.filling == ("",):
        return lambda path, **keywords: job.function(build, **keywords)
    return lambda **keywords: job.function(**{**keywords, job.filling[0]: build})
