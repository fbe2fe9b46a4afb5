"""``invoke``: an external program as a function from its arguments to what it writes.

Python's ``subprocess`` leaves four things to whoever runs programs in the jobs of a stream, and these are what this is
for: a program must not believe that it is a rank itself, must not outlive the worker that waits for it, should be tried
again where it failed for a reason that passes, and its failure should say all that is known.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple

from ..errors import ProgramError
from ..evaluate.context import current
from ..evaluate.ending import Ending
from ..ground.environment import CHECKPOINT, COMMAND_LINE, RANKS, TIME_LIMIT, USHER, WORLD_PID
from ..ground.texts import signal_name
from ..ranks.world import launched

__all__ = ["invoke"]

ALWAYS_TRANSIENT = ("No child processes",)
TRANSIENT_STARTS = (errno.EAGAIN, errno.ETXTBSY)
"""The machine is full of processes, or the file is still being written: programs cannot be started for a moment."""

FIRST_PAUSE_S = 0.02
LONGEST_PAUSE_S = 5.0
SHOWN_CHARACTERS = 2000

_OF_LAUNCHERS = ("OMPI_", "OPAL_", "PMIX_", "PRTE_", "PMI_", "HYDRA_", "HYDI_", "MPI_LOCAL")
_OF_SLURM_STEPS = (
    *("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_GTIDS", "SLURM_TASK_PID", "SLURM_STEP", "SLURM_SRUN_"),
    *("SLURM_LAUNCH_NODE_IPADDR", "SLURM_CPU_BIND", "SLURM_MEM_BIND", "SLURM_DISTRIBUTION", "SLURM_PMI"),
)
_OURS = tuple(each.name for each in (WORLD_PID, USHER, COMMAND_LINE, CHECKPOINT, TIME_LIMIT))
"""Which process is the rank, and what belongs to this stream: a stream in the program would take it for its own."""

_SETTINGS = ("_MCA_", "_ALLOW_RUN_AS_ROOT", "_PREFIX")
"""Parts of names that are the user's own, unless mpirun has started this process, which sets such things too."""


def invoke(command: Sequence[Any], transientErrors: Iterable[str] = (), maxRetries: int = 20) -> tuple[str, str]:
    """Runs an external program to its end. No shell is involved.

    Its standard input is empty, and its environment is that of the caller without what makes a process a rank of a
    parallel run, so the program may use MPI by itself. It dies with its caller, however that ends: with the worker that
    is killed since its time is up, or with the whole script. What it leaves running in its process group is ended too.

    Args:
        command: the program and its arguments, each of which is text, bytes, a path or a number. The program is a path,
            absolute or relative to the working folder, or a bare name, which is looked for on PATH.
        transientErrors: texts by which it shows in the standard error output of a program that failed that it is worth
            another try. "No child processes" always is one of them.
        maxRetries: how often it is tried again, after pauses that grow from 20 ms to 5 s.

    Returns:
        What it wrote to its standard output and to its standard error, each as text. Both are decoded as UTF-8; bytes
        that are something else appear as ``\\xff``. The ends of lines are left as they are.

    Raises:
        ProgramError: (a RuntimeError) there is no such program, it is not executable, or it failed: its exit code was
            not 0. Says which, with the command and the end of what it wrote to its standard error; attribute ``code``
            has the exit code, or the number of the signal that killed it, negative.
        TypeError, ValueError: the arguments make no sense.

    Example:
        >>> invoke(["echo", "hello", 3])
        ('hello 3\\n', '')
    """
    arguments = _arguments(command)
    passing = (*_texts(transientErrors), *ALWAYS_TRANSIENT)
    _check_retries(maxRetries)
    arguments[0] = _find(arguments[0])
    ending = _ending()
    for attempt in range(maxRetries + 1):
        if attempt:
            ending.wait(_pause_s(attempt))
        trial = _try(arguments, passing, ending)
        if trial.code == 0:
            return trial.out, trial.err
        if ending.has_come or not trial.may_pass:
            break
    raise _failure(arguments, trial, attempt + 1, ending.has_come)


class _Trial(NamedTuple):
    """What came of one try. ``code``: None if the program could not be started; then ``err`` says why."""

    code: int | None
    out: str
    err: str
    may_pass: bool


def _try(arguments: list[str | bytes], passing: tuple[str, ...], ending: Ending) -> _Trial:
    from .program import Program  # not at once: who only runs a stream has no use for it

    try:
        program = Program(arguments, _cleaned(os.environ))
    except OSError as error:
        return _Trial(None, "", _why_not_started(error), error.errno in TRANSIENT_STARTS)
    with ending.brings(program.kill):
        try:
            ended = program.outcome()
        except ChildProcessError:
            raise ProgramError(
                f"how {_name(arguments)} ended is not known: something else in this process has waited for it, or "
                f"SIGCHLD is ignored; leave SIGCHLD as it is where invoke is used"
            ) from None
    err = _decoded(ended.err)
    return _Trial(ended.code, _decoded(ended.out), err, any(text in err for text in passing))


def _ending() -> Ending:
    """The end of the run that this thread works for, which the process may survive."""
    evaluator = current()
    ending = evaluator.workplace.ending if evaluator is not None else None
    return ending or Ending()


def _pause_s(attempt: int) -> float:
    """How long to wait before a retry; not the same for all who wait for the same thing to pass."""
    longest = min(FIRST_PAUSE_S * 2.0 ** (attempt - 1), LONGEST_PAUSE_S)
    return longest * (1 - os.urandom(1)[0] / 512)  # the module's own generator is the user's


def _decoded(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


# what is run ----------------------------------------------------------------------------------------------------------


def _arguments(command: Any) -> list[str | bytes]:
    if isinstance(command, (str, bytes, os.PathLike)) or not isinstance(command, Iterable):
        raise TypeError(
            f"invoke takes a list, [program, *arguments], not {type(command).__name__}: {command!r:.80}; "
            f"shlex.split makes a list of a command line"
        )
    arguments = [_argument(number, value) for number, value in enumerate(command)]
    if not arguments or not arguments[0]:
        raise ValueError("invoke has been given no program: the first element of the list must be its path or name")
    return arguments


def _argument(number: int, value: Any) -> str | bytes:
    what = f"argument {number} of invoke" if number else "the program of invoke"
    if number and isinstance(value, Real) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, (str, bytes, os.PathLike)):
        kinds = "text, bytes, a path or a number" if number else "text, bytes or a path"
        raise TypeError(f"{what} must be {kinds}, not {type(value).__name__}: {value!r:.80}")
    text = os.fspath(value)
    if "\0" in os.fsdecode(text):
        raise ValueError(f"{what} holds a null character, which no program can be given: {text!r:.80}")
    return text


def _texts(transientErrors: Any) -> tuple[str, ...]:
    if isinstance(transientErrors, str):
        raise TypeError(f"transientErrors is a list of texts, not one: write [{transientErrors!r}]")
    texts = tuple(transientErrors)
    for text in texts:
        if not isinstance(text, str) or not text:
            raise TypeError(f"transientErrors holds texts, each of at least one character, not {text!r:.80}")
    return texts


def _check_retries(maxRetries: Any) -> None:
    if not isinstance(maxRetries, int) or isinstance(maxRetries, bool) or maxRetries < 0:
        raise ValueError(f"maxRetries must be a whole number from 0 on, not {maxRetries!r}")


def _find(program: str | bytes) -> str | bytes:
    """The file to execute.

    Raises:
        ProgramError: there is none, or it is not executable.
    """
    import shutil

    name = os.fsdecode(program)
    is_bare = os.sep not in name
    found = shutil.which(name) if is_bare else name
    if found is not None and os.path.isfile(found) and os.access(found, os.X_OK):
        return found if is_bare else program
    there = shutil.which(name, os.F_OK) if is_bare else name
    if there is not None and os.path.exists(there):
        why = "it is a folder" if os.path.isdir(there) else "chmod +x makes it so"
        raise ProgramError(f"{_shown(there)} is not executable: {why}")
    raise ProgramError(f"Program not found: {_shown(name)} {_where_not(name) if is_bare else _where_from(name)}")


def _where_not(name: str) -> str:
    hint = f"; the one in the working folder is ./{name}" if os.path.exists(name) else ""
    return f"is in no folder of PATH ({os.environ.get('PATH', os.defpath)}){hint}"


def _where_from(name: str) -> str:
    return "does not exist" if os.path.isabs(name) else f"does not exist, seen from the working folder {os.getcwd()}"


def _cleaned(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment without what makes a process a rank, or part of this stream."""
    launch = launched({**environment, RANKS.name: ""})
    is_rank = launch is not None and launch.launcher != "Slurm"

    def goes(name: str) -> bool:
        if name.startswith(_OF_LAUNCHERS):
            return is_rank or not any(part in name for part in _SETTINGS)
        return name.startswith((*_OF_SLURM_STEPS, *_OURS))

    return {name: value for name, value in environment.items() if not goes(name)}


# what went wrong ------------------------------------------------------------------------------------------------------


def _failure(arguments: list[str | bytes], trial: _Trial, attempts: int, is_over: bool) -> ProgramError:
    tries = f", tried {attempts} times" if attempts > 1 else ""
    how = "was ended, since the run that it worked for is over" if is_over else _how(trial.code)
    text = f"{_name(arguments)} {how}{tries}\nCommand: {_command_line(arguments)}"
    if end := trial.err.strip():
        cut = f"... ({len(end)} characters)\n" if len(end) > SHOWN_CHARACTERS else ""
        text += f"\nIts standard error: {cut}{end[-SHOWN_CHARACTERS:]}" if trial.code is not None else f"\n{end}"
    error = ProgramError(text)
    error.code = trial.code
    return error


def _how(code: int | None) -> str:
    if code is None:
        return "could not be started"
    if code >= 0:
        return f"failed with exit code {code}"
    return f"was killed by {signal_name(-code)} (exit code {code})"


def _why_not_started(error: OSError) -> str:
    reason = error.strerror or str(error)
    if error.errno == errno.ENOEXEC:
        return f"{reason}: it is no program for this machine, nor a script that names its interpreter (#!) in line 1"
    if error.errno == errno.ENOENT:
        return f"{reason}: the interpreter that it names in its first line (#!), or the working folder, does not exist"
    if error.errno == errno.EACCES:
        return f"{reason}: its file system, or the interpreter that it names in line 1 (#!), is not executable"
    return reason


def _name(arguments: list[str | bytes]) -> str:
    return _shown(os.fsdecode(arguments[0]))


def _command_line(arguments: list[str | bytes]) -> str:
    import shlex

    line = _shown(shlex.join(os.fsdecode(argument) for argument in arguments))
    return line if len(line) <= SHOWN_CHARACTERS else f"{line[:SHOWN_CHARACTERS]} ... ({len(line)} characters)"


def _shown(text: str) -> str:
    """Text that can be printed, also where it stands for bytes that are none."""
    return _decoded(os.fsencode(text))
