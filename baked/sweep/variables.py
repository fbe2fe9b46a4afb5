"""What a sweep varies: the combinations of parameters, and how they are known again in another process or run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from itertools import product
from math import prod
from numbers import Integral, Real
from typing import Any

from job_stream.errors import PlanError

__all__ = ["Parameters", "Variables", "combinations_of", "described", "digest_of", "keys_of", "plain", "text_of"]

Parameters = dict[str, Any]
Variables = Mapping[str, Iterable[Any]] | Sequence[Mapping[str, Any]]

MOST = 10_000_000
"""Combinations that can be kept in memory; it takes hours to try out each of so many once."""

RESERVED = {"id": "the number of the combination", "trial": "the number of the trial", "trials": "a column"}


def combinations_of(variables: Variables) -> list[Parameters]:
    """All combinations, in order.

    Args:
        variables: a dict of sequences, of which all combinations are made; or a list of dicts with equal keys.

    Raises:
        PlanError: it is something else, has no values, or a name cannot be used.
    """
    combinations = _crossed(variables) if isinstance(variables, Mapping) else _listed(variables)
    for name in combinations[0]:
        if not isinstance(name, str):
            raise PlanError(f"the name of a variable must be text, not {type(name).__name__}: {name!r}")
        if name in RESERVED:
            raise PlanError(f"a variable cannot be named {name!r}, which is {RESERVED[name]}: give it another name")
    return combinations


def _crossed(variables: Mapping[str, Iterable[Any]]) -> list[Parameters]:
    for name, values in variables.items():
        if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
            raise PlanError(
                f"variable {name!r} must be a sequence of values, not {values!r:.80}: write [{values!r:.80}]"
            )
    lists = {name: list(values) for name, values in variables.items()}
    for name, values in lists.items():
        if not values:
            raise PlanError(f"variable {name!r} has no values")
    count = prod(map(len, lists.values()))
    if count > MOST:
        sizes = " x ".join(str(len(values)) for values in lists.values())
        raise PlanError(
            f"variables would make {count} combinations ({sizes}), which is more than {MOST}: give fewer values, or "
            "draw some of the combinations with latinHypercube, sobol or randomPoints"
        )
    return [dict(zip(lists, values, strict=True)) for values in product(*lists.values())]


def _listed(variables: Any) -> list[Parameters]:
    if not isinstance(variables, Iterable) or isinstance(variables, (str, bytes)):
        raise PlanError(f"variables must be a dict of sequences or a list of dicts, not {type(variables).__name__}")
    combinations = list(variables)
    if not combinations:
        raise PlanError("variables is an empty list: give at least one dict of parameters")
    for combination in combinations:
        if not isinstance(combination, Mapping):
            raise PlanError(f"variables must be a list of dicts; it holds {combination!r:.80}")
        if combination.keys() != combinations[0].keys():
            found, against = _names(combination), _names(combinations[0])
            raise PlanError(f"all dicts of variables must have same keys; found {found} against {against}")
    return [dict(combination) for combination in combinations]


def _names(combination: Mapping[Any, Any]) -> str:
    return "{" + ", ".join(sorted(map(repr, combination))) + "}"


def described(parameters: Parameters) -> str:
    """A combination for messages."""
    return ", ".join(f"{name}={value!r:.60}" for name, value in parameters.items()) or "no parameters"


def plain(value: Any) -> Any:
    """A parameter as JSON can hold it; whole numbers are written as such whatever their type.

    Raises:
        TypeError: JSON has nothing for it.
    """
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        number = float(value)
        return int(number) if number.is_integer() else number
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    if hasattr(type(value), "tolist"):  # arrays and numbers of NumPy
        return plain(value.tolist())
    raise TypeError(f"JSON has nothing for {type(value).__name__}")


def text_of(parameters: Parameters) -> str:
    """What is equal for equal parameters, in every process and run. Of other objects only the type is known."""

    def text(value: Any) -> str:
        try:
            return json.dumps(plain(value), sort_keys=True)
        except TypeError:
            return f"{type(value).__module__}.{type(value).__qualname__}"

    return json.dumps({name: text(value) for name, value in parameters.items()}, sort_keys=True)


def keys_of(texts: Iterable[str]) -> list[int]:
    """A number for each combination that depends on its parameters; equal ones are told apart by their order."""
    seen: Counter[str] = Counter()
    keys = []
    for text in texts:
        keys.append(int.from_bytes(blake2b(f"{text} {seen[text]}".encode(), digest_size=8).digest(), "little"))
        seen[text] += 1
    return keys


def digest_of(keys: Iterable[int], *others: Any) -> str:
    """What tells whether two processes have the same combinations, and the same of other things."""
    return blake2b(",".join(map(str, [*keys, *others])).encode(), digest_size=8).hexdigest()
