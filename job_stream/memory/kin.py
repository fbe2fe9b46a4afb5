"""Classes and functions that processes have in common, since one was forked from the other.

What is made in a function, or by ``exec``, has no name by which pickle could find it, and a copy of a class is another
class: nothing that comes back is equal to what was sent, ``isinstance`` fails, and so does ``except``. But workers are
forks, so they have these very objects, at the same address. What there was when they were forked is noted and kept
alive for as long as the run lasts, and travels as its address.

Who is no fork (another rank, a run that goes on from a checkpoint) does not know the address. Where that may be, the
object travels by value as well; and whoever has exactly one of the same name and the same contents takes that, since
it runs the same script. What came by value goes home again by the address it came with.

Nothing here takes a lock, as another thread may hold it when a worker is forked.
"""

from __future__ import annotations

import os
import pickle
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from types import FunctionType, MethodType
from typing import Any, NamedTuple

from ..errors import PayloadError

__all__ = ["Family", "Kin", "find", "is_named", "kin"]

FUNCTIONS_MOST = 2000
"""How many objects are looked at to find functions that stages may return."""

ELEMENTS_MOST = 1000

Address = tuple[bytes, int]
Reference = tuple[Callable[..., Any], tuple[Any, ...]]


class _Traveller(NamedTuple):
    """What came by value: it is kept, since it may go home."""

    what: Any
    reference: Reference


class Family:
    """The processes that are forked from this one for a run, and this one.

    Args:
        roots: functions and values of the run, from which more functions may be reached.
        travels: whether values may get to processes that are none of the family.
        by_value: packs a class or function itself.
    """

    def __init__(self, roots: Iterable[Any], travels: bool, by_value: Callable[[Any], bytes]) -> None:
        self._by_value = by_value
        self.token = os.urandom(8)
        self.travels = travels
        self.members: dict[int, Any] = {**_classes(), **_functions(roots)}
        self._values: dict[int, bytes] = {}

    def reference(self, what: Any) -> Reference:
        """What stands for a member in a pickle."""
        return find, (self.token, id(what), _name_of(what), self._value_of(what) if self.travels else b"")

    def _value_of(self, what: Any) -> bytes:
        value = self._values.get(id(what))
        if value is None:
            try:
                value = self._by_value(what)
            except Exception:  # it cannot leave the family; most never have to
                value = b""
            self._values[id(what)] = value
        return value

    def twin(self, name: str, contents: bytes) -> Any:
        """The one member of this name and with these contents; None: there is none, or are several."""
        named = (member for member in self.members.values() if _name_of(member) == name and not is_named(member))
        twins = [member for member in named if _contents_of(self._value_of(member)) == contents]
        return twins[0] if len(twins) == 1 else None


class Kin:
    """The families of the runs that are under way; the oldest first, whom all others know."""

    def __init__(self) -> None:
        self._families: tuple[Family, ...] = ()
        self._guests: dict[Address, Any] = {}
        self._travellers: dict[int, _Traveller] = {}

    def begin(self, roots: Iterable[Any], travels: bool, by_value: Callable[[Any], bytes]) -> Family:
        """Notes what there is before processes are forked; see ``Family``."""
        family = Family(roots, travels or bool(self._families), by_value)
        for other in self._families:  # whose processes do not know what is made for this run
            other.travels = True
        self._families = (*self._families, family)
        return family

    def end(self, family: Family) -> None:
        """Forgets a family whose run is over."""
        self._families = tuple(other for other in self._families if other is not family)
        if not self._families:
            self._guests, self._travellers = {}, {}

    def reference(self, what: Any) -> Reference | None:
        """What stands for a class or function in a pickle; None: it has to be pickled itself."""
        traveller = self._travellers.get(id(what))
        if traveller is not None:
            return traveller.reference
        family = next((family for family in self._families if id(what) in family.members), None)
        return None if family is None else family.reference(what)

    def find(self, token: bytes, address: int, name: str, value: bytes) -> Any:
        """The class or function that a reference stands for.

        Raises:
            PayloadError: this process does not have it, and it could not be sent by value.
        """
        for family in self._families:
            if family.token == token:
                return family.members[address]
        guest = self._guests.get((token, address))
        if guest is None:
            guest = self._guests[token, address] = self._new_guest(token, address, name, value)
        return guest

    def _new_guest(self, token: bytes, address: int, name: str, value: bytes) -> Any:
        if not value:
            raise PayloadError(f"{name} is known only to the processes of one rank, and cannot be pickled: define it "
                               "at the top of a module, or take out of it what cannot be pickled")  # fmt: skip
        contents = _contents_of(value)
        twins = (family.twin(name, contents) for family in self._families)
        twin = next((twin for twin in twins if twin is not None), None)
        if twin is not None:
            return twin
        what = pickle.loads(value)
        self._travellers[id(what)] = _Traveller(what, (find, (token, address, name, value)))
        return what


kin = Kin()


def find(token: bytes, address: int, name: str, value: bytes) -> Any:
    """See ``Kin.find``; pickles name this function."""
    return kin.find(token, address, name, value)


_IDENTITY = re.compile(rb"(?<=\x8c\x20)[0-9a-f]{32}")
"""By which cloudpickle knows a class again: another one in each process."""


def _contents_of(value: bytes) -> bytes:
    """What is equal for equal classes or functions by value."""
    from hashlib import blake2b  # slow to load, and only needed where something came by value

    return blake2b(_IDENTITY.sub(b"", value), digest_size=16).digest()


# names ----------------------------------------------------------------------------------------------------------------


def is_named(what: Any) -> bool:
    """Whether a class or function is found under its own name."""
    found: Any = sys.modules.get(what.__module__)
    for part in what.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is what


def _name_of(what: Any) -> str:
    return f"{what.__module__}.{what.__qualname__}"


# what there is --------------------------------------------------------------------------------------------------------


def _classes() -> dict[int, type]:
    """All classes by their address: they may be unhashable."""
    subclasses: Callable[[type], list[type]] = type.__subclasses__
    found: dict[int, type] = {id(object): object}
    new: list[type] = [object]
    while new:
        kind = new.pop()
        for below in subclasses(kind):
            if id(below) not in found:
                found[id(below)] = below
                new.append(below)
    return found


def _functions(roots: Iterable[Any]) -> dict[int, FunctionType]:
    """The functions that can be reached from some values, in a few steps."""
    found: dict[int, FunctionType] = {}
    seen: set[int] = set()
    waiting = list(roots)
    while waiting and len(seen) < FUNCTIONS_MOST:
        what = waiting.pop()
        if id(what) in seen:
            continue
        seen.add(id(what))
        if type(what) is FunctionType:
            found[id(what)] = what
        waiting += _reached(what)
    return found


def _reached(what: Any) -> Iterator[Any]:
    """What a value refers to, as far as functions may be in it."""
    kind = type(what)
    if kind is FunctionType:
        yield from _of(what)
    elif kind is MethodType:
        yield what.__func__
    elif kind is partial:
        yield from (what.func, *what.args, *what.keywords.values())
    elif kind is dict:
        yield from islice(what.values(), ELEMENTS_MOST)
    elif kind in (list, tuple, set, frozenset):
        yield from islice(what, ELEMENTS_MOST)


def _of(function: FunctionType) -> Iterator[Any]:
    """What a function refers to: what surrounds it, its defaults, and the variables of its module that it names."""
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # nothing yet
            continue
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    yield from function.__dict__.values()
    variables = function.__globals__
    yield from (variables[name] for name in function.__code__.co_names if name in variables)
