"""From what the user asked for to a program that runs: which hosts, which mpirun, and what is in the environment."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from ..errors import PlanError
from ..ground.environment import CHECKPOINT, COMMAND_LINE, LAUNCHER, RANKS, TIME_LIMIT, WORLD_PID
from ..ground.suggestions import nearest
from ..ranks.world import launched
from . import settings
from .allocation import ListedHost, allocation, node_names, parse_hosts, read_hostfile
from .command import LaunchPlan, additions, alone, command, is_remote
from .error import LauncherError
from .mpirun import Mpirun, find_mpirun, folder_variable, own_folder, within
from .primary import served
from .restarts import Limits, keep_running, say
from .run import LaunchedRun
from .signal_queue import SignalQueue
from .switchboard import LOOPBACK, addresses_towards
from .usher import NOT_FOUND

__all__ = ["USUAL_CHECKPOINT", "Options", "start"]

USUAL_CHECKPOINT = "job_stream.chkpt"
"""The checkpoint where the user wants one and does not say which."""


class Options(NamedTuple):
    """What the user asked for; None or empty: nothing.

    Attributes:
        checkpoint: path of the checkpoint.
        host: what was given as ``--host``.
        hostfile: path of a hostfile.
        ranks: on this machine.
        restarts: how often to start again after a crash.
        time_limit: seconds for the whole run.
        dry_run: only tell what would be started.
        primary_only: the script runs on rank 0 alone, and the others serve its executors.
    """

    checkpoint: str | None = None
    host: tuple[str, ...] = ()
    hostfile: str | None = None
    ranks: int | None = None
    restarts: int = 0
    time_limit: float | None = None
    dry_run: bool = False
    primary_only: bool = False


def start(options: Options, program: Sequence[str], words: Sequence[str] = ()) -> int:
    """Runs a program on its ranks.

    Args:
        words: that could have been meant, where there is no such program.

    Returns:
        The exit status.

    Raises:
        LauncherError: it cannot be started.
    """
    job = _job(options, served(program) if options.primary_only else tuple(program))
    needs_mpirun = is_remote(job) or job.ranks > 1
    if needs_mpirun:
        _be_outside()
    mpirun, warning = find_mpirun() if needs_mpirun else (None, None)
    if warning:
        say(warning)
    added = {**(additions(mpirun, job) if mpirun else {}), **_checkpoint_addition(options), COMMAND_LINE.name: "1"}
    line = alone(job) if mpirun is None else command(job, mpirun, {**os.environ, **_passed(options, added)})
    if options.dry_run:
        _show(options, job, mpirun, line, added)
        return 0
    if missing := _missing(options, job, words):
        say(missing)
        return NOT_FOUND
    if mpirun is None and not options.restarts:
        os.environ.update({**added, **_limit_addition(options)})
        _become(job.program)
    return _supervise(options, job, mpirun, line, added)


def _supervise(options: Options, job: LaunchPlan, mpirun: Mpirun | None, line: list[str], added: dict[str, str]) -> int:
    addresses = addresses_towards(_names(job)) if is_remote(job) else [LOOPBACK]
    recovers = mpirun is not None and mpirun.recovers
    ranks = job.allocation.nodes if job.allocation else len(job.hosts) or job.ranks

    with SignalQueue() as signal_queue, own_folder(folder_variable(mpirun)) as folder:

        def again(more: Mapping[str, str]) -> LaunchedRun:
            return LaunchedRun(line, {**added, **within(folder), **more}, ranks, recovers, addresses, signal_queue)

        return keep_running(again, _limits(options), signal_queue)


def _names(job: LaunchPlan) -> list[str]:
    """Hosts that ranks run on; some of them at least."""
    return [host.name for host in job.hosts] or node_names(os.environ.get("SLURM_JOB_NODELIST", ""))


# where ----------------------------------------------------------------------------------------------------------------


def _job(options: Options, program: tuple[str, ...]) -> LaunchPlan:
    """Where a program is to run: what the user says, what a batch system has allocated, the user's settings, here."""
    _check_options(options)
    if hosts := _hosts(options):
        return LaunchPlan(program, hosts=hosts)
    allocated = allocation(os.environ)
    if allocated and options.ranks is not None:
        raise LauncherError(
            f"-n is for ranks on this machine, but this job has {allocated.nodes} nodes of {allocated.system}, each of "
            "which gets a rank: leave -n out"
        )
    if allocated:
        return LaunchPlan(program, hosts=allocated.hosts, allocation=None if allocated.hosts else allocated)
    if options.ranks is None and (path := settings.read().get("hostfile")):
        return LaunchPlan(program, hosts=_usual_hosts(path))
    return LaunchPlan(program, options.ranks or 1)


def _hosts(options: Options) -> tuple[ListedHost, ...]:
    if options.hostfile is not None:
        return read_hostfile(options.hostfile)
    return parse_hosts(options.host) if options.host else ()


def _usual_hosts(path: str) -> tuple[ListedHost, ...]:
    """The hosts of the user's settings."""
    try:
        return read_hostfile(path)
    except LauncherError as error:
        raise LauncherError(
            f"{error}; the settings name this file, and 'job_stream config hostfile=' unsets it"
        ) from None


def _check_options(options: Options) -> None:
    if options.checkpoint == "":
        raise LauncherError("--checkpoint needs the name of a file")
    if options.host and options.hostfile is not None:
        raise LauncherError("--host and --hostfile both say where to run: give one of them")
    if options.ranks is not None and (options.host or options.hostfile is not None):
        raise LauncherError("-n is for ranks on this machine; a host has one rank, so leave -n out")
    if not (options.checkpoint or CHECKPOINT.is_set()):
        for option, given, purpose in (("--restarts", options.restarts, "to go on from"),
                                       ("--time-limit", options.time_limit, "to stop with")):  # fmt: skip
            if given:
                raise LauncherError(
                    f"{option} needs a checkpoint {purpose}: give -c or --checkpoint PATH, or set {CHECKPOINT}"
                )


def _be_outside() -> None:
    """Sees to it that the ranks to be started can be ranks, whatever this process is."""
    if RANKS.is_set():
        raise LauncherError(f"{RANKS}=1 has each process work alone, so several ranks make no sense: unset it")
    launch = launched()
    if launch is not None and launch.size > 1:
        raise LauncherError(
            f"{launch.launcher} has started this command {launch.size} times, and each would start all ranks: start it "
            "once, without mpirun or srun before it"
        )
    os.environ.pop(WORLD_PID.name, None)


# environment ----------------------------------------------------------------------------------------------------------


def _checkpoint_addition(options: Options) -> dict[str, str]:
    return {} if options.checkpoint is None else {CHECKPOINT.name: os.path.abspath(options.checkpoint)}


def _limit_addition(options: Options) -> dict[str, str]:
    return {} if options.time_limit is None else {TIME_LIMIT.name: f"{options.time_limit:.10g}"}


def _passed(options: Options, added: Mapping[str, str]) -> dict[str, str]:
    """What is in a rank's environment beyond that of this process."""
    return {**added, **_limit_addition(options), LAUNCHER.name: ""}


def _limits(options: Options) -> Limits:
    """The time limit counts for all tries together, wherever it was set."""
    if options.time_limit is not None or not options.restarts:
        return Limits(options.restarts, options.time_limit)
    with suppress(PlanError):  # then the program says what is wrong with it
        return Limits(options.restarts, TIME_LIMIT.read())
    return Limits(options.restarts, None)


# starting -------------------------------------------------------------------------------------------------------------


def _missing(options: Options, job: LaunchPlan, words: Sequence[str]) -> str | None:
    """What to say where the program is not to be found on this machine, and it should be."""
    name = job.program[0]
    if options.checkpoint == USUAL_CHECKPOINT and job.program[1:2] == ("--",):
        return f"-c takes no path: write 'job_stream --checkpoint {name} -- ...'"
    if shutil.which(name) is not None or is_remote(job):
        return None
    if os.path.isfile(name):
        return f"{name} is not executable: start it with its interpreter, as in 'job_stream -- python {name}'"
    meant = nearest(name, words)
    return f"there is no program {name!r}" + (f"; did you mean the command {meant!r}?" if meant is not None else "")


def _become(program: Sequence[str]) -> None:
    """One rank here needs nobody to watch it: this process becomes the program, with its terminal, signals and end."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    try:
        os.execvp(program[0], list(program))
    except OSError as error:
        raise LauncherError(f"cannot start {program[0]!r}: {error.strerror}") from None


def _show(options: Options, job: LaunchPlan, mpirun: Mpirun | None, line: list[str], added: dict[str, str]) -> None:
    """What ``--dry-run`` tells: a line for each variable, then the command as for a shell."""
    is_plain = mpirun is None and not options.restarts
    for name, value in sorted({**added, **_limit_addition(options)}.items()):
        print(f"{name}={shlex.quote(value)}")
    if variable := folder_variable(mpirun):
        print(f"{variable}=...  # a new folder, which is removed at the end: where mpirun keeps its files")
    if not is_plain:
        print(f"{LAUNCHER}=...  # made anew for each start: where the ranks tell how they ended")
    print(shlex.join(job.program if is_plain else line))
