"""The decorators of a build, one for each kind of job, and their long names."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal

from job_stream.errors import BuildError

from .declaring import Declaring, Target, place_of_call
from .fingerprints import fingerprint_of
from .job import BuildJob, Outputs

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .kinds import BuildJobKeywords

__all__ = ["Decorators"]

Function = Callable[..., Any]


class Decorators(Declaring):
    """Each decorates a function and returns the job; given the function as well, each declares it at once."""

    # files ------------------------------------------------------------------------------------------------------------

    def file(
        self, path: Any, function: Function | None = None, *, emptyOk: bool = False, keepBroken: bool = False,
        atomic: bool = False, **keywords: Unpack[BuildJobKeywords],
    ) -> Any:  # fmt: skip
        """A job that makes one file, whose path is its id.

        Args:
            path: where, relative to the folder that the build's own folder is in.
            function: what makes the file; it gets the path, and by name what ``needs`` and ``params`` name.
            emptyOk: whether the file may be empty.
            keepBroken: what a failed job has made is kept as ``path.broken``, not removed.
            atomic: the function gets another path beside the target, which is renamed when it has succeeded.
            keywords: those of every job, see ``BuildJobKeywords``.
        """
        outputs = self.path_of(path, "file()")
        return self._making("file", outputs, function, keywords, emptyOk, keepBroken, atomic)

    FileGeneratingJob = file

    def files(
        self, paths: Any, function: Function | None = None, *, emptyOk: bool = False, keepBroken: bool = False,
        atomic: bool = False, temp: Iterable[Any] = (), **keywords: Unpack[BuildJobKeywords],
    ) -> Any:  # fmt: skip
        """A job that makes several files, given as a list or a mapping; ``job[key]`` is one of them as a need.

        Args:
            temp: keys of files that are removed when all that need the job directly are through.
        """
        outputs = with_temporary(self.paths_of(paths, "files()"), temp, "files()")
        return self._making("files", outputs, function, keywords, emptyOk, keepBroken, atomic)

    MultiFileGeneratingJob = files

    def temp(
        self, path: Any, function: Function | None = None, *, keep: Any = None, emptyOk: bool = False,
        keepBroken: bool = False, atomic: bool = False, **keywords: Unpack[BuildJobKeywords],
    ) -> Any:  # fmt: skip
        """A job that makes a file for those who need it directly; it is removed when all of them are through.

        Args:
            keep: the path of a lasting file that the same function makes; it gets both paths.
        """
        outputs = self.path_of(path, "temp()")
        if keep is None:
            return self._making("temp", _fleeting(outputs), function, keywords, emptyOk, keepBroken, atomic)
        lasting = self.path_of(keep, "temp(keep=)")
        if lasting.paths == outputs.paths:
            raise BuildError(f"temp({outputs.paths[0]!r}) is to keep the same file: keep= names another one")
        both = Outputs((*outputs.paths, *lasting.paths), ("temp", "keep"), frozenset(outputs.paths))
        return self._making("temp+", both, function, keywords, emptyOk, keepBroken, atomic, ("path", "keep"))

    TempFileGeneratingJob = temp

    def temp_plus(self, path: Any, keep: Any, function: Function | None = None, **keywords: Any) -> Any:
        """``temp(path, keep=keep)``."""
        return self.temp(path, function, keep=keep, **keywords)

    TempFilePlusGeneratingJob = temp_plus

    def temps(
        self, paths: Any, function: Function | None = None, *, emptyOk: bool = False, keepBroken: bool = False,
        atomic: bool = False, **keywords: Unpack[BuildJobKeywords],
    ) -> Any:  # fmt: skip
        """Several files at once, for those who need them directly."""
        outputs = _fleeting(self.paths_of(paths, "temps()"))
        return self._making("temps", outputs, function, keywords, emptyOk, keepBroken, atomic)

    MultiTempFileGeneratingJob = temps

    def _making(
        self, kind: str, outputs: Outputs, function: Function | None, keywords: Any, empty_ok: bool, keep_broken: bool,
        atomic: bool, given: tuple[str, ...] = ("path",),
    ) -> Any:  # fmt: skip
        details: dict[str, Any] = {"empty_ok": empty_ok, "keep_broken": keep_broken, "atomic": atomic}
        return self.declare(BuildJob, outputs.paths[0], kind, function, outputs, keywords, given, **details)

    # values -----------------------------------------------------------------------------------------------------------

    def load(
        self, id: Any, function: Function | None = None, *, once: Literal["worker", "host"] = "worker",
        **keywords: Unpack[BuildJobKeywords],
    ) -> Any:  # fmt: skip
        """A value, or side effects, in the process that runs who needs it; never run for itself.

        Args:
            once: 'worker': computed once in each worker that needs it.
        """
        if str(once) not in ("worker", "host"):
            raise BuildError(f"load({id!r}): once={once!r} is neither 'worker' nor 'host'")
        return self.declare(BuildJob, self.text_id(id, "load()"), "load", function, Outputs(), keywords, once=once)

    DataLoadingJob = load

    def attribute(
        self, id: Any, obj: Any, name: Any, function: Function | None = None, **keywords: Unpack[BuildJobKeywords]
    ) -> Any:
        """A value that becomes ``obj.name`` in the process that runs who needs it, and is taken away after that."""
        if not isinstance(name, str) or not name.isidentifier():
            raise BuildError(f"attribute({id!r}): {name!r} is no name of an attribute")
        return self.declare(BuildJob, self.text_id(id, "attribute()"), "attribute", function, Outputs(), keywords,
                            action="attribute", target=Target(obj), name=name)  # fmt: skip

    AttributeLoadingJob = attribute

    # jobs that make jobs ----------------------------------------------------------------------------------------------

    def generate(self, id: Any, function: Function | None = None, **keywords: Unpack[BuildJobKeywords]) -> Any:
        """A job that declares more jobs, in every run; its function gets the build."""
        name = self.text_id(id, "generate()")
        return self.declare(BuildJob, name, "generate", function, Outputs(), keywords, ("build",))

    JobGeneratingJob = generate

    def inject(
        self, id: Any, function: Function | None = None, *, mustUse: bool = True, **keywords: Unpack[BuildJobKeywords]
    ) -> Any:
        """As ``generate``; the jobs that it returns become needs of all that need it.

        Args:
            mustUse: whether it is an error to declare a job that nobody needs then.
        """
        name = self.text_id(id, "inject()")
        return self.declare(BuildJob, name, "inject", function, Outputs(), keywords, ("build",), must_use=mustUse)

    DependencyInjectionJob = inject

    def finish(self, function: Function | None = None, **keywords: Unpack[BuildJobKeywords]) -> Any:
        """A function that is called after everything, on the primary, in each run in which nothing failed."""
        if function is None:
            return lambda function: self.finish(function, **keywords)
        if keywords.get("needs") is not None:
            raise BuildError("finish() runs after everything, so it takes no needs")
        name = f"finish {getattr(function, '__qualname__', None) or repr(function)}"
        return self.declare(BuildJob, name, "finish", function, Outputs(), keywords)

    FinalJob = finish

    # what is only watched ---------------------------------------------------------------------------------------------

    def FileInvariant(self, path: Any) -> BuildJob:
        """A file, or a folder with all in it, whose content is watched."""
        found = self.path_id(path.rstrip("/") if isinstance(path, str) and path != "/" else path, "FileInvariant()")
        self.check_usable()
        return self.makers.get(found) or self.source(found)

    FileChecksumInvariant = FileTimeInvariant = RobustFileChecksumInvariant = FileInvariant

    def sources(self, *globs: Any, without: Iterable[str] = ()) -> BuildJob:
        """Files whose contents are watched as a set: those that fit the patterns, such as ``data/*.csv``.

        Args:
            without: patterns of names, or of paths in the folder, that do not count in the one folder that is given
                then; all else in it does, with names and contents. It is read only where sizes or times differ.
        """
        patterns = tuple(self.path_id(pattern, "sources()") for pattern in _listed_paths(globs))
        if not patterns:
            raise BuildError("sources() takes at least one path or pattern")
        if left_out := tuple(without):
            if len(patterns) > 1 or not os.path.isdir(self.absolute(patterns[0])):
                raise BuildError(f"sources(without=) takes one folder, and was given {', '.join(map(repr, patterns))}")
            self.check_usable()
            folder = self.source(patterns[0])
            folder.watched = left_out
            return folder
        return self._watching(f"sources {' '.join(patterns)}", "sources", patterns)

    MultiFileInvariant = sources

    def ParameterInvariant(
        self, id: Any, value: Any, unchanged: Callable[[Any, Any], bool] | None = None
    ) -> BuildJob:
        """A value that is watched.

        Args:
            unchanged: a function of the old and the new value that says whether the change does not matter.
        """
        name = self.text_id(id, "ParameterInvariant()")
        fingerprint_of(value, f"ParameterInvariant({name!r})")
        if not callable(unchanged or str):
            raise BuildError(f"ParameterInvariant({name!r}): unchanged={unchanged!r} is no function of two values")
        owner = self.jobs.get(name)
        if owner is not None and owner.params and not self.are_same(dict(owner.params), value, owner.subject):
            raise BuildError(f"params of {owner.subject} are given twice with different values ({owner.where})")
        job = self._watching(f"params {name}", "params", value)
        job.unchanged = unchanged
        return job

    def FunctionInvariant(self, id: Any, function: Function) -> BuildJob:
        """A function whose code is watched."""
        name = self.text_id(id, "FunctionInvariant()")
        if not callable(function):
            raise BuildError(f"FunctionInvariant({name!r}) watches {function!r}, which is no function")
        return self._watching(f"function {name}", "function", None, function)

    def versions(self, *packages: Any) -> BuildJob:
        """The installed versions of packages, as something that is watched."""
        if not packages or not all(isinstance(name, str) and name for name in packages):
            raise BuildError(f"versions() takes names of packages, not {packages!r}")
        return self._watching(f"versions {' '.join(packages)}", "versions", packages)

    def _watching(self, job_id: str, kind: str, value: Any, function: Any = None) -> BuildJob:
        job = BuildJob(self, job_id, kind, function, Outputs(), {}, {}, place_of_call())
        job.watched = value
        return self.register(job)


def with_temporary(outputs: Outputs, keys: Iterable[Any], what: str) -> Outputs:
    """With some of several files temporary; the job runs when it is out of date, even if all of them are."""
    by_key = dict(zip(outputs.keys or (), outputs.paths, strict=False))
    unknown = [key for key in keys if key not in by_key]
    if unknown:
        known = ", ".join(map(repr, by_key))
        raise BuildError(f"{what}: temp= names {unknown[0]!r}, and the keys of its files are {known}")
    return outputs._replace(temporary=frozenset(by_key[key] for key in keys))


def _fleeting(outputs: Outputs) -> Outputs:
    return outputs._replace(temporary=frozenset(outputs.paths), is_lazy=True)


def _listed_paths(globs: tuple[Any, ...]) -> list[Any]:
    return [each for given in globs for each in (given if isinstance(given, (list, tuple, set)) else (given,))]
