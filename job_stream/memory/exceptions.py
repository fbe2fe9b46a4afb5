"""Exceptions of user code on their way to another process, where they arrive as what they were.

Pickle calls the constructor again, with what the exception holds as ``args``. That is often something else than the
constructor took; and one attribute that cannot be pickled, a lock or a socket, is enough to lose all. So the parts are
packed one by one here, text takes the place of those that cannot be, and on arrival no constructor is called: the
exception is put together from its parts. Only where a part was left behind the constructor may make another one.

An exception takes along what it came of (``__cause__``, ``__context__``), and a group its members.
"""

from __future__ import annotations

import pickle
from contextlib import suppress
from functools import cache
from typing import Any, NamedTuple

from ..errors import JobStreamError
from ..ground.texts import link_before, shorten, told

__all__ = ["pack_error", "set_cause", "unpack_error"]

LINKS = 20
DEEPEST = 20
MOST = 1000
MOST_BYTES = 64 << 20
"""So many exceptions that are parts of another one travel as what they are, beside those of Python's own classes, and
of so many bytes, counted at each level. A group may hold very many, and the same ones again and again."""

_HEAP_TYPE = 1 << 9
_CAUSE, _CONTEXT, _ARGS = (vars(BaseException)[name] for name in ("__cause__", "__context__", "args"))
"""What Python itself reads and sets, whatever a class has under these names."""


class _Part(NamedTuple):
    """A value that an exception holds; ``text`` stands for it where ``data`` is nothing or cannot be read."""

    data: bytes
    text: str = ""


class _Carried(NamedTuple):
    """One exception.

    Attributes:
        kind: its class.
        args: what it would be made from.
        state: its attributes.
        message: its text.
        own: a function and arguments that make it, where its class says so.
        is_cause: whether it came of the next one explicitly.
    """

    kind: bytes
    args: tuple[_Part, ...]
    state: dict[str, _Part]
    message: str
    own: bytes
    is_cause: bool


def set_cause(error: BaseException, cause: BaseException) -> None:
    """Sets ``__cause__``, also where the class of the exception lets nobody set anything."""
    _CAUSE.__set__(error, cause)


# packing --------------------------------------------------------------------------------------------------------------


def pack_error(error: BaseException) -> bytes:
    """An exception and those it came of; nothing where its class cannot travel."""
    return _Packer().pack(error)


class _Packer:
    """Packs one exception, and those that are parts of it."""

    def __init__(self) -> None:
        self._around: list[int] = []
        self._left = MOST
        self._room = MOST_BYTES

    def pack(self, error: BaseException) -> bytes:
        links: list[_Carried] = []
        seen: set[int] = set()
        link: BaseException | None = error
        with suppress(Exception):  # what comes before one that cannot travel stays behind
            while link is not None and id(link) not in seen and len(links) < LINKS:
                seen.add(id(link))
                links.append(self._carried(link))
                link = link_before(link)
        return pickle.dumps(links, 5) if links else b""

    def _carried(self, error: BaseException) -> _Carried:
        function, args, state = _reduced(error)
        is_own = function is not type(error)
        self._around.append(id(error))
        try:
            return _Carried(
                self._dumps(type(error)),
                tuple(self._part(arg) for arg in (error.args if is_own else args)),
                {name: self._part(value) for name, value in state.items()},
                _message_of(error),
                self._part((function, args)).data if is_own else b"",
                error.__cause__ is not None,
            )
        finally:
            self._around.pop()

    def _part(self, value: Any) -> _Part:
        try:
            return _Part(self._dumps(value), "" if type(value) is str else shorten(value))
        except Exception:
            return _Part(b"", shorten(value))

    def _dumps(self, value: Any) -> bytes:
        from .byvalue import dumps  # loads cloudpickle

        return dumps(value, None, _pickler(), self)

    def reference(self, error: BaseException) -> Any:
        """What stands for an exception in the pickle of another."""
        if id(error) in self._around or len(self._around) > DEEPEST:
            return str, (told(error),)
        if not type(error).__flags__ & _HEAP_TYPE and link_before(error) is None and not _is_group(error):
            return NotImplemented
        if not self._left or self._room < 0:
            return JobStreamError, (told(error),)
        self._left -= 1
        data = self.pack(error)
        self._room -= len(data)
        return _unpacked, (data, told(error))


@cache
def _pickler() -> type:
    from .byvalue import Pickler  # loads cloudpickle

    class WithErrors(Pickler):
        def __init__(self, packer: _Packer, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            self._packer = packer

        def reducer_override(self, what: Any) -> Any:
            if issubclass(type(what), BaseException):
                return self._packer.reference(what)
            return super().reducer_override(what)

    return WithErrors


def _reduced(error: BaseException) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """What makes the exception, what that takes, and its attributes; raises where its class does not want that."""
    function, args, *more = tuple(error.__reduce_ex__(5))
    extra = more[0] if more and type(more[0]) is dict else {}
    return function, args, {**extra, **_slots_of(error), **error.__dict__}


def _slots_of(error: BaseException) -> dict[str, Any]:
    found = {}
    for kind in type(error).__mro__:
        names = vars(kind).get("__slots__", ())
        for name in [names] if isinstance(names, str) else names:
            with suppress(Exception):
                found[name] = object.__getattribute__(error, name)
    return found


def _message_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return ""


def _is_group(error: BaseException) -> bool:
    return hasattr(type(error), "subgroup")  # Python 3.10 has no groups


# unpacking ------------------------------------------------------------------------------------------------------------


def unpack_error(data: bytes) -> BaseException | None:
    """The exception as it was packed; None: it could not be."""
    errors: list[BaseException] = []
    links: list[_Carried] = pickle.loads(data) if data else []
    with suppress(BaseException):  # a constructor may raise anything; what comes before that one is lost
        for link in links:
            errors.append(_Arrival(link).error())  # those before the one that fails count
    for error, before, link in zip(errors, errors[1:], links, strict=False):
        if link.is_cause:
            set_cause(error, before)
        else:
            _CONTEXT.__set__(error, before)
    return errors[0] if errors else None


def _unpacked(data: bytes, text: str) -> BaseException:
    return unpack_error(data) or JobStreamError(text)


class _Arrival:
    """Makes an exception of its parts."""

    def __init__(self, carried: _Carried) -> None:
        self._carried = carried
        self._kind: Any = pickle.loads(carried.kind)
        self._lost: set[str] = set()
        self._args = tuple(self._value("args", part) for part in carried.args)
        self._state = {name: self._value(name, part) for name, part in carried.state.items()}

    def _value(self, name: str, part: _Part) -> Any:
        with suppress(Exception):
            return pickle.loads(part.data)
        self._lost.add(name)
        return part.text

    def error(self) -> BaseException:
        if self._carried.own:
            function, args = pickle.loads(self._carried.own)
            return self._completed(function(*args), self._lost)
        error = self._by_its_constructor() if self._lost else None
        return self._by_its_parts() if error is None else error

    def _by_its_constructor(self) -> BaseException | None:
        """As its constructor makes it, if the same comes of it."""
        try:
            error = self._kind(*self._args)
        except BaseException:
            return None
        is_same = type(error) is self._kind and _message_of(error) == self._carried.message
        return self._completed(error, self._lost) if is_same else None

    def _by_its_parts(self) -> BaseException:
        """Without any code of the user."""
        base = next(kind for kind in self._kind.__mro__ if not kind.__flags__ & _HEAP_TYPE)
        error: BaseException = base.__new__(self._kind, *self._args)
        try:
            base.__init__(error, *self._args)
        except Exception:  # this is not what the class of Python takes, so it was not given it before either
            _ARGS.__set__(error, self._args)
        return self._completed(error, set())

    def _completed(self, error: BaseException, made: set[str]) -> BaseException:
        """With the attributes that it had, but for those ``made`` anew, if they were."""
        for name, value in self._state.items():
            if name not in made or not hasattr(error, name):
                with suppress(Exception):
                    object.__setattr__(error, name, value)
        return error
