"""The journal: what became of results, written as it happens, so that nothing is forgotten between two checkpoints.

It lies beside the checkpoint. Where a run keeps its results, the journal holds them (``ResultJournal``), since a
checkpoint that held all of them would be longer each time. Where a function handles them, it holds which have been
handled (``CallJournal``), since a call cannot be undone.

A checkpoint stores a *mark*: up to there the journal belongs to it. It is the one that was current when the last
delivery was taken that the checkpoint's state counts as taken. Results after it will be delivered again: what was kept
is cut off, and what was handled is passed over, once each.

The thread that takes results calls everything but ``sync``, which may be called in any thread, and which has to come
between capturing a state with its mark and writing that: only then is all that the mark promises durable.
"""

from __future__ import annotations

import os
import pickle
import struct
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Any, NamedTuple, TypeVar

from ..memory.payload import Blob, Parts, pack
from .disk import DISK, Disk
from .encoding import chunks_of
from .log import LogEntry, LogFile

__all__ = ["CallJournal", "Handle", "Journal", "Kept", "NoResults", "ResultJournal"]

DIGEST_BYTES = 16
_KEEPS, _CALLS = 1, 2
_KEPT, _HANDLED, _RESUMED, _PASSED = 1, 2, 3, 4
_LENGTHS = struct.Struct("<I")
_PLAIN_BYTES = 16 << 20
_SET_OPCODES = (pickle.EMPTY_SET, pickle.FROZENSET)
MOST_CALLS = 1 << 62
"""No counter comes so far that is as it was written."""


class Kept(NamedTuple):
    """A delivery of results; ``base`` is the position of the first, in an ordered stream."""

    payload: Blob
    count: int  # type: ignore[assignment]
    base: int | None


J = TypeVar("J", bound="Journal")

Handle = Callable[[list[Any], int | None], None]
"""Takes results, and the position of the first in an ordered stream."""


class Journal(ABC):
    """What is known of results beside a checkpoint. Made by ``create`` or ``open``."""

    KIND: int

    @classmethod
    def create(cls: type[J], path: str | os.PathLike[str], run_id: str, disk: Disk = DISK) -> J:
        """An empty one, for a run that begins."""
        log = LogFile(path, cls.KIND, run_id, disk)
        log.create()
        return cls(log)

    @classmethod
    def open(cls: type[J], path: str | os.PathLike[str], run_id: str, mark: int, disk: Disk = DISK) -> J:
        """That of a checkpoint.

        Raises:
            CheckpointError: it is not the journal of this run, or is damaged.
        """
        log = LogFile(path, cls.KIND, run_id, disk)
        log.open(mark)
        try:
            journal = cls(log)
            journal._resume(mark)
        except BaseException:
            log.close()
            raise
        return journal

    @abstractmethod
    def _resume(self, mark: int) -> None:
        """Goes on where a checkpoint with this mark was."""

    def __init__(self, log: LogFile) -> None:
        self._log = log

    @property
    def warning(self) -> str:
        """What the user should know about the journal that was found; may be empty."""
        return self._log.warning

    def mark(self) -> int:
        """How far the journal is now."""
        return self._log.mark

    @abstractmethod
    def give(self, payload: Blob | Parts, values: list[Any], base: int | None, handle: Handle,
             stop_here: Callable[[], None]) -> None:  # fmt: skip
        """Gives a delivery of results to whom they are for, and notes that.

        Args:
            payload: the results packed.
            base: the position of the first, in an ordered stream.
            stop_here: ends the script, if that is to be, wherever the journal is true.
        """

    def kept(self) -> Iterator[Kept]:
        """The deliveries that were found when it was opened, in order, where it keeps them."""
        return iter(())

    def sync(self) -> None:
        """Makes all of it durable.

        Raises:
            OSError: the disk is full, or worse. What was to be written waits; write no checkpoint before it is.
        """
        self._log.sync()

    def close(self) -> None:
        self._log.close()


class ResultJournal(Journal):
    """The results of a run that keeps them."""

    KIND = _KEEPS

    def _resume(self, mark: int) -> None:
        """What came after the mark is forgotten."""
        for _ in self._log.until(mark):
            pass
        self._log.cut(mark)

    def give(self, payload: Blob | Parts, values: list[Any], base: int | None, handle: Handle,
             stop_here: Callable[[], None]) -> None:  # fmt: skip
        self.add(payload, len(values), base)
        handle(values, base)

    def add(self, payload: Blob | Parts, count: int, base: int | None) -> None:
        """Adds a delivery; there is no haste, since what came after the last checkpoint is forgotten anyway."""
        lengths = [len(frame) for frame in payload.frames] if isinstance(payload, Parts) else payload.lengths
        front = _LENGTHS.pack(len(lengths)) + struct.pack(f"<{len(lengths)}Q", *lengths)
        self._log.postpone(_KEPT, -1 if base is None else base, count, b"".join((front, *chunks_of(payload))))

    def kept(self) -> Iterator[Kept]:
        """The deliveries that were found when it was opened, in order."""
        for entry in self._log.until(self._log.mark):
            yield _delivery(entry)


def _delivery(entry: LogEntry) -> Kept:
    (frames,) = _LENGTHS.unpack_from(entry.data)
    lengths = struct.unpack_from(f"<{frames}Q", entry.data, _LENGTHS.size)
    data = entry.data[_LENGTHS.size + 8 * frames :]
    return Kept(Blob(lengths, None, 0, data), entry.count, None if entry.number < 0 else entry.number)


class CallJournal(Journal):
    """Which results a function has been called with.

    Before the calls for a delivery, digests of its results are written, in one entry. After each call a counter in the
    head goes up. So the calls that have come to their end are known exactly, whenever the process dies; only one that
    was under way may be repeated.
    """

    KIND = _CALLS

    def __init__(self, log: LogFile) -> None:
        super().__init__(log)
        self._handled = log.counter
        self._owed: Counter[bytes] = Counter()

    def _resume(self, mark: int) -> None:
        """Finds out what will be delivered again, and notes it, so that later marks need not look back further.

        That has to be durable before the counter goes on: after a power failure the numbers that are given from now on
        would else be taken for those of results that an earlier process had announced, and not come to.
        """
        past = _Past(self._handled)
        end = self._log.begin
        for entry in self._log.entries(mark):
            past.see(entry, entry.end <= mark)
            end = entry.end
        self._owed = past.owed()
        if not past.calls <= self._handled <= MOST_CALLS:
            raise self._log.damaged("its counter has been changed")
        if past.unknown and not self._log.warning:
            self._log.warning = f"{self._log.path} has no record of {past.unknown} results that were handled"
        self._log.cut(end)
        self._log.append(_RESUMED, self._handled, len(self._owed), b"".join(self._owed.elements()))
        self._log.sync()

    def give(self, payload: Blob | Parts, values: list[Any], base: int | None, handle: Handle,
             stop_here: Callable[[], None]) -> None:  # fmt: skip
        for value in self.begin(values):
            stop_here()
            handle([value], None)
            self.handled()

    @property
    def owed(self) -> Counter[bytes]:
        """Digests of the results that are still to be passed over, with how often."""
        return self._owed

    def begin(self, values: list[Any]) -> list[Any]:
        """A delivery has come: gives the results in it that have not been handled yet.

        Call ``handled`` once for each of them, as soon as it is, and then ``mark``.
        """
        digests = [digest_of(value) for value in values]
        if self._owed:
            values, digests = self._pass_over(values, digests)
        if digests:
            self._log.append(_HANDLED, self._handled, len(digests), b"".join(digests))
        return values

    def _pass_over(self, values: list[Any], digests: list[bytes]) -> tuple[list[Any], list[bytes]]:
        fresh, passed = [], []
        for value, digest in zip(values, digests, strict=True):
            if self._owed[digest]:
                self._forgive(digest)
                passed.append(digest)
            else:
                fresh.append((value, digest))
        if passed:
            self._log.append(_PASSED, self._handled, len(passed), b"".join(passed))
        return [value for value, _ in fresh], [digest for _, digest in fresh]

    def _forgive(self, digest: bytes) -> None:
        self._owed[digest] -= 1
        if not self._owed[digest]:
            del self._owed[digest]

    def handled(self) -> None:
        """The next result has been handled."""
        self._handled += 1
        self._log.counter = self._handled


class NoResults(CallJournal):
    """That of a run whose results nobody wants."""

    def give(self, payload: Blob | Parts, values: list[Any], base: int | None, handle: Handle,
             stop_here: Callable[[], None]) -> None:  # fmt: skip
        pass


class _Past:
    """What the entries of a ``CallJournal`` tell.

    Calls have running numbers over all resumes. A group's last digests may never have been handled, if its process
    died; then a later group begins with their numbers.
    """

    def __init__(self, handled: int) -> None:
        self._handled = handled
        self._owed: Counter[bytes] = Counter()
        self._groups: list[tuple[int, list[bytes]]] = []
        self.calls = 0
        self._known = 0

    def see(self, entry: LogEntry, before_mark: bool) -> None:
        digests = [entry.data[i : i + DIGEST_BYTES] for i in range(0, len(entry.data), DIGEST_BYTES)]
        if entry.kind == _HANDLED:
            self._known = entry.number + len(digests)
        elif entry.kind == _RESUMED:
            self._known = entry.number
        if before_mark:
            self._see_before(entry.kind, digests)
        elif entry.kind == _HANDLED:
            self._groups.append((entry.number, digests))
        elif entry.kind == _RESUMED:
            self._groups.append((entry.number, []))  # so far the group before it came

    def _see_before(self, kind: int, digests: list[bytes]) -> None:
        self.calls = self._known
        if kind == _RESUMED:
            self._owed = Counter(digests)
        elif kind == _PASSED:
            self._owed.subtract(digests)

    @property
    def unknown(self) -> int:
        """How many calls there were that no entry speaks of."""
        return max(0, self._handled - self._known)

    def owed(self) -> Counter[bytes]:
        """What was handled and will be delivered again."""
        owed = +self._owed
        ends = [number for number, _ in self._groups[1:]] + [self._handled]
        for (number, digests), end in zip(self._groups, ends, strict=False):
            owed.update(digests[: max(0, end - number)])
        return owed


def digest_of(value: Any) -> bytes:
    """What a result is known by, in other processes too.

    Equal for values that consist of the same parts in the same order; in sets the order is of no interest, since it is
    another one in each process, and so is which of the parts are one object.
    """
    try:
        return _digest(value, pickle.Pickler) or _digest(value, _SetPickler)
    except Exception:  # it has cycles, is very large, or cannot be pickled by pickle alone
        digest = blake2b(digest_size=DIGEST_BYTES)
        for frame in pack(value).frames:
            digest.update(frame)
        return digest.digest()


def _digest(value: Any, kind: type[pickle.Pickler]) -> bytes:
    """The digest; nothing if there may be sets in it, and this pickler leaves them as they are."""
    buffers: list[memoryview] = []
    file = _Digesting()
    pickler = kind(file, 5, buffer_callback=lambda buffer: buffers.append(buffer.raw()))
    pickler.fast = True  # does not look for parts that are one object
    pickler.dump(value)
    if file.may_have_sets and kind is not _SetPickler:
        return b""
    for buffer in buffers:
        file.digest.update(buffer)
    return file.digest.digest()


class _Digesting:
    """A file of which only the digest is kept. An object that has one part many times can be of any size in it."""

    def __init__(self) -> None:
        self.digest = blake2b(digest_size=DIGEST_BYTES)
        self.may_have_sets = False
        self._left = _PLAIN_BYTES

    def write(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            raise OverflowError
        self.may_have_sets = self.may_have_sets or any(opcode in bytes(data) for opcode in _SET_OPCODES)
        self.digest.update(data)


class _SetPickler(pickle.Pickler):
    """Puts digests in the place of sets."""

    def persistent_id(self, value: Any) -> Any:
        if type(value) is set or type(value) is frozenset:
            return type(value).__name__, sorted(map(digest_of, value))
        return None
