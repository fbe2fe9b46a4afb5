"""The table of a sweep: a row for each combination, as a DataFrame of pandas and as a file."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from job_stream.errors import PlanError

from .arguments import check_file, hint, need
from .replacing import replacing
from .rules import Moments
from .variables import Parameters

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["OutputFile", "Row", "check_columns", "table_of"]

LIBRARIES = {".csv": (), ".json": (), ".parquet": ("pyarrow",)}


class Row(NamedTuple):
    """What came of a combination; ``trials`` are those that count."""

    id: int
    trials: int
    values: dict[str, Moments]


def check_columns(parameters: Parameters, values: Iterable[str]) -> None:
    """Makes sure that no two columns of the table have the same name.

    Raises:
        PlanError: two have.
    """
    names = list(values)
    for name in names:
        if name in parameters:
            raise PlanError(f"the key {name!r} of a result is the name of a parameter: give it another name")
    columns = Counter(["id", "trials", *parameters, *(column for name in names for column in _columns(name))])
    for column, count in columns.items():
        if count > 1:
            raise PlanError(f"the keys {names} of a result would make two columns {column!r}: give one another name")


def _columns(name: str) -> tuple[str, str, str]:
    return name, f"{name}_dev", f"{name}_err"


def table_of(combinations: Sequence[Parameters], rows: Iterable[Row]) -> DataFrame:
    """The table, in the order of the combinations.

    Returns:
        A DataFrame with the index ``id`` and the columns ``trials``, the parameters, and for each value NAME its mean
        NAME, its sample deviation NAME_dev, and NAME_err, half the width of the 95 % confidence interval of the mean.
    """
    import pandas

    ordered = sorted(rows, key=lambda row: row.id)
    records = [{"trials": row.trials, **combinations[row.id], **_numbers(row.values)} for row in ordered]
    columns = dict.fromkeys(column for record in records for column in record)
    return pandas.DataFrame(records, index=pandas.Index([row.id for row in ordered], name="id"), columns=list(columns))


def _numbers(values: Mapping[str, Moments]) -> dict[str, float]:
    numbers: dict[str, float] = {}
    for name, moments in values.items():
        numbers |= zip(_columns(name), (moments.mean, moments.deviation, moments.half_width), strict=True)
    return numbers


class OutputFile:
    """A file for the table.

    Args:
        path: its name; the suffix says how it is written.
        combinations: of the sweep; they are tried out, so that what cannot be written is known before any work.

    Raises:
        PlanError: the suffix is unknown, the folder is missing, or parameters cannot be written in this way.
        ImportError: a library for the format is missing.
    """

    def __init__(self, path: str | os.PathLike[str], combinations: Sequence[Parameters]) -> None:
        self.path = Path(path)
        self._suffix = self.path.suffix or ".csv"
        if self._suffix not in LIBRARIES:
            what = f"output {str(path)!r} has the suffix {self._suffix!r}, which is none of {', '.join(LIBRARIES)}"
            raise PlanError(what + hint(self._suffix, LIBRARIES))
        need(f"output {str(path)!r}", *LIBRARIES[self._suffix])
        check_file("output", self.path)
        if self._suffix == ".parquet":
            self._try_out(combinations)

    def save(self, table: DataFrame) -> None:
        """Writes the table; a file of that name is replaced when the new one is complete."""
        with replacing("output", self.path) as part:
            self._write(table, part)

    def _try_out(self, combinations: Sequence[Parameters]) -> None:
        try:
            self._write(table_of(combinations, [Row(id, 0, {}) for id in range(len(combinations))]), io.BytesIO())
        except Exception as error:
            raise PlanError(f"output {str(self.path)!r} cannot hold the parameters: {error}") from error

    def _write(self, table: DataFrame, file: Any) -> None:
        if self._suffix == ".csv":
            table.to_csv(file)
        elif self._suffix == ".json":
            table.reset_index().to_json(file, orient="records", indent=1, double_precision=15, default_handler=str)
        else:
            table.to_parquet(file, engine="pyarrow")
