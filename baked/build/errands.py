"""One attempt at one job, in a worker: old outputs removed, values loaded, function called, outputs checked and read.

A worker finds the jobs of the script in its own copy of it. Those that were declared since come with the errand, by
value. Values that jobs need are computed in the worker, once each, and are there in what it forks.
"""

from __future__ import annotations

import os
import pickle
import shutil
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from job_stream.errors import BuildError, JobContractError, JobDied

from .access import Opened, watching
from .file_state import FileState, read_state
from .fingerprints import Fingerprint
from .isolation import ChildEnding, call_isolated, exit_code_of
from .job import BuildJob, JobFile
from .job_actions import ACTIONS, beside
from .joblogs import JobLogs
from .kinds import LOADS
from .mishaps import Mishap, mishap_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .declaring import Declaring

__all__ = ["Errand", "JobOutcome", "Task", "Worker", "packed_tasks", "task_of"]


class Task(NamedTuple):
    """A job as a worker needs it.

    Attributes:
        arguments: of each named need, paths as they are, or ('value', id) for the value of a load.
        outputs: the absolute paths of its files, and the keys that they have.
        filling: by which names the function takes what the kind of job gives.
    """

    id: str
    kind: str
    action: str
    function: Callable[..., Any]
    arguments: Mapping[str, Any]
    params: Mapping[str, Any]
    outputs: tuple[str, ...]
    keys: tuple[Any, ...] | None
    filling: tuple[str, ...]
    details: Mapping[str, Any]
    isolate: bool
    timeout: float | None
    logs: str


class Value(NamedTuple):
    """The value of a load, where an argument is to be."""

    load: str


class Errand(NamedTuple):
    """What a worker is to do: one job with these values, or the reading of files.

    Attributes:
        tasks: the jobs among them that were declared after the workers had been forked, packed.
        files: absolute paths of files to be read, if there is no job.
        token: a file in the build's folder, which every host has to see.
    """

    job: str
    loads: tuple[str, ...] = ()
    tasks: bytes | None = None
    files: tuple[str, ...] = ()
    token: str | None = None


class JobOutcome(NamedTuple):
    """How an attempt ended.

    Attributes:
        job: its id.
        states: of each of its files, in their order; of each file that was to be read.
        mishap: what was raised.
        guilty: the load that raised, where it was not the job itself.
        status: the wait status of a process that ended without a word.
        is_late: whether its time was over.
        is_given_back: whether it was not begun, since nothing new is to be.
        broken: outputs that are missing or empty, as the error names them.
        is_blind: whether its host does not see the folder of the build.
        opened: the files below the root that Python has opened, if that is of interest.
        explicit: of each value that said its own fingerprint, the text of that.
    """

    job: str
    states: tuple[FileState | None, ...] = ()
    mishap: Mishap | None = None
    guilty: str | None = None
    status: int | None = None
    is_late: bool = False
    is_oom: bool = False
    broken: tuple[str, ...] = ()
    explicit: Mapping[str, str] = {}
    seconds: float = 0.0
    cpu: float = 0.0
    max_memory: int = 0
    host: str = ""
    pid: int = 0
    stdout: str = ""
    stderr: str = ""
    has_log: bool = False
    began: float = 0.0
    is_given_back: bool = False
    is_blind: bool = False
    opened: tuple[Opened, ...] = ()

    @property
    def is_success(self) -> bool:
        return self.mishap is None and self.status is None and not self.is_late and not self.broken


def task_of(owner: Declaring, job: BuildJob, isolate: bool, logs: str) -> Task:
    """A job with all that was looked up for it."""

    def absolute(path: str) -> Path:
        return Path(owner.absolute(path))

    def argument(target: Any) -> Any:
        if isinstance(target, list):
            return [argument(each) for each in target]
        if isinstance(target, JobFile):
            return absolute(target.path)
        if isinstance(target, str):
            return absolute(target)
        if target.kind == "source":
            return absolute(target.id)
        if target.makes_files:
            return target.outputs.shaped(absolute)
        return Value(target.id)

    return Task(
        job.id, job.kind, job.action, job.function,
        {name: argument(target) for name, target in job.named.items() if not _is_only_watched(target)}, job.params,
        tuple(owner.absolute(path) for path in job.outputs.paths), job.outputs.keys, job.filling, job.details,
        is_isolated(job, isolate), job.options["timeout"], job.options["logs"] or logs,
    )  # fmt: skip


def is_isolated(job: BuildJob, isolate: bool) -> bool:
    """Whether a job has a process of its own: also for the sake of its time limit, which ends that."""
    return (isolate and bool(job.options["isolate"])) or job.options["timeout"] is not None


def _is_only_watched(target: Any) -> bool:
    return isinstance(target, BuildJob) and target.is_invariant and target.kind != "source"


def packed_tasks(tasks: list[Task]) -> bytes:
    """Jobs for workers that do not know them.

    Raises:
        BuildError: the function of one of them cannot be packed; names it, and the captured variable.
    """
    import cloudpickle

    for task in tasks:
        try:
            cloudpickle.dumps(task)
        except Exception as error:
            raise BuildError(
                f"job {task.id!r} was declared by a generator, and cannot be sent to a worker{_culprit(task)}: {error}"
            ) from error
    packed: bytes = cloudpickle.dumps(tasks)
    return packed


def _culprit(task: Task) -> str:
    import cloudpickle

    cells = zip(task.function.__code__.co_freevars, task.function.__closure__ or (), strict=False)
    named = [*((name, cell.cell_contents) for name, cell in cells), *task.params.items()]
    for name, value in named:
        try:
            cloudpickle.dumps(value)
        except Exception:
            return f" for its variable {name!r}"
    return ""


class Worker:
    """Performs errands, one by one, in whichever process it is called; that is a worker, after a fork.

    Args:
        owner: the build as it was when the workers were forked.
        isolate: whether jobs run in processes of their own, where they do not say it.
        logs: which outputs stay, where they do not say it.
        halt: true when nothing new is to be begun.
        root: the folder in which it is of interest what jobs open; None: it is not.
    """

    def __init__(self, owner: Declaring, folder: str, isolate: bool, logs: str, halt: object, root: str | None) -> None:
        self._owner = owner
        self._isolate = isolate
        self._halt = halt
        self._root = root
        self._logs_kept = logs
        self._logs = JobLogs(os.path.join(folder, "logs"))
        self._tasks: dict[str, Task] = {}
        self._values: dict[str, Any] = {}
        self._explicit: dict[str, str] = {}
        self._folders: set[str] = set()
        self._oom_kills = oom_kills()

    def perform(self, errand: Errand) -> JobOutcome:
        """Does what it is asked for; every mistake of the user's is part of the outcome."""
        if errand.token is not None and not os.path.exists(errand.token):
            return JobOutcome(errand.job, host=socket.gethostname(), is_blind=True)
        if errand.files:
            return JobOutcome(errand.job, tuple(map(read_state, errand.files)))
        if self._halt:
            return JobOutcome(errand.job, is_given_back=True)
        if errand.tasks is not None:
            self._tasks.update({task.id: task for task in pickle.loads(errand.tasks)})
        begin = time.time()
        outcome = self._attempt(self._task(errand.job), errand.loads)
        return outcome._replace(host=socket.gethostname(), seconds=time.time() - begin, began=begin)

    def _task(self, job_id: str) -> Task:
        if job_id not in self._tasks:
            self._tasks[job_id] = task_of(self._owner, self._owner.jobs[job_id], self._isolate, self._logs_kept)
        return self._tasks[job_id]

    def _attempt(self, task: Task, loads: tuple[str, ...]) -> JobOutcome:
        guilty = task.id
        try:
            for guilty in loads:
                self._load(self._task(guilty))
            guilty = task.id
            if task.kind in LOADS:
                self._load(task)
                return JobOutcome(task.id, explicit=self._said([*loads, task.id]), pid=os.getpid())
            self._clear(task)
        except BaseException as error:  # also what no Exception is: nothing that a user's function does is lost
            outcome = JobOutcome(task.id, mishap=mishap_of(error), guilty=guilty if guilty != task.id else None)
            culprit = self._task(guilty)
            return self._with_logs(culprit, outcome) if culprit.kind in LOADS else outcome
        with self._attributes(loads):
            outcome = self._run(task)
        outcome = self._checked(task, outcome)._replace(explicit=self._said(loads))
        return self._with_logs(task, outcome)

    def _said(self, loads: Iterable[str]) -> dict[str, str]:
        return {load: self._explicit[load] for load in loads if load in self._explicit}

    # values -----------------------------------------------------------------------------------------------------------

    def _load(self, task: Task) -> None:
        if task.id in self._values:
            return
        with self._logs.taking():
            try:
                value = perform_task(task, self._values)
            except SystemExit as leaving:
                raise left_by(f"job {task.id!r}", leaving) from leaving
        if task.logs != "failed":
            self._logs.keep(task.id)
        if isinstance(value, Fingerprint):
            self._explicit[task.id] = value.text
            value = value.value
        self._values[task.id] = value

    @contextmanager
    def _attributes(self, loads: tuple[str, ...]) -> Iterator[None]:
        """The values that are attributes of objects, set for the time of one job."""
        given = [(task.details["target"].held, task.details["name"], self._values[task.id])
                 for task in map(self._task, loads) if task.kind == "attribute"]  # fmt: skip
        before = [_attribute_of(held, name) for held, name, _ in given]
        try:
            for held, name, value in given:
                setattr(held, name, value)
            yield
        finally:
            for (held, name, _), value in zip(reversed(given), reversed(before), strict=True):
                if value is not _NOTHING:
                    setattr(held, name, value)
                else:
                    with suppress(AttributeError):
                        delattr(held, name)

    # the job itself ---------------------------------------------------------------------------------------------------

    def _clear(self, task: Task) -> None:
        """What is in the way is removed, and what a killed run left beside it; the folders of the outputs are made."""
        for path in _made(task):
            if path not in task.outputs:
                remove_part(path)
        for path in () if _stays(task) else task.outputs:
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass
            except IsADirectoryError as error:
                text = f"job {task.id!r} is to make a file where a folder is: rename or remove {path}"
                raise JobContractError(text) from error
        for path in task.outputs:
            folder = os.path.dirname(path)
            if folder not in self._folders or not os.path.isdir(folder):
                os.makedirs(folder, exist_ok=True)
                self._folders.add(folder)

    def _run(self, task: Task) -> JobOutcome:
        return self._run_isolated(task) if task.isolate else self._run_here(task)

    def _run_isolated(self, task: Task) -> JobOutcome:
        out, err = self._logs.open()
        ending: ChildEnding = call_isolated(lambda: answer_of(task, self._values, self._root), out, err, task.timeout)
        outcome = JobOutcome(task.id, cpu=ending.cpu, max_memory=ending.max_memory, pid=ending.pid)
        if ending.is_late:
            return outcome._replace(is_late=True)
        if ending.answer is None:
            return outcome._replace(status=ending.status, is_oom=os.WIFSIGNALED(ending.status) and self._was_oom())
        mishap, opened = ending.answer
        return outcome._replace(mishap=mishap, opened=opened)

    def _was_oom(self) -> bool:
        before, self._oom_kills = self._oom_kills, oom_kills()
        return self._oom_kills > before

    def _run_here(self, task: Task) -> JobOutcome:
        cpu, environment, folder = time.process_time(), dict(os.environ), os.getcwd()
        opened: tuple[Opened, ...] = ()
        try:
            with self._logs.taking():
                (mishap, opened), status = answer_of(task, self._values, self._root), None
        except SystemExit as leaving:
            mishap, status = None, exit_code_of(leaving) << 8
        finally:
            os.chdir(folder)
            if dict(os.environ) != environment:
                os.environ.clear()
                os.environ.update(environment)
        cpu = time.process_time() - cpu
        return JobOutcome(task.id, mishap=mishap, status=status, opened=opened, cpu=cpu, pid=os.getpid())

    def _checked(self, task: Task, outcome: JobOutcome) -> JobOutcome:
        """With the states of the files that it made; those of a failed job are removed."""
        if outcome.is_success:
            empty_ok = task.details.get("empty_ok", False)
            broken = tuple(filter(None, (_flaw(path, empty_ok) for path in _made(task))))
            if not broken:
                for path, target in zip(_made(task), task.outputs, strict=True):
                    if path != target:
                        os.replace(path, target)
                return outcome._replace(states=tuple(map(read_state, task.outputs)))
            outcome = outcome._replace(broken=broken)
        discard(task.outputs, task.details)
        return outcome

    def _with_logs(self, task: Task, outcome: JobOutcome) -> JobOutcome:
        out, err = self._logs.tails()
        stays = (task.logs != "failed" or not outcome.is_success) and self._logs.keep(task.id)
        return outcome._replace(stdout=out, stderr=err, has_log=stays)


_NOTHING = object()


def _attribute_of(held: Any, name: str) -> Any:
    """What an object has itself under a name; what it has from its class is there again without it."""
    try:
        return vars(held).get(name, _NOTHING)
    except TypeError:  # it has slots
        return getattr(held, name, _NOTHING)


def left_by(subject: str, leaving: SystemExit) -> JobDied:
    """What a function has come to that has no process of its own to end."""
    code = exit_code_of(leaving)
    return JobDied(f"{subject} called sys.exit ({leaving.code!r}) instead of returning", code)


def answer_of(task: Task, values: Mapping[str, Any], root: str | None) -> tuple[Mishap | None, tuple[Opened, ...]]:
    """Calls the job's function; what it raised, and what it opened below ``root``, if that is of interest."""
    with watching(root) as opened:
        try:
            perform_task(task, values)
        except SystemExit as leaving:
            if leaving.code is not None and not isinstance(leaving.code, int):
                print(leaving.code, file=sys.stderr)  # as the end of a script does
            raise
        except BaseException as error:  # a KeyboardInterrupt here is one that the job has raised
            return mishap_of(error), tuple(opened)
    return None, tuple(opened)


def perform_task(task: Task, values: Mapping[str, Any]) -> Any:
    """Calls a job's function with what is its due."""
    keywords = {name: _given(argument, values) for name, argument in task.arguments.items()}
    keywords.update({name: _plain(value) for name, value in task.params.items()})
    return ACTIONS[task.action](task, _shaped(task), keywords)


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Fingerprint) else value


def _given(argument: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(argument, Value):
        return values[argument.load]
    return [_given(each, values) for each in argument] if isinstance(argument, list) else argument


def _made(task: Task) -> list[str]:
    """Where the function writes: its outputs, or files beside them that are renamed."""
    return [beside(path) for path in task.outputs] if task.details.get("atomic") else list(task.outputs)


def _stays(task: Task) -> bool:
    """Whether there are old outputs until there are new ones."""
    return bool(task.details.get("atomic")) and task.kind in {"file", "files"}


def _shaped(task: Task) -> Any:
    paths = [Path(path) for path in _made(task)]
    if not paths or task.keys is None:
        return paths[0] if paths else None
    return paths if task.keys == tuple(range(len(paths))) else dict(zip(task.keys, paths, strict=True))


def _flaw(path: str, empty_ok: bool) -> str | None:
    """What is wrong with an output, if anything."""
    try:
        found = os.stat(path)
    except OSError:
        return f"{path} is missing"
    if not stat.S_ISREG(found.st_mode):
        return f"{path} is no file"
    return f"{path} is empty (emptyOk=True allows that)" if not found.st_size and not empty_ok else None


def remove_part(path: str) -> None:
    """Removes what stands beside a target, be it no file at all."""
    with suppress(OSError):
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)


def discard(outputs: Iterable[str], details: Mapping[str, Any]) -> None:
    """Removes what a failed job has made, or puts it aside."""
    for path in outputs:
        made = beside(path) if details.get("atomic") else path
        with suppress(OSError):
            if details.get("keep_broken"):
                os.replace(made, f"{path}.broken")
            elif made != path:
                remove_part(made)
            else:
                os.unlink(made)


def oom_kills() -> int:
    """How many processes of this control group have been killed for want of memory; 0 where nobody counts."""
    try:
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            group = next(line for line in file if line.startswith("0::")).strip()[3:]
        with open(f"/sys/fs/cgroup{group}/memory.events", encoding="utf-8") as file:
            return sum(int(line.split()[1]) for line in file if line.startswith("oom_kill "))
    except (OSError, StopIteration, ValueError):
        return 0
