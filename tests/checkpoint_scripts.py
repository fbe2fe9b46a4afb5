"""What tests of checkpoints in real runs share: scripts that are stopped at a certain moment and started again."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable
from pathlib import Path

from support import Ended, Gate, Script, Tally, wait_until

from job_stream import checkpointInfo
from job_stream.checkpoints.info import CheckpointInfo

TESTS = Path(__file__).resolve().parent
STOPPED = 75

PRELUDE = f"""
import os, signal, sys, time
sys.path.insert(0, {str(TESTS)!r})
from pathlib import Path
import job_stream
from job_stream import Multiple, Object, Work, getRank
from support import Gate, Once, Tally, gather

here = Path(__file__).parent
state = here / "state"
keywords = dict(checkpointFile=state, checkpointInterval=0.03)
went_on = (here / "went on").exists()

def note(name, *words):
    Tally(here / name).note(*words)

def hold(now=True):
    '''Comes to a stop, for the test to do something, unless this is the run that goes on afterwards.'''
    if now and not went_on:
        Gate(here / "held").open()
        while True:
            time.sleep(60)
"""


def script(folder: Path, text: str) -> Path:
    """The script, with what it may use."""
    path = folder / "script.py"
    path.write_text(PRELUDE + textwrap.dedent(text), encoding="utf-8")
    return path


def stamp(path: Path) -> tuple[int, int] | None:
    """What changes with each checkpoint; None: there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns


def saved_again(path: Path, times: int = 2) -> None:
    """Waits for new checkpoints; the first of them may have been begun before, the second was not."""
    for _ in range(times):
        before = stamp(path)
        wait_until(lambda before=before: stamp(path) not in (None, before), "another checkpoint")


class Saved:
    """A script with a checkpoint, to be started as often as a test wants. All that came of it is ended on the way out.

    Args:
        folder: where script, checkpoint and notes are.
        text: the script; see ``PRELUDE``.
    """

    def __init__(self, folder: Path, text: str) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.path = script(folder, text)
        self.state = folder / "state"
        self.done = folder / "state.done"
        self.started: list[Script] = []

    def start(self, *arguments: object) -> Script:
        self.started.append(Script(self.path, arguments))
        return self.started[-1]

    def run(self, *arguments: object) -> Ended:
        """Runs it to its end."""
        return self.start(*arguments).ended()

    def held(self, *arguments: object, saves: int = 2) -> Script:
        """Starts it, and waits until it has come to a stop and that is in a checkpoint."""
        started = self.start(*arguments)
        self.gate("held").wait()
        saved_again(self.state, saves)
        return started

    def killed(self, *arguments: object) -> None:
        """Starts it, and ends all that came of it at once when it has come to a stop and that is in a checkpoint."""
        self.held(*arguments).kill()
        self.go_on()

    def go_on(self) -> None:
        """From now on it doesn't come to a stop."""
        self.gate("went on").open()

    def gate(self, name: str) -> Gate:
        return Gate(self.folder / name)

    def notes(self, name: str) -> list[str]:
        return Tally(self.folder / name).lines()

    def info(self) -> CheckpointInfo:
        return checkpointInfo(self.state)

    def __enter__(self) -> Saved:
        return self

    def __exit__(self, *error: object) -> None:
        for started in self.started:
            started.kill()


def right(ended: Ended, expected: object) -> None:
    """Checks that a script came to its end with this result."""
    assert (ended.code, ended.out) == (0, f"{expected}\n"), ended.err


def edited(path: Path, change: Callable[[bytearray], None]) -> None:
    """Changes the bytes of a file in place."""
    data = bytearray(path.read_bytes())
    change(data)
    with path.open("r+b") as file:
        file.write(data)
        file.truncate(len(data))
        os.fsync(file.fileno())


# --- scripts and their serial results --------------------------------------------------------------------------------
FAN_OUT = """
w = Work(range(300), cpus=2, **keywords)
@w.job
def fan(x):
    hold(x == 200)
    return Multiple([x] * (x % 3))
@w.job
def negate(x):
    return -x
print(sorted(w.run()))
"""

NESTED = """
w = Work(range(12), cpus=2, **keywords)
@w.frame(store=lambda: Object(rounds=0, total=0), emit=lambda store: store.total)
def outer(store, first):
    store.rounds += 1
    if store.rounds <= 3:
        return Multiple(first + i for i in range(4))
@w.frame(store=lambda: Object(rounds=0, total=0), emit=lambda store: store.total)
def inner(store, first):
    store.rounds += 1
    if store.rounds <= 2:
        return Multiple([first, 2 * first])
@w.job
def step(x):
    hold(x == 20)
    return x + 1
@w.frameEnd
def addInner(store, x):
    store.total += x
@w.frameEnd
def addOuter(store, x):
    store.total += x
print(sorted(w.run()))
"""

REDUCTION = """
w = Work(range(500), cpus=2, **keywords)
@w.job
def work(x):
    hold(x == 400)
    return x
@w.reduce(store=list, emit=lambda store: Multiple(sorted(store)))
def first(store, works, others):
    gather(store, works, others)
    return Multiple(x + 1000 for x in works if x < 10)
@w.job
def double(x):
    return 2 * x
@w.reduce(store=list, emit=sorted)
def second(store, works, others):
    gather(store, works, others)
print(w.run())
"""

REDUCTION_IN_A_FRAME = """
w = Work(range(4), cpus=2, **keywords)
@w.frame(store=lambda: Object(rounds=0, sums=[]), emit=lambda store: store.sums)
def loop(store, first):
    store.rounds += 1
    if store.rounds <= 3:
        return Multiple(range(first, first + 50))
@w.job
def work(x):
    hold(x == 45)
    return x
@w.reduce(store=list, emit=sum)
def total(store, works, others):
    gather(store, works, others)
@w.frameEnd
def note_sum(store, sum_of_all):
    store.sums.append(sum_of_all)
print(sorted(w.run()))
"""

FINISH = """
w = Work(range(300), cpus=2, **keywords)
@w.job
def work(x):
    hold(x == 200)
    return x * x
@w.finish
def all_of_them(results):
    return len(results), sum(results)
print(w.run())
"""

MAP = """
def power(base, exponent):
    hold(base == 200)
    return base ** exponent
print(job_stream.map(power, range(300), [2] * 300, cpus=2, **keywords))
"""

LONG_FRAMES = """
w = Work(range(int(sys.argv[1])), cpus=int(sys.argv[2]), **keywords)
@w.frame(store=lambda: Object(rounds=0, total=0), emit=lambda store: (store.rounds, store.total))
def loop(store, first):
    store.first = first if store.rounds == 0 else store.first
    note(f"rounds {went_on} {store.first}", store.rounds)
    if not went_on and store.rounds == 500:
        Gate(here / f"busy {store.first}").open()
    if store.rounds < 500 or (store.rounds < 1000 and went_on) or not went_on:
        time.sleep(0.001)
        store.rounds += 1
        return store.rounds
w.job(abs)
@w.frameEnd
def add(store, x):
    store.total += x
results = w.run()
if results is not None:
    print(results)
"""


def are_long(results: list[tuple[int, int]], script: Saved, items: int) -> None:
    """Checks that frames are right, and that their rounds before the last checkpoint were not done again."""
    assert len(results) == items
    for rounds, total in results:
        assert (rounds >= 1000, total) == (True, rounds * (rounds + 1) // 2)
    for item in range(items):
        assert int(script.notes(f"rounds True {item}")[0]) > 250


SCRIPTS = {
    "jobs": (FAN_OUT, sorted(-x for x in range(300) for _ in range(x % 3))),
    "frames": (NESTED, [3 * 2 * sum(3 * (x + i) + 2 for i in range(4)) for x in range(12)]),
    "reductions": (REDUCTION, [sorted(2 * x for x in (*range(500), *range(1000, 1010)))]),
    "a reduction in a frame": (REDUCTION_IN_A_FRAME, [[sum(range(x, x + 50))] * 3 for x in range(4)]),
    "finish": (FINISH, (300, sum(x * x for x in range(300)))),
    "map": (MAP, [x * x for x in range(300)]),
}
