"""``build``: the graph of jobs that a script declares, and what can be done with it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from job_stream import __version__, getRank, hosts
from job_stream.errors import BuildError, GraphError, JobStreamError

from .explaining import why_of
from .folder_lock import FolderLock
from .graph_record import note_graph, undeclared
from .interrupts import Interrupts, signals_ignored
from .job import BuildJob, JobFile
from .joblogs import remove_scratch
from .kinds import GENERATORS, bytes_of_memory, check_cores, check_limits, check_logs, nearest, text_of_path
from .mishaps import mishap_of
from .outcome_report import BuildReport
from .planning import BuildPlan
from .programs import ProgramDecorators
from .records import INVALIDATED, Records
from .run_events import Events, RunEvents
from .running import BuildRun, Selection
from .screen import Screen

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["Build", "build"]

T = TypeVar("T")

_OWN = frozenset({"lock", "logs"})
"""What a build has in its folder, besides its history."""

_LINES = 10
"""How many lines of the plan are shown before a run."""

_KNOWN = ("folder", "cores", "memory", "limits", "keepGoing", "isolate", "logs", "undeclared", "redefine", "quiet")


def build(
    folder: str | os.PathLike[str] = ".build", *, cores: int | None = None, memory: int | str | None = None,
    limits: Mapping[str, int] | None = None, keepGoing: bool = True, isolate: bool = True,
    logs: Literal["failed", "all", "echo"] = "failed", undeclared: Literal["warn", "error", "off"] = "warn",
    redefine: bool = False, quiet: bool = False, **unknown: Any,
) -> Build:  # fmt: skip
    """A graph of jobs that make files, of which those run that have to.

    Args:
        folder: for the history, logs and cached values. Paths of jobs are relative to the folder it is in.
        cores: how many to use of each host; by default all that job_stream uses.
        memory: how much to use of each host, in bytes or as '8G'; by default what there is.
        limits: named counters, of which jobs can take.
        keepGoing: whether, after a failure, jobs are begun that do not depend on it.
        isolate: whether each job that makes files has a process of its own.
        logs: which outputs of jobs stay in files: those of failed ones, or all; 'echo' shows them as well.
        undeclared: what happens when a job opens a file that another one makes, without needing it.
        redefine: whether a job that is declared again takes the place of the earlier one, as in notebooks.
        quiet: whether only failures are told on stderr.

    Raises:
        BuildError: a value makes no sense, or the folder cannot be used.

    Example:
        >>> from job_stream.baked import build
        >>> with build() as b:  # doctest: +SKIP
        ...     @b.file("words.txt", needs={"text": "book.txt"})
        ...     def words(path, text):
        ...         path.write_text("\\n".join(text.read_text().split()))
    """
    for name in unknown:
        raise BuildError(f"build() does not know the keyword {name!r}{nearest(name, _KNOWN)}")
    options = {"cores": cores, "memory": memory, "limits": limits or {}, "keepGoing": keepGoing, "isolate": isolate,
               "logs": logs, "undeclared": undeclared, "quiet": quiet}  # fmt: skip
    _check(options)
    return Build(folder, options, redefine)


def _check(options: Mapping[str, Any]) -> None:
    if options["cores"] is not None:
        check_cores("build()", options["cores"])
        if not isinstance(options["cores"], int) or options["cores"] < 1:
            raise BuildError(f"build(cores={options['cores']!r}): a number from 1 on")
    bytes_of_memory("build()", options["memory"])
    check_limits("build()", options["limits"])
    check_logs("build()", options["logs"])
    for name in ("keepGoing", "isolate", "quiet"):
        if not isinstance(options[name], bool):
            raise BuildError(f"build({name}={options[name]!r}) is neither True nor False")
    if options["undeclared"] not in ("warn", "error", "off"):
        raise BuildError(f"build(undeclared={options['undeclared']!r}) is none of 'warn', 'error', 'off'")


class Build(ProgramDecorators):
    """What ``build()`` returns.

    Attributes:
        jobs: all jobs and invariants by their ids.
        root: the folder that paths are relative to.
        name: what lines on stderr begin with.
    """

    name = "build"

    def __init__(self, folder: str | os.PathLike[str], options: dict[str, Any], redefine: bool) -> None:
        text = text_of_path(folder)
        if not text:
            raise BuildError(f"build() takes the path of a folder, not {folder!r}")
        self.folder = Path(os.path.abspath(text))
        self.folder_text = str(self.folder)
        super().__init__(self.folder.parent, redefine)
        self.options = options
        self._check_folder()
        self._has_run = False
        self._run: BuildRun | None = None
        self._opened: Records | None = None
        self._lock: FolderLock | None = None
        self._invalid: set[str] = set()

    def _output(self, path: Any, what: str) -> str:
        found = super()._output(path, what)
        inside = self.absolute(found).removeprefix(f"{self.folder_text}/").partition("/")[0]
        if inside in _OWN or inside.startswith(("lock.", "history.jsonl")):
            raise BuildError(f"{what}: {found!r} is the build's own, so no job can make it: give it another name")
        return found

    def register(self, job: BuildJob, needs: tuple[Any, ...] = ()) -> BuildJob:
        self.check_usable()
        if self._run is not None and self.generation is None:
            raise BuildError(f"{job.subject} is declared while the build runs, so it would not: declare it before, or "
                             f"in a generate or inject job ({job.where})")  # fmt: skip
        return super().register(job, needs)

    def _check_folder(self) -> None:
        if self.folder.exists() and not self.folder.is_dir():
            raise BuildError(f"the folder of a build is to be {self.folder}, which is a file")
        above = next(path for path in (self.folder, *self.folder.parents) if path.exists())
        if not os.access(above, os.W_OK | os.X_OK):
            raise BuildError(f"the folder of a build is to be {self.folder}, where nothing can be written")

    # the jobs ---------------------------------------------------------------------------------------------------------

    def __getitem__(self, job_id: Any) -> BuildJob:
        """A job by its id, or by the path of any of its files."""
        found = self._found(job_id)
        if found is None:
            raise BuildError(f"there is no job {job_id!r}{nearest(job_id, [*self.jobs, *self.makers])}")
        return found

    def _found(self, job: Any) -> BuildJob | None:
        if isinstance(job, (BuildJob, JobFile)):
            return job if isinstance(job, BuildJob) else job.job
        text = text_of_path(job)
        if not text:
            return None
        return self.jobs.get(text) or self.makers.get(self.relative(text)) or self.jobs.get(self.relative(text))

    def direct_needs(self, job: BuildJob) -> list[BuildJob]:
        """The jobs that it needs, or comes after."""
        return [*(need for need, _ in self.needs_of(job)), *job.after]

    def _ids(self, given: Any, what: str, takes_later: bool = False) -> list[str]:
        """Ids that jobs, ids and patterns stand for; also of jobs that a generator is yet to declare."""
        if given is None:
            return []
        if isinstance(given, (BuildJob, JobFile)) or text_of_path(given) is not None:
            given = [given]
        elif not isinstance(given, Iterable):
            raise BuildError(f"{what} takes jobs, ids and patterns, or lists of them, not {given!r}")
        each = list(given)
        found: dict[str, None] = {}
        for one in each:
            job = self._found(one)
            ids = [job.id] if job is not None else self._matching(str(one))
            if job is None and takes_later:
                ids += self._later(str(one))
            if not ids:
                raise BuildError(f"{what}: no job is called {one!r}{nearest(one, [*self.jobs, *self.makers])}"
                                 f"{self._hint_of_later()}")  # fmt: skip
            found.update(dict.fromkeys(ids))
        return list(found)

    def _later(self, pattern: str) -> list[str]:
        """What generators declared when they ran last, which they are to declare again."""
        try:
            entries = undeclared(self)
        finally:
            if self._run is None:
                self._release()
        return [job_id for job_id, entry in entries.items()
                if any(fnmatchcase(name, pattern) for name in (job_id, *entry.get("files", ())))]  # fmt: skip

    def _hint_of_later(self) -> str:
        if not any(job.kind in GENERATORS for job in self.jobs.values()):
            return ""
        return " (what a generator declares is known only when it has run)"

    def _matching(self, pattern: str) -> list[str]:
        by_path = [job.id for path, job in self.makers.items() if fnmatchcase(path, pattern)]
        return by_path + [job_id for job_id in self.jobs if fnmatchcase(job_id, pattern)]

    @property
    def records(self) -> Records:
        """What earlier runs have left."""
        if self._opened is None:
            self._opened = Records(self.folder_text, self._warn, is_read_only=True)
        return self._opened

    def _warn(self, text: str) -> None:
        Screen(self.options["quiet"], "", self.name).warn(text)

    def _claim(self) -> None:
        """Has the folder for this run alone, and reads what is in it."""
        try:
            os.makedirs(os.path.join(self.folder_text, "logs"), exist_ok=True)
        except OSError as error:
            raise BuildError(f"the folder {self.folder} cannot be made: {error.strerror}") from error
        self._lock = FolderLock(os.path.join(self.folder_text, "lock"))
        self._opened = Records(self.folder_text, self._warn)

    # running ----------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and not self._has_run and not self._is_cancelled:
            self.run()

    def run(
        self, only: Any = None, again: Any = (), raiseErrors: bool = True, events: Events | None = None,
        planned: Callable[[BuildPlan], object] | None = None,
    ) -> BuildReport | None:  # fmt: skip
        """Runs what has to be run.

        Args:
            only: ids or jobs: these, and what they need, are all that is looked at.
            again: ids, jobs or patterns of what is made anew though nothing has changed.
            raiseErrors: whether failures are raised at the end.
            events: called in the script's thread with the id of a job, its state ('running', 'made', 'kept', 'failed'
                or 'blocked') and seconds, as that becomes known. The build then runs in a thread of its own.
            planned: called with the plan before anything runs, if anything has to; what large files are like by now is
                not known then.

        Returns:
            what was made, kept and so on; on ranks other than the primary, None.

        Raises:
            BuildError: a source is missing, or a job cannot run here.
            CycleError: jobs need each other in a circle.
            GraphError: jobs failed.
        """
        self.check_usable()
        self._check_idle()
        only, again, wants_plan = self._from_environment(only, again)
        self._has_run = True
        if wants_plan:
            self._show_plan(only, again)
        self._forget_generated()
        if _is_helper():
            self._help()
            return None
        try:
            return self._run_here(only, again, raiseErrors, events, planned)
        finally:
            self._run = None
            self._release()

    def _run_here(
        self, only: Any, again: Any, raises: bool, events: Events | None,
        planned: Callable[[BuildPlan], object] | None,
    ) -> BuildReport:  # fmt: skip
        begin = time.time()
        run = self._made_run(only, again)
        telling = None if events is None else RunEvents(events, run.conductor.nodes if run.trouble is None else {})
        report = None
        with Interrupts(run) as interrupts:
            if telling is None:
                self._perform(run, planned)
            else:
                run.telling = telling
                telling.tell_while(lambda: self._perform(run, planned))
            if interrupts.code is not None:  # one signal more changes nothing while all is put away
                report = self._concluded(run, interrupts.is_killed or run.is_cancelled, begin)
                self._release()
        if report is None:
            report = self._concluded(run, interrupts.is_killed, begin)
        if telling is not None:
            telling.tell_rest()
        interrupts.leave()
        if run.failures and raises:
            raise GraphError(run.screen.failures(run.failures, self.jobs), run.failures)
        return report

    def _check_idle(self) -> None:
        if self._run is not None:
            raise BuildError("the build is running already: a generator declares jobs, and they are run")

    def _made_run(self, only: Any, again: Any) -> BuildRun:
        screen = Screen(self.options["quiet"], os.path.join(self.folder_text, "logs"), self.name)
        run = self._run = BuildRun(self, self._invalid, screen)
        for job in self.jobs.values():
            job.state, job.exception, job.reasons = "new", None, []
        try:
            self._claim()
            if _rank_count() > 1:
                run.token = os.path.join(self.folder_text, "lock")
            self.records.run(__version__)
            run.asked = {*self._ids(again, "again=", True), *self._invalid}
            run.prepare(Selection(self, None if only is None else self._ids(only, "only=")))
            run.start()
            if self.records.graph is None:
                note_graph(self)
        except BaseException as error:
            if _rank_count() == 1:
                raise
            run.trouble = error
        self._invalid.clear()
        return run

    def _perform(self, run: BuildRun, planned: Callable[[BuildPlan], object] | None) -> None:
        """Nothing need be started where there is nothing to do, unless other ranks wait for it."""
        if _rank_count() == 1 and run.is_over:
            return
        if run.trouble is None and not self.options["quiet"]:
            run.screen.plan(run.first_plan(), _LINES)
        if run.trouble is None and planned is not None:
            planned(run.first_plan())
        run.run()

    def _help(self) -> None:
        with signals_ignored():
            BuildRun(self, (), Screen(True, "")).run()

    def _concluded(self, run: BuildRun, is_killed: bool, begin: float) -> BuildReport:
        run.close(is_killed)
        note_graph(self)
        if not run.failures and not run.conductor.is_stopping:
            self._finish(run)
        remove_scratch(run.logs)
        report = self._report(run, time.time() - begin)
        run.screen.end(report)
        return report

    def _release(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _finish(self, run: BuildRun) -> None:
        for job in [job for job in self.jobs.values() if job.kind == "finish" and not job.is_pruned]:
            try:
                job.function(**job.params)
                job.state = "made"
            except Exception as error:
                job.state = "failed"
                run.failures[job.id] = job.exception = mishap_of(error).exception()
                run.screen.failed(job, job.exception)

    def _report(self, run: BuildRun, seconds: float) -> BuildReport:
        ids: dict[str, list[str]] = {name: [] for name in BuildReport._fields[:6]}
        for job_id in (*run.conductor.nodes, *run.pruned):
            job = self.jobs[job_id]
            if not job.is_invariant:
                ids[job.state].append(job_id)
        for job in self.jobs.values():
            if job.kind == "finish" and job.state in {"made", "failed"}:
                ids[job.state].append(job.id)
        reasons = {job_id: list(self.jobs[job_id].reasons) for job_id in (*ids["made"], *ids["failed"])}
        return BuildReport(**ids, reasons=reasons, seconds=seconds)

    def _forget_generated(self) -> None:
        """What generators declared in an earlier run, they declare again."""
        gone = [job for job in self.jobs.values() if job.generated_by is not None]
        for job in gone:
            self.forget(job)
        for job in gone:
            if job.generated_by in self.jobs:
                self.jobs[job.generated_by].state = "new"
        if gone:
            for job in self.jobs.values():
                job.others = [each for each in job.others if not isinstance(each, (BuildJob, JobFile))
                              or (each.job if isinstance(each, JobFile) else each) not in gone]  # fmt: skip

    def cancel(self) -> None:
        """Ends the run that is under way, as Ctrl-C twice does; the build cannot be used any more."""
        self.check_usable()
        self._is_cancelled = True
        if self._run is not None:
            self._run.cancel()

    # looking ----------------------------------------------------------------------------------------------------------

    def plan(self, only: Any = None, again: Any = ()) -> BuildPlan:
        """What would run, and why; nothing is run, made, removed or recorded."""
        self.check_usable()
        self._check_idle()
        return self._looking(lambda run: run.plan(), only, again)

    def why(self, id: Any) -> str:
        """Why a job ran last, and why it would run now: what of its code, parameters and needs was, and is."""
        self.check_usable()
        self._check_idle()
        job = self[id]
        return self._looking(lambda run: why_of(run, job))

    def _looking(self, look: Callable[[BuildRun], T], only: Any = None, again: Any = ()) -> T:
        """What ``look`` says of a run that is prepared, and never begun."""
        self._forget_generated()
        run = BuildRun(self, {*self._ids(again, "again=", True), *self._invalid}, Screen(True, ""))
        try:
            run.prepare(Selection(self, None if only is None else self._ids(only, "only=")))
            return look(run)
        finally:
            self._release()

    def graph(self, path: str | os.PathLike[str]) -> Path:
        """Draws the graph of jobs, with what is known of each from the last run.

        Args:
            path: of the file to write; its suffix says what: '.dot', '.json', '.svg', or '.html' for a page to look
                around in, which needs nothing else.

        Raises:
            BuildError: the suffix is another one, or the file cannot be written.
        """
        self.check_usable()
        from .graph_files import picture_of, write_graph  # few runs draw anything

        return write_graph(path, lambda: picture_of(self))

    def accept(self, ids: Any) -> None:
        """Takes existing files as made by the present code, from what its needs are now.

        Raises:
            BuildError: there is no such job, or a file of it is not there.
        """
        self.check_usable()
        self._check_idle()
        accepted = self._ids(ids, "accept()")
        if _is_helper():
            return
        self._claim()
        self._looking(lambda run: run.accept(accepted))

    def invalidate(self, ids: Any) -> None:
        """Forgets that jobs were made, so that they are made anew in the next run."""
        self.check_usable()
        self._check_idle()
        invalid = self._ids(ids, "invalidate()", True)
        if _is_helper():
            return
        self._claim()
        for job_id in invalid:
            self._invalid.add(job_id)
            self.records.failed(job_id, INVALIDATED, [])
        self._release()

    def orphans(self) -> list[str]:
        """Files that earlier runs made, which are there, and which no job makes any more.

        Of jobs that a generator is to declare, those count that it declared when it ran last.
        """
        self.check_usable()
        made, declared = self._on_record()
        return sorted(path for path in made if path not in self.makers and path not in declared and self._is_file(path))

    def _on_record(self) -> tuple[list[str], dict[str, bool]]:
        """What may be orphans; and the files of jobs that generators are to declare: whether they are temporary."""
        try:
            entries = undeclared(self).values()
            declared = {path: path in entry.get("temp", ()) for entry in entries for path in entry.get("files", ())}
            return self.records.outdated_files(), declared
        finally:
            if self._run is None:
                self._release()

    def clean(
        self, orphans: bool = True, temp: bool = False, outputs: bool = False, dryRun: bool = False
    ) -> list[str]:
        """Removes files that were made; never a source.

        Args:
            orphans: those that no job makes any more.
            temp: those that are temporary, if any are left.
            outputs: those of all jobs, and of those that a generator declared when it ran last.
            dryRun: nothing is removed.

        Returns:
            the paths of what was, or would be, removed.
        """
        self.check_usable()
        self._check_idle()
        chosen = set(self.orphans() if orphans else [])
        _, files = self._on_record()
        files.update({path: path in job.outputs.temporary for path, job in self.makers.items()})
        for path, is_temporary in files.items():
            if (outputs or (temp and is_temporary)) and self._is_file(path):
                chosen.add(path)
        chosen -= {job.id for job in self.jobs.values() if job.kind == "source"}
        if chosen and not dryRun and not _is_helper():
            self._claim()
            for path in sorted(chosen):
                with suppress(FileNotFoundError):
                    os.unlink(self.absolute(path))
                self.records.removed(path)
            self._release()
        return sorted(chosen)

    def _is_file(self, path: str) -> bool:
        return os.path.isfile(self.absolute(path))

    def _from_environment(self, only: Any, again: Any) -> tuple[Any, Any, bool]:
        """With what JOBS_BUILD adds to the arguments of ``run``, and whether it asks for a plan."""
        wants_plan = False
        given = [] if again is None else self._ids(again, "again=", True)
        for word in filter(None, os.environ.get("JOBS_BUILD", "").split(";")):
            name, _, pattern = word.strip().partition(":")
            if name == "plan" and not pattern:
                wants_plan = True
            elif name == "again" and pattern:
                given += self._ids(pattern, "JOBS_BUILD=again", True)
            elif name == "only" and pattern:
                only = [*([] if only is None else self._ids(only, "only=")), *self._ids(pattern, "JOBS_BUILD=only")]
            else:
                raise BuildError(f"JOBS_BUILD has {word!r}, which is none of 'plan', 'again:PATTERN', 'only:PATTERN'")
        return only, given, wants_plan

    def _show_plan(self, only: Any, again: Any) -> None:
        if getRank():
            raise SystemExit(0)
        plan = self.plan(only, again)
        Screen(False, "").say(str(plan))
        raise SystemExit(3 if plan else 0)


def _is_helper() -> bool:
    """Whether this is a rank that only helps; a job is none, on whatever rank it runs."""
    if not getRank():
        return False
    try:
        hosts()
    except JobStreamError:
        return False
    return True


def _rank_count() -> int:
    try:
        return sum(len(host.ranks) for host in hosts())
    except JobStreamError:
        return 1
