"""Fingerprints of values: equal ones for equal values in all processes; what is not known is refused."""

from __future__ import annotations

import datetime
import decimal
import enum
import os
import subprocess
import sys
from collections import Counter, OrderedDict, namedtuple
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import Library

from job_stream.baked.build.fingerprints import Fingerprint, fingerprint_of, shortened
from job_stream.errors import BuildError

pd = Library("pandas")

pytestmark = pytest.mark.libraries


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Level(enum.IntEnum):
    LOW = 1


@dataclass
class Point:
    x: Any
    y: Any = 0


Pair = namedtuple("Pair", "a b")

def different() -> list[Any]:
    return [
        None, True, False, 0, 1, 2, -1, 1 << 70, 0.0, -0.0, 1.0, float("nan"), float("inf"), 1j, "", "1", "a", "\ud800",
        b"", b"a", bytearray(b"a"), (), (1,), (1, 2), (2, 1), ((1,), 2), (1, (2,)), [], [1, 2], ["1", "2"], ["12"], {},
        {1: 2},
        {2: 1}, {"a": {"b": 1}}, set(), {1}, frozenset(), frozenset({1}), range(3), range(0, 3, 2), slice(1), ...,
        Path("a"), Path("a/b"), Colour.RED, Colour.BLUE, Level.LOW, datetime.date(2026, 1, 1),
        datetime.datetime(2026, 1, 1), datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc), datetime.time(1),
        datetime.timedelta(1), Point(1), Point(1, 2), Point([1]), Pair(1, 2), OrderedDict(a=1), Counter(a=1),
        np.arange(3), np.arange(3.0), np.arange(4).reshape(2, 2), np.arange(4), np.zeros(0), np.zeros((0, 2)),
        np.array(["a", None], dtype=object), np.array([("a", 1)], dtype=[("x", "U1"), ("y", "i4")]),
        np.array(["2026-01-01"], dtype="datetime64[D]"), np.float32(1), np.float64(1), np.int64(1), np.bool_(True),
        np.str_("a"), pd.Series([1, 2]), pd.Series([1, 2], name="a"), pd.Series([1, 2], index=[1, 2]),
        pd.Series([1.0, 2]),
        pd.Series(["a", None]), pd.DataFrame({"a": [1]}), pd.DataFrame({"b": [1]}),
        pd.DataFrame({"a": [1], "b": ["x"]}),
        pd.Index([1, 2]), pd.Timestamp("2026-01-01"), pd.Timedelta(1), pd.Categorical(["a", "b"]).codes,
        Fingerprint(object(), "a"), Fingerprint(object(), "b"),
        datetime.datetime(2026, 1, 1, fold=1), datetime.time(1, fold=1), datetime.timezone.utc, ZoneInfo("UTC"),
        np.ma.array([1, 2], mask=[0, 1]), np.ma.array([1, 2], mask=[0, 0]),
    ]  # fmt: skip


def test_different_values_have_different_fingerprints() -> None:
    values = different()
    prints = [fingerprint_of(value) for value in values]
    twins = [(one, other) for i, one in enumerate(values) for j, other in enumerate(values[:i])
             if prints[i] == prints[j]]  # fmt: skip
    assert twins == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"b", "a", "c"}, {"c", "b", "a"}),
        ([float("nan")], [float("nan")]),
        (np.arange(6).reshape(2, 3).T, np.ascontiguousarray(np.arange(6).reshape(2, 3).T)),
        (Fingerprint(1, "a"), Fingerprint(2, "a")),
        (Point([1, 2]), Point([1, 2])),
        ([[], []], [[]] * 2),
    ],
)
def test_equal_values_have_equal_fingerprints(one: Any, other: Any) -> None:
    assert fingerprint_of(one) == fingerprint_of(other)


def test_tables_that_lack_the_same_values_have_equal_fingerprints() -> None:
    one, other = ({"a": ["x", nothing]} for nothing in (None, np.nan))
    assert fingerprint_of(pd.DataFrame(one)) == fingerprint_of(pd.DataFrame(other))


def test_fingerprints_are_the_same_in_every_process() -> None:
    source = """
from pathlib import Path
from job_stream.baked.build.fingerprints import fingerprint_of
print(fingerprint_of([{"a", "b", "c"}, {"x": 1, "y": {2: None}}, Path("a"), 0.1, frozenset("abc"), "text", b"data"]))
"""
    prints = {
        subprocess.run([sys.executable, "-c", source], env={**os.environ, "PYTHONHASHSEED": seed}, text=True,
                       check=True, capture_output=True).stdout
        for seed in ("0", "1", "2")
    }  # fmt: skip
    assert len(prints) == 1


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda values: st.lists(values) | st.tuples(values, values) | st.dictionaries(st.text(), values),
    max_leaves=20,
)


def same(one: Any, other: Any) -> bool:
    """Equal, and of the same types all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return bool(one == other) and (not isinstance(one, float) or str(one) == str(other))


@given(VALUES, VALUES)
def test_fingerprints_are_equal_where_values_are(one: Any, other: Any) -> None:
    assert (fingerprint_of(one) == fingerprint_of(other)) == same(one, other)


def holding_itself() -> list[Any]:
    around: list[Any] = []
    around.append([around])
    return around


@pytest.mark.parametrize("value", [object(), [1, {"a": open}], decimal.Decimal(1), lambda: None, iter([])])
def test_what_is_not_known_is_refused_with_the_way_out(value: Any) -> None:
    with pytest.raises(BuildError, match=r"parameter 'n': nobody can tell whether .* Fingerprint\(value, 'a text"):
        fingerprint_of(value, "parameter 'n'")


def test_what_holds_itself_is_refused() -> None:
    with pytest.raises(BuildError, match="the value holds itself"):
        fingerprint_of(holding_itself())


def test_a_value_is_shown_in_few_characters() -> None:
    class Odd:
        def __repr__(self) -> str:
            raise ValueError

    assert shortened([1, "a"]) == "[1, 'a']"
    assert len(shortened(list(range(1000)))) == 60
    assert shortened(np.zeros((2, 3))) == "float64[2, 3]"
    assert shortened(pd.DataFrame({"a": [1]})) == "DataFrame[1, 1]"
    assert shortened(Fingerprint(0, "x" * 100)).endswith("...")
    assert shortened(Odd()) == "<Odd, whose repr raised ValueError>"
    assert shortened("two\nlines") == "'two\\nlines'"


def test_what_is_too_deep_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(BuildError, match="parameter n is too deep: give Fingerprint"):
        fingerprint_of(deep, "parameter n")
