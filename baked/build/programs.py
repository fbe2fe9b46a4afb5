"""Programs and notebooks as jobs."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from job_stream.errors import BuildError

from .decorators import with_temporary
from .job import BuildJob, Outputs
from .kinds import text_of_path
from .kinds_of_calc import CachingDecorators

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .kinds import BuildJobKeywords

__all__ = ["ProgramDecorators"]


class ProgramDecorators(CachingDecorators):
    """The decorators of jobs that run something else than a function."""

    def program(
        self, paths: Any, argv: Any = None, *, codes: tuple[int, ...] = (0,), cwd: Any = None,
        env: Mapping[str, str] | None = None, stdout: Any = None, temp: Iterable[Any] = (),
        atomic: bool = False, emptyOk: bool = False, **keywords: Unpack[BuildJobKeywords],
    ) -> Any:  # fmt: skip
        """A program, without a shell, that makes one file or several. It is no rank, and all it starts ends with it.

        Args:
            paths: one path, or a list or mapping of them.
            argv: the program and its arguments, in which ``{path}`` and the names of needs and params are filled in; or
                a function that gives them, which is watched.
            codes: exit codes that are a success.
            cwd: the folder in which it runs.
            env: variables that it gets besides those that there are.
            temp: keys of files that are removed when all that need the job directly are through.
            atomic: ``{path}`` is another path beside the target, which is renamed when the program has succeeded.
            emptyOk: whether files may be empty.
            stdout: the path, one of ``paths``, of the file that gets what it writes to stdout.
        """
        if argv is None:
            return lambda argv: self.program(paths, argv, codes=codes, cwd=cwd, env=env, stdout=stdout, temp=temp,
                                             atomic=atomic, emptyOk=emptyOk, **keywords)  # fmt: skip
        outputs = with_temporary(self._outputs(paths, "program()"), temp, "program()")
        function, words = (argv, ()) if callable(argv) else (_nothing, _words(outputs.paths[0], argv))
        target = None if stdout is None else self.path_id(stdout, "program(stdout=)")
        if target is not None and target not in outputs.paths:
            raise BuildError(f"program(stdout={target!r}) is to write a file that is not among its paths")
        details = {
            "argv": words, "codes": tuple(codes), "cwd": None if cwd is None else os.fspath(cwd),
            "env": dict(env or {}), "stdout": target and self.absolute(target), "root": str(self.root),
        }  # fmt: skip
        job: BuildJob = self.declare(BuildJob, outputs.paths[0], "program", function, outputs, keywords, ("path",),
                                     action="program", empty_ok=emptyOk, atomic=atomic, **details)  # fmt: skip
        how = [list(words), list(codes), details["cwd"], dict(env or {})]
        watched = self.ParameterInvariant(f"of program {job.id}", how)
        job.dependsOn(watched)
        return job

    ExternalJob = program

    def notebook(
        self, ipynb: Any, outputs: Any, html: Any = None, **keywords: Unpack[BuildJobKeywords]
    ) -> BuildJob:
        """Runs a notebook that makes files; its code cells are watched.

        Args:
            ipynb: the path of the notebook.
            outputs: the path, or paths, that it makes.
            html: where the notebook is written to with its outputs, if anywhere.

        Raises:
            BuildError: the file is no notebook.
            ImportError: a library is missing that comes with ``job_stream[notebook]``.
        """
        _check_installed("nbformat", "nbclient", "ipykernel", *(["nbconvert"] if html is not None else []))
        source = self.path_id(ipynb, "notebook()")
        made = self._outputs(outputs, "notebook()")
        page = None if html is None else self.path_id(html, "notebook(html=)")
        paths = (*made.paths, *([page] if page is not None else ()))
        job: BuildJob = self.declare(
            BuildJob, paths[0], "notebook", _nothing, Outputs(paths, tuple(range(len(paths)))), keywords, ("path",),
            action="notebook", empty_ok=False, notebook=self.absolute(source), root=str(self.root),
            html=None if page is None else self.absolute(page),
        )  # fmt: skip
        return job.dependsOn(self.ParameterInvariant(f"of notebook {job.id}", _cells(self.absolute(source))))

    NotebookJob = notebook

    def _outputs(self, paths: Any, what: str) -> Outputs:
        return self.path_of(paths, what) if text_of_path(paths) is not None else self.paths_of(paths, what)


def _check_installed(*names: str) -> None:
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        text = f"notebook() needs {' and '.join(missing)}: install with  pip install 'job_stream[notebook]'"
        raise ImportError(text)


def _nothing(path: Any = None, **given: Any) -> None:
    """What stands where there is no function: it takes every name."""


def _words(job_id: str, argv: Any) -> tuple[str, ...]:
    if isinstance(argv, str) or not argv:
        raise BuildError(f"program({job_id!r}) takes a list of the program and its arguments, not {argv!r}")
    words = tuple(os.fspath(word) if isinstance(word, os.PathLike) else word for word in argv)
    if not all(isinstance(word, (str, int, float)) for word in words):
        raise BuildError(f"program({job_id!r}): {argv!r} has something that is neither text, number nor path")
    return tuple(map(str, words))


def _cells(path: str) -> list[str]:
    """The code of a notebook, without its outputs and its prose."""
    try:
        with open(path, encoding="utf-8") as file:
            cells = json.load(file)["cells"]
        return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BuildError(f"{path} cannot be read as a notebook: {error}") from error


