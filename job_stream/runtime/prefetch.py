"""Pulls initial work that is not a sequence: in a thread of its own, or in the script's.

In its own thread nothing waits for anything else: the source may block, and a result function may take long. So that is
the rule, and user code finds there what holds in the script's thread. Where that is not enough, since objects refuse to
be used by another thread than theirs (cursors of SQLite), items are pulled by the script's thread between two results.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import islice
from time import monotonic
from typing import Any, Protocol

from ..engine.messages import SourceGave
from ..errors import CheckpointError
from ..memory.payload import Blob, Live, Parts, pack
from ..values import bytes_of
from ..workers.surroundings import Surroundings

__all__ = ["PULL_S", "LazyPrefetcher", "Prefetcher", "Pulling", "ThreadPrefetcher"]

PULL_S = 2e-3
PULL_BYTES = 4 << 20
_WITHOUT_SIZE = frozenset((int, float, str, tuple, list, dict, type(None)))
"""Most items are of these types, and need not be asked."""


class Prefetcher:
    """Takes items from iterators on request, and stops where a request has been met: whoever has them pulled by calling
    ``pull`` after each request.

    An iterator may block for any time, and even wait for what becomes of the items it gave before. So what has been
    taken can be had by the engine thread at any moment (``overdue``).

    Args:
        iterators: the parts of the initial work that are pulled.
        live: items stay in this process and are not packed.
        post: takes a ``SourceGave``, or the exception that an iterator raised.
        wake: called when the first item of a request is there.
        done: so many items of the first iterator were given in an earlier run, and are passed over.
        ask: called with each request.
    """

    def __init__(self, iterators: list[Iterator[Any]], live: bool, stow: Callable[[Parts], Blob],
                 post: Callable[[Any], None], wake: Callable[[], None], done: int,
                 ask: Callable[[], None] = lambda: None) -> None:  # fmt: skip
        self._iterators = iterators
        self._live = live
        self._done = done
        self._stow = stow
        self._post = post
        self._wake = wake
        self._changed = threading.Condition()
        self._values: list[Any] = []
        self._wanted = 0
        self._bytes = 0
        self._since = 0.0
        self._ask = ask
        self._steps = self._all_steps()
        next(self._steps, None)

    def request(self, items: int) -> None:
        """Asks for so many items; fewer may come."""
        with self._changed:
            self._wanted = items
            self._since = monotonic()
            self._changed.notify()
        self._ask()

    @property
    def waiting(self) -> bool:
        """Whether items are there that a request has asked for."""
        return bool(self._values) and self._wanted > 0

    def overdue(self) -> SourceGave | None:
        """What has been waiting for long enough."""
        with self._changed:
            if not self.waiting or monotonic() - self._since < PULL_S:
                return None
            return SourceGave(self._take_chunks(), False)

    def pull(self) -> None:
        """Takes items until the request is met."""
        for _ in self._steps if self._wanted else ():
            if not self._wanted:
                return

    def close(self) -> None:
        """Nothing is asked for any more."""

    def _all_steps(self) -> Iterator[None]:
        """Before each item, it stops for as long as none is wanted."""
        try:
            for iterator in self._iterators:
                yield
                self._pass_over(iterator)
                for value in iterator:
                    self._take(value)
                    yield
                with self._changed:
                    self._post(SourceGave(self._take_chunks(), True))
        except Exception as error:
            self._post(error)

    def _pass_over(self, iterator: Iterator[Any]) -> None:
        """Drops what an earlier run has been given."""
        done, self._done = self._done, 0
        passed = sum(1 for _ in islice(iterator, done))
        if passed < done:
            raise CheckpointError(f"the initial work ended after {passed:,} items, but the run that goes on here had "
                                  f"taken {done:,}: give the same, or remove the checkpoint to begin anew")  # fmt: skip

    def _take(self, value: Any) -> None:
        with self._changed:
            self._values.append(value)
            if type(value) not in _WITHOUT_SIZE:
                self._bytes += bytes_of(value)
            count = len(self._values)
            if self._wanted and (count >= self._wanted or self._bytes >= PULL_BYTES):
                self._post(SourceGave(self._take_chunks(), False))
            elif self._wanted and count == 1:
                self._wake()

    def _take_chunks(self) -> tuple[tuple[int, Any], ...]:
        values, self._values, self._wanted, self._bytes = self._values, [], 0, 0
        if not values:
            return ()
        return ((len(values), Live(values) if self._live else self._stow(pack(values))),)


class ThreadPrefetcher(Prefetcher):
    """Pulls in a thread of its own, in these surroundings."""

    def __init__(self, surroundings: Surroundings, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._closed = False
        self._thread = threading.Thread(target=surroundings.call, args=(self._run,), name="job_stream-source",
                                        daemon=True)  # fmt: skip
        self._thread.start()

    def close(self) -> None:
        """Ends the thread; one that is inside user code ends when that returns."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(0.2)

    def _run(self) -> None:
        try:
            while self._is_wanted():
                next(self._steps)
        except StopIteration:
            pass
        except BaseException as error:
            self._post(error)

    def _is_wanted(self) -> bool:
        """Waits until items are wanted; False: none ever will be."""
        with self._changed:
            self._changed.wait_for(lambda: self._wanted or self._closed)
            return not self._closed


class Pulling(Protocol):
    """Where the engine's thread takes items from that are not there from the beginning."""

    @property
    def waiting(self) -> bool:
        """Whether items are there that wait to become more."""
        ...

    def request(self, items: int) -> None:
        """Asks for so many items; fewer may come."""

    def overdue(self) -> SourceGave | None:
        """What is to be taken now."""
        ...

    def close(self) -> None:
        """Nothing is asked for any more."""


class LazyPrefetcher:
    """A prefetcher that is made when it is first asked: most runs need none.

    Args:
        make: makes it.

    Attributes:
        made: it, once it is there.
    """

    def __init__(self, make: Callable[[], Pulling]) -> None:
        self._make = make
        self.made: Pulling | None = None

    def request(self, items: int) -> None:
        """Asks for so many items."""
        if self.made is None:
            self.made = self._make()
        self.made.request(items)

    def close(self) -> None:
        """Nothing is asked for any more."""
        if self.made is not None:
            self.made.close()
