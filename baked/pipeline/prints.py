"""What of a module has an entry run again: the files in its folder, and its interpreter."""

from __future__ import annotations

import os
import sys
from fnmatch import fnmatchcase
from hashlib import blake2b
from pathlib import Path

from .module_folders import MANIFEST_NAME, ProgramModule

__all__ = ["print_of_folder", "print_of_interpreter"]

_PASSED_OVER = frozenset({".git", "__pycache__"})


def print_of_folder(module: ProgramModule) -> str:
    """A hash of names and contents; of the manifest only what matters is watched, elsewhere."""
    digest = blake2b(digest_size=16)
    for path in _files(module, str(module.folder), ""):
        digest.update(f"{path}\0".encode(errors="surrogateescape"))
        with open(os.path.join(module.folder, path), "rb") as file:
            content = blake2b(digest_size=16)
            while part := file.read(1 << 20):
                content.update(part)
        digest.update(content.digest())
    return digest.hexdigest()


def _files(module: ProgramModule, folder: str, above: str) -> list[str]:
    found: list[str] = []
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path = f"{above}{entry.name}"
        if entry.name in _PASSED_OVER or path == MANIFEST_NAME or _is_ignored(path, module.ignore):
            continue
        if entry.is_dir():
            if not entry.is_symlink() and not os.path.exists(os.path.join(entry.path, "pyvenv.cfg")):
                found += _files(module, entry.path, f"{path}/")
        elif entry.is_file():
            found.append(path)
    return found


def _is_ignored(path: str, patterns: tuple[str, ...]) -> bool:
    name = path.rpartition("/")[2]
    return any(fnmatchcase(path, pattern) or fnmatchcase(name, pattern.rstrip("/")) for pattern in patterns)


def print_of_interpreter(path: Path) -> str:
    """Its path and version, without starting it."""
    if path == Path(sys.executable):
        return f"{path} {sys.version.split()[0]}"
    config = path.parent.parent / "pyvenv.cfg"
    lines = config.read_text(encoding="utf-8").splitlines() if config.exists() else []
    versions = [line for line in lines if line.startswith("version")]
    if versions:
        return f"{path} {versions[0]}"
    real = os.path.realpath(path)
    return f"{path} {real} {os.stat(real).st_size if os.path.exists(real) else ''}"
