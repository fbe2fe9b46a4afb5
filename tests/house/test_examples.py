"""Every example runs as a user would run it, and prints what its docstring says."""

import base64
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import DEADLINE_S, REPOSITORY, needs

EXAMPLES = REPOSITORY / "examples"


def command_of(name: str, *arguments: object) -> list[str]:
    return [sys.executable, "-W", "error", str(EXAMPLES / name), *map(str, arguments)]


def run_example(name: str, *arguments: object) -> list[str]:
    """The lines that the example prints; it must end well, and without a warning."""
    done = subprocess.run(command_of(name, *arguments), capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two source files, one of them in a folder below, and a file that is none."""
    (tmp_path / "below").mkdir()
    (tmp_path / "one.py").write_text("spam = eggs\n\nspam = Spam + 1\n", encoding="utf-8")
    (tmp_path / "below" / "two.py").write_text("import ham, eggs\n", encoding="utf-8")
    (tmp_path / "notes.txt").write_text("spam spam spam\n", encoding="utf-8")
    return tmp_path


def test_word_count_counts_the_words_of_all_files(folder: Path) -> None:
    printed = [line.split() for line in run_example("word_count.py", folder)]
    assert printed == [["3", "spam"], ["2", "eggs"], ["1", "ham"], ["1", "import"]]


def test_word_count_reads_the_standard_library() -> None:
    printed = [line.split() for line in run_example("word_count.py")]
    counts = [int(count) for count, _ in printed]
    words = [word for _, word in printed]
    assert len(printed) == 20
    assert counts == sorted(counts, reverse=True)
    assert {"self", "def", "if", "the"} <= set(words)


def test_primes() -> None:
    assert run_example("primes.py", 1000) == ["168 primes below 1000", "the largest: 971 977 983 991 997"]
    assert run_example("primes.py")[0] == "5133 primes below 50000"


def test_line_statistics(folder: Path) -> None:
    assert run_example("line_statistics.py", folder) == [
        "files:        1",
        "lines:        3",
        "blank lines:  1",
        "longest line: 15 characters",
    ]


def test_line_statistics_of_the_examples() -> None:
    count = len(list(EXAMPLES.glob("*.py")))
    assert run_example("line_statistics.py")[0] == f"files:        {count}"


def test_mean_word_length() -> None:
    assert run_example("mean_word_length.py", "a", "bcd") == ["2 words, 2.000 letters each on average"]
    assert run_example("mean_word_length.py") == ["9 words, 3.667 letters each on average"]


def test_sum_to_n() -> None:
    assert run_example("sum_to_n.py") == [
        "1 + ... + 4 = 10",
        "1 + ... + 5 = 15",
        "1 + ... + 8 = 36",
        "1 + ... + 100 = 5050",
    ]


def test_nested_frames() -> None:
    assert run_example("nested_frames.py") == [
        "the cube root of 2 is 1.259921",
        "the cube root of 27 is 3.000000",
        "the cube root of 1000 is 10.000000",
    ]


def test_collatz() -> None:
    assert run_example("collatz.py", 3000) == [
        "   871 takes 178 steps",
        "  1161 takes 181 steps",
        "  2919 takes 216 steps",
    ]
    assert run_example("collatz.py")[-1] == "  9257 takes 259 steps"


def test_parallel_map() -> None:
    assert run_example("parallel_map.py") == ["17647 takes 278 steps, more than any other start below 20000"]


def test_shared_data(tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_text("Tea for two\nand two for tea\n", encoding="utf-8")
    assert run_example("shared_data.py", file, "tea", "and", "coffee") == [
        "and: lines 2",
        "coffee: nowhere",
        "tea: lines 1 2",
        "times the index was loaded: 1",
    ]


def test_shared_data_without_arguments() -> None:
    assert run_example("shared_data.py")[-1] == "times the index was loaded: 1"


def test_sweep_pi(tmp_path: Path) -> None:
    needs("scipy", "pandas")
    table, plot = tmp_path / "pi.csv", tmp_path / "pi.png"
    printed = run_example("sweep_pi.py", table, plot)
    assert printed[0].split() == ["id", "trials", "darts", "pi", "pi_dev", "pi_err"]
    rows = [[float(word) for word in line.split()] for line in printed[1:]]
    assert [row[2] for row in rows] == [100, 300, 1000, 3000, 10_000]
    assert all(abs(row[3] - math.pi) < 0.04 for row in rows)
    assert all(row[5] <= 0.02 for row in rows)
    assert table.read_text(encoding="utf-8").startswith("id,trials,darts,pi,pi_dev,pi_err\n")
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_sweep_sklearn(tmp_path: Path) -> None:
    needs("scipy", "pandas", "sklearn")
    plot = tmp_path / "digits.png"
    printed = run_example("sweep_sklearn.py", plot)
    assert len(printed) == 1 + 12 + 1
    assert printed[-1].startswith("the best: C = ")
    assert plot.read_bytes().startswith(b"\x89PNG")


def parts_in(page: Path) -> list[str]:
    """The text of a page and of its pictures, cut at the pictures' contents; each of these has to be a PNG."""
    texts = page.read_text(encoding="utf-8").split('src="data:image/png;base64,')
    pictures = [base64.b64decode(text.partition('"')[0]) for text in texts[1:]]
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)
    return texts


def test_build_report_makes_a_page_of_all_tables_and_then_has_nothing_to_do(tmp_path: Path) -> None:
    needs("matplotlib")
    page = tmp_path / "report.html"
    assert run_example("build_report.py", tmp_path) == []
    assert len(parts_in(page)) == 1 + 4
    assert page.read_text(encoding="utf-8").count("11 points, means 9.00 and 7.50, line y = 3.00 + 0.50 x") == 4
    made = {path: path.stat() for path in tmp_path.rglob("*") if path.is_file() and ".build" not in path.parts}
    assert run_example("build_report.py", tmp_path) == []
    assert {path: path.stat().st_mtime_ns for path in made} == {path: of.st_mtime_ns for path, of in made.items()}


def test_build_report_makes_the_branch_of_a_new_table_only(tmp_path: Path) -> None:
    needs("matplotlib")
    run_example("build_report.py", tmp_path)
    (tmp_path / "raw" / "more.csv").write_text("x,y\n1,2\n3,4\n", encoding="utf-8")
    before = (tmp_path / "plots" / "anscombe1.png").stat()
    run_example("build_report.py", tmp_path)
    assert "<b>more</b>: 2 points, means 2.00 and 3.00, line y = 1.00 + 1.00 x" in parts_in(tmp_path / "report.html")[5]
    assert (tmp_path / "plots" / "anscombe1.png").stat().st_mtime_ns == before.st_mtime_ns


def test_a_pipeline_measures_and_draws_a_recording_and_then_has_nothing_to_do(tmp_path: Path) -> None:
    assert run_example("pipeline/podcast.py", tmp_path)[0] == "made 3, kept 0"
    chart = tmp_path / "storage" / "talk" / "public" / "loudness.svg"
    assert run_example("pipeline/podcast.py", tmp_path) == ["made 0, kept 3", str(chart)]
    levels = json.loads(chart.with_suffix(".json").read_text(encoding="utf-8"))["levels"]
    peaks = [n for n in range(1, len(levels) - 1) if levels[n - 1] < levels[n] >= levels[n + 1]]
    assert (len(levels), len(peaks)) == (20, 3)
    assert chart.read_text(encoding="utf-8").count("<rect") == 20
    assert not (tmp_path / "storage" / "talk" / "temp").exists()


def stop_when_there_is(file: Path, command: list[str]) -> int:
    """Runs a command on one CPU, asks it to end as soon as the file is there, and gives its exit code."""
    cpu = min(os.sched_getaffinity(0))
    with subprocess.Popen(command, preexec_fn=lambda: os.sched_setaffinity(0, {cpu})) as process:
        try:
            deadline = time.monotonic() + DEADLINE_S
            while not file.exists() and process.poll() is None and time.monotonic() < deadline:
                time.sleep(1e-3)
            process.send_signal(signal.SIGTERM)
            return process.wait(DEADLINE_S)
        finally:
            process.kill()


def test_random_walks_go_on_where_they_were_stopped(tmp_path: Path) -> None:
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    assert stop_when_there_is(stopped, command_of("random_walks.py", stopped, 300)) == 75
    printed = run_example("random_walks.py", stopped, 300)
    assert printed[0].startswith("300 walks of 1000000 steps: ")
    assert printed == run_example("random_walks.py", whole, 300)
    assert run_example("random_walks.py", whole, 300) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stopped.done", "whole.done"]


def test_every_example_is_tested() -> None:
    tests = Path(__file__).read_text(encoding="utf-8")
    names = {str(path.relative_to(EXAMPLES)) for path in (*EXAMPLES.glob("*.py"), *EXAMPLES.glob("pipeline/*.py"))}
    assert not {name for name in names if f'run_example("{name}"' not in tests}
