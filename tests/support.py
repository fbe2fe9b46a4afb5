"""What the tests share: events between processes, the process table, scripts, and small streams with a serial oracle.

Nothing here waits for time to pass. A wait is for an event, and ends with an error after ``DEADLINE_S``, which only a
hang can reach.
"""

from __future__ import annotations

import contextlib
import importlib
import mmap
import os
import signal
import struct
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from job_stream import Multiple, Object

DEADLINE_S = 120.0
PROMPT_S = 5.0
"""What 'at once' may take where being prompt is the promise; see ``stretched``."""

REPOSITORY = Path(__file__).resolve().parent.parent
SCRIPT_MARK = "JOB_STREAM_TEST_SCRIPT"
QUIET = {"JOBS_STATS": "0"}
"""Tests compare what is written to stderr, which statistics would be part of."""


# --- events between processes ------------------------------------------------------------------------------------
def stretched(limit_s: float) -> float:
    """A limit for a machine with a core for each process that wants one; where they are fewer, it is longer."""
    load, _, _, counts, _ = Path("/proc/loadavg").read_text().split()
    wanting = max(float(load), int(counts.split("/")[0]))
    return limit_s * max(1.0, wanting / len(os.sched_getaffinity(0)))


def wait_until(happened: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> Any:
    """Returns what ``happened`` returns as soon as that is true."""
    begin, pause_s = time.monotonic(), 0.002
    while not (answer := happened()):
        if time.monotonic() - begin > deadline_s and time.monotonic() - begin > stretched(deadline_s):
            raise AssertionError(f"waited {time.monotonic() - begin:.0f} s in vain for {what}")
        time.sleep(pause_s)
        pause_s = min(1.1 * pause_s, 0.02)  # what takes long leaves the processor to what is waited for
    return answer


class Gate:
    """An event that any process can set and wait for: a file that is there or not."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def is_open(self) -> bool:
        return self.path.exists()

    def open(self) -> None:
        self.path.touch()

    def wait(self) -> None:
        wait_until(self.path.exists, f"{self.path.name} to open")


class Tally:
    """Lines that any process can add; each is one write, so that they never mix."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def note(self, *words: Any) -> None:
        file = os.open(self.path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        try:
            os.write(file, (" ".join(map(str, words)) + "\n").encode())
        finally:
            os.close(file)

    def lines(self) -> list[str]:
        return self.path.read_text().splitlines() if self.path.exists() else []

    def numbers(self) -> list[int]:
        return [int(line) for line in self.lines()]

    def __len__(self) -> int:
        return len(self.lines())


class Counter:
    """A number in memory that this process and all it forks share; one of them writes."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 8)

    @property
    def value(self) -> int:
        return struct.unpack("q", self._memory[:8])[0]

    @value.setter
    def value(self, value: int) -> None:
        self._memory[:8] = struct.pack("q", value)

    def settled(self, limit: int, quiet_s: float = 0.3) -> int:
        """The value once it no longer grows, or has passed ``limit``: a busy writer only makes the answer larger."""
        seen, since = self.value, time.monotonic()
        while seen <= limit and time.monotonic() - since < quiet_s:
            if self.value != seen:
                seen, since = self.value, time.monotonic()
            time.sleep(0.005)
        return seen


class Once:
    """``once(name)`` is true for exactly one of all calls in all processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, name: object = "once") -> bool:
        try:
            os.close(os.open(self.folder / f"{name}.once", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True

    def happened(self, name: object = "once") -> bool:
        return (self.folder / f"{name}.once").exists()


def die() -> None:
    """Ends this process as the kernel would when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


# --- the process table -------------------------------------------------------------------------------------------
def _table() -> Iterator[tuple[int, int, str]]:
    """(pid, parent, state) of every process."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                rest = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            yield int(entry), int(rest[1]), rest[0]


def descendants(root: int | None = None) -> set[int]:
    """Living processes below ``root`` (this process unless told), zombies left out."""
    if root is None and not _has_children():
        return set()
    table = list(_table())
    found = {root or os.getpid()}
    while more := {pid for pid, parent, _ in table if parent in found} - found:
        found |= more
    return {pid for pid, _, state in table if pid in found and state not in "ZX"} - {root or os.getpid()}


def _has_children() -> bool:
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return True
    return False


def parents() -> dict[int, int]:
    """The parent of every process."""
    return {pid: parent for pid, parent, _ in _table()}


def children(pid: int) -> list[int]:
    return [child for child, parent in parents().items() if parent == pid]


def is_alive(pid: int) -> bool:
    return any(found == pid and state not in "ZX" for found, _, state in _table())


def is_stopped(pid: int) -> bool:
    return any(found == pid and state == "T" for found, _, state in _table())


def describe(pid: int) -> str:
    try:
        command = Path("/proc", str(pid), "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        status = Path("/proc", str(pid), "status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return f"{pid}: gone"
    return f"{pid}: {command.strip()!r}, " + ", ".join(line for line in status if line.startswith(("State", "PPid")))


def marked(mark: str) -> set[int]:
    """Living processes that were started with ``mark`` in their environment, orphans too."""
    needle = f"{SCRIPT_MARK}={mark}".encode()
    found = set()
    for pid, _, state in _table():
        try:
            environment = Path("/proc", str(pid), "environ").read_bytes()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if state not in "ZX" and needle in environment.split(b"\0"):
            found.add(pid)
    return found


# --- scripts -----------------------------------------------------------------------------------------------------
class Ended(NamedTuple):
    code: int
    out: str
    err: str


def end_of(process: subprocess.Popen[bytes], out: Path, err: Path, mark: str, deadline_s: float) -> Ended:
    """Waits for the end of a program; one that doesn't end says what it wrote and what is left of it."""
    try:
        wait_until(lambda: process.poll() is not None, "its end", deadline_s)
    except AssertionError as error:
        wrote = f"wrote {out.read_text()!r} and {err.read_text()!r}"
        left = "\n".join(map(describe, sorted(marked(mark))))
        raise AssertionError(f"{process.args} goes on, {wrote}; {error}:\n{left}") from None
    return Ended(process.returncode, out.read_text(), err.read_text())


class Script:
    """A program in a process group of its own, as a user starts one from a shell."""

    def __init__(self, path: Path, arguments: Sequence[object]) -> None:
        self.mark = uuid.uuid4().hex
        environment = {**os.environ, SCRIPT_MARK: self.mark, "PYTHONPATH": str(REPOSITORY)}
        environment.pop("PYTHONUNBUFFERED", None)
        self.out, self.err = path.with_suffix(".out"), path.with_suffix(".err")
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "error", str(path), *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=environment,
                cwd=path.parent,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def living(self) -> set[int]:
        """The script's process and all that came of it."""
        return marked(self.mark)

    def ended(self, deadline_s: float = DEADLINE_S) -> Ended:
        """Waits for the script's end: its exit code and all that it wrote."""
        return end_of(self.process, self.out, self.err, self.mark, deadline_s)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()  # first: it would have a worker that died replaced
        for pid in self.living():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(DEADLINE_S)


# --- libraries ---------------------------------------------------------------------------------------------------
def needs(*libraries: str) -> None:
    """Skips a test, or a module, if one of them is not installed. Unlike ``importorskip`` it does not import them: all
    that the process of the tests has loaded is copied with each process that it forks."""
    import importlib.util

    import pytest  # not for the scripts that import this module

    for name in libraries:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed", allow_module_level=True)


class Library:
    """A large library that a module's tests need, and that is imported when it is first used; tests which use it in
    their own process are marked ``libraries``."""

    def __init__(self, name: str) -> None:
        needs(name)
        self._name = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # pytest looks at all that is in a module
            raise AttributeError(name)
        return getattr(importlib.import_module(self._name), name)


# --- errors ------------------------------------------------------------------------------------------------------
def whole_text(error: BaseException | None) -> str:
    """What an error and its causes say."""
    texts = []
    while error is not None:
        texts.append(f"{type(error).__name__}: {error}")
        error = error.__cause__
    return "\n".join(texts)


# --- reductions that many tests use ------------------------------------------------------------------------------
def gather(store: list, works: Sequence[Any], others: Sequence[list]) -> None:
    """A reduction into one list: ``w.reduce(gather, store=list)``."""
    store.extend(works)
    for other in others:
        store.extend(other)


def reduce_to_sum(w: Any, **keywords: Any) -> None:
    """Appends a reduce that emits the sum of what came."""

    @w.reduce(store=lambda: Object(total=0), emit=lambda store: store.total, **keywords)
    def add_up(store, works, others):
        store.total += sum(works) + sum(other.total for other in others)


# --- small streams with a serial oracle --------------------------------------------------------------------------
# An item is (value, energy): values stay below MODULUS, and what is recurred has less energy, so that all ends.
MODULUS = 97
Item = tuple[int, int]


def _recurred(salt: int, item: Item) -> list[Item]:
    value, energy = item
    return [((value + 1) % MODULUS, energy - 1)] if energy and (value + salt) % 5 == 0 else []


def _sum(items: Sequence[Item], start: int = 0) -> int:
    return sum((value for value, _ in items), start) % MODULUS


class JobModel(NamedTuple):
    """Drops some items, makes several of others."""

    drop: int
    fan: int
    salt: int

    def outputs(self, item: Item) -> list[Item]:
        value, energy = item
        if self.drop and (value + self.salt) % self.drop == 0:
            return []
        return [((value * 3 + self.salt + i) % MODULUS, energy) for i in range(1 + value % self.fan)]

    def record(self, w: Any) -> None:
        w.job(lambda item: Multiple(self.outputs(item)))


class SlowModel(NamedTuple):
    """Lets everything through, and takes a while for some: long enough for work to be handed to others."""

    every: int

    def outputs(self, item: Item) -> list[Item]:
        return [item]

    def record(self, w: Any) -> None:
        @w.job
        def slow(item):
            if item[0] % self.every == 0:
                time.sleep(0.002)
            return item


class ReduceModel(NamedTuple):
    """Adds up; recurs some of what comes."""

    salt: int

    def record(self, w: Any) -> None:
        @w.reduce(store=lambda: Object(total=0), emit=lambda store: (store.total % MODULUS, 1))
        def fold(store, works, others):
            store.total += _sum(works) + sum(other.total for other in others)
            return Multiple([again for item in works for again in _recurred(self.salt, item)])


class FrameModel(NamedTuple):
    """Some rounds over the stages inside; its end recurs some items where no reduce makes their company matter."""

    rounds: int
    width: int
    salt: int
    stages: tuple[Any, ...]

    def round(self, number: int, first: Item) -> list[Item]:
        value, energy = first
        if number == value % (self.rounds + 1):
            return []
        return [((value + self.salt + 7 * number + i) % MODULUS, energy) for i in range(1 + value % self.width)]

    def again(self, item: Item) -> list[Item]:
        reduces = any(isinstance(stage, ReduceModel) for stage in self.stages)
        return [] if reduces else _recurred(self.salt, item)

    def outputs(self, first: Item) -> list[Item]:
        total, number = 0, 0
        while todo := self.round(number, first):
            number += 1
            while todo:
                outputs = serially(self.stages, todo)
                total = _sum(outputs, total)
                todo = [again for item in outputs for again in self.again(item)]
        return [(total, first[1])]

    def record(self, w: Any) -> None:
        @w.frame(store=lambda: Object(total=0, rounds=0), emit=lambda store: (store.total, store.energy))
        def loop(store, first):
            store.energy = first[1]
            store.rounds += 1
            return Multiple(self.round(store.rounds - 1, first))

        record(w, self.stages)

        @w.frameEnd
        def collect(store, item):
            store.total = _sum([item], store.total)
            return Multiple(self.again(item))


def record(w: Any, stages: Sequence[Any]) -> None:
    for stage in stages:
        stage.record(w)


def serially(stages: Sequence[Any], items: Sequence[Item]) -> list[Item]:
    """The oracle: what leaves ``stages`` when ``items`` enter, worked out one by one."""
    segments: list[list[Any]] = [[]]
    for stage in stages:
        segments[-1].append(stage)
        if isinstance(stage, ReduceModel):
            segments.append([])
    for segment in segments:
        items = _segment(segment, items)
    return list(items)


def _segment(stages: Sequence[Any], items: Sequence[Item]) -> list[Item]:
    reduce = stages[-1] if stages and isinstance(stages[-1], ReduceModel) else None
    todo, outputs = list(items), []
    while todo:
        arriving = [todo.pop()]
        for stage in stages[: len(stages) - bool(reduce)]:
            arriving = [output for item in arriving for output in stage.outputs(item)]
        outputs += arriving
        if reduce:
            todo += [again for item in arriving for again in _recurred(reduce.salt, item)]
    return [(_sum(outputs), 1)] if reduce else outputs
