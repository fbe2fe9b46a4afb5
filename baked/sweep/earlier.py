"""The trials that a log holds from earlier runs, by the combinations they belong to.

A trial belongs to the combination with the same parameters, so a sweep may be extended: numbers of combinations may
change, parameters may not.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Sequence

from job_stream.errors import JobStreamError

from .rules import Rule
from .triallog import Logged, TrialLog
from .variables import Parameters, text_of

__all__ = ["Results", "earlier_trials"]

Results = dict[int, dict[str, float]]
"""What came of the trials of a combination, by their numbers."""


def earlier_trials(log: TrialLog, combinations: Sequence[Parameters], rule: Rule) -> dict[int, Results]:
    """The trials in a log, by the number of the combination; those that the rule has no use for are left out.

    stderr tells when the stages have changed since: what they give now may be something else, or may not.

    Raises:
        JobStreamError: the log is of another sweep: it has other parameters, other values or another seed.
    """
    entries = log.read()
    _check_names(log, entries, combinations[0])
    _check_seeds(log, entries)
    _tell_changes(log, entries)
    found = _sorted(entries, combinations)
    if entries and not found:
        raise JobStreamError(
            f"{log}: none of its {len(entries)} trials has parameters of this sweep, so it is the log of another one. "
            "Give log= another name, or remove the file"
        )
    log.mend()
    return {id: _used(results, rule) for id, results in found.items()}


def _check_names(log: TrialLog, entries: Sequence[Logged], parameters: Parameters) -> None:
    for number, entry in enumerate(entries, 1):
        if entry.parameters.keys() != parameters.keys():
            raise log.wrong(number, f"has the parameters {sorted(entry.parameters)}, this sweep {sorted(parameters)}")
        if entry.values.keys() != entries[0].values.keys():
            raise log.wrong(number, f"has the values {sorted(entry.values)}, line 1 {sorted(entries[0].values)}")
        if not all(map(_is_number, entry.values.values())) or entry.trial < 0:
            raise log.wrong(number, "has values that are no numbers, or a trial that is none")


def _is_number(value: object) -> bool:
    """Whether it is one as tables need it: of a size that a float can have."""
    try:
        return isinstance(value, (int, float)) and bool(float(value) or True)
    except OverflowError:
        return False


def _check_seeds(log: TrialLog, entries: Sequence[Logged]) -> None:
    for number, entry in enumerate(entries, 1):
        if entry.seed != log.seed:
            raise JobStreamError(
                f"{log}, line {number}: this trial was made with seed={entry.seed}, but the sweep has seed={log.seed}. "
                f"They are not to be mixed: give seed={entry.seed} to go on, or log= another name"
            )


def _tell_changes(log: TrialLog, entries: Sequence[Logged]) -> None:
    changed = [number for number, entry in enumerate(entries, 1) if entry.code != log.code]
    if changed:
        print(
            f"sweep: WARNING: {len(changed)} of the {len(entries)} trials in {log} (line {changed[0]} is the first) "
            "were made with other code of the stages than there is now, and are taken as they are. If the trials give "
            "something else now, the table is wrong: stop, and give log= another name",
            file=sys.stderr,
            flush=True,
        )


def _sorted(entries: Sequence[Logged], combinations: Sequence[Parameters]) -> dict[int, Results]:
    """The results of each combination by the number of the trial; of equal numbers the last one counts."""
    texts = [text_of(parameters) for parameters in combinations]
    first = {text: id for id, text in reversed(list(enumerate(texts)))}
    found: dict[int, Results] = defaultdict(dict)
    names = list(entries[0].values) if entries else []  # the same objects for all, which makes a pickle small
    for entry in entries:
        text = text_of(entry.parameters)
        # Equal combinations are told apart by their numbers.
        same = 0 <= entry.id < len(texts) and texts[entry.id] == text
        id = entry.id if same else first.get(text)
        if id is not None:
            found[id][entry.trial] = {name: entry.values[name] for name in names}
    return found


def _used(results: Results, rule: Rule) -> Results:
    return {number: results[number] for number in sorted(results) if number < rule.most}
