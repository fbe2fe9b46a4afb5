"""The stages of a sweep around those of the user: three frames, each around the next.

::

    over_combinations      opens combinations; one that is done opens the next
        over_trials        begins trials of its combination; each that ends may begin more
            one_trial      sends the parameters into the user's stages
                ...
            take_values    what comes of them: one dict of numbers
        take_trial
    take_row

Items carry numbers of combinations, not parameters, which every process has. A digest travels along to make sure that
they are the same everywhere, and in the run that goes on from a checkpoint.
"""

from __future__ import annotations

from numbers import Complex, Real
from typing import Any, NamedTuple

from job_stream import Args, Multiple, Object, getCpuCount
from job_stream.errors import PlanError

from .earlier import Results, earlier_trials
from .progress_table import ProgressTable
from .rules import OtherKeys, Rule, Trials, difference_of, first_trials
from .table import Row, check_columns
from .triallog import TrialLog
from .variables import Parameters, described, digest_of, keys_of, text_of

__all__ = ["Combination", "Start", "SweepStream", "Trial", "TrialEnded"]


SAME = "every trial must return the same keys"


class Start(NamedTuple):
    """Opens the outermost frame. ``earlier``: trials of earlier runs by combination."""

    digest: str
    earlier: dict[int, Results]


class Combination(NamedTuple):
    """Opens the frame of one combination."""

    id: int
    trials: Trials
    digest: str


class Trial(NamedTuple):
    """Opens the frame of one trial."""

    id: int
    number: int
    digest: str


class TrialEnded(NamedTuple):
    """What came of a trial; ``values`` None: it failed and was skipped."""

    number: int
    values: dict[str, float] | None


class SweepStream:
    """The functions of the stages.

    Args:
        combinations: the parameters of each.
        rule: when a combination has had enough trials.
        board: where progress is noted.
        log: where trials are noted; None: nowhere.
        resume: whether trials that are in the log already are taken from there.
        seed: of the sweep.
    """

    def __init__(
        self,
        combinations: list[Parameters],
        rule: Rule,
        board: ProgressTable,
        log: TrialLog | None,
        resume: bool,
        seed: int | None = None,
    ) -> None:
        self.combinations = combinations
        self.rule = rule
        self.board = board
        self.log = log
        self.resume = resume
        self.skips = False
        self._keys = keys_of(text_of(parameters) for parameters in combinations)
        self.digest = digest_of(self._keys, rule, seed)

    def start(self) -> Start:
        """Looks into the log; runs once, and not in a run that goes on from a checkpoint."""
        earlier: dict[int, Results] = {}
        if self.log is not None and self.resume:
            earlier = earlier_trials(self.log, self.combinations, self.rule)
        elif self.log is not None:
            self.log.check_new()
        for id, results in earlier.items():
            trials = self._trials(results, self.rule.least)
            self.board.note(id, trials.counted, trials.needed)
        self.board.begin()
        return Start(self.digest, earlier)

    # combinations -----------------------------------------------------------------------------------------------------

    def over_combinations(self, store: Any, start: Start) -> Any:
        if not isinstance(start, Start):
            raise PlanError(f"an init function in a sweep must return nothing, not {start!r:.80}")
        self._check_digest(start.digest)
        if store.earlier is None:
            count = len(self.combinations)
            cpus = getCpuCount()
            store.first = first_trials(self.rule, cpus, count)
            store.earlier = {id: self._trials(results, store.first) for id, results in start.earlier.items()}
            return Multiple([self._combination(store) for _ in range(min(cpus, count))])

    def take_row(self, store: Any, row: Row) -> Any:
        if row.values:
            store.names = store.names or list(row.values)
            if difference := difference_of(row.values, store.names):
                raise PlanError(f"combination {row.id} ({self._describe(row.id)}) {difference}, unlike others: {SAME}")
        store.rows.append(row)
        for other in store.rows if not self.board.is_done(store.rows[0].id) else [row]:  # all of them after a resume
            self.board.note(other.id, other.trials, other.trials, done=True)
        if store.opened < len(self.combinations):
            return self._combination(store)

    def new_store(self) -> Any:
        return Object(earlier=None, opened=0, rows=[], names=None)

    def rows(self, store: Any) -> list[Row]:
        return store.rows  # type: ignore[no-any-return]

    def _combination(self, store: Any) -> Combination:
        """The next combination."""
        id = store.opened
        store.opened += 1
        trials = store.earlier.pop(id, None) or Trials(self.rule, store.first)
        return Combination(id, trials, self.digest)

    def _trials(self, earlier: Results, first: int) -> Trials:
        trials = Trials(self.rule, first)
        for number, values in earlier.items():
            trials.take(number, values)
        return trials

    # the trials of one ------------------------------------------------------------------------------------------------

    def new_trials(self) -> Any:
        return Object(id=None, trials=None)

    def over_trials(self, store: Any, combination: Combination) -> Any:
        self._check_digest(combination.digest)
        if store.trials is None:
            store.id, store.trials = combination.id, combination.trials
            return self._due(store)

    def take_trial(self, store: Any, ended: TrialEnded) -> Any:
        try:
            store.trials.take(ended.number, ended.values)
        except OtherKeys as other:
            name = self._name_of(Trial(store.id, other.number, self.digest))
            raise PlanError(f"{name} {other.difference}, unlike trials before it: {SAME}") from None
        return self._due(store)

    def row(self, store: Any) -> Row:
        return Row(store.id, store.trials.counted - store.trials.lost, store.trials.values)

    def _due(self, store: Any) -> Any:
        """The trials to be begun now; None: none."""
        trials = store.trials
        self.board.note(store.id, trials.counted, trials.needed)
        due = trials.due()
        return Multiple([Trial(store.id, number, self.digest) for number in due]) if due else None

    # one trial --------------------------------------------------------------------------------------------------------

    def key_of(self, trial: Trial) -> int:
        """What the random numbers of a trial depend on: its parameters and its number."""
        return self._keys[trial.id] << 64 | trial.number

    def new_trial(self) -> Any:
        return Object(trial=None, values=None)

    def one_trial(self, store: Any, trial: Trial) -> Any:
        if store.trial is None:
            self._check_digest(trial.digest)
            store.trial = trial
            return Args(id=trial.id, trial=trial.number, **self.combinations[trial.id])
        if store.values is None and not self.skips:
            raise PlanError(f"{self._name_of(trial)} gave nothing: the last stage must return one dict of numbers")

    def take_values(self, store: Any, *given: Any, **named: Any) -> None:
        trial = store.trial
        if store.values is not None:
            raise PlanError(
                f"{self._name_of(trial)} gave several results: the last stage of a sweep cannot emit Multiple"
            )
        answer = given[0] if len(given) == 1 and not named else Args(*given, **named)
        store.values = self._numbers(trial, answer)

    def ended(self, store: Any) -> TrialEnded:
        id, number, _ = store.trial
        if self.log is not None and store.values is not None:
            self.log.append(id, number, self.combinations[id], store.values)
        return TrialEnded(number, store.values)

    # checks -----------------------------------------------------------------------------------------------------------

    def _numbers(self, trial: Trial, answer: Any) -> dict[str, float]:
        if not isinstance(answer, dict) or not answer:
            what = f"{type(answer).__name__} {answer!r:.60}"
            raise PlanError(f"{self._name_of(trial)} gave {what}: the last stage must return one dict of numbers")
        for name, value in answer.items():
            if not isinstance(name, str):
                raise PlanError(f"{self._name_of(trial)} gave a value whose name is no text: {name!r:.60}")
            if not _is_number(value):
                what = f"{type(value).__name__} {value!r:.60}"
                raise PlanError(f"{self._name_of(trial)} gave {name!r} = {what}: it must be a number")
        check_columns(self.combinations[trial.id], answer)
        try:
            return {name: float(value) for name, value in answer.items()}
        except OverflowError:
            raise PlanError(f"{self._name_of(trial)} gave a whole number that is too large for a float") from None

    def _check_digest(self, digest: str) -> None:
        if digest != self.digest:
            raise PlanError(
                "the variables of the sweep, its trials or its seed are not the same on every rank, or not those of "
                "the checkpoint that the run goes on from: give random variables a seed, say the same as before, or "
                "remove the checkpoint"
            )

    def _name_of(self, trial: Trial) -> str:
        return f"trial {trial.number} of combination {trial.id} ({self._describe(trial.id)})"

    def _describe(self, id: int) -> str:
        return described(self.combinations[id])


def _is_number(value: Any) -> bool:
    """Whether it is one real number; those of NumPy and arrays without dimensions are."""
    if isinstance(value, Complex):
        return isinstance(value, Real)
    return hasattr(type(value), "ndim") and value.ndim == 0 and isinstance(value.tolist(), Real)
