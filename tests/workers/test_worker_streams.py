"""Standard input and output of workers: nothing of the script's input is taken, and what is printed comes whole."""

import contextlib
import io
import logging
import multiprocessing
import os
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from pathlib import Path

import pytest
from support import DEADLINE_S, QUIET, REPOSITORY, die, wait_until

import job_stream
from job_stream import Work

LINES = 20
WIDTH = 9000
"""More than what a pipe takes in one piece."""


def run_script(tmp_path, source, shell='"$@"', **keywords):
    """Runs a script under a shell command that may close or redirect its streams."""
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(source))
    return subprocess.run(
        ["sh", "-c", shell, "sh", sys.executable, str(path)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        env={**os.environ, **QUIET, "PYTHONPATH": str(REPOSITORY)},
        **keywords,
    )


# --- input --------------------------------------------------------------------------------------------------------
def test_programs_that_jobs_start_take_nothing_of_the_scripts_input(tmp_path):
    ended = run_script(
        tmp_path,
        """
        import subprocess, sys, job_stream

        def convert(line):
            got = subprocess.run(["cat"], stdout=subprocess.PIPE, text=True, check=True).stdout if "99" in line else ""
            return line.strip() + got

        print(sorted(job_stream.map(convert, sys.stdin, cpus=2)) == sorted(map(str, range(3000))))
        """,
        input="".join(f"{number}\n" for number in range(3000)),
    )
    assert (ended.stdout, ended.stderr) == ("True\n", "")


def test_jobs_have_no_input_whatever_the_script_has_read_already(tmp_path):
    ended = run_script(
        tmp_path,
        """
        import os, sys, job_stream

        def read(number):
            got = [sys.stdin.read(), sys.__stdin__.read(), os.read(0, 10)]
            try:
                return [*got, input()]
            except EOFError:
                return [*got, "end"]

        print(sys.stdin.readline(), job_stream.map(read, [1]), sys.stdin.read())
        """,
        input="first\nsecond\n",
    )
    assert ended.stdout == "first\n [['', '', b'', 'end']] second\n\n"


def test_a_script_without_input_can_run(tmp_path):
    source = """
        import sys, job_stream

        print(sys.stdin, job_stream.map(lambda number: sys.stdin.read(), [1]))
        """
    assert run_script(tmp_path, source, '"$@" <&-').stdout == "None ['']\n"


# --- streams that are none ----------------------------------------------------------------------------------------
class WriteOnly:
    """What consoles and redirectors are like."""

    def __init__(self):
        self.texts = []

    def write(self, text):
        self.texts.append(text)


class Slotted:
    __slots__ = ("texts",)

    def __init__(self):
        self.texts = []

    def write(self, text):
        self.texts.append(text)
        return len(text)


class Broken:
    def write(self, text):
        raise RuntimeError("the console is gone")

    flush = None


def closed():
    with open(os.devnull, "w") as stream:
        return stream


every_stream = pytest.mark.parametrize("make", [lambda: None, closed, WriteOnly, Slotted, Broken, object])


@every_stream
@pytest.mark.parametrize("name", ["stdout", "stderr", "stdin"])
@pytest.mark.parametrize("processes", [True, False])
def test_a_stream_runs_whatever_the_standard_streams_are(make, name, processes, monkeypatch):
    monkeypatch.setattr(sys, name, make())
    assert job_stream.map(abs, [-1, -2], cpus=2, useMultiprocessing=processes) == [1, 2]


def test_descriptors_that_are_closed_are_not_taken_by_files_of_ours(tmp_path):
    source = """
        import os, sys, job_stream

        def write(number):
            for fd in (1, 2):
                os.write(fd, b"what a library writes")
            os.system("echo what a program writes; echo error >&2")
            return number

        with open(sys.argv[0] + ".out", "w") as file:
            print(job_stream.map(write, range(20), cpus=2) == list(range(20)), file=file)
        """
    assert run_script(tmp_path, source, '"$@" <&- >&- 2>&-').returncode == 0
    assert (tmp_path / "script.py.out").read_text() == "True\n"


# --- whole lines --------------------------------------------------------------------------------------------------
def print_lines(number):
    """Lines of many parts from two threads at once, to both streams."""

    def lines(letter):
        for _ in range(LINES):
            print(*[letter * 3] * (WIDTH // 4), sep="-")
            print(*[letter * 3] * (WIDTH // 4), sep="-", file=sys.stderr)

    threads = [threading.Thread(target=lines, args=(f"{number}{letter}",)) for letter in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def print_lines_of_one_thread(number):
    for _ in range(LINES):
        print(*[f"{number}c" * 3] * (WIDTH // 4), sep="-")
        print(*[f"{number}c" * 3] * (WIDTH // 4), sep="-", file=sys.stderr)


def line_of(letters):
    return "-".join([letters * 3] * (WIDTH // 4))


OF_PROCESSES = Counter({line_of(f"{number}{letter}"): 2 * LINES for number in range(4) for letter in "ab"})
OF_THREADS = Counter({line_of(f"{number}c"): 2 * LINES for number in range(4)})

PRINTS = """
    import sys, threading, job_stream
    from test_worker_streams import print_lines, print_lines_of_one_thread

    sys.setswitchinterval(1e-5)
    job_stream.map(print_lines if sys.argv[1] == "processes" else print_lines_of_one_thread, range(4), cpus=4,
                   useMultiprocessing=sys.argv[1] == "processes")
    """


@pytest.mark.parametrize("target", ['"$@" {0} 2>&1 | cat', '"$@" {0} >file 2>&1; cat file'])
@pytest.mark.parametrize("kind", ["processes", "threads"])
def test_lines_of_workers_do_not_mix(kind, target, tmp_path):
    path = f"{Path(__file__).parent}:{REPOSITORY / 'tests'}:{REPOSITORY}"
    ended = run_script(tmp_path, PRINTS, f"PYTHONPATH={path}; {target.format(kind)}", cwd=tmp_path)
    assert Counter(ended.stdout.splitlines()) == (OF_PROCESSES if kind == "processes" else OF_THREADS)


@pytest.mark.parametrize("kind", ["processes", "threads"])
@pytest.mark.parametrize("make", [io.StringIO, WriteOnly, Slotted])
def test_what_workers_print_comes_to_a_stream_that_only_the_script_has(kind, make):
    out, err = make(), make()
    printing = print_lines if kind == "processes" else print_lines_of_one_thread
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        job_stream.map(printing, range(4), cpus=4, useMultiprocessing=kind == "processes")
    if make is Slotted and kind == "threads":
        return  # it takes no other methods, so its lines are what Python makes of them
    text = "".join((*out.texts, *err.texts)) if make is not io.StringIO else out.getvalue() + err.getvalue()
    assert Counter(text.splitlines()) == (OF_PROCESSES if kind == "processes" else OF_THREADS)


@pytest.mark.parametrize("processes", [True, False])
def test_text_without_an_end_of_line_arrives_when_it_is_flushed_and_at_the_end(processes, gate):
    w = Work([1], useMultiprocessing=processes)
    out = io.StringIO()

    @w.job
    def write(number):
        print("now", end="", flush=True)
        gate.wait()
        print(" later", end="")

    thread = threading.Thread(target=lambda: [wait_until(lambda: out.getvalue() == "now", "the text"), gate.open()])
    thread.start()
    with contextlib.redirect_stdout(out):
        w.run()
    thread.join()
    assert out.getvalue() == "now later"


def test_what_a_worker_has_printed_before_it_died_is_there(capfd, once):
    def print_and_die(number):
        if once():
            print("a line")
            sys.stdout.buffer.write(b"bytes\n")
            die()

    job_stream.map(print_and_die, [1], cpus=1)
    assert capfd.readouterr().out == "a line\nbytes\n"


def test_a_stream_that_was_kept_is_that_of_the_worker():
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    logger = logging.getLogger("job_stream.test")
    with contextlib.redirect_stdout(out):
        logger.addHandler(handler)
        job_stream.map(lambda number: logger.warning("logged"), [1], cpus=1)
        logger.removeHandler(handler)
        kept = sys.stdout
        job_stream.map(lambda number: print("kept", file=kept), [1], cpus=1)
    assert out.getvalue() == "logged\nkept\n"


def test_a_process_that_a_job_starts_prints_as_the_job(capfd):
    def start(number):
        process = multiprocessing.get_context("fork").Process(target=print, args=("child",))
        process.start()
        process.join()
        print("job")

    job_stream.map(start, [1], cpus=1)
    assert capfd.readouterr().out == "child\njob\n"


def test_a_script_has_its_streams_back_after_a_run_in_threads():
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        job_stream.map(print, [1], useMultiprocessing=False)
        assert "write" not in vars(out)
        print("own", end="")
    assert out.getvalue() == "1\nown"
