"""Where a run keeps its files: which folder that is, which files it is given, and what is wrong with either."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

from .job_parts import Artifact, YamlJob
from .problems import Problems, did_you_mean, listed

__all__ = ["Inputs", "check_folder", "folder_of", "given_inputs", "link_inputs", "path_of"]

Inputs = dict[str, Path]
"""The given files by the names that they have in the job."""

LONGEST_NAME = 200
"""Letters of a job's name in the name of a folder."""

OWN_FOLDERS = ("public", "temp", "input", "logs", ".build")


def path_of(artifact: Artifact) -> str:
    """Where in the folder of a run an output is."""
    return f"{'public' if artifact.is_public else 'temp'}/{artifact.name}"


def given_inputs(job: YamlJob, file: str, given: Any, problems: Problems, may_be_missing: bool = False) -> Inputs:
    """The files of a run, from a list of paths in the order of the job's inputs, or a mapping of names to paths."""
    inputs = {each.key: each for each in job.inputs}
    there_are = f"the inputs are {', '.join(f'{name} ({each.type})' for name, each in inputs.items()) or 'none'}"
    if isinstance(given, Mapping):
        chosen = _by_name(job, file, given, problems, there_are)
    else:
        paths = [given] if isinstance(given, (str, os.PathLike)) else list(given or ())
        if len(paths) != len(job.inputs):
            problems.add((file, 0), "input_artifacts",
                         f"{len(paths)} inputs are given, and the job takes {len(job.inputs)}", there_are)  # fmt: skip
            return {}
        chosen = dict(zip(inputs, paths, strict=False))
    missing = [name for name in inputs if name not in chosen]
    if missing and isinstance(given, Mapping) and not may_be_missing:
        problems.add((file, 0), missing[0], f"the inputs {listed(missing)} are not given", there_are)
    for name, path in chosen.items():
        _check_file(file, name, Path(path), problems)
    return {name: Path(os.path.abspath(chosen[name])) for name in inputs if name in chosen}


def _by_name(job: YamlJob, file: str, given: Mapping[Any, Any], problems: Problems, there_are: str) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    for name, path in given.items():
        found = [each for each in job.inputs if each.name == name] or [
            each for each in job.inputs if each.param == name
        ]
        if len(found) != 1:
            what = "several inputs are called" if found else "the job has no input"
            known = [word for each in job.inputs for word in (each.name, each.param) if word]
            problems.add((file, 0), str(name), f"{what} {name!r}", f"{did_you_mean(str(name), known)}{there_are}")
            continue
        key = found[0].key
        if key in chosen:
            problems.add((file, 0), key, f"the input {key!r} is given twice", "give it once")
        chosen[key] = path
    return chosen


def _check_file(file: str, name: str, path: Path, problems: Problems) -> None:
    try:
        found = os.stat(path)
    except OSError as error:
        problems.add((file, 0), name, f"the input {name!r} is to be {str(path)!r} ({error.strerror})", "check the path")
        return
    if not stat.S_ISREG(found.st_mode):
        what = "a folder" if stat.S_ISDIR(found.st_mode) else "no file"
        problems.add((file, 0), name, f"the input {name!r} is to be {str(path)!r}, which is {what}", "give a file")


def folder_of(
    storage: Path, job: YamlJob, job_path: str, inputs: Inputs, given: str | None, problems: Problems
) -> Path:
    """The folder of a run: the same job with the same inputs finds its results again."""
    if given is None:
        digest = blake2b("\0".join([job_path, *map(str, inputs.values())]).encode(errors="surrogateescape"),
                         digest_size=4)  # fmt: skip
        given = f"{re.sub(r'[^A-Za-z0-9._-]', '_', job.name)[:LONGEST_NAME]}-{digest.hexdigest()}"
    elif not given or given in {".", ".."} or "/" in given or not given.isprintable() or len(given.encode()) > 255:
        problems.add((str(storage), 0), given, f"{given!r} cannot be the id of a run", "give a short name without '/'")
        given = "id"
    return Path(os.path.abspath(storage)) / given


def check_folder(storage: Path, folder: Path, job: YamlJob, inputs: Inputs, problems: Problems) -> None:
    """Nothing is written, and nothing may lead out of the folder."""
    place = (str(storage), 0)
    files = [path_of(each) for entry in job.entries for each in entry.outputs] + [f"input/{name}" for name in inputs]
    if os.path.lexists(storage) and not storage.is_dir():
        problems.add(place, "storage", "the storage is a file", "give another --storage-dir")
    elif not storage.exists() and not Path(os.path.abspath(storage)).parent.is_dir():
        problems.add(place, "storage", "the storage does not exist, nor does the folder it would be in",
                     "make that folder")  # fmt: skip
    else:
        above = next(path for path in (folder, *folder.parents) if path.exists())
        if not os.access(above, os.W_OK | os.X_OK):
            problems.add(place, "storage", f"nothing can be written to {str(above)!r}", "give another --storage-dir")
    root = os.path.join(os.path.realpath(folder), "")
    for name in dict.fromkeys([*OWN_FOLDERS, *map(os.path.dirname, files)]):
        path = os.path.join(folder, name)
        if not os.path.join(os.path.realpath(path), "").startswith(root) or os.path.islink(folder):
            problems.add(place, name, f"{path!r} is a link that leads out of the run's folder", "remove the link")
            break
    for name, given in inputs.items():
        if str(given).startswith(os.path.join(folder, "")) or os.path.realpath(given).startswith(root):
            problems.add(place, name, f"the input {name!r} lies in this run's own folder {str(folder)!r}",
                         "give a file elsewhere")  # fmt: skip


def link_inputs(folder: Path, inputs: Inputs) -> None:
    """Has ``input/NAME`` lead to the given files, for who looks into the folder."""
    for name, path in inputs.items():
        link = folder / "input" / name
        with suppress(OSError):  # somebody has put something else there
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink() or os.readlink(link) != str(path):
                link.unlink(missing_ok=True)
                link.symlink_to(path)
