"""A job of a build as who declares it sees it: what it makes, what it needs, and how it went.

Needs are kept as they were given: a path in them may belong to a job that is declared later, so who makes it is looked
up when the build runs (``needs``), or is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from job_stream.errors import BuildError

from .kinds import FILES, INVARIANTS, OPTIONS, check_cores

if TYPE_CHECKING:
    from typing_extensions import Self

    from .decorators import Decorators

__all__ = ["BuildJob", "JobFile", "JobList", "Need", "Outputs"]

Need = Any
"""A job, a file of a job, or a path as text, relative to the root."""


class Outputs(NamedTuple):
    """The files that a job makes.

    Attributes:
        paths: as ids, in the order of their declaration.
        keys: None where one path was given, its numbers for a list, its keys for a mapping.
        temporary: those that are removed once they have been used.
        is_lazy: whether nothing is made for its own sake, but only for a job that runs.
    """

    paths: tuple[str, ...] = ()
    keys: tuple[Any, ...] | None = None
    temporary: frozenset[str] = frozenset()
    is_lazy: bool = False

    def shaped(self, of_path: Callable[[str], Any]) -> Any:
        """What ``of_path`` says of each path, as one, a list, or a mapping, as it was declared."""
        if self.keys is None:
            return of_path(self.paths[0])
        made = [of_path(path) for path in self.paths]
        return made if self.keys == tuple(range(len(made))) else dict(zip(self.keys, made, strict=True))


class JobFile(NamedTuple):
    """One of the files that a job makes, as a need."""

    job: BuildJob
    path: str


class BuildJob:
    """One job of a build; the decorators of ``build`` return it.

    Attributes:
        id: what it is called: the path of its (first) file, or the text that it was declared with.
        kind: 'file', 'temp', 'load' and so on.
        function: what was decorated; calling the job calls it.
        params: the values that its function gets, which are watched.
        place: file and line of its declaration.
        state: 'new', 'kept', 'made', 'failed', 'blocked', 'stopped' or 'pruned'.
        reasons: why it ran in the last run.
        exception: what its function raised.
        stdout, stderr: the last 64 KiB of what it wrote.
        exitCode: of its process, where that ended without a word.
        seconds, maxMemory, host, pid: of its last attempt.
    """

    state = "new"
    reasons: list[str] = []  # noqa: RUF012 - replaced, never changed
    exception: BaseException | None = None
    stdout = ""
    stderr = ""
    exitCode: int | None = None
    seconds: float | None = None
    maxMemory: int | None = None
    host: str | None = None
    pid: int | None = None

    is_pruned = False
    is_needed = False
    generated_by: str | None = None
    unchanged: Callable[[Any, Any], bool] | None = None

    def __init__(
        self, owner: Decorators, job_id: str, kind: str, function: Any, outputs: Outputs, params: Mapping[str, Any],
        options: dict[str, Any], place: tuple[str, int],
    ) -> None:  # fmt: skip
        self.owner = owner
        self.id = job_id
        self.kind = kind
        self.function = function
        self.outputs = outputs
        self.params = params
        self.options = options
        self.place = place
        self.named: dict[str, Any] = {}
        self.others: list[Need] = []
        self.after: list[BuildJob] = []
        self.filling: tuple[str, ...] = ()
        self.action = "call"
        self.details: dict[str, Any] = {}
        self.watched: Any = None
        self.captured: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f"<{self.kind} job {self.id!r}: {self.state}>"

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        return self.function(*args, **keywords)

    def __reduce__(self) -> Any:
        raise BuildError(f"{self.subject} cannot leave the process of its build: give its path or its id on instead")

    @property
    def subject(self) -> str:
        """How errors call it."""
        return f"job {self.id!r}"

    @property
    def shown(self) -> str:
        """How a run calls it."""
        return str(self.options.get("title") or self.id)

    @property
    def where(self) -> str:
        return "{}:{}".format(*self.place)

    @property
    def path(self) -> Path | None:
        """The file that it makes, the first one of several; None where it makes none."""
        return self.owner.root / self.outputs.paths[0] if self.outputs.paths else None

    @property
    def paths(self) -> Any:
        """All of its files, in a list, or a mapping where it was declared with one."""
        shaped = self.outputs.shaped(self.owner.root.joinpath) if self.outputs.paths else []
        return [shaped] if isinstance(shaped, Path) else shaped

    @property
    def cores(self) -> int | str:
        """How many cores it takes."""
        cores: int | str = self.options["cores"]
        return cores

    @property
    def memory(self) -> Any:
        """How much memory it says that it takes."""
        return self.options["memory"]

    @property
    def needs(self) -> JobList:
        """The jobs and invariants that it needs directly."""
        return JobList(dict.fromkeys(job for job, _ in self.owner.needs_of(self)))

    @property
    def usedBy(self) -> JobList:
        """The jobs that need it directly."""
        return JobList(job for job in self.owner.jobs.values() if self in list(job.needs))

    def __getitem__(self, key: Any) -> JobFile:
        """One file of several, by its key, its number or its path."""
        paths = self.outputs.paths
        by_key = dict(zip(self.outputs.keys or (), paths, strict=False))
        path = by_key.get(key) if key in by_key else self.owner.path_id(key, self.subject)
        if path not in paths:
            raise BuildError(f"{self.subject} makes no file {key!r}; it makes {', '.join(map(repr, paths)) or 'none'}")
        return JobFile(self, path)

    # needs ------------------------------------------------------------------------------------------------------------

    def dependsOn(self, *needs: Any) -> Self:
        """Adds needs, which order and are watched: jobs, paths, and lists of them; None is passed over.

        Raises:
            BuildError: something is none of these, or it is an invariant that has no needs.
            CycleError: it is needed by what it would need.
        """
        self.owner.add_needs(self, needs)
        return self

    depends_on = dependsOn

    def dependsOnParams(self, value: Any) -> BuildJob:
        """Has the job made again when ``value`` changes; returns the invariant."""
        return self._needing(self.owner.ParameterInvariant(self.id, value))

    def dependsOnFile(self, path: Any) -> BuildJob:
        """Has the job made again when the content of a file changes; returns the invariant."""
        return self._needing(self.owner.FileInvariant(path))

    def dependsOnFunction(self, id: str, f: Callable[..., Any]) -> BuildJob:
        """Has the job made again when the code of a function changes; returns the invariant."""
        return self._needing(self.owner.FunctionInvariant(id, f))

    def _needing(self, need: BuildJob) -> BuildJob:
        self.dependsOn(need)
        return need

    def ignoreCodeChanges(self) -> Self:
        """From now on changes of its function do not matter; what is on record of it stays."""
        self.options = {**self.options, "codeChanges": False}
        return self

    def useCores(self, n: int | str) -> Self:
        """Sets how many cores it takes: a number, 'all', or -1 for all but one."""
        check_cores(self.subject, n)
        self.options = {**self.options, "cores": n}
        return self

    def prune(self) -> Self:
        """Leaves the job, and all that need it, out of the next runs."""
        self.is_pruned = True
        return self

    def unprune(self) -> Self:
        """Takes ``prune`` back."""
        self.is_pruned = False
        return self

    def __add__(self, other: Any) -> JobList:
        return JobList([self, *JobList(other)])

    def __radd__(self, other: Any) -> JobList:
        return JobList([*JobList(other), self])

    # what it is -------------------------------------------------------------------------------------------------------

    @property
    def is_invariant(self) -> bool:
        return self.kind in INVARIANTS

    @property
    def makes_files(self) -> bool:
        return self.kind in FILES

    @property
    def watches_nothing(self) -> bool:
        """Whether nothing could ever have it made again, but for its files not being there."""
        return not (self.options["codeChanges"] or self.params or self.named or self.others)

    def is_like(self, other: BuildJob) -> bool:
        """Whether it is the same job, declared again; what it needs may differ."""
        return (
            (self.kind, self.outputs, self.action) == (other.kind, other.outputs, other.action)
            and self._options_but_default() == other._options_but_default()
            and self.owner.are_same(self.params, other.params, self.subject)
            and self.owner.are_same_functions(self.function, other.function)
            and self.owner.are_same(self.watched, other.watched, self.subject)
            and self.details == other.details
        )

    def _options_but_default(self) -> dict[str, Any]:
        return {name: value for name, value in self.options.items() if value != OPTIONS[name]}


class JobList:
    """Several jobs, which can be needed, and can be given needs, at once."""

    def __init__(self, jobs: Iterable[BuildJob] = ()) -> None:
        self._jobs = [jobs] if isinstance(jobs, BuildJob) else list(jobs)

    def __iter__(self) -> Iterator[BuildJob]:
        return iter(self._jobs)

    def __len__(self) -> int:
        return len(self._jobs)

    def __getitem__(self, number: int) -> BuildJob:
        return self._jobs[number]

    def __contains__(self, job: object) -> bool:
        return any(job is own for own in self._jobs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, (JobList, list)) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"JobList({self._jobs!r})"

    def __add__(self, other: Any) -> JobList:
        return JobList([*self, *JobList(other)])

    def __radd__(self, other: Any) -> JobList:
        return JobList([*JobList(other), *self])

    def dependsOn(self, *needs: Any) -> Self:
        """Adds needs to each of them."""
        for job in self:
            job.dependsOn(*needs)
        return self

    depends_on = dependsOn
