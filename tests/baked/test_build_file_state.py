"""What is known of files without reading them, and when they have to be read."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from job_stream.baked.build import file_state
from job_stream.baked.build.file_state import FileState, FileStates, print_of_contents, read_state

OLD_S = 1_000_000_000


def write(path: Path, text: str, mtime_s: int = OLD_S) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (mtime_s, mtime_s))
    return path


def looked(path: Path, known: FileState) -> FileState | None:
    return FileStates({str(path): known}).look(str(path))


def test_a_state_is_of_the_content(tmp_path: Path) -> None:
    one, same, other = (read_state(str(write(tmp_path / str(i), text))) for i, text in enumerate("aab"))
    assert one.digest == same.digest != other.digest
    assert len(one.digest) == 32
    assert (one.size, one.mtime_ns) == (1, OLD_S * 10**9)


def test_a_file_of_many_pieces_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a", "x" * 100)
    whole = read_state(str(path))
    monkeypatch.setattr(file_state, "CHUNK_BYTES", 7)
    assert read_state(str(path)).digest == whole.digest


def test_what_looks_the_same_is_not_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a", "text")
    known = read_state(str(path))
    assert looked(path, known) == known


def rewritten(path: Path) -> None:
    write(path, "TEXT", OLD_S + 1)


def longer(path: Path) -> None:
    write(path, "text and more")


def replaced(path: Path) -> None:
    os.replace(write(path.with_name("new"), "TEXT"), path)


@pytest.mark.parametrize("change", [rewritten, longer, replaced])
def test_what_looks_different_is_read(tmp_path: Path, change: Callable[[Path], None]) -> None:
    path = write(tmp_path / "a", "text")
    known = read_state(str(path))
    change(path)
    assert looked(path, known) is None
    assert FileStates({str(path): known}).now(str(path)).digest != known.digest


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_was_changed_shortly_before_it_was_read_is_read_again(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a"
    inner = write(path if kind == "file" else path / "b", "text", int(time.time()))
    known = read_state(str(path))
    assert looked(path, known) is None
    later = known._replace(read_ns=known.mtime_ns + 2 * 10**9)
    assert looked(path, later) == later
    early = later._replace(read_ns=later.read_ns - 1)
    assert looked(path, early) is None
    inner.unlink()


def test_a_touched_file_has_the_same_content(tmp_path: Path) -> None:
    path = write(tmp_path / "a", "text")
    known = read_state(str(path))
    os.utime(path, (OLD_S + 5, OLD_S + 5))
    assert FileStates({str(path): known}).now(str(path)).digest == known.digest


def test_a_file_is_looked_at_once_in_a_run(tmp_path: Path) -> None:
    path = write(tmp_path / "a", "text")
    states = FileStates({})
    first = states.now(str(path))
    path.unlink()
    assert states.look(str(path)) == states.now(str(path)) == first
    states.note(str(path), None)
    with pytest.raises(FileNotFoundError):
        states.now(str(path))
    states.note(str(path), first)
    assert states.look(str(path)) == first


@pytest.mark.parametrize("kind", ["missing", "broken link", "fifo", "socket", "device"])
def test_what_is_neither_a_file_nor_a_folder_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket has to be short
    path = Path("a")
    if kind == "broken link":
        path.symlink_to("nowhere")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
    elif kind == "device":
        path = Path(os.devnull)
    words = "No such file" if kind in ("missing", "broken link") else "neither a file nor a folder"
    with pytest.raises(OSError, match=words):
        FileStates({}).now(str(path))


def test_a_link_is_what_it_leads_to(tmp_path: Path) -> None:
    target = write(tmp_path / "target", "text")
    (tmp_path / "link").symlink_to(target)
    assert read_state(str(tmp_path / "link"))[:4] == read_state(str(target))[:4]


def added(folder: Path) -> None:
    write(folder / "in" / "c", "c")


def changed(folder: Path) -> None:
    write(folder / "in" / "b", "B", OLD_S + 1)


def renamed(folder: Path) -> None:
    (folder / "in" / "b").rename(folder / "in" / "c")


def moved(folder: Path) -> None:
    (folder / "in" / "b").rename(folder / "b")


def removed(folder: Path) -> None:
    (folder / "in" / "b").unlink()


@pytest.mark.parametrize("change", [added, changed, renamed, moved, removed])
def test_a_folder_is_the_list_of_its_files_and_their_contents(tmp_path: Path, change: Callable[[Path], None]) -> None:
    folder = tmp_path / "folder"
    write(folder / "a", "a")
    write(folder / "in" / "b", "b")
    known = read_state(str(folder))
    assert looked(folder, known) == known
    change(folder)
    assert looked(folder, known) is None
    assert read_state(str(folder)).digest != known.digest


def test_a_folder_that_leads_to_itself_has_an_end(tmp_path: Path) -> None:
    write(tmp_path / "a", "a")
    before = read_state(str(tmp_path))
    (tmp_path / "again").symlink_to(tmp_path)
    assert read_state(str(tmp_path)).digest == before.digest


def test_an_empty_folder_is_no_empty_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    write(tmp_path / "file", "")
    assert read_state(str(tmp_path / "folder")).digest != read_state(str(tmp_path / "file")).digest


def test_names_do_not_count_in_a_set_of_contents() -> None:
    assert print_of_contents(["a", "b"]) == print_of_contents(["b", "a"]) == print_of_contents(["a", "b", "b"])
    assert len({print_of_contents(one) for one in ([], ["a"], ["b"], ["a", "b"])}) == 4
