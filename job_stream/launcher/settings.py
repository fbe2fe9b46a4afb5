"""The user's settings, which ``job_stream config`` lists and sets: TOML in the platform's configuration folder."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import platformdirs
import tomli_w

from .error import LauncherError, not_known, shorten

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["KEYS", "change", "read", "settings_path"]

KEYS = {"hostfile": "the hostfile to use where neither hosts nor -n are given"}


def settings_path() -> Path:
    """Where the settings are.

    Raises:
        LauncherError: this user has no folder for them.
    """
    with suppress(RuntimeError):  # platformdirs has found no home; older versions give a path in this very folder
        path = platformdirs.user_config_path("job_stream") / "config.toml"
        if path.is_absolute():
            return path
    raise LauncherError("this user has no home folder, and so no settings: let HOME name one")


def read() -> dict[str, str]:
    """The settings that are set.

    Raises:
        LauncherError: the file cannot be read, or holds something else.
    """
    try:
        path = settings_path()
    except LauncherError:
        return {}
    values = _parsed(path)
    for key, value in values.items():
        _check(str(path), key)
        if not isinstance(value, str):
            raise LauncherError(f"{path}: {key} must be a text, not {shorten(value)}")
        _check_text(f"{path}: {key}", value)
    return values


def _parsed(path: Path) -> dict[str, Any]:
    """What a file of settings holds; one that is not there, or in a folder that this user may not enter, nothing."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, PermissionError) and not os.path.exists(path):
            return {}
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else shorten(error, quoted=False)
        raise LauncherError(f"the settings in {path} cannot be read ({reason}): mend the file, or remove it") from None


def change(word: str) -> None:
    """Sets what ``KEY=VALUE`` says; with an empty value, unsets it.

    Raises:
        LauncherError: the key is not known, the value cannot be used, or the file cannot be written.
    """
    key, equals, value = word.partition("=")
    if not equals:
        raise LauncherError(f"{word!r} sets nothing: write KEY=VALUE, or KEY= to unset{not_known(word, KEYS)}")
    _check("config", key)
    values = read()
    values.pop(key, None)
    if value:
        values[key] = _absolute(value)
    _write(values)


def _check(where: str, key: str) -> None:
    if key not in KEYS:
        raise LauncherError(f"{where}: the key {shorten(key)} is not known{not_known(key, KEYS)}")


def _check_text(where: str, value: str) -> None:
    if "\0" in value:
        raise LauncherError(f"{where} must be the path of a file, not {shorten(value)}")


def _absolute(value: str) -> str:
    """A setting counts in every folder, so it is kept as an absolute path. The file may come later."""
    _check_text("config: hostfile", value)
    path = Path(os.path.expanduser(value)).absolute()
    if path.is_dir():
        raise LauncherError(f"config: {path} is a folder; a hostfile is a file with a host a line")
    return str(path)


def _write(values: dict[str, str]) -> None:
    path = Path(os.path.realpath(settings_path()))  # many keep their settings elsewhere, and a link to them here
    new = path.with_suffix(f".{os.urandom(16).hex()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with new.open("x", encoding="utf-8") as file:
            file.write(tomli_w.dumps(values))
        new.replace(path)
    except (OSError, UnicodeEncodeError) as error:
        with suppress(OSError):
            new.unlink()
        raise LauncherError(f"the settings in {path} cannot be written: {error}") from None
