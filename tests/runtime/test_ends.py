"""However the threads of a run come and go, it ends: in order, each step once, and with nothing lost."""

from __future__ import annotations

import inspect
import os
import sys
import textwrap
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from simulated_cases import SLOW_S
from simulated_shell import Shell

from job_stream.checkpoints.saver import Saver
from job_stream.runtime import shutdown
from job_stream.runtime.loop import Loop
from job_stream.runtime.prefetch import Prefetcher, ThreadPrefetcher
from job_stream.runtime.runtime import Runtime
from job_stream.runtime.shutdown import Mailbox, Shutdown

SEEDS = 2000 * int(os.environ.get("JOBS_TEST_ORDERS", "1"))
PARTS = 4
MUTANT_SEEDS = 1000


def wrong_with(seed: int, counts: Counter[str] | None = None, **given: Any) -> list[str]:
    """What goes wrong in the run that a seed stands for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JOBS_STATS", "0")
        shell = Shell(seed, patch, **given)
        case, wrong = shell.case, shell.run()
        if counts is not None:
            counts.update(shell.counts)
        return [f"seed {seed}: {text}: {case}" for text in wrong]


@pytest.mark.parametrize("part", range(PARTS))
def test_every_order_of_the_threads_comes_to_an_end(part: int) -> None:
    counts: Counter[str] = Counter()
    wrong = [text for seed in range(part, SEEDS, PARTS) for text in wrong_with(seed, counts)]
    assert not wrong, "\n".join(wrong[:10])
    for what in ("no trouble: nothing", "lanes died", "stopped", "resumed", "interrupt: KeyboardInterrupt", "job: Boom",
                 "source: Boom", "handler: Boom", "sigterm: SystemExit", "no trouble: Boom", "no thread: LimitError",
                 "rank lost"):  # fmt: skip
        assert counts[what], what


def test_the_same_seed_gives_the_same_order() -> None:
    def story(seed: int) -> tuple[float, list[int], list[str]]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("JOBS_STATS", "0")
            shell = Shell(seed, patch)
            shell.run()
            return shell.sim.now, shell.results, shell.story

    assert [story(seed) for seed in range(40)] == [story(seed) for seed in range(40)]


# what holds it up, taken out --------------------------------------------------------------------------------------


def without(function: Any, mend: str, instead: str) -> Any:
    """A function whose source says something else in one place."""
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(mend) == 1, f"{function.__qualname__} does not say {mend!r} once"
    found: dict[str, Any] = {}
    module = sys.modules[function.__module__]
    exec(f"from __future__ import annotations\n{source.replace(mend, instead)}", module.__dict__, found)
    return found[function.__name__]


LOOK_FIRST = """\
rank = self._loop.rank
    is_awaited = rank.full or rank.halted
    self._mailbox.events.append(m.ResultsTaken(delivery.count, delivery.payload.nbytes))
    if is_awaited:"""

LOOP = inspect.getsource(Loop.run).partition("has_failed):\n")[2].replace("\n    ", "\n").removeprefix("    ")

SAVED = {"journal": "call", "interval_s": 1e6, "rank": -1, "other": "", "step": ""}
DAWDLING = {**SAVED, "items": 2, "source": "list", "trouble": "", "deaths": 0.0, "is_measured": False, "dawdles": True}
"""The last item gives no result, so the stream may end just when the one before it has been taken."""
STOPPED = {**SAVED, "items": 5, "trouble": "sigterm", "handler_s": SLOW_S}
ASKED = {"items": 5, "source": "waiting", "trouble": "", "is_measured": True, "rank": -1, "other": ""}
INTERRUPTED = {"trouble": "interrupt"}


class Mend(NamedTuple):
    """What is in its place, and what is there instead when it is taken out; seen in runs of this kind."""

    where: Any
    name: str
    mend: str
    instead: str
    given: Mapping[str, Any] = MappingProxyType({})


MENDS = {
    "an event that nobody wakes for": Mend(Mailbox, "post", "self.wake.set()", "pass"),
    "a result taken that somebody waits for": Mend(Runtime, "_take", "self._mailbox.wake.set()", "pass"),
    "first looked, then written": Mend(
        Runtime,
        "_take",
        """\
self._mailbox.events.append(m.ResultsTaken(delivery.count, delivery.payload.nbytes))
    rank = self._loop.rank
    if rank.full or rank.halted:""",
        LOOK_FIRST,
        DAWDLING,
    ),
    "no look before it lingers": Mend(Loop, "linger", "self._take_posted()  # before", "pass  # before", DAWDLING),
    "first looked, then cleared, and no look before it sleeps": Mend(
        Loop,
        "run",
        LOOP,
        LOOP.replace("0 if self._events else ", "").replace("posted()\n", "posted()\n        wake.clear()\n"),
    ),
    "nobody hears that it was written": Mend(Saver, "_write", "    self._engine.wake()\n", "    pass\n", STOPPED),
    "woken before it was written": Mend(
        Saver,
        "_write",
        "    self._is_writing = False\n    self._engine.wake()\n",
        "    self._engine.wake()\n    self._is_writing = False\n",
        STOPPED,
    ),
    "no checkpoint will ever come": Mend(Saver, "fail", "self._is_tried.set()", "pass"),
    "a signal that wakes nobody": Mend(Saver, "_on_signal", "self._engine.wake()", "pass", STOPPED),
    "a request of which the source does not hear": Mend(Prefetcher, "request", "self._changed.notify()", "pass"),
    "a first item that nobody takes": Mend(Prefetcher, "_take", "self._wake()", "pass", ASKED),
    "a source that nobody ends": Mend(ThreadPrefetcher, "close", "self._changed.notify()", "pass"),
    "the script leaves in silence": Mend(Runtime, "_say_left", "self._mailbox.wake.set()", "pass"),
    "a second Ctrl-C": Mend(Runtime, "_leave", "self._say_left()  # it", "pass  # it", INTERRUPTED),
    "closed while it is used": Mend(Shutdown, "release", "len(self._through) < 2 or ", ""),
    "closed by both": Mend(Runtime, "_run", "not self._shutdown.is_to_close()", "False"),
    "closed by nobody": Mend(Runtime, "_part", "self._close()", "pass"),
    "a step that raises": Mend(shutdown, "_attempt", "fail(error)", "raise"),
    "an error that the script does not hear of": Mend(Runtime, "_fail", "self._mailbox.deliveries.put(error)", "pass"),
    "an end that the script does not hear of": Mend(Runtime, "_say_over", "self._mailbox.deliveries.put(None)", "pass"),
}


@pytest.mark.parametrize("name", MENDS)
def test_what_holds_it_up_is_missed_when_it_is_taken_out(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    mend = MENDS[name]
    assert not [text for seed in range(20) for text in wrong_with(seed, **mend.given)]
    monkeypatch.setattr(mend.where, mend.name, without(getattr(mend.where, mend.name), mend.mend, mend.instead))
    assert any(wrong_with(seed, **mend.given) for seed in range(MUTANT_SEEDS))
