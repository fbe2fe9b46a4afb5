"""Texts about values and exceptions of the user, which are never long and never fail.

An item may be a list of millions, a message may hold a whole file, a chain of exceptions may be as long as a loop. What
is shown of them ends up in messages, on screens and in logs, so all of it is bounded: also the work of making it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from signal import Signals
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from traceback import StackSummary

__all__ = ["cut", "link_before", "said", "shorten", "signal_name", "story", "told"]

ITEM_CHARACTERS = 300
MESSAGE_CHARACTERS = 4000
STORY_CHARACTERS = 30_000
LINE_CHARACTERS = 1000
FRAMES = 40
LINKS = 10
LINKS_WALKED = 100_000
NOTES = 10
MEMBERS = 5
GROUPS_DEEP = 3
DEEPEST = 8
TAIL = 40

_ENCLOSED: dict[type, Sequence[str]] = {
    list: "[]",
    tuple: "()",
    set: "{}",
    frozenset: ("frozenset({", "})"),
    dict: "{}",
}
_CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n"


def cut(text: str, most: int) -> str:
    """A text, or the beginning and end of a long one and how long it is."""
    if len(text) <= most:
        return text
    tail = min(TAIL, most // 4)
    return f"{text[: most - tail - 20]} ... {text[-tail:]} ({len(text)} characters)"


def signal_name(number: int) -> str:
    """``SIGKILL`` for 9."""
    try:
        return Signals(number).name
    except ValueError:
        return f"signal {number}"


# values ---------------------------------------------------------------------------------------------------------------


def shorten(value: Any, most: int = ITEM_CHARACTERS) -> str:
    """A ``repr`` of about so many characters at most."""
    try:
        if type(value) in (str, bytes, bytearray) and len(value) > 2 * most:
            head, tail = repr(value[: most - TAIL - 20]), repr(value[-TAIL:])
            return cut(f"{head[:-1]} ... {tail[len(tail) - TAIL - 1 :]}", 2 * most) + f" ({len(value)} characters)"
        text = _repr(value, most, 0)
        is_whole = type(value) not in _ENCLOSED or len(text) <= most
        return cut(text, most) if is_whole else f"{text[: most - 20]} ... ({len(value)} elements)"
    except Exception as error:
        return f"<{_name_of(type(value))} whose repr raised {_name_of(type(error))}>"


def _repr(value: Any, room: int, depth: int) -> str:
    """``repr``, but no more of a list or the like than it takes to fill the room."""
    kind: Any = type(value)
    if kind.__repr__ is BaseException.__repr__:  # a group may hold any number
        name, text = _name_of(kind), _repr(value.args, room, depth)
        return f"{name}{text[:-2]})" if len(value.args) == 1 and text[-2:] == ",)" else f"{name}{text}"
    if kind not in _ENCLOSED or not value:
        whole = kind not in (str, bytes, bytearray) or len(value) <= 2 * room
        return repr(value) if whole else repr(value[: 2 * room])
    if depth == DEEPEST:
        return "..."
    begin, end = _ENCLOSED[kind]
    parts: list[str] = []
    for element in value:
        part = _repr(element, room, depth + 1)
        if kind is dict:
            part = f"{part}: {_repr(value[element], max(room - len(part), 1), depth + 1)}"
        parts.append(part)
        room -= len(part) + 2
        if room < 0:
            break
    return f"{begin}{', '.join(parts)}{',' if kind is tuple and len(value) == 1 else ''}{end}"


def _name_of(kind: type) -> str:
    return type.__dict__["__name__"].__get__(kind)[:LINE_CHARACTERS]  # type: ignore[no-any-return]


# exceptions -----------------------------------------------------------------------------------------------------------


def told(error: BaseException, most: int = MESSAGE_CHARACTERS) -> str:
    """The class and the message of an exception, as Python shows them."""
    kind = type(error)
    module: Any = kind.__module__
    name = kind.__qualname__ if module in ("builtins", "__main__") else f"{module}.{kind.__qualname__}"
    name, message = name[:LINE_CHARACTERS], said(error, most)
    return f"{name}: {message}" if message else name


def said(error: BaseException, most: int = MESSAGE_CHARACTERS) -> str:
    """The message of an exception."""
    try:
        return cut(str(error), most)
    except Exception as problem:
        return f"<its text raised {_name_of(type(problem))}>"


def story(error: BaseException, trace: TracebackType | None) -> str:
    """An exception with its traceback, and what it came of, as Python shows them; ends with its class and message."""
    try:
        return _bounded(_links(error, trace))
    except Exception:  # one that lies about its own parts
        return f"{told(error)}\n"


def _bounded(parts: Iterable[str]) -> str:
    text = "".join(parts)
    if len(text) <= STORY_CHARACTERS:
        return text
    end = text[-STORY_CHARACTERS // 2 :]
    return f"{text[: STORY_CHARACTERS // 2]}\n  ... {len(text) - STORY_CHARACTERS} characters ...\n{end}"


def _links(error: BaseException, trace: TracebackType | None) -> Iterator[str]:
    """The chain of exceptions, the first one first; of a long one the last few."""
    chain = list(islice(_chain(error), LINKS_WALKED))
    shown = chain[:LINKS]
    if len(chain) > LINKS:
        yield f"... {len(chain) - LINKS} more exceptions before these ...\n\n"
    for number, (link, joint) in reversed(list(enumerate(shown))):
        yield from _one(link, trace if number == 0 else link.__traceback__, 0)
        yield joint


def _chain(error: BaseException) -> Iterator[tuple[BaseException, str]]:
    """An exception and those it came of, each with what is said between it and the next."""
    seen: set[int] = set()
    joint, link = "", error
    while id(link) not in seen:
        seen.add(id(link))
        yield link, joint
        before = link_before(link)
        if before is None:
            return
        joint, link = (_CONTEXT if link.__cause__ is None else _CAUSE), before


def link_before(error: BaseException) -> BaseException | None:
    """The exception that one came of, where Python would show it."""
    if error.__cause__ is not None:
        return error.__cause__
    return None if error.__suppress_context__ else error.__context__


def _one(error: BaseException, trace: TracebackType | None, depth: int) -> Iterator[str]:
    if trace is not None:
        yield "Traceback (most recent call last):\n"
        yield from _calls(trace)
    if isinstance(error, SyntaxError):
        from traceback import format_exception_only

        yield from (cut(line, LINE_CHARACTERS) for line in format_exception_only(type(error), error))
    else:
        yield f"{told(error)}\n"
    for note in _notes_of(error):
        yield f"{cut(str(note), MESSAGE_CHARACTERS)}\n"
    members = getattr(error, "exceptions", None) if hasattr(type(error), "subgroup") else None
    if isinstance(members, tuple) and depth < GROUPS_DEEP:
        yield from _members(members, depth)


def _notes_of(error: BaseException) -> list[Any]:
    notes = getattr(error, "__notes__", ())
    return list(notes[:NOTES]) if isinstance(notes, (list, tuple)) else []


def _members(members: tuple[BaseException, ...], depth: int) -> Iterator[str]:
    """The first few exceptions of a group, behind a margin."""
    for number, member in enumerate(members[:MEMBERS], 1):
        yield f"  +---------------- {number} ----------------\n"
        for line in "".join(_one(member, member.__traceback__, depth + 1)).splitlines():
            yield f"  | {line}\n"
    if len(members) > MEMBERS:
        yield f"  +---------------- and {len(members) - MEMBERS} more\n"


def _calls(trace: TracebackType) -> Iterator[str]:
    """The lines of a traceback; of a deep one the outermost and innermost calls."""
    from traceback import extract_tb  # slow to load, and only needed when something is wrong

    depth, link = 0, trace.tb_next
    while link is not None:
        depth, link = depth + 1, link.tb_next
    if depth < FRAMES:
        yield from _lines(extract_tb(trace))
        return
    yield from _lines(extract_tb(trace, FRAMES // 2))
    yield f"  ... {depth + 1 - FRAMES} more calls ...\n"
    yield from _lines(extract_tb(trace, -(FRAMES // 2)))


def _lines(calls: StackSummary) -> Iterator[str]:
    for entry in calls.format():
        yield entry if len(entry) <= LINE_CHARACTERS else f"{cut(entry, LINE_CHARACTERS)}\n"
