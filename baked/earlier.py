"""The trials that a log holds from earlier runs, as the books of the combinations they belong to.

A trial belongs to the combination with the same parameters, so a sweep may be extended: numbers of combinations may
change, parameters may not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from job_stream.errors import JobStreamError

from .stopping import Rule, Trials
from .triallog import Logged, TrialLog
from .variables import Parameters, textOf

__all__ = ["earlierTrials"]

Results = dict[int, dict[str, float]]


def earlierTrials(log: TrialLog, combinations: Sequence[Parameters], rule: Rule) -> dict[int, Trials]:
    """The trials in a log, by the number of the combination.

    Raises:
        JobStreamError: the log is of another sweep: it has other parameters or other values.
    """
    entries = log.read()
    _checkNames(log, entries, combinations[0])
    found = _sorted(entries, combinations)
    if entries and not found:
        raise JobStreamError(
            f"{log}: none of its {len(entries)} trials has parameters of this sweep, so it is the log of another one. "
            "Give log= another name, or remove the file"
        )
    return {id: _taken(results, rule) for id, results in found.items()}


def _checkNames(log: TrialLog, entries: Sequence[Logged], parameters: Parameters) -> None:
    for number, entry in enumerate(entries, 1):
        if entry.parameters.keys() != parameters.keys():
            raise log.wrong(number, f"has the parameters {sorted(entry.parameters)}, this sweep {sorted(parameters)}")
        if entry.values.keys() != entries[0].values.keys():
            raise log.wrong(number, f"has the values {sorted(entry.values)}, line 1 {sorted(entries[0].values)}")


def _sorted(entries: Sequence[Logged], combinations: Sequence[Parameters]) -> dict[int, Results]:
    """The results of each combination by the number of the trial; of equal numbers the last one counts."""
    texts = [textOf(parameters) for parameters in combinations]
    first = {text: id for id, text in reversed(list(enumerate(texts)))}
    found: dict[int, Results] = defaultdict(dict)
    for entry in entries:
        text = textOf(entry.parameters)
        same = entry.id < len(texts) and texts[entry.id] == text  # equal combinations are told apart by their numbers
        id = entry.id if same else first.get(text)
        if id is not None:
            found[id][entry.trial] = entry.values
    return found


def _taken(results: Results, rule: Rule) -> Trials:
    trials = Trials(rule)
    for number in sorted(results):
        if number < rule.most:
            trials.take(number, results[number])
    return trials
