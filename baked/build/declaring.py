"""The jobs of a build and who needs whom: ids, paths, declarations, and what is refused.

Every mistake is raised at the call that made it, with the job, the place of its declaration and the way out. Only what
depends on later declarations (a path that nobody makes, a cycle through paths) waits until the build runs.

While a generator runs, what it declares and adds is noted, so that it can be taken back as a whole if it fails.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from job_stream.errors import BuildError, CycleError, JobContractError

from .code import CodeReader, captured
from .filling import check_filled, check_runs
from .fingerprints import fingerprint_of
from .job import BuildJob, JobFile, JobList, Need, Outputs
from .kinds import FILES, checked_options, text_of_path

if TYPE_CHECKING:
    from .decorators import Decorators

__all__ = ["Declaring", "Generation", "Target", "place_of_call"]

_HERE = os.path.dirname(os.path.abspath(__file__))


class Generation(NamedTuple):
    """What one run of a generator has declared and added so far."""

    generator: BuildJob
    declared: dict[str, BuildJob]
    added: list[tuple[BuildJob, Need]]


def place_of_call() -> tuple[str, int]:
    """File and line of the call into this package."""
    frame: Any = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_HERE):
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


class Declaring:
    """The graph of a build, as it is declared."""

    def __init__(self, root: Path, redefine: bool) -> None:
        self.root = root
        self._root_text = f"{root}{os.sep}"
        self.redefine = redefine
        self.jobs: dict[str, BuildJob] = {}
        self.makers: dict[str, BuildJob] = {}
        self.generation: Generation | None = None
        self._pid = os.getpid()
        self._is_cancelled = False
        self._inner_folders: dict[str, str | None] = {}
        self._reader = CodeReader()

    # to be said by the parts that know --------------------------------------------------------------------------------

    def are_same(self, value: Any, other: Any, subject: str) -> bool:
        """Whether two values have the same fingerprint."""
        return value is other or (not value and not other) or fingerprint_of(value) == fingerprint_of(other)

    def are_same_functions(self, function: Any, other: Any) -> bool:
        """Whether two functions are the same in source and captured values."""
        if function is other:
            return True
        if function is None or other is None:
            return False
        return self._reader.read(function).digest == self._reader.read(other).digest

    # ids and paths ----------------------------------------------------------------------------------------------------

    def path_id(self, path: Any, subject: str) -> str:
        """A path as id: relative to the root where it lies in there, with slashes."""
        text = text_of_path(path)
        if text is None:
            raise BuildError(f"{subject}: {path!r} is no path: a str or a pathlib.Path is one")
        if not text or text.endswith(("/", "/.", "/..")) or text in {".", ".."} or "\0" in text:
            wrong = f"{text!r} cannot be the path of a file" if text else "a path is empty"
            raise BuildError(f"{subject}: {wrong}")
        return self.relative(text)

    def relative(self, text: str) -> str:
        if text.startswith("/"):
            text = os.path.normpath(text)
            return text[len(self._root_text) :] if text.startswith(self._root_text) else self._through_links(text)
        if "." in text[:2] or "//" in text or "/." in text:
            text = os.path.normpath(os.path.join(self._root_text, text))
            return text[len(self._root_text) :] if text.startswith(self._root_text) else self._through_links(text)
        return text

    def _through_links(self, text: str) -> str:
        """A path that does not look as if it were below the root may be, where links lead to the one or the other."""
        folder, name = os.path.split(text)
        if folder not in self._inner_folders:
            inner = os.path.relpath(os.path.realpath(folder), os.path.realpath(self.root))
            self._inner_folders[folder] = None if inner.split("/")[0] == ".." else inner
        inside = self._inner_folders[folder]
        return text if inside is None else os.path.normpath(f"{inside}/{name}")

    def absolute(self, path: str) -> str:
        """Where the file of an id lies."""
        return path if path.startswith("/") else self._root_text + path

    def paths_of(self, paths: Any, what: str) -> Outputs:
        """Several paths, as a list or a mapping."""
        keys: tuple[Any, ...]
        if isinstance(paths, Mapping):
            keys, values = tuple(paths), tuple(paths.values())
        elif isinstance(paths, Iterable) and text_of_path(paths) is None:
            values = tuple(paths)
            keys = tuple(range(len(values)))
        else:
            raise BuildError(f"{what} takes a list or a mapping of paths, not {paths!r}: b.file() is for one path")
        if not values:
            raise BuildError(f"{what} is given no paths: what makes no file is no job for it")
        ids = tuple(self._output(path, what) for path in values)
        if len(set(ids)) < len(ids):
            twice = next(path for number, path in enumerate(ids) if path in ids[:number])
            raise BuildError(f"{what} is given the path {twice!r} twice")
        return Outputs(ids, keys)

    def path_of(self, path: Any, what: str) -> Outputs:
        """One path."""
        return Outputs((self._output(path, what),))

    def _output(self, path: Any, what: str) -> str:
        found = self.path_id(path, what)
        if os.path.isdir(self.absolute(found)):
            raise BuildError(f"{what}: {found!r} is a folder: name a file in it")
        return found

    def text_id(self, job_id: Any, what: str) -> str:
        """The id of a job that makes no file."""
        text = text_of_path(job_id)
        if not text:
            raise BuildError(f"{what} takes a text as id, not {job_id!r}")
        return text

    # declarations -----------------------------------------------------------------------------------------------------

    def check_usable(self) -> None:
        """Refuses calls in other processes than the one that made the build, and after ``cancel()``."""
        if os.getpid() != self._pid:
            raise BuildError(
                "the build belongs to the process that made it, so a job cannot use it: "
                "declare jobs at the top of the script, or in a generate or inject job"
            )
        if self._is_cancelled:
            raise BuildError("the build has been cancelled: make another one, by build(), to go on")

    def declare(
        self, make: type[BuildJob], job_id: str, kind: str, function: Any, outputs: Outputs,
        keywords: Mapping[str, Any], given: tuple[str, ...] = (), action: str = "call", **details: Any,
    ) -> Any:  # fmt: skip
        """Adds a job, or finds the same one again; without a function, the decorator that does so."""
        if function is None:
            return lambda function: self.declare(
                make, job_id, kind, _callable(function, job_id), outputs, keywords, given, action, **details
            )
        keywords = dict(keywords)
        needs, params, after = keywords.pop("needs", None), keywords.pop("params", None), keywords.pop("after", ())
        options = checked_options(f"job {job_id!r}", keywords)
        owner, function = cast("Decorators", self), _callable(function, job_id)
        job = make(owner, job_id, kind, function, outputs, _params(params, job_id), options, place_of_call())
        job.action, job.details = action, details
        job.after = self._jobs_before(job, after)
        check_runs(job.subject, function, action == "call" and (kind in FILES or kind in {"generate", "finish"}))
        job.captured = captured(job.function)
        if isinstance(needs, Mapping):
            self._name_needs(job, needs)
        names = (*(name for name in job.named if not _is_unseen(job.named[name])), *job.params)
        job.filling = check_filled(job.subject, job.function, names, given)
        return self.register(job, () if isinstance(needs, Mapping) else (needs,))

    def register(self, job: BuildJob, needs: tuple[Any, ...] = ()) -> BuildJob:
        """Adds a job that is complete but for needs without names."""
        self.check_usable()
        targets = self.flat(job, needs)
        held = self._held(job)
        if held is None:
            self._add(job)
        elif not held.is_like(job):
            raise BuildError(
                f"{job.subject} is declared twice, and not the same: {held.kind} at {held.where}, {job.kind} at "
                f"{job.where}. Give one another id, or use build(redefine=True) to have the later one count"
            )
        else:
            self._unite(held, job)
            job = held
        self._extend(job, targets)
        return job

    def _held(self, job: BuildJob) -> BuildJob | None:
        """The job that is to be the same; it is removed first where a later one counts."""
        held = self.jobs.get(job.id)
        if held is not None and held.kind == "source" and job.makes_files:
            held = None  # a path was watched before somebody said that he makes it
        for path in job.outputs.paths:
            maker = self.makers.get(path)
            if maker is not None and maker is not held and not (self.redefine and maker.id == job.id):
                raise BuildError(
                    f"two jobs make {path!r}: {maker.id!r} at {maker.where}, and {job.id!r} at {job.where}"
                )
        if held is not None and self.redefine and not held.is_like(job):
            self.forget(held)
            return None
        return held

    def _add(self, job: BuildJob) -> None:
        self.jobs[job.id] = job
        for path in job.outputs.paths:
            self.makers[path] = job
        if self.generation is not None:
            self.generation.declared[job.id] = job

    def forget(self, job: BuildJob) -> None:
        """Takes a declaration back."""
        self.jobs.pop(job.id, None)
        for path in job.outputs.paths:
            if self.makers.get(path) is job:
                del self.makers[path]

    def _unite(self, held: BuildJob, job: BuildJob) -> None:
        self._extend(held, [target for targets in job.named.values() for target in _listed(targets)])
        if self.generation is not None:
            self.generation.declared.setdefault(held.id, held)

    # needs ------------------------------------------------------------------------------------------------------------

    def add_needs(self, job: BuildJob, needs: tuple[Any, ...]) -> None:
        """Has ``job`` need more."""
        self.check_usable()
        targets = self.flat(job, needs)
        if targets:
            self._check_cycle(job, targets)
            self._extend(job, targets)

    def _name_needs(self, job: BuildJob, needs: Mapping[Any, Any]) -> None:
        for name, given in needs.items():
            if not isinstance(name, str) or not name.isidentifier():
                raise BuildError(f"{job.subject}: {name!r} is no name for a need: a parameter of its function is one")
            if name in job.params:
                raise BuildError(f"{job.subject}: both needs= and params= name {name!r}")
            found = self.flat(job, (given,))
            is_one = isinstance(given, (BuildJob, JobFile)) or text_of_path(given) is not None
            job.named[name] = found[0] if is_one else found

    def flat(self, job: BuildJob, needs: Iterable[Any]) -> list[Need]:
        """Each need by itself, checked."""
        targets: list[Need] = []
        for need in needs:
            self._flatten(job, need, targets)
        if targets and job.is_invariant:
            raise BuildError(f"{job.subject} is an invariant, which needs nothing: it is watched, not made")
        if targets and job.kind == "finish":
            raise BuildError(f"{job.subject} runs after everything, so it takes no needs")
        return targets

    def _jobs_before(self, job: BuildJob, after: Any) -> list[BuildJob]:
        """The jobs of ``after=``, which only order."""
        found = list(dict.fromkeys([after] if isinstance(after, BuildJob) else after or ()))
        for each in found:
            if not isinstance(each, BuildJob):
                raise BuildError(f"{job.subject}: after={each!r} is no job: what the decorators return is one")
            self._check_need(job, each)
            each.is_needed = True
        return found

    def _flatten(self, job: BuildJob, need: Any, targets: list[Need]) -> None:
        if need is None:
            return
        if isinstance(need, JobFile):
            self._check_need(job, need.job)
            targets.append(need)
        elif isinstance(need, BuildJob):
            self._check_need(job, need)
            targets.append(need)
        elif (text := text_of_path(need)) is not None:
            is_plain = text.strip("/") and "\0" not in text
            targets.append(self.relative(text.rstrip("/")) if is_plain else self.path_id(text, job.subject))
        elif isinstance(need, Mapping):
            raise BuildError(f"{job.subject}: needs have names only in needs={{...}} at the declaration, got {need!r}")
        elif isinstance(need, (set, frozenset)):
            for each in sorted(need, key=_order):
                self._flatten(job, each, targets)
        elif isinstance(need, (list, tuple, JobList)) or (hasattr(need, "__next__") and hasattr(need, "__iter__")):
            for each in need:
                self._flatten(job, each, targets)
        else:
            raise BuildError(
                f"{job.subject}: {need!r} ({type(need).__name__}) cannot be needed: jobs, paths, and lists of them can"
            )

    def _check_need(self, job: BuildJob, need: BuildJob) -> None:
        if need.owner is not self:
            raise BuildError(f"{job.subject} cannot need {need.subject} of another build: give its path instead")
        if need.kind == "finish":
            raise BuildError(f"{job.subject} cannot need {need.subject}, which runs after everything")
        if need is job:
            raise CycleError(f"{job.subject} would need itself ({job.where})")

    def _extend(self, job: BuildJob, targets: list[Need]) -> None:
        have = {*job.others, *(each for named in job.named.values() for each in _listed(named))}
        for target in targets:
            if target not in have:
                have.add(target)
                self._check_generated(job, target)
                job.others.append(target)
                if self.generation is not None:
                    self.generation.added.append((job, target))
        for target in have:
            if not isinstance(target, str):
                (target.job if isinstance(target, JobFile) else target).is_needed = True

    def _check_generated(self, job: BuildJob, target: Need) -> None:
        """While a generator runs, what was there before may be given needs only where it waits for the generator."""
        if self.generation is None or job.id in self.generation.declared:
            return
        generator = self.generation.generator
        if generator.kind == "inject" and any(need is generator for need, _ in self.needs_of(job)):
            return
        way_out = "only jobs that need this inject job may" if generator.kind == "inject" else "use b.inject() for that"
        raise JobContractError(
            f"{generator.subject} adds a need to {job.subject}, which was there before and may have begun: {way_out}"
        )

    def _check_cycle(self, job: BuildJob, targets: list[Need]) -> None:
        """Refuses a need that would close a circle; nobody can, as long as nobody needs ``job``."""
        if not job.is_needed:
            return
        for target in targets:
            if isinstance(target, str) and target not in self.makers:
                continue
            first: BuildJob = self.makers[target] if isinstance(target, str) else self.resolved(target)[0]
            way = self.way(first, job)
            if way:
                names = " -> ".join(repr(each.id) for each in (job, *way))
                raise CycleError(f"{job.subject} would need itself: {names} ({job.where})")

    def way(self, start: BuildJob, end: BuildJob) -> list[BuildJob]:
        """A way from ``start`` along needs to ``end``, with both; empty if there is none."""
        came_from: dict[int, BuildJob | None] = {id(start): None}
        stack = [start]
        while stack:
            job = stack.pop()
            if job is end:
                return _traced(job, came_from)
            for need in self.known_needs(job):
                if id(need) not in came_from:
                    came_from[id(need)] = job
                    stack.append(need)
        return []

    def known_needs(self, job: BuildJob) -> Iterable[BuildJob]:
        """The jobs that it needs, or comes after, as far as they are declared by now."""
        yield from job.after
        for target in self.targets_of(job):
            if not isinstance(target, str):
                yield target.job if isinstance(target, JobFile) else target
            elif target in self.makers:
                yield self.makers[target]

    def targets_of(self, job: BuildJob) -> list[Need]:
        """What it needs, as it was given, each once."""
        if not job.named:
            return job.others
        return list(dict.fromkeys([each for given in job.named.values() for each in _listed(given)] + job.others))

    def resolved(self, target: Need) -> tuple[BuildJob, str | None]:
        """Who a need is, and which of its files where only one is meant."""
        if isinstance(target, JobFile):
            return target.job, target.path
        if isinstance(target, BuildJob):
            return target, None
        maker = self.makers.get(target)
        return (maker, target) if maker is not None else (self.source(target), None)

    def needs_of(self, job: BuildJob) -> list[tuple[BuildJob, str | None]]:
        """What it needs: jobs, each with one of its files where only that is meant; paths nobody makes are sources."""
        return [self.resolved(target) for target in self.targets_of(job)]

    def source(self, path: str) -> BuildJob:
        """The invariant of a path that no job makes."""
        held = self.jobs.get(path)
        if held is None or held.kind != "source":
            held = BuildJob(cast("Decorators", self), path, "source", None, Outputs(), {}, {}, place_of_call())
            self.jobs.setdefault(path, held)
        return held


class Target:
    """An object that gets an attribute: the same one, or another."""

    def __init__(self, held: Any) -> None:
        self.held = held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Target) and other.held is self.held

    __hash__ = None  # type: ignore[assignment]


def _callable(function: Any, job_id: str) -> Any:
    if isinstance(function, BuildJob):
        return function.function
    if not callable(function):
        raise BuildError(f"job {job_id!r} is to call {function!r}, which is no function")
    return function


def _params(params: Any, job_id: str) -> Mapping[str, Any]:
    if params is None:
        return {}
    if not isinstance(params, Mapping) or not all(isinstance(name, str) and name.isidentifier() for name in params):
        raise BuildError(f"job {job_id!r}: params={params!r} is no mapping of parameters to their values")
    if params:
        for name, value in params.items():
            fingerprint_of(value, f"job {job_id!r}: params[{name!r}]")
    return dict(params)


def _listed(given: Any) -> list[Need]:
    return given if isinstance(given, list) else [given]


def _is_unseen(given: Any) -> bool:
    """Whether a named need is only watched, so that the function does not get it."""
    return isinstance(given, BuildJob) and given.is_invariant and given.kind != "source"


def _order(need: Any) -> str:
    return need.id if isinstance(need, BuildJob) else str(need)


def _traced(job: BuildJob, came_from: dict[int, BuildJob | None]) -> list[BuildJob]:
    way: list[BuildJob] = []
    step: BuildJob | None = job
    while step is not None:
        way.insert(0, step)
        step = came_from[id(step)]
    return way
