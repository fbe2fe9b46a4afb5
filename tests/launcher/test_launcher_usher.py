"""What stands at each rank: starts the program, passes on how it ends, and trusts nobody but the launcher."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest
from launcher_support import script
from mpi_support import clean_environment
from support import DEADLINE_S, Gate, Tally, wait_until

from job_stream.launcher.command import USHER
from job_stream.launcher.usher import JOINED, OVER, Ear, dies_with


def usher(folder, text, *, cpus="-", launcher="", **keywords):
    """An usher whose program is a script."""
    return subprocess.Popen(
        [sys.executable, "-IS", str(USHER), cpus, sys.executable, str(script(folder, text))],
        env=clean_environment({"JOBS_LAUNCHER": launcher}), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        **keywords,
    )  # fmt: skip


def ended(process):
    out, err = process.communicate(timeout=DEADLINE_S)
    return process.returncode, out, err


class Launcher:
    """Listens as the launcher does; answers with what the test says, and keeps what it hears."""

    def __init__(self, answer=b"welcome\n", *, notes=True):
        self._notes = notes
        self._server = socket.create_server(("127.0.0.1", 0))
        self._answer = answer
        self.heard = b""
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        self.where = f"{self._server.getsockname()[1]} token 127.0.0.1"

    def _listen(self):
        self.link, _ = self._server.accept()
        with self.link, contextlib.suppress(ConnectionError):
            self.heard = self.link.recv(4096)
            self.link.sendall(self._answer)
            while more := self.link.recv(4096):
                self.heard += more
                if self._notes and b"\nend " in self.heard and more.endswith(b"\n"):
                    self.link.sendall(b"noted\n")

    def lines(self):
        self._thread.join(DEADLINE_S)
        self._server.close()
        return self.heard.decode().splitlines()


@pytest.mark.parametrize("code", [0, 1, 75, 255])
def test_exit_codes_are_passed_on_and_told(tmp_path, code):
    launcher = Launcher()
    process = usher(tmp_path, f"sys.exit({code})", launcher=launcher.where)
    assert ended(process) == (code, "", "")
    hello, end = launcher.lines()
    assert hello == f"hello token 0 {socket.gethostname()} {process.pid}"
    assert end == f"end {code}"


def test_it_ends_when_its_end_has_been_noted(tmp_path):
    launcher = Launcher(notes=False)
    process = usher(tmp_path, "sys.exit(3)", launcher=launcher.where)
    wait_until(lambda: launcher.heard.endswith(b"end 3\n"), "the end to be told")
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    launcher.link.sendall(b"noted\n")
    assert ended(process)[0] == 3
    assert launcher.lines()[-1] == "end 3"


def test_it_ends_when_the_launcher_is_gone_before_it_has_noted(tmp_path):
    launcher = Launcher(notes=False)
    process = usher(tmp_path, "sys.exit(3)", launcher=launcher.where)
    wait_until(lambda: launcher.heard.endswith(b"end 3\n"), "the end to be told")
    launcher.link.shutdown(socket.SHUT_RDWR)
    assert ended(process)[0] == 3
    launcher.lines()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_it_ends_by_the_signal_that_ended_the_program(tmp_path, number):
    launcher = Launcher()
    process = usher(tmp_path, f"os.kill(os.getpid(), {int(number)})", launcher=launcher.where)
    assert ended(process)[0] == -number
    assert launcher.lines()[-1] == f"end {-number}"


def test_lanes_are_told_to_the_program_and_the_launcher_is_not(tmp_path):
    text = "print(os.environ['JOBS_CPUS'], 'JOBS_LAUNCHER' in os.environ)"
    launcher = Launcher()
    assert ended(usher(tmp_path, text, cpus="5", launcher=launcher.where)) == (0, "5 False\n", "")
    launcher.lines()


def test_descriptors_stay_open_for_mpi(tmp_path):
    reader, writer = os.pipe()
    process = usher(tmp_path, f"os.write({writer}, b'PMI')", pass_fds=(writer,))
    assert ended(process)[0] == 0
    os.close(writer)
    assert os.read(reader, 9) == b"PMI"
    os.close(reader)


@pytest.mark.parametrize(("name", "code"), [("no-such-program", 127), ("/", 126)])
def test_a_program_that_cannot_be_started_is_told(name, code):
    launcher = Launcher()
    command = [sys.executable, "-IS", str(USHER), "-", name]
    done = subprocess.run(command, capture_output=True, text=True, env={"JOBS_LAUNCHER": launcher.where}, check=False)
    assert done.returncode == code
    assert f"cannot start {name!r}" in done.stderr
    assert launcher.lines()[-1] == f"end {code}"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP])
def test_signals_are_passed_on(tmp_path, number):
    text = f"""
    signal.signal({int(number)}, lambda number, frame: sys.exit(9))
    Gate(here / "up").open()
    time.sleep(1e6)
    """
    process = usher(tmp_path, text)
    Gate(tmp_path / "up").wait()
    process.send_signal(number)
    assert ended(process)[0] == 9


def test_ctrl_c_is_left_to_the_terminal(tmp_path):
    text = """
    signal.signal(signal.SIGINT, lambda number, frame: Tally(here / "keys").note("again"))
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(9))
    Gate(here / "up").open()
    while True:
        time.sleep(1e6)
    """
    process = usher(tmp_path, text)
    Gate(tmp_path / "up").wait()
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 9
    assert not Tally(tmp_path / "keys").lines()


def test_the_program_ends_with_the_launcher(tmp_path):
    launcher = Launcher()
    process = usher(tmp_path, "Gate(here / 'up').open(); time.sleep(1e6)", launcher=launcher.where)
    Gate(tmp_path / "up").wait()
    launcher.link.shutdown(socket.SHUT_RDWR)
    assert ended(process)[0] == -signal.SIGKILL
    launcher.lines()


def test_the_program_ends_with_the_usher(tmp_path):
    process = usher(tmp_path, "Gate(here / 'up').open(); time.sleep(1e6)")
    Gate(tmp_path / "up").wait()
    process.kill()
    assert ended(process)[0] == -signal.SIGKILL  # and the pipes are closed, so the program is gone


def test_that_the_program_has_joined_the_others_is_told_before_its_end(tmp_path):
    launcher = Launcher()
    text = "from job_stream.ranks.world import _tell_usher; _tell_usher(); sys.exit(3)"
    assert ended(usher(tmp_path, text, launcher=launcher.where))[0] == 3
    assert launcher.lines()[1:] == ["joined", "end 3"]


def test_a_program_whose_launcher_cannot_be_reached_runs_all_the_same(tmp_path):
    code, out, err = ended(usher(tmp_path, "print('done')", launcher="9 token no-such-host.invalid"))
    assert (code, out) == (0, "done\n")
    assert "cannot reach the launcher at port 9 of no-such-host.invalid; going on without" in err


def test_a_program_whose_launcher_has_died_does_not_begin(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    code, out, err = ended(usher(tmp_path, "print('done')", launcher=f"{port} token 127.0.0.1"))
    assert (code, out) == (1, "")
    assert "the launcher of rank 0 has died" in err


def test_a_program_whose_launcher_dies_before_it_has_answered_does_not_begin(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        process = usher(tmp_path, "print('done')", launcher=f"{server.getsockname()[1]} token 127.0.0.1")
        link, _ = server.accept()
    link.close()
    code, out, err = ended(process)
    assert (code, out) == (1, "")
    assert "the launcher of rank 0 has died" in err


def test_a_child_whose_parent_died_before_it_could_ask_to_die_with_it_ends():
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run(["true"], preexec_fn=dies_with(os.getppid()), check=True)


def test_a_stranger_is_no_launcher(tmp_path):
    stranger = Launcher(answer=b"220 mail ready")
    code, out, err = ended(usher(tmp_path, "print('done')", launcher=stranger.where))
    assert (code, out) == (0, "done\n")
    assert "cannot reach the launcher" in err
    assert len(stranger.lines()) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
@pytest.mark.parametrize("word", [JOINED, OVER, b""])
def test_words_of_other_users_are_not_listened_to(monkeypatch, word):
    monkeypatch.setenv("JOBS_USHER", "")
    launcher, link = socket.socketpair()
    launcher.settimeout(DEADLINE_S)
    with launcher, link, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as program:
        ear = Ear(link)
        name = "\0" + os.environ["JOBS_USHER"]
        send = f"""
import os, socket
os.setgid(65534)
os.setuid(65534)
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto({word!r}, {name!r})
"""
        subprocess.run([sys.executable, "-c", send], check=True)
        program.sendto(JOINED, name)
        assert launcher.recv(99) == b"joined\n"
        ear.close()
        link.shutdown(socket.SHUT_WR)
        assert launcher.recv(99) == b""
