"""What would run, without running anything.

Whether what follows from a job runs depends on how that job comes out, which nobody knows beforehand. So there are
three answers where a run has two: *make*, *keep*, and *maybe*, which becomes one of the two when its needs are known.
What is made only for others is made if one of them is, and maybe if one of them is only that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from .conductor import Judge, Node, Status

__all__ = ["BuildPlan", "PlanEntry", "plan_of"]

WIDTH = 6


class PlanEntry(NamedTuple):
    """One job in a plan: what would happen with it, and why."""

    id: str
    verb: str
    reasons: list[str]

    def __str__(self) -> str:
        return f"{self.verb:<{WIDTH}} {self.id}  {'; '.join(self.reasons)}".rstrip()


class BuildPlan(NamedTuple):
    """What ``plan()`` returns; true if there is anything to do.

    Attributes:
        entries: (id, verb, reasons) of each job, in the order of their declaration; the verbs are 'make', 'maybe',
            'load', 'run' (a generator, as in each run), 'remove' and 'keep'.
    """

    entries: list[PlanEntry]

    def __bool__(self) -> bool:
        return any(entry.verb != "keep" for entry in self.entries)

    def __iter__(self) -> Iterator[PlanEntry]:  # type: ignore[override]
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def ids(self, verb: str) -> list[str]:
        """The ids of what this would happen with."""
        return [entry.id for entry in self.entries if entry.verb == verb]

    @property
    def summary(self) -> str:
        """The counts, in one line."""
        counts = {verb: len(self.ids(verb)) for verb in ("make", "maybe", "load", "run", "remove", "keep")}
        words = {
            "make": "to make", "maybe": "maybe", "load": "to load", "run": "to run", "remove": "to remove",
            "keep": "up to date",
        }  # fmt: skip
        shown = [f"{count} {words[verb]}" for verb, count in counts.items() if count or verb in {"make", "keep"}]
        return f"build: {', '.join(shown)}"

    def lines(self, limit: int | None = None) -> list[str]:
        """What is to be done, a line for each, and how many more there are."""
        todo = [entry for entry in self.entries if entry.verb != "keep"]
        width = max((len(entry.id) for entry in todo[:limit]), default=0)
        shown = [f"  {e.verb:<{WIDTH}} {e.id:<{width}}  {'; '.join(e.reasons)}".rstrip() for e in todo[:limit]]
        return shown + ([f"  ... and {len(todo) - len(shown)} more"] if len(todo) > len(shown) else [])

    def __str__(self) -> str:
        return "\n".join([self.summary, *self.lines()])


class _Guess:
    """What is known of a job beforehand: its fingerprint if it does not change, and what may become of it."""

    __slots__ = ("fingerprints", "is_changing", "reasons", "verb")

    def __init__(self, verb: str, reasons: list[str], fingerprints: Mapping[str, str] | None) -> None:
        self.verb = verb
        self.reasons = reasons
        self.fingerprints = fingerprints
        self.is_changing = verb in {"make", "maybe"}


def plan_of(nodes: Iterable[Node], judge: Judge, exists: Iterable[str] = ()) -> BuildPlan:
    """What would happen with each job.

    Args:
        nodes: linked; those only watched have their fingerprints.
        judge: who knows records and files.
        exists: the ids of temporary jobs of which files are there.
    """
    ordered = _in_order(nodes)
    guesses: dict[str, _Guess] = {}
    for node in ordered:
        guesses[node.id] = _first_guess(node, guesses, judge)
    for node in reversed(ordered):
        _demand(node, guesses, judge)
    for node in ordered:
        _pass_on(node, guesses)
    for job_id in exists:
        if guesses[job_id].verb == "keep":
            guesses[job_id] = _Guess("remove", ["nobody needs it any more"], None)
    return BuildPlan([PlanEntry(node.id, guesses[node.id].verb, guesses[node.id].reasons)
                      for node in sorted(ordered, key=lambda node: node.number) if node.role != "watch"])  # fmt: skip


def _in_order(nodes: Iterable[Node]) -> list[Node]:
    """Needs first."""
    ordered: dict[str, Node] = {}
    for start in nodes:
        stack = [start]
        while stack:
            node = stack[-1]
            before = [need for need, _ in node.needs if need.id not in ordered] if node.id not in ordered else []
            stack += before
            if not before:
                ordered.setdefault(node.id, node)
                stack.pop()
    return list(ordered.values())


def _first_guess(node: Node, guesses: Mapping[str, _Guess], judge: Judge) -> _Guess:
    """What its own state says, and the fingerprints of its needs as far as they are known."""
    if node.role == "watch":
        guess = _Guess("keep", [], node.fingerprints)
        guess.is_changing = not node.fingerprints  # a large file, which is read while jobs run already
        return guess
    node.needs_planned = needs = _known(node, guesses)
    if node.role == "generate":
        is_to_run = node.status in {Status.WAITING, Status.WANTED}
        return _Guess("run" if is_to_run else "keep", ["what it declares is known only then"], {})
    changing = [need.id for need, _ in node.needs if guesses[need.id].is_changing]
    if node.role == "load":
        return _guess_of_load(node, needs, changing, judge)
    verdict = judge.verdict(node.id, needs)
    if _is_certain(verdict.reasons, node, guesses) and (node.leads_to_lasting or not node.is_lazy):
        return _Guess("make", verdict.reasons, judge.recorded(node.id))
    if changing:
        return _Guess("maybe", [_condition(changing[0], node, guesses)], judge.recorded(node.id))
    return _Guess("keep", [], judge.recorded(node.id))


def _is_certain(reasons: Iterable[str], node: Node, guesses: Mapping[str, _Guess]) -> bool:
    """Whether one of the reasons stays whatever comes of the needs that may change: these may come out as on record."""
    open_needs: set[str] = set()
    for need, path in node.needs:
        if guesses[need.id].is_changing:
            open_needs |= {need.id, path or need.id, *(guesses[need.id].fingerprints or ())}
    return any(
        reason.removeprefix("changed: ").removeprefix("need gone: ") not in open_needs for reason in reasons
    )


def _guess_of_load(node: Node, needs: Mapping[str, str], changing: list[str], judge: Judge) -> _Guess:
    """A value that says its own fingerprint may come out as before; of others that is known."""
    said = judge.recorded(node.id)
    if node.leads_to_lasting and judge.has_to_be_asked(node.id, needs):
        guess = _Guess("load", ["to learn whether it comes out different"], said)
    elif changing and said:
        return _Guess("maybe", [f"if {changing[0]} comes out different"], said)
    else:
        guess = _Guess("keep", changing, {node.id: judge.of_load(node.id, needs)})
    guess.is_changing = bool(changing) or guess.verb == "load"
    return guess


def _condition(changing: str, node: Node, guesses: Mapping[str, _Guess]) -> str:
    if any(need.id == changing and need.role == "watch" for need, _ in node.needs):
        return f"if {changing} has changed"
    return f"if {_source_of(changing, guesses)} comes out different"


def _source_of(job_id: str, guesses: Mapping[str, _Guess]) -> str:
    """Behind a value that changes stands what it is made of."""
    guess = guesses[job_id]
    return _source_of(guess.reasons[0], guesses) if guess.verb == "keep" and guess.reasons else job_id


def _known(node: Node, guesses: Mapping[str, _Guess]) -> dict[str, str]:
    known: dict[str, str] = {}
    for need, path in node.needs:
        fingerprints = guesses[need.id].fingerprints or {}
        if path is None:
            known.update(fingerprints)
        elif path in fingerprints:
            known[path] = fingerprints[path]
    return known


def _demand(node: Node, guesses: dict[str, _Guess], judge: Judge) -> None:
    """What is made or loaded for others only: if one of them runs; users come first here."""
    guess = guesses[node.id]
    if guess.verb != "keep" or not (node.role == "load" or (node.can_be_demanded and not judge.is_there(node.id))):
        return
    verbs = {guesses[user.id].verb: user.id for user in reversed(node.readers) if user.role != "generate"}
    user = verbs.get("make") or verbs.get("load")
    if user is None and "maybe" not in verbs:
        return
    words = ("load", "for") if node.role == "load" else ("make", "needed by")
    verb, reason = (words[0], f"{words[1]} {user}") if user else ("maybe", f"if {verbs['maybe']} runs")
    demanded = guesses[node.id] = _Guess(verb, [reason], guess.fingerprints)
    demanded.is_changing = guess.is_changing


def _pass_on(node: Node, guesses: dict[str, _Guess]) -> None:
    """A load that nobody runs for tells nothing."""
    guess = guesses[node.id]
    if node.role == "load" and guess.verb == "keep":
        guess.reasons = []
