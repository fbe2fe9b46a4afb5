"""The outcomes as a picture: a panel for each workload, a bar for each tool, a rule at each bound of a budget."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness import SUBJECT, Outcome
from benchmarks.report import render_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 3
PANEL_INCHES = (6.0, 3.2)
GROUP_WIDTH = 0.8
# Values further apart than this are drawn on a logarithmic axis, where the small ones can still be seen.
LINEAR_RANGE = 30
SUBJECT_COLOUR = "#c1440e"
OTHER_COLOURS = ("#4c6a92", "#7f9c7a", "#b8a15a", "#8a7a9b", "#6b6b6b", "#a9c0cf")
BOUND_COLOUR = "#222222"


def draw_chart(outcomes: Sequence[Outcome], title: str, path: Path) -> None:
    """Write the picture to `path`; needs matplotlib."""
    from matplotlib.figure import Figure

    workloads = list(dict.fromkeys(outcome.case.workload for outcome in outcomes))
    colours = choose_colours(tool for outcome in outcomes for tool in outcome.scores)
    rows = ceil(len(workloads) / COLUMNS)
    figure = Figure(figsize=(PANEL_INCHES[0] * COLUMNS, PANEL_INCHES[1] * rows + 1.0), layout="constrained")
    for position, workload in enumerate(workloads, start=1):
        cases = [outcome for outcome in outcomes if outcome.case.workload == workload]
        draw_panel(figure.add_subplot(rows, COLUMNS, position), cases, colours)
    figure.suptitle(title)
    draw_legend(figure, colours)
    figure.savefig(path, dpi=100)


def choose_colours(tools: Iterable[str]) -> dict[str, str]:
    """A colour for each tool, the same one in every panel."""
    others = [tool for tool in dict.fromkeys(tools) if tool != SUBJECT]
    chosen = {tool: OTHER_COLOURS[number % len(OTHER_COLOURS)] for number, tool in enumerate(others)}
    return {SUBJECT: SUBJECT_COLOUR, **chosen}


def draw_legend(figure: Figure, colours: Mapping[str, str]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    bounds = [
        Line2D([], [], color=BOUND_COLOUR, linestyle="-", label="at least"),
        Line2D([], [], color=BOUND_COLOUR, linestyle=":", label="aim"),
    ]
    tools = [Patch(color=colour, label=tool) for tool, colour in colours.items()]
    figure.legend(handles=[*tools, *bounds], loc="outside lower center", ncols=len(tools) + len(bounds))


def draw_panel(axes: Axes, outcomes: Sequence[Outcome], colours: Mapping[str, str]) -> None:
    """The cases of one workload side by side."""
    tools = list(dict.fromkeys(tool for outcome in outcomes for tool in outcome.scores))
    metric = outcomes[0].case.metric
    for number, tool in enumerate(tools):
        draw_bars(axes, outcomes, tool, (number, len(tools)), colours[tool])
    for position, outcome in enumerate(outcomes):
        draw_bounds(axes, outcome, position)
    if metric.unit != "%" and spread(outcomes) > LINEAR_RANGE:
        axes.set_yscale("log")
    axes.set_title(f"{outcomes[0].case.workload} ({metric.better.value} is better)", fontsize=10)
    axes.set_ylabel(f"{metric.name}, {metric.unit}", fontsize=8)
    axes.set_xticks(range(len(outcomes)), [outcome.case.name for outcome in outcomes])
    axes.margins(y=0.2)


def spread(outcomes: Sequence[Outcome]) -> float:
    """How many times the largest value is the smallest."""
    values = [value for outcome in outcomes for value in outcome.values.values() if value > 0]
    return max(values) / min(values) if values else 1.0


def draw_bars(axes: Axes, outcomes: Sequence[Outcome], tool: str, place: tuple[int, int], colour: str) -> None:
    """One bar of `tool` in each case where it has a value; `place` is its number among so many tools."""
    number, tools = place
    width = GROUP_WIDTH / tools
    heights = {position: outcome.values[tool] for position, outcome in enumerate(outcomes) if tool in outcome.values}
    lefts = [position + (number - (tools - 1) / 2) * width for position in heights]
    bars = axes.bar(lefts, list(heights.values()), width, color=colour)
    labels = [render_number(height) for height in heights.values()]
    axes.bar_label(bars, labels, fontsize=6, rotation=90 if len(outcomes) > 2 else 0, padding=2)


def draw_bounds(axes: Axes, outcome: Outcome, position: int) -> None:
    """The bounds of a case's budgets, in the unit of the case."""
    ends = [position - GROUP_WIDTH / 2, position + GROUP_WIDTH / 2]
    for budget in outcome.case.budgets:
        unit = 1.0 if budget.against is None else outcome.values.get(budget.against)
        for bound, style in ((budget.at_least, "-"), (budget.aim, ":")):
            if bound is not None and unit is not None:
                axes.plot(ends, [bound * unit] * 2, color=BOUND_COLOUR, linestyle=style, linewidth=1.2)
