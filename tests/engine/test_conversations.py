"""Whole conversations between ranks, as text: each shows a rule at work.

A new one is a new file of commands (see ``conversation``). After that, and after a change that is meant to change what
ranks say: ``pytest tests/engine/test_conversations.py --rewrite``, and read the difference.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from conversation import Mistake, play

FOLDER = Path(__file__).with_name("conversations")
CONVERSATIONS = sorted(FOLDER.glob("*.txt"))


@pytest.mark.parametrize("path", CONVERSATIONS, ids=lambda path: path.stem)
def test_the_conversation_is_the_one_on_record(path: Path, request: pytest.FixtureRequest) -> None:
    played = play(path.name, path.read_text(encoding="utf-8"))
    assert played.results == played.expected
    if request.config.getoption("--rewrite"):
        path.write_text(played.text, encoding="utf-8")
    assert played.text == path.read_text(encoding="utf-8")


def test_the_conversations_show_what_they_are_named_for() -> None:
    texts = {path.stem: path.read_text(encoding="utf-8") for path in CONVERSATIONS}
    assert "became fold at fold" in texts["a_reduction_over_two_ranks"]
    assert "rank 2 dies" in texts["a_borrower_dies"]
    assert "Cancel loan" in texts["a_lender_dies_that_had_borrowed"]
    assert all(word in texts["the_state_is_saved"] for word in ("Report 1", "open at frame", "Reported 1", "0 saves"))
    assert "at job" in texts["a_frame_whose_children_are_lent"]


# the language -------------------------------------------------------------------------------------------------------


def test_what_is_said_stands_below_the_command_it_comes_of() -> None:
    text = play("new", "# Two ranks.\nstages job\nitems 4\n\nrun 3\n  anything\nkill 1\nrun\n").text
    commands = [line for line in text.splitlines() if not line.startswith(" ")]
    assert commands == ["# Two ranks.", "stages job", "items 4", "", "run 3", "kill 1", "run"]
    assert "kill 1\n   3.00 ms  rank 1 dies\nrun\n" in text
    assert "anything" not in text


def test_a_text_that_was_played_plays_the_same_again() -> None:
    text = play("new", "items 20\nranks 3\nslow 0 5\nrun 10\nsave\nlend 0 2\nkill 1\nrun").text
    assert play("new", text).text == text


def test_a_lender_lends_when_it_is_told_to() -> None:
    text = play("new", "stages job job\nitems 40\nranks 3\nrun 15\nlend 0 2\nrun\n").text
    said = text.partition("lend 0 2\n")[2].partition("run\n")[0].splitlines()
    assert said[0].endswith("15.00 ms  2 -> 0  Ask for 1 lanes, and wait")
    assert "0 -> 2  Lend loan" in said[-1]


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("ranks 3\nkil 2\nrun", "line 2, 'kil': is no command; there are seed, stages, "),
        ("ranks three\nrun", "line 1, 'three': a whole number from 1 belongs here"),
        ("\nranks 0\nrun", "line 2, '0': a whole number from 1 belongs here"),
        ("ranks\nrun", "line 1, 'ranks': the command is: ranks NUMBER: take part"),
        ("ranks 3 4\nrun", "line 1, '4': the command is: ranks NUMBER: take part"),
        ("run 3 ms", "line 1, 'ms': the command is: run [MS]"),
        ("stages\nrun", "line 1, 'stages': the command is: stages STAGE...: of job, "),
        ("stages job reduce\nrun", "line 1, 'reduce': is no stage; there are job, fold, frame, frameEnd"),
        ("stages job frameEnd\nrun", "line 1, 'stages': frameEnd 'frameEnd' has no frame"),
        ("stages frame job\nrun", "line 1, 'stages': frame 'frame' has no end"),
        ("run 3\nitems 4\nrun", "line 2, 'items': what runs is said before anything happens"),
        ("run 3\nseed 4\nrun", "line 2, 'seed': what runs is said before anything happens"),
        ("run 30\nrun 20\nrun", "line 2, '20': it is 30 ms already"),
        ("ranks 3\nkill 3\nrun", "line 2, '3': a whole number from 0 to 2 belongs here"),
        ("kill 0\nrun", "line 1, '0': nothing goes on without rank 0"),
        ("kill 1\nkill 1\nrun", "line 2, '1': is dead"),
        ("lend 1 1\nrun", "line 1, '1': no rank lends to itself"),
        ("items 0\nlend 0 1\nrun", "line 2, 'lend': rank 0 had nothing to lend"),
        ("run\nkill 1", "line 2, 'kill': the stream is over"),
        ("run 3", "the stream is not over; the last command is: run"),
        ("# nothing", "the stream is not over; the last command is: run"),
    ],
)
def test_a_mistake_names_line_and_word(text: str, mistake: str) -> None:
    with pytest.raises(Mistake) as raised:
        play("new.txt", text)
    assert str(raised.value).startswith(("new.txt, ", "new.txt: "))
    assert mistake in str(raised.value)
