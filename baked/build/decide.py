"""Whether a job has to run, and why: a pure function of what is on record and of how things are.

Nothing follows from another job having run; only from its fingerprint being another one than on record. The reasons
come in the words that the plan prints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

__all__ = ["Past", "Present", "Verdict", "decide"]


class Past(NamedTuple):
    """The record of a job's last success.

    Attributes:
        needs: the fingerprint of each need as it was before the job began.
        outputs: the paths, in the order of their declaration.
        code: hash of its function; None where it was not watched.
        params: of each parameter, its hash and its shortened text.
    """

    needs: Mapping[str, str]
    outputs: Sequence[str]
    code: str | None
    params: Mapping[str, tuple[str, str]]


class Present(NamedTuple):
    """How things are for a job, once all that it needs is known.

    Attributes:
        missing, empty: outputs that are not there, or have 0 bytes and may not.
        watches_code: whether a change of ``code`` matters.
        is_asked_for: whether somebody wants it made anew.
        watches_nothing: whether nothing could have it made anew but missing files.
        are_there: whether all of its files exist.
    """

    needs: Mapping[str, str]
    outputs: Sequence[str]
    code: str | None
    params: Mapping[str, tuple[str, str]]
    missing: Sequence[str] = ()
    empty: Sequence[str] = ()
    watches_code: bool = True
    is_asked_for: bool = False
    watches_nothing: bool = False
    are_there: bool = False


class Verdict(NamedTuple):
    """The reasons for running; with none, whether the record is to be written anew all the same."""

    reasons: list[str]
    is_new_record: bool = False


UP_TO_DATE = Verdict([])
"""Also the answer to the question that is asked most often, so it is made once."""


def decide(past: Past | None, present: Present) -> Verdict:
    """Whether a job that makes lasting files has to run."""
    asked = ["asked for"] if present.is_asked_for else []
    if past is None:
        if present.watches_nothing and present.are_there and not asked:
            return Verdict([], is_new_record=True)
        return Verdict(asked or ["never made"])
    reasons = asked
    reasons += [f"missing: {path}" for path in present.missing]
    reasons += [f"empty: {path}" for path in present.empty]
    if present.watches_code and past.code != present.code:
        reasons.append("code changed")
    if past.params != present.params:
        reasons += _of_params(past.params, present.params)
    if list(past.outputs) != list(present.outputs):
        reasons.append("output keys changed")
    if past.needs == present.needs:
        return Verdict(reasons) if reasons else UP_TO_DATE
    found = _of_needs(past.needs, present.needs)
    return Verdict(reasons + found, is_new_record=not found and not reasons)


def _of_params(past: Mapping[str, tuple[str, str]], present: Mapping[str, tuple[str, str]]) -> list[str]:
    changes = [f"{name} {past[name][1]} -> {text}" for name, (digest, text) in present.items()
               if name in past and past[name][0] != digest]  # fmt: skip
    changes += [f"{name} {text} is new" for name, (_, text) in present.items() if name not in past]
    changes += [f"{name} {text} is gone" for name, (_, text) in past.items() if name not in present]
    return [f"params changed: {', '.join(changes)}"] if changes else []


def _of_needs(past: Mapping[str, str], present: Mapping[str, str]) -> list[str]:
    """Reasons from needs; none where one was only renamed."""
    changed = [f"changed: {need}" for need, fingerprint in present.items()
               if need in past and past[need] != fingerprint]  # fmt: skip
    come = [need for need in present if need not in past]
    gone = [need for need in past if need not in present]
    if len(come) == len(gone) == 1 and present[come[0]] == past[gone[0]]:
        return changed
    return changed + [f"new need: {need}" for need in come] + [f"need gone: {need}" for need in gone]
