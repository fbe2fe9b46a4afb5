"""What somebody is shown who asks why a job's code counts as changed."""

from __future__ import annotations

from job_stream.baked.build.code import CodePart
from job_stream.baked.build.source_diff import source_diff

ITSELF = CodePart("", "a", "def f(x):\n    return h(x)")
HELPER = CodePart("h", "b", "def h(x):\n    y = x\n    return y + 1")


def test_what_is_the_same_shows_nothing() -> None:
    assert source_diff([ITSELF, HELPER], [ITSELF, HELPER]) == ""
    assert source_diff([ITSELF, HELPER], [HELPER, ITSELF]) == ""


def test_the_lines_that_were_edited_are_shown_with_the_name_of_the_part() -> None:
    edited = CodePart("h", "c", "def h(x):\n    y = x\n    return y + 2")
    assert source_diff([ITSELF, HELPER], [ITSELF, edited]).splitlines() == [
        "h:", "--- before", "+++ now", "@@ -1,3 +1,3 @@", " def h(x):", "     y = x", "-    return y + 1",
        "+    return y + 2",
    ]  # fmt: skip


def test_the_function_has_no_name_of_its_own_there() -> None:
    assert source_diff([ITSELF], [ITSELF._replace(digest="x", source="")]).startswith("the function itself:\n")


def test_parts_that_come_and_go_are_named() -> None:
    assert source_diff([ITSELF, HELPER], [ITSELF]) == "h: no longer used"
    assert source_diff([ITSELF], [ITSELF, HELPER]) == "h: newly used"


def test_a_change_without_source_is_said_in_words() -> None:
    assert source_diff([CodePart("m", "module a", "")], [CodePart("m", "foreign a.m", "")]) == (
        "m: module a before, foreign a.m now"
    )


def test_the_order_in_which_parts_are_met_is_no_change_of_them() -> None:
    assert source_diff([CodePart("g", "seen 1", "")], [CodePart("g", "seen 2", "")]) == ""


def test_parts_of_one_name_are_told_apart_by_their_order() -> None:
    one, other, third = (CodePart("base A", digest, f"A = {digest}") for digest in ("1", "2", "3"))
    shown = source_diff([one, other], [one, third])
    assert "-A = 2\n+A = 3" in shown
    assert "A = 1" not in shown
