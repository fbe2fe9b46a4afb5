"""Which hosts to use: a hostfile, the option ``--host``, or what a batch system has allocated.

One grammar serves for all. An entry is the name of a host and then its properties, separated by spaces. In a hostfile
each line is an entry; in ``--host`` a comma separates them.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from ..ground.environment import number_in
from .error import LauncherError, not_known, shorten

__all__ = ["Allocation", "ListedHost", "allocation", "node_names", "parse_hosts", "read_hostfile"]

PROPERTIES = ("cpus",)
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?")
_MAX_DIGITS = 5
_MAX_NAME = 253
"""Characters in the name of a host: RFC 1035 allows 255 bytes with lengths."""


class ListedHost(NamedTuple):
    """A machine to run a rank on.

    Attributes:
        name: as mpirun is to be told.
        cpus: lanes of the rank there; None: as many as it may use.
    """

    name: str
    cpus: int | None = None


class Allocation(NamedTuple):
    """What a batch system has given to this job.

    Attributes:
        system: its name.
        nodes: how many machines.
        hosts: their names, where mpirun has to be told; empty: it finds them by itself.
    """

    system: str
    nodes: int
    hosts: tuple[ListedHost, ...] = ()


def parse_hosts(texts: Iterable[str]) -> tuple[ListedHost, ...]:
    """The hosts of ``--host``, in order: ``a,b cpus=3`` are a, and b with 3 lanes.

    Raises:
        LauncherError: a host or a property cannot be understood, or a host is there twice.
    """
    entries = [(f"--host {shorten(text)}", entry) for text in texts for entry in text.split(",")]
    return _distinct([(where, _entry(where, entry)) for where, entry in entries])


def read_hostfile(path: str | Path) -> tuple[ListedHost, ...]:
    """The hosts of a file, in order.

    Raises:
        LauncherError: the file cannot be read, has no host, or has one twice; a line cannot be understood.
    """
    lines = [(where, line) for where, line in _lines("hostfile", path) if line]
    hosts = _distinct([(where, _entry(where, line)) for where, line in lines])
    if not hosts:
        raise LauncherError(f"hostfile {path}: there is no host in it; write a host a line, as in 'node1 cpus=4'")
    return hosts


def _lines(kind: str, path: str | Path) -> list[tuple[str, str]]:
    """(where, text without its comment) of each line of a file of some kind."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise LauncherError(f"{kind} {path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise LauncherError(f"{kind} {path}: is not a text in UTF-8") from None
    lines = enumerate(text.split("\n"), 1)
    return [(f"{kind} {path}, line {number}", line.partition("#")[0].strip()) for number, line in lines]


def _distinct(entries: Iterable[tuple[str, ListedHost]]) -> tuple[ListedHost, ...]:
    seen: dict[str, str] = {}
    hosts = []
    for where, host in entries:
        key = host.name.lower()
        if key in seen:
            raise LauncherError(
                f"{where}: host {host.name!r} is there twice (first: {seen[key]}); a host has one rank, and cpus=N "
                "says how many lanes that has"
            )
        seen[key] = where
        hosts.append(host)
    return tuple(hosts)


def _entry(where: str, text: str) -> ListedHost:
    name, *words = text.split() or [""]
    check_host_name(where, name)
    values: dict[str, int] = {}
    for word in words:
        key, value = _property(where, name, word)
        if key in values:
            raise LauncherError(f"{where}: host {name!r} has {key}= twice")
        values[key] = value
    return ListedHost(name, **values)


def _property(where: str, host: str, word: str) -> tuple[str, int]:
    key, equals, value = word.partition("=")
    if not equals:
        raise LauncherError(
            f"{where}: {shorten(word)} after host {host!r} is not a property; those are written as cpus=N"
        )
    if key not in PROPERTIES:
        what = f"{shorten(key)}{not_known(key, PROPERTIES)}"
        raise LauncherError(f"{where}: host {host!r} has the unknown property {what}")
    is_number = value.isascii() and value.isdigit()
    digits = value.lstrip("0") if is_number else ""
    if not 0 < len(digits) <= _MAX_DIGITS:
        most = f", and {'9' * _MAX_DIGITS} at most" if digits else ""
        raise LauncherError(f"{where}: host {host!r}: {key} must be a number above 0{most}, not {shorten(value)}")
    return key, int(digits)


def check_host_name(where: str, name: str) -> None:
    """Makes sure that mpirun, and the ssh that it starts, take a name as one and not as something else.

    Raises:
        LauncherError: they might not.
    """
    if not name:
        raise LauncherError(f"{where}: the name of a host is missing")
    if "@" in name:
        raise LauncherError(
            f"{where}: {shorten(name)}: mpirun does not take user names; write 'User' for this host into ~/.ssh/config"
        )
    if ":" in name:
        _check_ipv6(where, name)
    elif len(name) > _MAX_NAME or not _NAME.fullmatch(name):
        raise LauncherError(
            f"{where}: {shorten(name)} is not the name of a host: letters, digits, '.', '-' and '_', the first and the "
            "last a letter or a digit"
        )


def _check_ipv6(where: str, name: str) -> None:
    try:
        ipaddress.IPv6Address(name)
    except ValueError:
        raise LauncherError(
            f"{where}: {shorten(name)} is not the name of a host, nor an IPv6 address; a host has one rank, and cpus=N "
            "says how many lanes that has"
        ) from None


def node_names(nodelist: str) -> list[str]:
    """Some of the nodes that a list of Slurm stands for: of ``n[1-4,7],m3`` those that it names, n1 and m3."""
    return re.sub(r"\[(\w+)[^]]*\]", r"\1", nodelist).split(",")


def allocation(environment: Mapping[str, str]) -> Allocation | None:
    """What a batch system has given to this job; None: there is none, or this machine is all of it.

    Raises:
        LauncherError: the list of nodes of PBS cannot be read.
    """
    if environment.get("SLURM_JOB_NODELIST"):
        nodes = environment.get("SLURM_JOB_NUM_NODES") or environment.get("SLURM_NNODES", "")
        count = number_in(nodes) or 1
        is_here = count == 1 and "SLURMD_NODENAME" in environment  # the shell of salloc may be on another machine
        return None if is_here else Allocation("Slurm", count)
    if path := environment.get("PBS_NODEFILE"):
        places: dict[str, str] = {}
        for where, line in _lines("PBS_NODEFILE", path):
            places.setdefault(line, where)
        hosts = _distinct([(where, _entry(where, line)) for line, where in places.items() if line])
        return Allocation("PBS", len(hosts), hosts) if len(hosts) > 1 else None
    return None
