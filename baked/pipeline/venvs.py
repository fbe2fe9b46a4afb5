"""Virtual environments of modules, which are made only where that was asked for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from hashlib import blake2b

from job_stream.errors import BuildError

from .module_folders import ProgramModule

__all__ = ["make_venvs"]

_NOTE = "job_stream-requirements"
"""The file in an environment that says of which requirements it was made."""


def make_venvs(modules: Iterable[ProgramModule]) -> None:
    """Makes those that are missing, and installs requirements that have changed.

    Raises:
        BuildError: that failed; says of which module.
    """
    for module in modules:
        if module.venv is None:
            continue
        content = module.requirements.read_bytes() if module.requirements is not None else b""
        digest = blake2b(content, digest_size=16).hexdigest()
        note = module.venv / _NOTE
        if module.interpreter.exists() and note.exists() and note.read_text() == digest:
            continue
        if not module.interpreter.exists():
            pip = [] if module.requirements is not None else ["--without-pip"]
            _run(module, [sys.executable, "-m", "venv", *pip, str(module.venv)])
        if module.requirements is not None:
            _run(module, [str(module.interpreter), "-m", "pip", "install", "-q", "-r", str(module.requirements)])
        note.write_text(digest)


def _run(module: ProgramModule, words: list[str]) -> None:
    ended = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           check=False)  # fmt: skip
    if ended.returncode:
        said = ended.stdout.decode(errors="replace").strip()[-2000:]
        raise BuildError(f"the virtual environment of module {module.name!r} cannot be made: {said}")
