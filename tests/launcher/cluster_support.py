"""A cluster in one machine: hosts with their own name, network, processes, /tmp and /dev/shm, that ssh to each other.

Each host is a set of Linux namespaces with an sshd as its first process; a further one holds the switch between them.
Nothing of it has a name outside: with the processes everything is gone, links and mounts included, and the processes
die with the tests. The hosts share what a cluster's hosts usually share: programs, and the test's folder.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType

from support import DEADLINE_S, REPOSITORY, children, wait_until

TOOLS = ("unshare", "nsenter", "ip", "mount", "hostname", "ssh", "ssh-keygen", "sshd")
NAMESPACES = ("--net", "--uts", "--ipc", "--pid", "--mount")
PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
PR_SET_PDEATHSIG = 1

HOST = """
set -eu
name=$1 folder=$2
shift 2
mount -t proc proc /proc
hostname "$name"
mount -t tmpfs tmpfs /run
mkdir -m 755 /run/sshd
mount -t tmpfs tmpfs /dev/shm
mkdir "$folder/$name"
mount -t tmpfs -o mode=1777 tmpfs "$folder/$name"
for shared in "$@"; do
    mkdir -p "$folder/$name/${shared#/tmp/}"
    mount --rbind "$shared" "$folder/$name/${shared#/tmp/}"
done
mount --rbind "$folder/$name" /tmp
mount --bind "$folder/hosts" /etc/hosts
mount --bind "$folder/ssh_config" /etc/ssh/ssh_config
exec "$SSHD" -D -E "$folder/$name.log" -f "$folder/sshd_config" -o PidFile="$folder/$name.up"
"""

SWITCH = "ip link add switch type bridge && ip link set switch up && exec sleep infinity"

SSHD_CONFIG = """
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
StrictModes no
UsePAM no
PermitRootLogin yes
MaxStartups 100
UseDNS no
"""

SSH_CONFIG = """
IdentityFile {folder}/user_key
UserKnownHostsFile {folder}/known_hosts
BatchMode yes
LogLevel ERROR
"""


def missing() -> str | None:
    """Why there can be no such cluster here; None: there can."""
    absent = [tool for tool in TOOLS if shutil.which(tool, path=PATH) is None]
    if os.geteuid() != 0:
        return "namespaces with a network of their own need root"
    if absent:
        return f"not installed: {', '.join(absent)}"
    return _refusal()


@functools.cache
def _refusal() -> str | None:
    """What the system says when it doesn't let even root make namespaces, as in many containers."""
    attempt = "mount -t proc proc /proc && ip link add switch type bridge && ip link add up0 type veth peer name up1"
    tried = subprocess.run(_unshare(attempt), capture_output=True, text=True, env=_environment(), timeout=DEADLINE_S)
    return f"no namespaces: {tried.stderr.strip()}" if tried.returncode else None


class Host:
    """One host; ``pid`` is its first process."""

    def __init__(self, name: str, address: str, script: str, *arguments: object) -> None:
        self.name = name
        self.address = address
        self._holder = subprocess.Popen(
            _unshare(script, *arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=_environment(),
            preexec_fn=_die_with_parent,
        )
        (self.pid,) = wait_until(lambda: children(self._holder.pid), f"{name} to start")

    def command(self, *words: object) -> list[str]:
        """What runs a program on this host."""
        return ["nsenter", "--target", str(self.pid), *NAMESPACES, "--", *map(str, words)]

    def run(self, *words: object) -> str:
        """Runs a program on this host to its end; what it wrote."""
        done = subprocess.run(
            self.command(*words), capture_output=True, text=True, env=_environment(), timeout=DEADLINE_S
        )
        assert done.returncode == 0, f"{words} on {self.name}: {done.stderr}"
        return done.stdout

    def network(self, *lines: str) -> None:
        """Changes this host's network: lines as ``ip`` takes them."""
        enter = ["nsenter", "--target", str(self.pid), "--net", "--", "ip", "-batch", "-"]
        subprocess.run(enter, input="\n".join(lines), text=True, check=True, env=_environment(), timeout=DEADLINE_S)

    def received_bytes(self) -> int:
        """What has come from other hosts since this one started."""
        lines = Path("/proc", str(self.pid), "net", "dev").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.split()[0] == "eth0:")

    def processes(self) -> set[int]:
        """All that runs on this host, but for its first process."""
        own = _namespace(self.pid)
        return {int(pid) for pid in os.listdir("/proc") if pid.isdigit() and _namespace(pid) == own} - {self.pid}

    def commands(self) -> list[str]:
        """The command lines of these, without those of sshd, which lets a connection linger."""
        lines = [_command_line(pid) for pid in self.processes()]
        return [line for line in lines if line and not line.startswith("sshd")]

    def stop(self) -> None:
        """Ends all that runs on this host, and with it the host."""
        self._holder.send_signal(signal.SIGKILL)
        self._holder.wait(DEADLINE_S)


class Hosts:
    """Some hosts at one switch. As a context, they and all that runs on them end on the way out.

    Args:
        folder: an empty one, for keys and settings.
        names: of the hosts.
        shared: more folders that the hosts have in common.
    """

    def __init__(self, folder: Path, names: Sequence[str], shared: Iterable[Path] = ()) -> None:
        self._folder = folder
        self._names = names
        self._shared = _within_tmp([folder, REPOSITORY, Path(sys.prefix), Path(sys.base_prefix), *shared])
        self._ending = ExitStack()
        self._hosts: dict[str, Host] = {}

    def __enter__(self) -> Hosts:
        with self._ending:
            self._write_settings()
            self._switch = self._started(Host("switch", "", SWITCH))
            for name in self._names:
                self._hosts[name] = self._started(
                    Host(name, self._address(name), HOST, name, self._folder, *self._shared)
                )
            for host in self._hosts.values():
                self._connect(host)
            for name in self._names:
                wait_until((self._folder / f"{name}.up").exists, f"the sshd of {name}")
            self._ending = self._ending.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self._ending.close()

    def __getitem__(self, name: str) -> Host:
        return self._hosts[name]

    def cut_off(self, name: str) -> None:
        """Pulls the plug of a host's network: what is sent to it or by it is lost, and nobody is told."""
        self._switch.network(f"link set {name} down")

    def crash(self, name: str) -> None:
        """Kills all that runs on a host at once; its kernel goes on and closes the connections."""
        for pid in self._hosts[name].processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _started(self, host: Host) -> Host:
        self._ending.callback(host.stop)
        return host

    def _address(self, name: str) -> str:
        return f"10.111.0.{self._names.index(name) + 1}"

    def _connect(self, host: Host) -> None:
        wire = f"link add {host.name} type veth peer name eth0 netns {host.pid}"
        self._switch.network(wire, f"link set {host.name} master switch up")
        host.network("link set lo up", f"address add {host.address}/24 dev eth0", "link set eth0 up")

    def _write_settings(self) -> None:
        folder = self._folder
        for name in ("host_key", "user_key"):
            make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name]
            subprocess.run(make, check=True, stdin=subprocess.DEVNULL, timeout=DEADLINE_S)
        addresses = [f"{self._address(name)} {name}" for name in self._names]
        (folder / "hosts").write_text("\n".join(["127.0.0.1 localhost", *addresses, ""]))
        public = (folder / "host_key.pub").read_text()
        (folder / "known_hosts").write_text(f"{','.join(self._names)},10.111.0.* {public}")
        (folder / "sshd_config").write_text(SSHD_CONFIG.format(folder=folder))
        (folder / "ssh_config").write_text(SSH_CONFIG.format(folder=folder))


def _namespace(pid: int | str) -> str | None:
    """Names the host on which a process runs."""
    with suppress(OSError):
        return os.readlink(f"/proc/{pid}/ns/pid")
    return None


def _command_line(pid: int) -> str:
    with suppress(OSError):
        return Path("/proc", str(pid), "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def _within_tmp(folders: Iterable[Path]) -> list[Path]:
    """Those that a private /tmp would hide, but for those inside another."""
    found = {folder.resolve() for folder in folders if folder.resolve().is_relative_to("/tmp")}
    return [folder for folder in sorted(found) if not found & set(folder.parents)]


def _unshare(script: str, *arguments: object) -> list[str]:
    return ["unshare", *NAMESPACES, "--fork", "--kill-child", "sh", "-c", script, "sh", *map(str, arguments)]


def _environment() -> dict[str, str]:
    return {**os.environ, "PATH": PATH, "SSHD": str(shutil.which("sshd", path=PATH))}


def _die_with_parent() -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
