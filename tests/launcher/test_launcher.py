"""The command line: what it takes for a program, what it refuses, settings, progress, and what it would start."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

import pytest
from launcher_support import fake_program, needs_mpirun, needs_open_mpi, run, script
from mpi_support import clean_environment, find_mpirun
from support import DEADLINE_S, REPOSITORY, Ended

import job_stream

OPEN_MPI_4 = "mpirun (Open MPI) 4.1.4"
OPEN_MPI_5 = "mpirun (Open MPI) 5.0.11"
MPICH_5 = "HYDRA build details:\n    Version:                                 5.0.2"
SRUN = "slurm 23.11.4"


# --- what is a program --------------------------------------------------------------------------------------------
def test_the_version_is_told(tmp_path):
    assert run(tmp_path, "--version").out == f"job_stream, version {job_stream.__version__}\n"


def test_help_has_examples_and_all_commands(tmp_path):
    ended = run(tmp_path, "--help")
    assert ended.code == 0
    for word in ("job_stream -n 2 -- python script.py", "config", "doctor", "git-results-progress", "--restarts"):
        assert word in ended.out
    assert "run-program" not in ended.out


def test_the_module_is_the_command(tmp_path):
    answer = subprocess.run(
        [sys.executable, "-m", "job_stream", "--version"],
        capture_output=True, text=True, check=True, env=clean_environment(), cwd=tmp_path,
    )  # fmt: skip
    assert answer.stdout == run(tmp_path, "--version").out


def test_without_words_help_is_shown(tmp_path):
    ended = run(tmp_path)
    assert ended.code == 2
    assert "Usage:" in ended.err


def test_options_without_a_program_are_refused(tmp_path):
    ended = run(tmp_path, "-n", "2")
    assert ended.code == 2
    assert "no program to start" in ended.err


def test_words_of_the_program_are_its_own(tmp_path):
    path = script(tmp_path, "print(sys.argv[1:])")
    words = ["--help", "-n", "a b", "$HOME", "", "--", "cpus=3", "*"]
    assert run(tmp_path, sys.executable, path, *words).out == f"{words}\n"


@pytest.mark.parametrize("words", [["--"], ["--checkpoint", "x", "--"]])
def test_what_stands_behind_two_dashes_is_a_program_whatever_its_name(tmp_path, words):
    program = fake_program(tmp_path / "bin", "config", "I am a program")
    ended = run(tmp_path, *words, "config", env={"PATH": f"{program.parent}:{os.environ['PATH']}"})
    assert ended == (0, "I am a program\n", "")


def test_a_program_that_is_not_there_is_told_about_as_shells_do(tmp_path):
    ended = run(tmp_path, "-n", "1", "docter")
    assert ended.code == 127
    assert "there is no program 'docter'; did you mean the command 'doctor'?" in ended.err


def test_a_script_that_is_not_executable_is_told_how_to_start(tmp_path):
    path = script(tmp_path, "")
    ended = run(tmp_path, path)
    assert ended.code == 127
    assert f"job_stream -- python {path}" in ended.err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--hosts", "a", "--", "x"], "No such option"),
        (["-n", "0", "--", "x"], "0 is not in the range"),
        (["-n", "2", "--host", "a", "--", "x"], "leave -n out"),
        (["--host", "a", "--hostfile", "b", "--", "x"], "give one of them"),
        (["--restarts", "2", "--", "x"], "--restarts needs a checkpoint"),
        (["--time-limit", "9", "--", "x"], "--time-limit needs a checkpoint to stop with"),
        (["--restarts", "-1", "--checkpoint", "c", "--", "x"], "-1 is not in the range"),
        (["--time-limit", "soon", "--", "x"], "neither a number of seconds nor HH:MM:SS"),
        (["--time-limit", "02:00", "--", "x"], "neither a number of seconds nor HH:MM:SS"),
        (["--time-limit", "0", "--", "x"], "is not above 0"),
        (["--time-limit", "9" * 5000, "--", "x"], "is not above 0, or longer than anything"),
        (["--time-limit", "9" * 5000 + ":00:00", "--", "x"], "is not above 0, or longer than anything"),
        (["--time-limit", "1:75:00", "--", "x"], "neither a number of seconds nor HH:MM:SS"),
        (["--checkpoint", "", "--", "x"], "--checkpoint needs the name of a file"),
        (["-n", "2", "config"], "config takes no such options"),
        (["--restarts", "1", "--checkpoint", "x", "doctor"], "doctor takes no such options"),
        (["-c", "--checkpoint", "x", "--", "x"], "give one of them"),
        (["git-results-progress"], "needs --checkpoint PATH, or -c, before it"),
        (["-n", "2", "--checkpoint", "x", "git-results-progress"], "git-results-progress takes no such options"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path, words, complaint):
    ended = run(tmp_path, *words)
    assert ended.code == 2
    assert complaint in ended.err


# --- settings -----------------------------------------------------------------------------------------------------
def test_settings_are_set_listed_and_unset(tmp_path):
    (tmp_path / "hosts").write_text("localhost\n")
    assert run(tmp_path, "config").out == "hostfile=\n"
    assert run(tmp_path, "config", "hostfile=hosts") == (0, "", "")
    assert run(tmp_path, "config").out == f"hostfile={tmp_path / 'hosts'}\n"
    assert (tmp_path / "config/job_stream/config.toml").read_text() == f'hostfile = "{tmp_path / "hosts"}"\n'
    assert run(tmp_path, "config", "hostfile=") == (0, "", "")
    assert run(tmp_path, "config").out == "hostfile=\n"


def test_a_hostfile_may_come_after_the_setting_that_names_it(tmp_path):
    assert run(tmp_path, "config", "hostfile=later") == (0, "", "")
    assert run(tmp_path, "config").out == f"hostfile={tmp_path / 'later'}\n"
    ended = run(tmp_path, "--dry-run", "--", "prog")
    assert ended.code == 2
    assert f"hostfile {tmp_path / 'later'}: cannot be read: No such file or directory; the settings name" in ended.err


AS_NOBODY = """
import os, sys
import job_stream.launcher.cli, platformdirs.unix
os.setgroups([])
os.setgid(54321)
os.setuid(54321)
job_stream.launcher.cli.main()
"""


def as_nobody(tmp_path, *words, home=None):
    """The command as a user who has no entry in the list of users."""
    env = {name: value for name, value in clean_environment().items() if name not in ("HOME", "XDG_CONFIG_HOME")}
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, *words], capture_output=True, text=True, cwd=tmp_path, timeout=DEADLINE_S,
        env={**env, **({} if home is None else {"HOME": home})},
    )  # fmt: skip
    return Ended(done.returncode, done.stdout, done.stderr)


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@as_root
def test_a_user_without_home_and_without_an_entry_can_run_programs(tmp_path):
    assert as_nobody(tmp_path, "--", "/bin/echo", "runs") == (0, "runs\n", "")
    assert as_nobody(tmp_path, "config") == (0, "hostfile=\n", "")
    ended = as_nobody(tmp_path, "config", "hostfile=/hosts")
    assert ended.code == 2
    assert "this user has no home folder, and so no settings: let HOME name one" in ended.err


@as_root
@pytest.mark.parametrize("home", ["/dev/null", "/root", "/nowhere"])
def test_a_home_that_cannot_be_entered_holds_no_settings(tmp_path, home):
    assert as_nobody(tmp_path, "--", "/bin/echo", "runs", home=home) == (0, "runs\n", "")
    ended = as_nobody(tmp_path, "config", "hostfile=/hosts", home=home)
    assert ended.code == 2
    assert f"the settings in {home}/.config/job_stream/config.toml cannot be written" in ended.err


@pytest.mark.parametrize(
    ("word", "complaint"),
    [
        ("hostfil=x", "the key 'hostfil' is not known; did you mean 'hostfile'? (known: hostfile)"),
        ("colour=blue", "the key 'colour' is not known (known: hostfile)"),
        ("hostfile", "write KEY=VALUE, or KEY= to unset (known: hostfile)"),
        ("hostfile=.", "is a folder; a hostfile is a file"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path, word, complaint):
    ended = run(tmp_path, "config", word)
    assert ended.code == 2
    assert complaint in ended.err
    assert not (tmp_path / "config").exists()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("hostfile = ", "cannot be read"),
        ("hostfile = 3", "must be a text"),
        ("host = 'a'", "'host' is not known"),
        ("hostfile = " + "9" * 5000, "cannot be read"),
        ("hostfile = " + "[" * 5000, "it is nested too deeply"),
        ("hostfile = 'a\0b'", "cannot be read"),
        ('hostfile = "a\\u0000b"', "must be the path of a file, not"),
    ],
)
def test_a_file_of_settings_that_makes_no_sense_is_named(tmp_path, text, complaint):
    path = tmp_path / "config/job_stream/config.toml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    ended = run(tmp_path, "config")
    assert ended.code == 2
    assert complaint in ended.err
    assert str(path) in ended.err


@needs_mpirun
def test_the_default_hostfile_is_used_where_nothing_else_is_said(tmp_path):
    (tmp_path / "hosts").write_text("node7 cpus=2\n")
    run(tmp_path, "config", "hostfile=hosts")
    assert "node7" in run(tmp_path, "--dry-run", "--", "prog").out
    assert "node7" not in run(tmp_path, "--dry-run", "-n", "2", "--", "prog").out
    assert "node7" not in run(tmp_path, "--dry-run", "--host", "other", "--", "prog").out


def test_a_mistake_in_the_default_hostfile_says_whose_it_is(tmp_path):
    (tmp_path / "hosts").write_text("node7 slots=2\n")
    run(tmp_path, "config", "hostfile=hosts")
    ended = run(tmp_path, "--", "prog")
    assert ended.code == 2
    assert f"hostfile {tmp_path / 'hosts'}, line 1: host 'node7' has the unknown property 'slots'" in ended.err
    assert "'job_stream config hostfile=' unsets it" in ended.err


def test_settings_are_written_where_a_link_leads(tmp_path):
    (tmp_path / "hosts").write_text("node7\n")
    run(tmp_path, "config", "hostfile=hosts")
    path = next(tmp_path.rglob("config.toml"))
    elsewhere = tmp_path / "dotfiles.toml"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    assert run(tmp_path, "config", "hostfile=").code == 0
    assert path.is_symlink()
    assert "hosts" not in elsewhere.read_text()
    assert [entry.name for entry in path.parent.iterdir()] == ["config.toml"]


# --- progress -----------------------------------------------------------------------------------------------------
def progress(tmp_path):
    ended = run(tmp_path, "--checkpoint", "state", "git-results-progress")
    assert ended.code == 0, ended.err
    return ended.out.strip()


def test_progress_is_the_time_of_the_checkpoint(tmp_path):
    assert progress(tmp_path) == "-1"
    (tmp_path / "state").touch()
    os.utime(tmp_path / "state", (1_700_000_000, 1_700_000_000))
    assert float(progress(tmp_path)) == 1_700_000_000


def test_progress_may_be_asked_for_with_what_says_where_to_run(tmp_path):
    for words in (["--host", "a,b", "cpus=2"], ["--hostfile", "nowhere"], []):
        assert run(tmp_path, "--checkpoint", "state", *words, "git-results-progress") == (0, "-1\n", "")


def test_progress_of_a_finished_run_is_the_time_of_its_end(tmp_path):
    for name, second in (("state", 1), ("state.done", 2)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (second, second))
    assert float(progress(tmp_path)) == 2


def test_progress_is_not_told_by_what_somebody_has_put_there(tmp_path):
    for name in ("state", "state.done"):
        (tmp_path / name).symlink_to(tmp_path / "hosts")
        ended = run(tmp_path, "--checkpoint", "state", "git-results-progress")
        assert (ended.code, ended.out) == (2, "")
        assert f"{name} is a symbolic link" in ended.err


# --- what would be started ----------------------------------------------------------------------------------------
def dry(tmp_path, *words, env=None, version=OPEN_MPI_5, name="mpirun"):
    """(variables, command) of a run with an mpirun that says it is of some version."""
    program = fake_program(tmp_path / "bin", name, version)
    extra = {"JOBS_MPIRUN": str(program), "ROSE": "red", **(env or {})}
    ended = run(tmp_path, "--dry-run", *words, "--", "prog", "a b", env=extra)
    assert ended.code == 0, ended.err
    *variables, command = ended.out.splitlines()
    parts = shlex.split(command)
    usher = str(REPOSITORY / "job_stream" / "launcher" / "usher.py")
    return dict(line.split("=", 1) for line in variables), [
        word for word in parts if word not in (str(program), "-IS", usher) and not word.endswith("/python3")
        and word != sys.executable
    ]  # fmt: skip


def test_one_rank_here_needs_no_mpirun(tmp_path):
    said = run(tmp_path, "--dry-run", "--", "prog", "a b", env={"JOBS_MPIRUN": "none"}).out
    assert said == "JOBS_COMMAND_LINE=1\nprog 'a b'\n"


def test_open_mpi_5_does_not_bind_and_lets_ranks_share_cores(tmp_path):
    _, command = dry(tmp_path, "-n", "3")
    assert command == ["--bind-to", "none", "--map-by", ":OVERSUBSCRIBE", "-n", "3", "-", "prog", "a b"]


def test_open_mpi_4_does_not_bind_and_lets_ranks_share_cores(tmp_path):
    _, command = dry(tmp_path, "-n", "3", version=OPEN_MPI_4)
    assert command == ["--bind-to", "none", "--oversubscribe", "-n", "3", "-", "prog", "a b"]


def test_mpich_does_not_bind_and_passes_the_environment(tmp_path):
    _, command = dry(tmp_path, "-n", "3", version=MPICH_5)
    assert command == ["-genvall", "-bind-to", "none", "-n", "3", "-", "prog", "a b"]


@needs_open_mpi
def test_fault_tolerance_is_used_where_the_library_has_it(tmp_path):
    command = run(tmp_path, "--dry-run", "-n", "2", "--", "prog", env={"JOBS_MPIRUN": find_mpirun()}).out
    assert "--with-ft ulfm" in command


def test_open_mpi_gets_hosts_with_their_lanes_and_the_environment(tmp_path):
    _, command = dry(tmp_path, "--host", "a,b", "cpus=3")
    text = " ".join(command)
    assert text.startswith("--bind-to none --host a:1 -n 1 -x ")
    assert text.count("-x ROSE") == 2
    assert text.count("-x JOBS_LAUNCHER") == 2
    assert "- prog a b : --host b:1 -n 1 -x" in text
    assert text.endswith("3 prog a b")
    assert "-x PWD" not in text


def test_mpich_gets_hosts_with_their_lanes(tmp_path):
    _, command = dry(tmp_path, "--host", "a,b", "cpus=3", version=MPICH_5)
    assert command == shlex.split(
        "-genvall -bind-to none -hosts a:1,b:1 -n 1 - prog 'a b' : -n 1 3 prog 'a b'"
    )  # fmt: skip


def test_hosts_with_as_many_lanes_are_one_part_of_the_command(tmp_path):
    (tmp_path / "hosts").write_text("a cpus=2\nb cpus=2  # as many\nc\n")
    _, command = dry(tmp_path, "--hostfile", "hosts", version=MPICH_5)
    assert command == shlex.split(
        "-genvall -bind-to none -hosts a:1,b:1,c:1 -n 2 2 prog 'a b' : -n 1 - prog 'a b'"
    )  # fmt: skip


def test_root_is_let_start_ranks_with_open_mpi_only(tmp_path):
    asks = {"OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"}
    variables, _ = dry(tmp_path, "-n", "2")
    assert asks <= variables.keys() if os.geteuid() == 0 else not asks & variables.keys()
    variables, _ = dry(tmp_path, "-n", "2", version=MPICH_5)
    assert not asks & variables.keys()


def test_checkpoint_and_time_limit_go_into_the_environment(tmp_path):
    variables, _ = dry(tmp_path, "-n", "2", "--checkpoint", "state", "--time-limit", "1:30:00")
    assert variables["JOBS_CHECKPOINT"] == str(tmp_path / "state")
    assert variables["JOBS_TIME_LIMIT"] == "5400"


def test_c_is_the_usual_checkpoint_of_the_current_folder(tmp_path):
    usual = str(tmp_path / "job_stream.chkpt")
    assert dry(tmp_path, "-n", "2", "-c")[0]["JOBS_CHECKPOINT"] == usual
    assert dry(tmp_path, "-c", "--restarts", "1")[0]["JOBS_CHECKPOINT"] == usual
    for words in (["--no-c"], ["-c", "--no-c"]):
        assert "JOBS_CHECKPOINT" not in dry(tmp_path, "-n", "2", *words)[0]
    variables, _ = dry(tmp_path, "-n", "2", "--no-c", "--checkpoint", "state")
    assert variables["JOBS_CHECKPOINT"] == str(tmp_path / "state")
    (tmp_path / "job_stream.chkpt").touch()
    os.utime(usual, (5, 5))
    assert float(run(tmp_path, "-c", "git-results-progress").out) == 5


@pytest.mark.parametrize("words", [["-c", "state", "--", "prog"], ["-c", "-n", "1", "state", "--", "prog"]])
def test_a_path_after_c_is_told_the_option_that_takes_one(tmp_path, words):
    ended = run(tmp_path, *words)
    assert ended.code == 127
    assert "-c takes no path: write 'job_stream --checkpoint state -- ...'" in ended.err


@pytest.mark.parametrize(("text", "seconds"), [("90", "90"), ("48:00:00", "172800"), ("0.5", "0.5")])
def test_time_limits_are_seconds_or_a_clock(tmp_path, text, seconds):
    variables, _ = dry(tmp_path, "--checkpoint", "state", "--time-limit", text)
    assert variables["JOBS_TIME_LIMIT"] == seconds


# --- batch systems ------------------------------------------------------------------------------------------------
SLURM = {"SLURM_JOB_NODELIST": "n[1-4]", "SLURM_JOB_NUM_NODES": "4", "SLURMD_NODENAME": "n1", "SLURM_PROCID": "0"}


def test_a_job_of_slurm_gets_a_rank_on_each_node_by_open_mpi(tmp_path):
    _, command = dry(tmp_path, env=SLURM)
    assert command[:4] == ["--bind-to", "none", "--map-by", "ppr:1:node"]
    assert "-x" in command
    assert not {"SLURM_PROCID", "SLURMD_NODENAME"} & set(command)


def test_a_job_of_slurm_gets_a_rank_on_each_node_by_mpich(tmp_path):
    _, command = dry(tmp_path, env=SLURM, version=MPICH_5)
    assert command == ["-genvall", "-bind-to", "none", "-ppn", "1", "-n", "4", "-", "prog", "a b"]


def test_a_job_of_slurm_gets_a_rank_on_each_node_by_srun(tmp_path):
    _, command = dry(tmp_path, env={**SLURM, "SLURM_CPUS_PER_TASK": "8"}, version=SRUN, name="srun")
    assert command == [
        *("--nodes", "4", "--ntasks", "4", "--ntasks-per-node", "1", "--cpu-bind=none", "--cpus-per-task", "8"),
        *("--kill-on-bad-exit=1", "-", "prog", "a b"),
    ]


def test_a_job_of_slurm_on_this_machine_only_needs_no_mpirun(tmp_path):
    variables, command = dry(tmp_path, env={**SLURM, "SLURM_JOB_NUM_NODES": "1"})
    assert command == ["prog", "a b"]
    assert variables == {"JOBS_COMMAND_LINE": "1"}


def test_the_shell_of_salloc_may_not_be_on_the_node_it_was_given(tmp_path):
    _, command = dry(tmp_path, env={"SLURM_JOB_NODELIST": "n1", "SLURM_JOB_NUM_NODES": "1"})
    assert "ppr:1:node" in command


def test_a_job_of_pbs_gets_a_rank_on_each_node(tmp_path):
    (tmp_path / "nodes").write_text("n1\nn1\nn2\nn2\n")
    _, command = dry(tmp_path, env={"PBS_NODEFILE": str(tmp_path / "nodes")}, version=MPICH_5)
    assert command == ["-genvall", "-bind-to", "none", "-hosts", "n1:1,n2:1", "-n", "2", "-", "prog", "a b"]


@pytest.mark.parametrize(
    ("words", "env", "complaint"),
    [
        (["-n", "2"], SLURM, "this job has 4 nodes of Slurm, each of which gets a rank: leave -n out"),
        ([], {"PBS_NODEFILE": "gone"}, "PBS_NODEFILE gone: cannot be read"),
        (["-n", "2"], {"JOBS_MPIRUN": "no-such-mpirun"}, "JOBS_MPIRUN=no-such-mpirun: there is no such program"),
        (["-n", "2"], {"JOBS_RANKS": "1"}, "JOBS_RANKS=1 has each process work alone"),
        (["-n", "2"], {"PMI_RANK": "1", "PMI_SIZE": "3"}, "MPICH has started this command 3 times"),
        ([], {**SLURM, "SLURM_STEP_NUM_TASKS": "4"}, "Slurm has started this command 4 times"),
        (["-n", "2"], {"JOBS_MPIRUN": "true"}, "is no mpirun of Open MPI or MPICH, nor srun"),
    ],
)
def test_what_cannot_be_started_is_refused(tmp_path, words, env, complaint):
    ended = run(tmp_path, *words, "--", "prog", env=env)
    assert ended.code == 2
    assert complaint in ended.err


def test_srun_is_for_jobs_of_slurm(tmp_path):
    program = fake_program(tmp_path / "bin", "srun", SRUN)
    ended = run(tmp_path, "-n", "2", "--", "prog", env={"JOBS_MPIRUN": str(program)})
    assert ended.code == 2
    assert "use it inside of one" in ended.err


@needs_open_mpi
def test_an_mpirun_of_another_mpi_is_told_about(tmp_path):
    program = fake_program(tmp_path / "bin", "mpirun", MPICH_5)
    ended = run(tmp_path, "--dry-run", "-n", "2", "--", "prog", env={"JOBS_MPIRUN": str(program)})
    assert "is of MPICH 5.0.2, but mpi4py uses Open MPI" in ended.err


@needs_open_mpi
def test_the_mpirun_that_belongs_to_mpi4py_is_taken_wherever_it_lies(tmp_path):
    other = fake_program(tmp_path / "bin", "mpirun", MPICH_5)
    own = fake_program(tmp_path / "bin2", "mpirun", OPEN_MPI_5)
    beside = fake_program(tmp_path / "venv", "mpirun", MPICH_5)
    python = beside.with_name("python")
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    found = subprocess.run(
        [sys.executable, "-c", FIND, str(python)],
        capture_output=True, text=True, check=True,
        env=clean_environment({"PATH": f"{other.parent}:{own.parent}:{os.environ['PATH']}"}),
    )  # fmt: skip
    assert found.stdout.strip() == str(own)


FIND = """
import sys
sys.executable = sys.argv[1]
from job_stream.launcher.mpirun import find_mpirun
mpirun, warning = find_mpirun()
assert warning is None
print(mpirun.path)
"""


# --- scripts on rank 0 alone ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("program", "served"),
    [
        ("python a.py b", "python -m job_stream.futures a.py b"),
        ("/usr/bin/python3.12 -u -W error a.py", "/usr/bin/python3.12 -u -W error -m job_stream.futures a.py"),
        ("python -m package.module -v", "python -m job_stream.futures -m package.module -v"),
    ],
)
def test_primary_only_has_the_other_ranks_serve_the_script(tmp_path, program, served):
    said = run(tmp_path, "--dry-run", "--primary-only", "--", *program.split(), env={"JOBS_MPIRUN": "none"}).out
    assert said.splitlines()[-1] == served


@pytest.mark.parametrize("program", ["./a.py", "python", "python -c pass", "python -u -"])
def test_primary_only_is_for_scripts_of_python(tmp_path, program):
    ended = run(tmp_path, "--primary-only", "--", *program.split())
    assert ended.code == 2
    assert "job_stream --primary-only -- python script.py" in ended.err
