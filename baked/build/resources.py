"""Which of the jobs that could begin do so: cores and memory of hosts, and named counters.

The rule: jobs are taken in their order (priority, longest way, declaration). The first one that does not fit *reserves*
what it asks for on one host: what becomes free there is kept for it, and others overtake it only as long as they fit
into what is left. So no job waits for longer than those take that are running when it is the first, and no more cores
are idle than it asks for, on one host, and for as long as that. Of a named counter, all that wait for it reserve, and
no cores.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from job_stream.errors import BuildError

__all__ = ["Demand", "HostPlace", "Queue", "Resources"]


class HostPlace(NamedTuple):
    """What a host has."""

    name: str
    cores: int
    memory: int


class Demand(NamedTuple):
    """What a job takes while it runs."""

    cores: int | str = 1
    memory: int = 0
    limits: Mapping[str, int] = {}
    host: str | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it takes one core and nothing else, as nearly all do."""
        return self.cores == 1 and not self.memory and not self.limits and self.host is None


PLAIN = Demand()

_OVERTAKEN = 64
"""How many that do not fit are looked past for one that does."""


class Resources:
    """What is free, in one host or several."""

    def __init__(self, places: Iterable[HostPlace], limits: Mapping[str, int]) -> None:
        self.places = {place.name: place for place in places}
        self.primary = next(iter(self.places))
        self.limits = dict(limits)
        self.free_cores = {place.name: place.cores for place in self.places.values()}
        self.free_memory = {place.name: place.memory for place in self.places.values()}
        self.free_limits = dict(limits)

    def cores_of(self, demand: Demand, place: HostPlace) -> int:
        """How many cores of a host a job takes: 'all' are all, and -1 all but one."""
        if demand.cores == "all":
            return place.cores
        return max(1, place.cores - 1) if demand.cores == -1 else int(demand.cores)

    def check(self, subject: str, demand: Demand) -> None:
        """Refuses what no host could ever give."""
        for name, count in demand.limits.items():
            if name not in self.limits:
                raise BuildError(f"{subject} takes of the limit {name!r}, which build(limits=) does not name")
            if count > self.limits[name]:
                has = self.limits[name]
                raise BuildError(f"{subject} takes {count} of the limit {name!r}, of which there are {has}")
        hosts = self._hosts(demand)
        if not hosts:
            raise BuildError(f"{subject} is for the host {demand.host!r}; there are: {', '.join(self.places)}")
        if not any(self.cores_of(demand, place) <= place.cores for place in hosts):
            most = max(place.cores for place in hosts)
            raise BuildError(f"{subject} takes {demand.cores} cores, and no host has more than {most}: try cores='all'")
        if not any(demand.memory <= place.memory for place in hosts):
            most = max(place.memory for place in hosts)
            raise BuildError(f"{subject} takes {demand.memory} bytes of memory, and no host has more than {most}")

    def _hosts(self, demand: Demand) -> list[HostPlace]:
        if demand.host is None:
            return list(self.places.values())
        wanted = self.primary if demand.host == "primary" else demand.host
        return [place for place in self.places.values() if place.name == wanted]

    def has_limits(self, demand: Demand, kept: Mapping[str, int]) -> bool:
        """Whether the named counters give what it takes, without what is kept for others."""
        return all(self.free_limits[name] - kept.get(name, 0) >= count for name, count in demand.limits.items())

    def place_for(self, demand: Demand, reserved: tuple[str, Demand] | None = None) -> str | None:
        """A host where it could begin now, without what is reserved for another; the one with most cores free."""
        fits = [place.name for place in self._hosts(demand) if self._fits(demand, place, reserved)]
        return max(fits, key=self.free_cores.__getitem__) if fits else None

    def _fits(self, demand: Demand, place: HostPlace, reserved: tuple[str, Demand] | None) -> bool:
        cores, memory = self.free_cores[place.name], self.free_memory[place.name]
        if reserved and reserved[0] == place.name:
            cores -= self.cores_of(reserved[1], place)
            memory -= reserved[1].memory
        return self.cores_of(demand, place) <= cores and demand.memory <= memory

    def nearest(self, demand: Demand) -> str:
        """The host where least is missing for it."""
        hosts = [place for place in self._hosts(demand)
                 if self.cores_of(demand, place) <= place.cores and demand.memory <= place.memory]  # fmt: skip
        return min(hosts, key=lambda place: self.cores_of(demand, place) - self.free_cores[place.name]).name

    def take(self, demand: Demand, host: str) -> None:
        self._change(demand, host, -1)

    def give(self, demand: Demand, host: str) -> None:
        self._change(demand, host, 1)

    def _change(self, demand: Demand, host: str, sign: int) -> None:
        self.free_cores[host] += sign * self.cores_of(demand, self.places[host])
        self.free_memory[host] += sign * demand.memory
        for name, count in demand.limits.items():
            self.free_limits[name] += sign * count


class Queue:
    """The jobs that could begin, and who of them does.

    Plain jobs are handed out ``ahead`` of free cores, so that a worker that ends one finds the next, as long as no
    other job waits for cores to become free.
    """

    def __init__(self, resources: Resources, ahead: int = 0) -> None:
        self.resources = resources
        self.ahead = ahead
        self._waiting: list[tuple[float, float, int, str, Demand]] = []
        self._early: dict[str, None] = {}
        self._running: dict[str, tuple[Demand, str]] = {}
        self._large_count = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_idle(self) -> bool:
        """Whether nothing has been handed out."""
        return not self._running and not self._early

    def add(self, job_id: str, demand: Demand, priority: float = 0, way_length: float = 0.0, number: int = 0) -> None:
        heapq.heappush(self._waiting, (-priority, -way_length, number, job_id, demand))

    def done(self, job_id: str) -> None:
        """What a job took is free; the first one that was handed out early takes its place."""
        if job_id in self._early:
            del self._early[job_id]
            return
        demand, host = self._running.pop(job_id)
        self.resources.give(demand, host)
        self._large_count -= not demand.is_plain
        if self._early:
            place = self.resources.place_for(PLAIN)
            if place is not None:
                self._take(self._pop_early(), PLAIN, place)

    def _pop_early(self) -> str:
        first = next(iter(self._early))
        del self._early[first]
        return first

    def _take(self, job_id: str, demand: Demand, host: str) -> None:
        self.resources.take(demand, host)
        self._running[job_id] = (demand, host)
        self._large_count += not demand.is_plain

    def begin(self) -> list[str]:
        """The jobs that are to begin now."""
        begun: list[str] = []
        passed: list[tuple[float, float, int, str, Demand]] = []
        reserved: tuple[str, Demand] | None = None
        kept_limits: dict[str, int] = {}
        while self._waiting and len(passed) < _OVERTAKEN:
            entry = heapq.heappop(self._waiting)
            job_id, demand = entry[3:]
            has_limits = not demand.limits or self.resources.has_limits(demand, kept_limits)
            host = self.resources.place_for(demand, reserved) if has_limits else None
            if host is not None and (demand.is_plain or not self._early):
                self._take(job_id, demand, host)
                begun.append(job_id)
            elif demand.is_plain and reserved is None and self._can_be_early():
                self._early[job_id] = None
                begun.append(job_id)
            else:
                passed.append(entry)
                if not has_limits:
                    kept_limits.update({name: kept_limits.get(name, 0) + n for name, n in demand.limits.items()})
                elif demand.is_plain:
                    break
                elif reserved is None:
                    reserved = (self.resources.nearest(demand), demand)
        for entry in passed:
            heapq.heappush(self._waiting, entry)
        return begun

    def _can_be_early(self) -> bool:
        return len(self._early) < self.ahead and self._large_count == 0
