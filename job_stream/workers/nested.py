"""joblib, and scikit-learn with it, inside a worker process: one call after the other, since the workers fill the CPUs.

The user says otherwise with ``Parallel(backend=...)`` or ``parallel_config(...)``, in the job or before the run.
"""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["keep_sequential"]

_PARALLEL = "joblib.parallel"
_DEFAULTS = ("loky", "threading")


def keep_sequential() -> None:
    """Has joblib do so in this process: now, or when it is imported."""
    parallel = sys.modules.get(_PARALLEL)
    if parallel is not None:
        _configure(parallel)
    else:
        sys.meta_path.insert(0, _Doorkeeper())


def _configure(parallel: Any) -> None:
    if parallel.DEFAULT_BACKEND not in _DEFAULTS or _is_chosen(parallel):
        return
    configure = getattr(parallel, "parallel_config", None) or parallel.parallel_backend  # the name before joblib 1.3
    configure("sequential")


def _is_chosen(parallel: Any) -> bool:
    """Whether the script has chosen a backend in this thread."""
    defaults = getattr(parallel, "default_parallel_config", {})
    config = getattr(parallel._backend, "config", defaults)
    return config is not defaults and config["backend"] is not defaults["backend"]


class _Doorkeeper:
    """Finds no module itself, but notices when joblib comes."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != _PARALLEL:
            return None
        from importlib.machinery import PathFinder

        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            _add_to(spec.loader)
        return spec


def _add_to(loader: Any) -> None:
    execute = loader.exec_module

    def execute_and_configure(module: Any) -> None:
        execute(module)
        _configure(module)

    loader.exec_module = execute_and_configure
