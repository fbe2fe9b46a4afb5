"""What is told of the outcomes: the table on the terminal and the JSON that keeps every reading.

A line of the table is one budget of one case; a case without a budget has a line without a verdict.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from benchmarks.budgets import Budget, Verdict
from benchmarks.harness import SUBJECT, Outcome, Score, Settings

FORMAT = 1
NO_BUDGET = Budget()
ABSENT = "-"
# Whom a ratio is to when no budget says so.
USUAL_PEER = "pool"

FOOTNOTES = (
    "Values are medians; the tools took turns, repetition by repetition.",
    "job_stream: start-up excluded: the median of the whole run (it forks its workers in there) minus the median "
    "of a run of the same shape with one item; beside it the value of the whole run. The verdict is on the former.",
    "Peers: started and warmed before the clock. Slow ones do less of the same where that leaves the value as it is.",
    "ratio: job_stream's value to the other's. reference: plain Python, another stream, or mpi4py.futures.",
)
UNCERTAIN_NOTE = "~ start-up was more than half of the run; the value without it is uncertain."


@dataclass(frozen=True)
class Line:
    """One budget of one case and how it was met."""

    outcome: Outcome
    budget: Budget
    figure: float | None
    verdict: Verdict

    @property
    def failed(self) -> bool:
        """Whether the promise wasn't kept, or nothing could be told because job_stream failed."""
        subject = self.outcome.scores.get(SUBJECT)
        return self.verdict is Verdict.MISSED or (subject is not None and bool(subject.record.error))


def make_lines(outcomes: Iterable[Outcome]) -> list[Line]:
    return [make_line(outcome, budget) for outcome in outcomes for budget in (outcome.case.budgets or (NO_BUDGET,))]


def make_line(outcome: Outcome, budget: Budget) -> Line:
    if budget == NO_BUDGET:
        return Line(outcome, budget, None, Verdict.UNKNOWN)
    figure = budget.figure(outcome.values.get(SUBJECT), outcome.values)
    return Line(outcome, budget, figure, budget.judge(figure, outcome.case.metric.better))


def render_table(outcomes: Sequence[Outcome], peers: Sequence[str]) -> str:
    """The table with its footnotes."""
    header = [
        "workload",
        "metric",
        "unit",
        SUBJECT,
        "with start-up",
        *peers,
        "reference",
        "ratio",
        "at least",
        "aim",
        "verdict",
    ]
    rows = [render_line(line, peers) for line in make_lines(outcomes)]
    return "\n".join([*align([header, *rows]), "", *footnotes(outcomes)])


def render_line(line: Line, peers: Sequence[str]) -> list[str]:
    scores = line.outcome.scores
    case = line.outcome.case
    return [
        case.title,
        case.metric.name,
        case.metric.unit,
        render_score(scores.get(SUBJECT)),
        render_with_startup(scores.get(SUBJECT)),
        *(render_score(scores.get(peer)) for peer in peers),
        render_references(scores, peers),
        render_ratio(line),
        render_bound(line, line.budget.at_least),
        render_bound(line, line.budget.aim),
        render_verdict(line),
    ]


def render_score(score: Score | None) -> str:
    if score is None:
        return ABSENT
    if score.value is None:
        return "error"
    return f"{'~' if score.uncertain else ''}{render_number(score.value)}"


def render_with_startup(score: Score | None) -> str:
    """The value of the whole run, where that says something new."""
    if score is None or score.with_startup is None or not score.record.startups:
        return ABSENT
    return render_number(score.with_startup)


def render_references(scores: Mapping[str, Score], peers: Sequence[str]) -> str:
    """The contenders that have no column of their own."""
    others = [tool for tool in scores if tool != SUBJECT and tool not in peers]
    return "; ".join(f"{tool} {render_score(scores[tool])}" for tool in others) or ABSENT


def render_ratio(line: Line) -> str:
    other = line.budget.against or USUAL_PEER
    ratio = Budget(against=other).figure(line.outcome.values.get(SUBJECT), line.outcome.values)
    return ABSENT if ratio is None else f"{render_number(ratio)}x {other}"


def render_bound(line: Line, bound: float | None) -> str:
    if bound is None:
        return ABSENT
    sign = line.outcome.case.metric.better.sign
    against = f"x {line.budget.against}" if line.budget.against else ""
    return f"{sign} {render_number(bound)}{against}"


def render_verdict(line: Line) -> str:
    subject = line.outcome.scores.get(SUBJECT)
    return "error" if subject is not None and subject.record.error else line.verdict.value


def render_number(value: float) -> str:
    """Three significant digits at most, thousands separated."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def align(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The rows as lines of text with a rule below the first; the first three columns are text, the others numbers."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for index, row in enumerate(rows):
        cells = [
            cell.ljust(width) if i < 3 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()
        if index == 0:
            yield "  ".join("-" * width for width in widths)


def footnotes(outcomes: Sequence[Outcome]) -> list[str]:
    """What has to be known to read the table, and what went wrong."""
    notes = [*FOOTNOTES, *dict.fromkeys(note for outcome in outcomes for note in outcome.case.notes)]
    if any(score.uncertain for outcome in outcomes for score in outcome.scores.values()):
        notes.append(UNCERTAIN_NOTE)
    errors = [
        f"{outcome.case.title}, {tool}: {score.record.error}"
        for outcome in outcomes
        for tool, score in outcome.scores.items()
        if score.record.error
    ]
    return notes + (["", "Errors:", *errors] if errors else [])


def to_json(outcomes: Sequence[Outcome], settings: Settings, facts: Mapping[str, object]) -> dict[str, object]:
    """Everything that was measured, as plain data."""
    return {
        "format": FORMAT,
        "machine": dict(facts),
        "settings": {**asdict(settings), "size": settings.size.value},
        "cases": [outcome_to_json(outcome) for outcome in outcomes],
    }


def outcome_to_json(outcome: Outcome) -> dict[str, object]:
    case = outcome.case
    return {
        "workload": case.workload,
        "case": case.name,
        "metric": case.metric.name,
        "unit": case.metric.unit,
        "better": case.metric.better.value,
        "tools": {tool: score_to_json(score) for tool, score in outcome.scores.items()},
        "budgets": [line_to_json(line) for line in make_lines([outcome]) if line.budget != NO_BUDGET],
        "notes": list(case.notes),
    }


def score_to_json(score: Score) -> dict[str, object]:
    return {
        "value": score.value,
        "value_with_startup": score.with_startup,
        "uncertain": score.uncertain,
        "work": score.work,
        "readings": score.record.readings,
        "startup_readings": score.record.startups,
        "error": score.record.error or None,
    }


def line_to_json(line: Line) -> dict[str, object]:
    return {**asdict(line.budget), "figure": line.figure, "verdict": line.verdict.value}
