"""How the function of a job is called, by the kind of job."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from job_stream.errors import JobContractError, ProgramError

from .program_ends import be_guardian, dying_with_starter, end_children, environment_without_ranks

if TYPE_CHECKING:
    from .errands import Task

__all__ = ["ACTIONS", "beside"]

LONGEST_NAME = 255
"""Bytes that the name of a file may have, on all usual file systems."""


def beside(path: str) -> str:
    """A path in the same folder with the same suffix."""
    folder, name = os.path.split(path)
    stem, suffix = os.path.splitext(name)
    hidden = f".{stem}.part{suffix}"
    if len(os.fsencode(hidden)) > LONGEST_NAME:
        stem = blake2b(os.fsencode(stem), digest_size=8).hexdigest()
        hidden = f".{stem}.part{suffix if len(os.fsencode(suffix)) < LONGEST_NAME // 2 else ''}"
    return os.path.join(folder, hidden)


def _call(task: Task, paths: Any, keywords: dict[str, Any]) -> Any:
    """The function as it is, with the paths as its left-over parameters."""
    values = tuple(paths.values()) if task.kind == "temp+" else (paths,)
    given = dict(zip(task.filling, values, strict=False))
    if "" in given:
        return task.function(*values[: len(task.filling)], **keywords)
    return task.function(**given, **keywords)


def _store(task: Task, paths: Any, keywords: dict[str, Any]) -> None:
    """Keeps what the function gives; no half of it, since others load it."""
    value = task.function(**keywords)
    try:
        packed = pickle.dumps(value, protocol=5)
    except Exception:
        import cloudpickle

        packed = cloudpickle.dumps(value)
    paths.write_bytes(packed)


def _store_array(task: Task, paths: Any, keywords: dict[str, Any]) -> None:
    import numpy

    with open(paths, "wb") as file:
        numpy.save(file, numpy.asarray(task.function(**keywords)), allow_pickle=False)


def _fetch(task: Task, paths: Any, keywords: dict[str, Any]) -> Any:
    """What was kept; where there is a function, it is called with that, for what it does."""
    if task.details["memmap"]:
        import numpy

        value = numpy.load(task.details["path"], mmap_mode="r")
    else:
        with open(task.details["path"], "rb") as file:
            value = pickle.load(file)
    if task.function is not None:
        task.function(value)
    return value


def _draw(task: Task, paths: Any, keywords: dict[str, Any]) -> None:
    """Saves what the function draws by the method that it has for that."""
    drawn = task.function(keywords["data"])
    for method in ("savefig", "save", "render"):
        if hasattr(drawn, method):
            getattr(drawn, method)(str(paths), **task.details["render"])
            return
    raise JobContractError(f"plot {task.id!r} gave {type(drawn).__name__}, which has no savefig, save or render")


def _program(task: Task, paths: Any, keywords: dict[str, Any]) -> None:
    """Runs a program to its end; what it says goes where the job's output goes."""
    import subprocess

    argv = _call(task, paths, keywords) if not task.details["argv"] else _filled(task, paths, keywords)
    target = task.details["stdout"]
    if target and task.details["atomic"]:
        target = beside(target)
    folder = os.path.join(task.details["root"], task.details["cwd"] or "")
    if task.isolate:
        be_guardian()
    with open(target, "wb") if target else nullcontext() as file:
        ended = subprocess.run([str(word) for word in argv], stdin=subprocess.DEVNULL, stdout=file, cwd=folder,
                               env=environment_without_ranks(task.details["env"]), check=False,
                               preexec_fn=dying_with_starter())  # fmt: skip
    if task.isolate:
        end_children()
    if ended.returncode not in task.details["codes"]:
        error = ProgramError(f"{argv[0]} ended with exit code {ended.returncode}; its arguments: {list(argv[1:])}")
        error.code = ended.returncode
        raise error


def _filled(task: Task, paths: Any, keywords: dict[str, Any]) -> list[str]:
    names = {"path": paths, **keywords}
    try:
        return [word.format(**names) for word in task.details["argv"]]
    except (KeyError, IndexError, ValueError) as error:
        text = f"program {task.id!r}: an argument names {error}, which is neither path, need nor param"
        raise JobContractError(text) from error


def _notebook(task: Task, paths: Any, keywords: dict[str, Any]) -> None:
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    notebook = nbformat.read(task.details["notebook"], as_version=4)
    client = NotebookClient(notebook, resources={"metadata": {"path": task.details["root"]}})
    try:
        client.execute()
    except CellExecutionError as error:
        text = f"notebook {task.details['notebook']}: a cell raised {error.ename}: {error.evalue}"
        raise ProgramError(text) from error
    if task.details["html"] is not None:
        from nbconvert import HTMLExporter

        page, _ = HTMLExporter().from_notebook_node(notebook)
        with open(task.details["html"], "w", encoding="utf-8") as file:
            file.write(page)


ACTIONS: Mapping[str, Callable[[Task, Any, dict[str, Any]], Any]] = {
    "call": _call, "attribute": _call, "store": _store, "store_array": _store_array, "fetch": _fetch, "draw": _draw,
    "program": _program, "notebook": _notebook,
}  # fmt: skip
"""By the name that a job has of it."""
