"""A user's script with mistakes: each checker says so where a comment expects it, and nowhere else.

The comment names the code of mypy, and the rule of pyright.
"""

from __future__ import annotations

from job_stream import Args, Work, common, map
from job_stream.baked import sweep

with Work([1, 2]) as w:

    @w.job
    def double(number: int) -> int:
        return 2 * number

    @w.reduce(store=list)
    def collect(store: list[int], works: list[int], others: list[list[int]]) -> None:
        store.extend(works)


double("text")  # expected: arg-type, reportArgumentType
double(1, 2)  # expected: call-arg, reportCallIssue
double(1).upper()  # expected: attr-defined, reportAttributeAccessIssue
collect([], [1])  # expected: call-arg, reportCallIssue

Work([1], cpu=2)  # expected: call-arg, reportCallIssue
Work([1], onError="stop")  # expected: arg-type, reportArgumentType
Work(1)  # expected: arg-type, reportArgumentType
w.job(double, retires=2)  # expected: call-overload, reportCallIssue
w.result(print, timeout=1.0)  # expected: call-overload, reportCallIssue
w.frame(collect, onError="stop")  # expected: call-overload, reportCallIssue
w.job(1)  # expected: call-overload, reportCallIssue
common.run({}, timeLimits=1.0)  # expected: call-arg, reportCallIssue

lengths: list[str] = map(len, ["a", "list"])  # expected: arg-type, reportAssignmentType
map(len, [1, 2])  # expected: arg-type, reportCallIssue
map(double, [1], retires=1)  # expected: call-overload, reportCallIssue
map(double, ["a"])  # expected: arg-type, reportCallIssue
map(1, [1])  # expected: call-overload, reportCallIssue

print(Args(1).arg)  # expected: attr-defined, reportAttributeAccessIssue

with sweep({"sides": [6, 20]}, trials=3) as s:

    @s.job(retries=1)
    def throw(id: int, trial: int, sides: int) -> dict[str, float]:
        return {"points": 1.0}


throw(0, 1, "six")  # expected: arg-type, reportArgumentType
print(s.tables)  # expected: attr-defined, reportAttributeAccessIssue
sweep({"sides": [6, 20]}, trial=3)  # expected: call-arg, reportCallIssue
