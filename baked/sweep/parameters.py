"""What may be said to a sweep about its trials, checked."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from job_stream import Work
from job_stream.errors import PlanError

from .arguments import hint, is_number, whole
from .rules import Rule

__all__ = ["check_keywords", "rule_of"]

PARAMETERS = {"E": "relative", "eps": "absolute", "min": "least", "max": "most"}


def rule_of(trials: int, trialsParms: Mapping[str, Any]) -> Rule:
    """When a combination has had enough trials.

    Args:
        trials: so many exactly; 0: as many as the rule asks for; below 0: the same, at most that many without the sign.
        trialsParms: E, eps, min and max.

    Raises:
        PlanError: a key is unknown, a value makes no sense, or they contradict each other.
    """
    trials = whole("trials", trials)
    if not isinstance(trialsParms, Mapping):
        raise PlanError(f"trialsParms must be a dict of {', '.join(PARAMETERS)}, not {trialsParms!r:.80}")
    given: dict[str, Any] = dict(_parameter(key, value) for key, value in trialsParms.items())
    _check_conflicts(trials, given)
    rule = Rule(**given)
    if rule.relative == 0 and rule.absolute == 0:
        raise PlanError("trialsParms: E and eps are both 0, so no number of trials would be enough")
    if trials:
        rule = rule._replace(most=abs(trials), least=trials if trials > 0 else rule.least)
    if "least" not in given:
        rule = rule._replace(least=min(rule.least, rule.most))
    if rule.least > rule.most:
        raise PlanError(f"trialsParms: min is {rule.least}, which is more than the {rule.most} trials at most")
    return rule


def _parameter(key: str, value: Any) -> tuple[str, float]:
    """The name in a rule, and the value."""
    if key not in PARAMETERS:
        raise PlanError(f"trialsParms does not know {key!r}{hint(key, PARAMETERS)}; it knows {', '.join(PARAMETERS)}")
    if key in ("min", "max"):
        return PARAMETERS[key], whole(f"trialsParms: {key}", value, 1)
    if not is_number(value) or not value >= 0:
        raise PlanError(f"trialsParms: {key} must be a number from 0 on, not {value!r:.80}")
    return PARAMETERS[key], float(value)


def _check_conflicts(trials: int, given: Mapping[str, Any]) -> None:
    if trials > 0 and "least" in given:
        raise PlanError(f"trialsParms: min has no meaning with trials={trials}, which is exactly so many")
    if trials and "most" in given:
        raise PlanError(f"trialsParms: max has no meaning with trials={trials}, which says how many at most")


def check_keywords(names: Collection[str], own: Collection[str]) -> None:
    """Makes sure that ``Work`` knows the keywords that are passed on to it.

    Raises:
        PlanError: it does not; says what may be meant.
    """
    from inspect import signature

    known = list(signature(Work).parameters)
    known.remove("initialWork")
    for name in names:
        if name not in known:
            raise PlanError(f"sweep does not know the keyword {name!r}{hint(name, [*own, *known])}")
