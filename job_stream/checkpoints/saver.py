"""The checkpoints of a run, as the primary's runtime sees them: when to save, what becomes of a state, what is left of
an earlier run.

A state is captured in the engine's thread, written in a thread of its own, and refers to payloads that never change, so
lanes wait for nothing. Before there is a checkpoint, no result is given to anybody: from then on, the journal beside it
tells which have been. A run whose first one cannot be written ends, since nothing that it did could be known again.
"""

from __future__ import annotations

import signal
import sys
import threading
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from math import inf
from time import monotonic
from types import FrameType
from typing import Any, NamedTuple

from ..engine.capture import State
from ..errors import PayloadError
from ..ground.contexts import context
from ..ground.texts import shorten
from ..memory.payload import Blob, Parts, pack, unpack
from ..stream.fingerprint import fingerprint
from ..stream.plan import Plan, ResultsUse
from ..values import Failure
from .disk import DISK, Disk
from .file import CheckpointError, CheckpointFile, Content, Header, Loaded
from .journal import CallJournal, Handle, Journal, NoResults, ResultJournal
from .signals import handling_stop_signals, note_stop
from .stopping import STOPPED, TimeLimit, terminating

__all__ = ["EngineThread", "Handle", "Saver"]

JOURNALS: dict[ResultsUse, type[Journal]] = {
    ResultsUse.KEPT: ResultJournal, ResultsUse.HANDLED: CallJournal, ResultsUse.DROPPED: NoResults,
}  # fmt: skip
WAIT_S = 0.5


class EngineThread(NamedTuple):
    """How the thread of the engine is reached: ``post`` takes what is to end the run, ``wake`` has it look around."""

    post: Callable[[BaseException], object]
    wake: Callable[[], object]


class Saver:
    """The checkpoint of one stream.

    Args:
        path: of the checkpoint.
        interval_s: time between two checkpoints.
        limit: of the run's time.
        plan: the stream.
        results: what becomes of them.
        engine: of the run; it may not have begun yet.
        disk: where all this is written.

    Raises:
        CheckpointError: there is a checkpoint that cannot be gone on from, or none can be written.
    """

    def __init__(self, path: str, interval_s: float, limit: TimeLimit, plan: Plan, results: ResultsUse,
                 engine: EngineThread, disk: Disk = DISK) -> None:  # fmt: skip
        self._plan = plan
        self._engine = engine
        self._interval_s = interval_s
        self._limit = limit
        self._kind = JOURNALS[results]
        self._disk = disk
        self._file = CheckpointFile(path, disk)
        self.ended = self._file.check()
        self._stages = fingerprint(plan)
        self._loaded: Loaded | None = None if self.ended else self._file.read(self._stages)
        self._run_id = self._loaded.header.run_id if self._loaded else uuid.uuid4().hex
        self.state: State | None = None
        self.last: State | None = None
        self.failures: list[Failure] = []
        self._initial = pack([])
        self._lengths: tuple[int | None, ...] = ()
        self._journal: Journal | None = None
        self._next = inf
        self._asked = self._stops = self._is_last = self._is_stopped = self._is_stoppable = False
        self._writer: threading.Thread | None = None
        self._is_writing = False
        self._is_tried = threading.Event()
        self._trouble: BaseException | None = None
        self._save_s = 0.0
        self._marks: deque[tuple[int, int]] = deque()
        self._taken = 0

    # before the run ---------------------------------------------------------------------------------------------------

    def stop_if_ended(self) -> None:
        """Ends the script if there is nothing to do any more."""
        if self.ended is None:
            return
        _say(self.ended)
        raise SystemExit(0)

    def initial_parts(self, make: Callable[[], list[Any]]) -> list[Any]:
        """What init functions gave: now, or when the run that goes on here began."""
        if self._loaded is None:
            parts = [part if isinstance(part, list) else list(part) for part in make()]
            self._initial = pack(parts)
            return parts
        self.state, frames, self._lengths, failures = self._loaded.state
        self._initial = Parts(list(frames))
        self.failures = unpack(failures)
        return unpack(frames)  # type: ignore[no-any-return]

    def begin(self, lengths: tuple[int | None, ...]) -> None:
        """Compares the initial work with that of the checkpoint, and says what there is to say.

        Args:
            lengths: of the parts of the initial work.
        """
        if self._loaded is None:
            self._lengths = lengths
        elif lengths != self._lengths:
            raise CheckpointError(
                f"{self._file.path} belongs to other initial work: it had {_length_text(self._lengths)}, and now has "
                f"{_length_text(lengths)}; give the same, or remove the checkpoint to begin anew"
            )
        self._open_journal()
        if self._loaded is not None:
            self._tell_resumed(self._loaded)
        self._next = monotonic() + self._interval_s

    def _open_journal(self) -> None:
        path = self._file.journal_path
        with self._using_journal():
            if self._loaded is None:
                journal = self._kind.create(path, self._run_id, self._disk)
            else:
                journal = self._kind.open(path, self._run_id, self._loaded.header.mark, self._disk)
                self._taken = self._loaded.header.delivered
        self._journal = journal
        self._marks.append((self._taken, journal.mark()))

    def _opened(self) -> Journal:
        """The journal, which is there from ``begin`` on."""
        assert self._journal is not None
        return self._journal

    @context
    def _using_journal(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            path, reason = self._file.journal_path, error.strerror
            raise CheckpointError(f"{path}, which belongs to the checkpoint, cannot be used: {reason}; mend that, or "
                                  "give another checkpointFile") from error  # fmt: skip

    def _tell_resumed(self, loaded: Loaded) -> None:
        header = loaded.header
        for warning in (loaded.warning, self._opened().warning):
            if warning:
                _say(warning)
        _say(f"going on from {loaded.path}: {header.open:,} tasks open, {header.delivered:,} results delivered")
        if loaded.changed:
            _say(f"the code of {', '.join(loaded.changed)} has changed since; going on with the new code")

    @context
    def signals(self) -> Iterator[None]:
        """Within, SIGUSR1 has a checkpoint written, and SIGTERM has one written and stops the run."""
        with handling_stop_signals(self._on_signal):
            yield
        self._stop_now()  # who asked at the very end

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGTERM:
            self._stops = True  # first: the engine's thread may look at any moment
        self._asked = True
        self._engine.wake()
        if self._is_stoppable:
            self._stop_now()

    @context
    def stoppable(self) -> Iterator[None]:
        """Within, all that there is to be saved is saved, so whatever asks for the end stops the script at once."""
        self._is_stoppable = True
        try:
            self._stop_now()
            yield
        finally:
            self._is_stoppable = False

    def _stop_now(self) -> None:
        if self._stops:
            self._is_stoppable = False  # whoever asks twice shall not interrupt that
            if not self._is_stopped:
                self._tell_stopped()
            raise SystemExit(STOPPED)

    # the main thread's side -------------------------------------------------------------------------------------------

    def restore(self, handle: Handle) -> None:
        """Gives the results that an earlier run had kept."""
        if self._loaded is not None:
            with self._using_journal():
                for kept in self._opened().kept():
                    handle(unpack(kept.payload.frames()), kept.base)

    def deliver(self, payload: Blob | Parts, values: list[Any], base: int | None, handle: Handle) -> None:
        """Gives results to whom they are for, and notes that in the journal."""
        count, journal = len(values), self._opened()
        self._await_first()
        self._stop_here()
        journal.give(payload, values, base, handle, self._stop_here)
        self._taken += count
        self._marks.append((self._taken, journal.mark()))

    def delivered(self, values: list[Any]) -> Iterator[list[Any]]:
        """The same for who asks for one result after the other: each counts as taken when the next is asked for."""
        journal = self._opened()
        assert isinstance(journal, CallJournal)
        self._await_first()
        self._stop_here()
        for value in journal.begin(values):
            self._stop_here()
            yield [value]
            journal.handled()
        self._taken += len(values)
        self._marks.append((self._taken, journal.mark()))

    def _await_first(self) -> None:
        """Waits until there is a checkpoint. A signal that comes just before a wait without end would be noticed only
        after it.

        Raises:
            CheckpointError: it cannot be written.
            the exception that has ended the run before it could be.
        """
        while not self._is_tried.wait(WAIT_S):
            pass
        if self._trouble is not None:
            raise self._trouble

    def fail(self, error: BaseException) -> None:
        """The run has failed: nobody needs to wait for a checkpoint that may never come."""
        if not self._is_tried.is_set():
            self._trouble = error
            self._is_tried.set()

    def _stop_here(self) -> None:
        """Ends the script if the last checkpoint has been written, or is just being. What waits to be handled is in it:
        there may be so much of it that nobody would wait."""
        if self._is_last:
            if self._is_writing:
                self._join()
            if self._is_stopped:
                raise SystemExit(STOPPED)

    def stop_if_asked(self) -> None:
        """Ends the script if that was asked for when the work was done and nobody looked any more."""
        if self._stops:
            self._join()
            self._stop_here()
            self._save_last()
            self._join()
            self._stop_now()

    def _save_last(self) -> None:
        """Has the state that there is after all the work written, if there is one.

        Raises:
            CheckpointError: the first checkpoint could not be written.
        """
        self._join()
        if self.last is not None:
            self.save(self.last)
        self._await_first()

    @context
    def finishing(self) -> Iterator[None]:
        """Within, the finish function is called with all that was computed, which is saved, so whatever asks for the
        end stops it at once."""
        self._save_last()
        try:
            with terminating(self._limit.due(self._save_s)), self.stoppable():
                yield
        finally:
            self._join()

    def finish(self) -> None:
        """All is done. That this cannot be noted is no reason to lose what the run has given."""
        self.close()
        self._await_first()
        try:
            self._file.finish(Header(self._run_id, self._stages, 0, (), 0, self._taken))
        except OSError as error:
            _say(f"all is done, but that could not be noted: {error}; started again, this script would go on from the "
                 "last checkpoint")  # fmt: skip
        self._stop_now()

    def close(self) -> None:
        """The run is over, in whatever way: another one may use the files."""
        self._join()
        if self._journal is not None:
            with suppress(OSError):
                self._journal.close()

    def _join(self) -> None:
        if self._writer is not None:
            self._writer.join()

    # the engine thread's side -----------------------------------------------------------------------------------------

    @property
    def due(self) -> float | None:
        """When the next checkpoint is to be taken, on the monotonic clock; None: one is under way, or was the last."""
        if self._is_writing or self._is_stopped:
            return None
        limit = self._limit.due(self._save_s)
        if self._asked:
            return 0.0
        return self._next if limit is None else min(self._next, limit)

    def is_due(self, now: float) -> bool:
        """Whether a state is wanted now."""
        due = self.due
        if due is None or now < due:
            return False
        limit = self._limit.due(self._save_s)
        if limit is not None and now >= limit:
            self._stops = True
        self._asked = False
        self._is_last = self._stops  # read after that: who asks meanwhile is heard now or the next time
        self._next = now + self._interval_s
        return True

    def save(self, state: State) -> None:
        """Has a state written."""
        mark = self._mark_of(state.results)
        header = self._header_of(state, mark)
        whole = (state, _frames_of(self._initial), self._lengths, _frames_of(_packed(list(self.failures))))
        self._is_writing = True
        writer = threading.Thread(target=self._write, args=(header, whole), name="job_stream-saver", daemon=True)
        writer.start()
        self._writer = writer  # not before: others may wait for its end

    def _mark_of(self, results: int) -> int:
        """How far the journal was when so many results had been taken."""
        mark = 0
        while self._marks and self._marks[0][0] <= results:
            _, mark = self._marks.popleft()
        self._marks.appendleft((results, mark))
        return mark

    def _header_of(self, state: State, mark: int) -> Header:
        stages: Counter[str] = Counter()
        nbytes = 0
        for piece in state.pieces:
            stages[self._plan.places[piece.work.place].name] += 1
            nbytes += getattr(piece.work.payload, "nbytes", 0)
        return Header(self._run_id, self._stages, len(state.pieces), tuple(stages.items()), nbytes, state.results, mark)

    def _write(self, header: Header, whole: Content) -> None:
        started = monotonic()
        try:
            self._opened().sync()
            self._file.write(header, whole)
        except OSError as error:
            self._not_written(error)
        except Exception as error:
            self.fail(error)
            self._engine.post(error)
        self._save_s = monotonic() - started
        if self._is_last:
            self._is_stopped = True
            self._tell_stopped()
            self._engine.post(SystemExit(STOPPED))
        self._is_tried.set()
        self._is_writing = False
        self._engine.wake()

    def _not_written(self, error: OSError) -> None:
        """What is handed out before there is a checkpoint would come again after a crash."""
        if self._loaded is None and not self._is_tried.is_set():
            trouble = CheckpointError(f"the first checkpoint could not be written: {error}; mend that, or give another "
                                      "checkpointFile")  # fmt: skip
            self.fail(trouble)
            self._engine.post(trouble)
            return
        then = "ending" if self._is_last else f"going on, and trying again in {self._interval_s:g} s"
        _say(f"the checkpoint could not be written: {error}; {then}")

    def _tell_stopped(self) -> None:
        note_stop()
        with suppress(Exception):  # a signal may have interrupted somebody who writes there
            _say(f"stopped, with exit code {STOPPED}; started again, it {self._file.next()}")


def _packed(failures: list[Failure]) -> Parts:
    try:
        return pack(failures)
    except PayloadError:
        return pack([failure._replace(item=shorten(failure.item)) for failure in failures])


def _frames_of(parts: Parts) -> tuple[bytes, ...]:
    return tuple(bytes(frame) for frame in parts.frames)


def _length_text(lengths: tuple[int | None, ...]) -> str:
    return ", ".join("an iterator" if length is None else f"{length:,} items" for length in lengths) or "nothing"


def _say(text: str) -> None:
    print(f"job_stream: {text}", file=sys.stderr, flush=True)
