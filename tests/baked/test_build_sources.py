"""What a build watches and does not make: odd names, odd files, and files that come and go."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from job_stream.baked.build import build, file_state
from job_stream.errors import BuildError

pytestmark = pytest.mark.usefixtures("folder")


def made(*patterns, needs=None):
    """What a build with one job makes, which needs files that fit patterns."""
    b = build(quiet=True)
    b.file("out", lambda path: path.write_text("done"), needs=[b.sources(*patterns)] if patterns else needs)
    return b.run().made


def test_patterns_hold_in_a_folder_whose_name_looks_like_one(folder, monkeypatch):
    (folder / "pro[1]ject" / "data").mkdir(parents=True)
    monkeypatch.chdir(folder / "pro[1]ject")
    for text in ("a", "b"):
        Path("data/a.csv").write_text(text)
        assert made("data/*.csv") == ["out"]
        assert made("data/*.csv") == []
        assert made(Path.cwd() / "data" / "*.csv") == []


def test_a_file_that_is_called_like_a_pattern_is_watched():
    for text in ("a", "b"):
        Path("a[1].csv").write_text(text)
        assert made("a[1].csv") == ["out"]


def test_a_link_that_leads_nowhere_fits_no_pattern():
    Path("a.csv").write_text("a")
    os.symlink("nowhere", "b.csv")
    assert made("*.csv") == ["out"]
    assert made("*.csv") == []


def test_a_source_that_cannot_be_read_is_named_with_who_needs_it():
    os.mkfifo("pipe")
    os.symlink("loop", "loop")
    for path, why in (("pipe", "neither a file nor a folder"), ("loop", "[Ll]evels of symbolic links")):
        with pytest.raises(BuildError, match=f"'{path}' cannot be read: .*{why}; needed by 'out'"):
            made(needs=[path])
    with pytest.raises(BuildError, match=r"missing\.csv' cannot be read: No such file or directory; needed by 'out'"):
        made("missing.csv")
    with pytest.raises(BuildError, match="job 'out': 'a.0b' cannot be the path of a file".replace(".0", r"\\x00")):
        made(needs=["a\0b"])


def test_a_folder_with_the_builds_own_folder_in_it_is_no_source():
    for path in (".", ".build", Path.cwd()):
        with pytest.raises(BuildError, match="cannot be watched, since the build's own folder"):
            made(needs=[path])


def test_a_file_that_goes_while_its_folder_is_read_is_not_there(folder, monkeypatch):
    (folder / "data" / "deep").mkdir(parents=True)
    for name in ("a", "b", "deep/c"):
        (folder / "data" / name).write_text(name)
    without = file_state.read_state(str(folder / "data"))
    (folder / "data" / "fleeting").write_text("gone soon")
    look = file_state._look_of_folder

    def look_and_remove(path, without):
        found = look(path, without)
        (folder / "data" / "fleeting").unlink()
        return found

    monkeypatch.setattr(file_state, "_look_of_folder", look_and_remove)
    assert file_state.read_state(str(folder / "data")).digest == without.digest
