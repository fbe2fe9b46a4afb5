"""A picture of a sweep: means with the 95 % confidence intervals as error bars.

One parameter makes a curve, two make a heat map. With more, each has a panel of its own, in which all trials with the
same value of that parameter are put together. A row of panels for each value that the trials gave.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from math import ceil
from pathlib import Path
from typing import Any

from job_stream.errors import PlanError

from .arguments import check_file, hint, is_number, need
from .replacing import replacing
from .rules import Moments
from .table import Row
from .variables import Parameters

__all__ = ["Plot"]

PANEL = (4.5, 3.2)
"""Width and height of a panel in inches."""

DECADES = 100
"""Values that differ by this factor or more stand on a logarithmic axis."""

MANY = 25
"""With more points than this on a heat map, their means are not written on it."""

NAMES = 12
"""So many names of values have room on an axis."""

SLANTED = {"rotation": 30, "ha": "right"}


class Plot:
    """A picture in a file.

    Args:
        path: its name; the suffix says the format.
        combinations: of the sweep.

    Raises:
        PlanError: there is no parameter, the suffix is unknown, or the folder is missing.
        ImportError: matplotlib is missing.
    """

    def __init__(self, path: str | os.PathLike[str], combinations: Sequence[Parameters]) -> None:
        self._path = Path(path)
        self._combinations = combinations
        self._names = list(combinations[0])
        need(f"plot {str(path)!r}", "matplotlib")
        if not self._names:
            raise PlanError(f"plot {str(path)!r} needs at least one variable")
        check_file("plot", self._path)
        known = sorted(f".{name}" for name in _figure(1, 1).canvas.get_supported_filetypes())
        suffix = self._path.suffix
        if suffix not in known:
            what = f"plot {str(path)!r} has the suffix {suffix!r}, which is none of {', '.join(known)}"
            raise PlanError(what + hint(suffix, known))

    def save(self, rows: Sequence[Row]) -> None:
        """Draws the means, and writes the file."""
        rows = sorted((row for row in rows if row.values), key=lambda row: row.id)
        values = list(rows[0].values) if rows else []
        pairs = len(self._names) == 2
        figure = _figure(1 if pairs else len(self._names), max(1, len(values)))
        panels = figure.subplots(max(1, len(values)), 1 if pairs else len(self._names), squeeze=False)
        for line, value in zip(panels, values, strict=False):
            if pairs:
                self._heat_map(figure, line[0], rows, value)
            else:
                for panel, name in zip(line, self._names, strict=True):
                    self._curve(panel, rows, name, value)
        with replacing("plot", self._path) as part:
            figure.savefig(part)

    def _curve(self, panel: Any, rows: Sequence[Row], name: str, value: str) -> None:
        """Means over one parameter."""
        groups: dict[Any, Moments] = {}
        for row in rows:
            groups.setdefault(_hashable(self._combinations[row.id][name]), Moments()).merge(row.values[value])
        places, labels = _axis(list(groups))
        points = sorted(zip(places, groups.values(), strict=True), key=lambda point: point[0])
        panel.errorbar(
            [place for place, _ in points],
            [moments.mean for _, moments in points],
            yerr=[moments.half_width for _, moments in points],
            fmt="o-" if not labels and len(points) <= MANY else "o",
            markersize=4,
            capsize=3,
        )
        if labels:
            _name(panel.xaxis, places, labels, **SLANTED)
        elif points[0][0] > 0 and points[-1][0] >= DECADES * points[0][0]:
            panel.set_xscale("log")
        panel.set_xlabel(name)
        panel.set_ylabel(value)

    def _heat_map(self, figure: Any, panel: Any, rows: Sequence[Row], value: str) -> None:
        """Means over two parameters: a grid, or points where the combinations make none."""
        pairs = [tuple(_hashable(self._combinations[row.id][name]) for name in self._names) for row in rows]
        columns, lines = (_ordered([pair[part] for pair in pairs]) for part in (0, 1))
        if len(rows) == len(set(pairs)) == len(columns) * len(lines):
            cells = {pair: row.values[value] for pair, row in zip(pairs, rows, strict=True)}
            drawn = _grid(panel, [[cells[column, line] for column in columns] for line in lines])
            _name(panel.xaxis, range(len(columns)), map(_label, columns), **SLANTED)
            _name(panel.yaxis, range(len(lines)), map(_label, lines))
        else:
            (x, x_labels), (y, y_labels) = (_axis([pair[part] for pair in pairs]) for part in (0, 1))
            drawn = panel.scatter(x, y, c=[row.values[value].mean for row in rows])
            if x_labels:
                _name(panel.xaxis, x, x_labels, **SLANTED)
            if y_labels:
                _name(panel.yaxis, y, y_labels)
        panel.set_xlabel(self._names[0])
        panel.set_ylabel(self._names[1])
        figure.colorbar(drawn, ax=panel, label=value)


def _figure(columns: int, lines: int) -> Any:
    """An empty figure that needs no screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(PANEL[0] * columns, PANEL[1] * lines), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _grid(panel: Any, cells: Sequence[Sequence[Moments]]) -> Any:
    """Draws a mean in each cell; what is written there is mean and half width."""
    drawn = panel.imshow([[moments.mean for moments in line] for line in cells], origin="lower", aspect="auto")
    if len(cells) * len(cells[0]) <= MANY:
        for y, line in enumerate(cells):
            for x, moments in enumerate(line):
                text = f"{moments.mean:.3g}\n±{moments.half_width:.2g}"
                panel.text(x, y, text, ha="center", va="center", fontsize="x-small", bbox={"fc": "w", "alpha": 0.6})
    return drawn


def _name(axis: Any, places: Iterable[Any], labels: Iterable[str], **look: Any) -> None:
    """Writes names on an axis; only some of them where all would run into each other."""
    names = sorted(dict(zip(places, labels, strict=True)).items())
    chosen = names[:: ceil(len(names) / NAMES)]
    axis.set_ticks([place for place, _ in chosen], [name for _, name in chosen], **look)


def _hashable(value: Any) -> Any:
    try:
        hash(value)
    except TypeError:
        return repr(value)
    return value


def _ordered(values: Sequence[Any]) -> list[Any]:
    """Each value once: numbers by their size, anything else as they come."""
    unique = list(dict.fromkeys(values))
    return sorted(unique) if all(map(is_number, unique)) else unique


def _label(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _axis(values: Sequence[Any]) -> tuple[list[Any], list[str]]:
    """Where values stand on an axis, and their labels: numbers where they belong, without labels of their own."""
    if all(map(is_number, values)):
        return list(values), []
    unique = _ordered(values)
    return [unique.index(value) for value in values], [_label(value) for value in values]
