"""What a lane's work has led to, as products that can be repaid.

Values are packed here, so here it shows when something cannot travel: the error names the stage that it came from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any

from ..engine.messages import Fold, Open, Output, Payload, Product, Skip, WorkBatch
from ..stream.plan import Kind, Place
from ..values import is_unrun
from .calls import bare
from .entries import Allotted, PendingMultiple
from .evaluator import Evaluator
from .failures import ItemSkipped, cannot_travel, describe, has_not_run
from .outboxes import FrameScope, Outbox, ScopeContext
from .packing import Packing

__all__ = ["Emitted", "Names", "Products", "skips_of"]

GROUP_S = 1e-3
GROUPS_MOST = 4096
SUSPECT_PARTS = 8

Names = Mapping[int, int]
"""Names of frames that have left an evaluator, by the identity of their scopes."""
NO_NAMES: Names = {}


class Emitted:
    """Stands for the item of a Multiple that a reduction emitted: the work that had it emitted."""

    __slots__ = ("work",)

    def __init__(self, work: WorkBatch) -> None:
        self.work = work


def skips_of(evaluator: Evaluator, packing: Packing) -> list[Product]:
    """What an evaluator has skipped since it was asked last."""
    return [
        Skip(skip.number, skip.stage, packing.pack_item(skip.item), skip.attempts, describe(skip.error), skip.scope)
        for skip in evaluator.failures.drain()
    ]


def _names_of(origins: list[Place]) -> str:
    return " or ".join(origin.name for origin in origins) or "initial work"


class Products:
    """Collects products until they are taken.

    Args:
        evaluator: that ran the values.
        packing: of values into payloads.
        unwanted: the places where whatever comes is of no interest to anybody.

    Attributes:
        nbytes: what the values hold that have been packed.
        fold_cost: seconds that it took to pack the last store.
    """

    def __init__(self, evaluator: Evaluator, packing: Packing, unwanted: frozenset[int]) -> None:
        self._evaluator = evaluator
        self._plan = evaluator.plan
        self._packing = packing
        self._unwanted = unwanted
        self._products: list[Product] = []
        self.nbytes = 0
        self.fold_cost = 0.0

    def __bool__(self) -> bool:
        return bool(self._products)

    def take(self) -> tuple[Product, ...]:
        """All products so far, which are then forgotten, behind them what was skipped."""
        products, self._products = (*self._products, *skips_of(self._evaluator, self._packing)), []
        self.nbytes = 0
        return products

    @contextmanager
    def undone_on_error(self) -> Iterator[None]:
        """Within, products are collected all together or not at all."""
        products, skipped, nbytes = len(self._products), len(self._evaluator.failures.skipped), self.nbytes
        try:
            yield
        except BaseException:
            self.nbytes = nbytes
            del self._products[products:], self._evaluator.failures.skipped[skipped:]
            raise

    def of(self, context: ScopeContext, place: int, values: Sequence[Any], base: int | None) -> tuple[Product, ...]:
        """Products of values at a place, apart from all others."""
        others, nbytes, self._products = self._products, self.nbytes, []
        try:
            self.file(context, place, values, base)
            return tuple(self._products)
        finally:
            self._products, self.nbytes = others, nbytes

    def collect(self, home: Outbox) -> None:
        """Empties a home: its outputs and stores become products."""
        if home.outputs and home.end in self._unwanted:
            self.drop(home)
        elif home.outputs:
            self._output(home)
        for number, store in home.stores.items():
            self._fold(home.scope, number, store)
        home.clear()

    def drop(self, home: Outbox) -> None:
        """Forgets results that nobody wants. If a stage gives what has not run, it gives that for each item."""
        value = bare(home.outputs[0]) if home.outputs else None
        if is_unrun(value):
            origin = next(iter(self._plan.origins(home.end)), None)
            raise has_not_run(origin.name if origin else "initial work", value, home.end)
        home.outputs, home.positions = [], []

    def _output(self, home: Outbox) -> None:
        end, values = home.end, home.outputs
        if home.positions:
            self._output_in_order(home, end)
            return
        if self._is_result(end):
            values = self._evaluator.keys.bare(values)
        self._append(Output(home.scope, end, len(values), None), values)

    def _output_in_order(self, home: Outbox, end: int) -> None:
        """One product for each run of neighbours."""
        start = 0
        runs: list[list[int]] = []
        for base, count in home.positions:
            if runs and runs[-1][0] + runs[-1][1] == base:
                runs[-1][1] += count
            else:
                runs.append([base, count])
        for base, count in runs:
            values = home.outputs[start : start + count]
            self._append(Output(home.scope, end, count, None, base), values, in_order=True)
            start += count

    def file(self, context: ScopeContext, place: int, values: Sequence[Any], base: int | None = None,
             names: Names = NO_NAMES) -> None:  # fmt: skip
        """Makes products of values at a place, in groups that can be lent one by one.

        Args:
            context: where they belong.
            base: the position of the first in the source, where they come straight from there.
            names: of frames that have left before.
        """
        scope = self._scope_of(context, names)
        if self._plan.places[place].allotted:
            self._file_allotted(scope, place, values)
        elif self._plan.places[place].kind != Kind.END:
            work = WorkBatch(scope, place, 0, None, base)
            self._file_groups(work, values, self._group_size(place, len(values)))
        elif len(values) and not self.is_unwanted(place):
            values = self._evaluator.keys.bare(values) if self._is_result(place) else values
            self._append(Output(scope, place, len(values), None), values)

    def file_suspects(self, home: Outbox, place: int, values: Sequence[Any], base: int | None) -> None:
        """Makes products of values of which one has ended its worker: of parts that are run one by one."""
        if self._plan.places[place].kind == Kind.END:  # no code runs there
            return self.file(home, place, values)
        work = WorkBatch(home.scope, place, 0, None, base, one_by_one=True)
        self._file_groups(work, values, -(-len(values) // SUSPECT_PARTS))

    def _file_groups(self, work: WorkBatch, values: Sequence[Any], size: int) -> None:
        """Makes products like ``work``, which stands for all values, of so many values each."""
        for start in range(0, len(values), size):
            part = work if work.base is None else work._replace(base=work.base + start)
            self._append(part, values[start : start + size])

    def _file_allotted(self, scope: int, place: int, values: Sequence[Any]) -> None:
        """Each value on its own, with what it needs; one that does not say so is the unit under way, which was lent."""
        lent = self._evaluator.multiples.needs
        for one in values:
            value, needs = one if type(one) is Allotted else (one, lent)
            self._append(WorkBatch(scope, place, 1, None, needs=needs), [value])

    def is_unwanted(self, place: int) -> bool:
        """Whether nobody is interested in what reaches this place."""
        return place in self._unwanted

    def _is_result(self, end: int) -> bool:
        """Whether what reaches this end leaves the stream; the scope may be another rank's."""
        return self._plan.places[end].body == 0

    def _group_size(self, place: int, count: int) -> int:
        cost = self._evaluator.pace.costs[place]
        if self._plan.places[place].alone:
            return 1
        size = 1 if cost is None else int(GROUP_S / max(cost, 1e-9))
        return max(1, size, -(-count // GROUPS_MOST)) if count else 1

    def _append(self, product: Output | WorkBatch, values: Sequence[Any], in_order: bool = False) -> None:
        """Packs the values of a product; those that cannot be are skipped where the policy is to skip."""
        try:
            payload = self._packing.pack(values)
        except Exception as error:
            origins = self._plan.origins(product.place)
            if not origins or not all(origin.policy.skip for origin in origins):
                raise cannot_travel(_names_of(origins), "output", error, product.place) from error
            values = self._only_packable(origins, values, in_order)
            payload = self._packing.pack(values)
        if len(values):
            self._products.append(product._replace(count=len(values), payload=payload))
            self._count(product.place, len(values), payload)

    def _count(self, place: int, count: int, payload: Payload) -> None:
        self.nbytes += payload.nbytes
        self._evaluator.gathered.add(payload.nbytes)
        self._evaluator.gathered.learn(place, count, payload.nbytes)

    def _only_packable(self, origins: list[Place], values: Sequence[Any], in_order: bool) -> list[Any]:
        """The values without those that cannot be packed, which are found by halves."""
        good: list[Any] = []
        waiting = [list(values)]
        while waiting:
            part = waiting.pop()
            half = len(part) // 2
            try:
                self._packing.pack(part)
                good += part
            except Exception as error:
                if half:
                    waiting += [part[half:], part[:half]]
                    continue
                self._evaluator.failures.record(ItemSkipped(_names_of(origins), part[0], 1, error, origins[0].number))
                good += [None] if in_order else []
        return good

    def pack_output(self, place: int, values: Sequence[Any]) -> Payload:
        """Packs values that wait at ``place``; an error names the stages that they came from."""
        try:
            return self._packing.pack(values)
        except Exception as error:
            raise cannot_travel(_names_of(self._plan.origins(place)), "output", error, place) from error

    def _pack_own(self, place: int, values: Sequence[Any], what: str) -> Payload:
        """Packs what a stage itself has; an error says so, and ``what`` it is."""
        try:
            return self._packing.pack(values)
        except Exception as error:
            raise cannot_travel(self._plan.places[place].name, what, error, place) from error

    def _fold(self, scope: int, place: int, store: Any) -> None:
        started = perf_counter()
        self._products.append(Fold(scope, place, self._pack_own(place, [store], "store")))
        self.fold_cost = perf_counter() - started

    def open_frame(self, frame: FrameScope, names: Names) -> int:
        """Makes products of a frame and its reductions. Gives its name in this repayment."""
        name = -1 - len(names)
        payload = self._pack_own(frame.place.number, frame.state, "store")
        key = self._evaluator.keys.round_key(frame)
        self._products.append(Open(name, self._scope_of(frame.context, names), frame.place.number, payload,
                                   tuple(sorted(frame.active)), key))  # fmt: skip
        for number, store in frame.stores.items():
            self._fold(name, number, store)
        return name

    def _scope_of(self, context: ScopeContext, names: Names) -> int:
        return context.scope if type(context) is Outbox else names[id(context)]

    def work_of(self, rest: PendingMultiple) -> WorkBatch:
        """What is left of a Multiple, with what is needed to have it made again."""
        item, scope = rest.item, self._scope_of(rest.context, NO_NAMES)
        if type(item) is Emitted:
            return item.work._replace(inner=rest.taken)
        if type(item) is FrameScope:
            payload = self._pack_own(rest.place, item.state, "store")
            return WorkBatch(scope, rest.place, 1, payload, inner=rest.taken, resume=True)
        payload = self._pack_own(rest.place, [item], "item")
        return WorkBatch(scope, rest.place, 1, payload, inner=rest.taken, needs=rest.needs)
