"""The tools that job_stream is compared with: one small module for each.

A new module in this folder with a class derived from `Peer` takes part in every workload that needs no more than these
methods; nothing else has to be edited.
"""

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar


class Peer(ABC):
    """A pool of worker processes under its own name."""

    name: ClassVar[str]
    # The smallest script that maps a function over one item on {workers} processes and prints [42].
    startup_script: ClassVar[str]
    # About what an item costs in map() beyond its own time; only used to keep the runs of slow peers short.
    item_s: ClassVar[float]

    @classmethod
    def available(cls) -> bool:
        """Whether the tool is installed."""
        return True

    @abstractmethod
    def start(self, workers: int) -> None:
        """Start the worker processes."""

    @abstractmethod
    def map(self, func: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        """The results in the order of the items, with the tool's default settings."""

    @abstractmethod
    def stream(
        self, func: Callable[[Any], Any], items: Iterable[Any], handle: Callable[[Any], object], chunk: int = 1
    ) -> None:
        """Give each result to `handle`, in any order; `chunk` items at a time go to a worker."""

    @abstractmethod
    def close(self) -> None:
        """End the worker processes."""


def find_peers() -> list[type[Peer]]:
    """The peers of all modules in this folder, by name."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return sorted(Peer.__subclasses__(), key=lambda peer: peer.name)


def find_peer(name: str) -> type[Peer]:
    """The peer called `name`."""
    return next(peer for peer in find_peers() if peer.name == name)


@contextmanager
def started(peer_class: type[Peer], workers: int) -> Iterator[Peer]:
    """A peer whose workers are up and have run something."""
    peer = peer_class()
    peer.start(workers)
    try:
        peer.map(abs, range(10 * workers))
        yield peer
    finally:
        peer.close()
