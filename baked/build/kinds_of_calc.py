"""Values that are computed once and kept in a file, and plots of such values.

Each is two jobs or more: one that computes and makes the file, only for those who need it, and one that loads it in the
process of who needs it. Whoever needs the pair needs the loading job, and so gets the value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from job_stream.errors import BuildError

from .declaring import Target
from .decorators import Decorators
from .job import BuildJob, Outputs

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .kinds import BuildJobKeywords

__all__ = ["CachedLoad", "CachingDecorators", "PlottedJob"]

Function = Callable[..., Any]


class CachedLoad(BuildJob):
    """The job that loads a value; ``calc`` is the one that computes it, and ``load`` this one."""

    calc: BuildJob

    @property
    def load(self) -> BuildJob:
        """Itself: who needs the value needs this."""
        return self


class PlottedJob(BuildJob):
    """The job that draws; ``calc`` computes what it draws, and ``table`` writes that as a table, if wanted."""

    calc: BuildJob
    table: BuildJob | None

    @property
    def plot(self) -> BuildJob:
        """Itself."""
        return self

    def addPlot(self, path: Any, plot: Function, **render: Any) -> BuildJob:
        """Another picture of the same data."""
        owner: Any = self.owner
        return owner._drawing(path, plot, self.details["data"], render)  # type: ignore[no-any-return]


class CachingDecorators(Decorators):
    """The decorators of jobs that keep values in files."""

    def cached(
        self, path: Any, calc: Function | None = None, *, always: bool = False, memmap: bool = False,
        **keywords: Unpack[BuildJobKeywords],
    ) -> Any:  # fmt: skip
        """A value that is computed once, kept at ``path``, and loaded where it is needed.

        Needs are those of the computation. ``job.calc`` and ``job.load`` are the two jobs.

        Args:
            always: whether it is computed even if nobody who runs needs it.
            memmap: the value is an array, which is mapped from its file rather than read.
        """
        return self._caching(path, calc, None, always, memmap, keywords)

    CachedJob = cached

    def cached_data(self, path: Any, calc: Function, store: Function, **keywords: Any) -> Any:
        """As ``cached``; where it is needed, ``store`` is called with the value."""
        return self._caching(path, calc, store, False, False, keywords)

    CachedDataLoadingJob = cached_data

    def memory_mapped(self, path: Any, calc: Function, store: Function | None = None, **keywords: Any) -> Any:
        """As ``cached`` with ``memmap``."""
        return self._caching(path, calc, store, False, True, keywords)

    MemMappedDataLoadingJob = memory_mapped

    def cached_attribute(self, path: Any, obj: Any, name: str, calc: Function, **keywords: Any) -> Any:
        """As ``cached``; where it is needed, the value is ``obj.name``."""
        target = {"target": Target(obj), "name": name}
        return self._caching(path, calc, None, False, False, keywords, "attribute", **target)

    CachedAttributeLoadingJob = cached_attribute

    def _caching(
        self, path: Any, calc: Function | None, store: Function | None, always: bool, memmap: bool, keywords: Any,
        kind: str = "load", **details: Any,
    ) -> Any:  # fmt: skip
        outputs = self.path_of(path, "cached()")._replace(is_lazy=not always)
        if calc is None:
            return lambda calc: self._caching(path, calc, store, always, memmap, keywords, kind, **details)
        action = "store_array" if memmap else "store"
        made = self.declare(BuildJob, outputs.paths[0], "cached", calc, outputs, keywords, action=action, empty_ok=True)
        loaded = CachedLoad(self, f"load {made.id}", kind, store, Outputs(), {}, dict(made.options), made.place)
        loaded.action, loaded.details = "fetch", {"path": self.absolute(made.id), "memmap": memmap, **details}
        loaded.calc = made
        return self.register(loaded, (made,))

    def plot(
        self, path: Any, calc: Function, plot: Function, table: bool = True, render: dict[str, Any] | None = None,
        **keywords: Unpack[BuildJobKeywords],
    ) -> Any:  # fmt: skip
        """A picture of data that are computed once.

        Args:
            path: of the picture; the data are cached beside it, and so is their table.
            calc: gives a DataFrame, or a mapping of them.
            plot: gives, of what ``calc`` gave, something with ``savefig``, ``save`` or ``render``.
            table: whether the data are written as a table, too, as ``path.tsv``.
            render: keywords for saving, such as dpi.
        """
        name = self.path_of(path, "plot()").paths[0]
        if not callable(plot):
            raise BuildError(f"plot({name!r}) is to draw with {plot!r}, which is no function")
        data = self.cached(f"{name}.data", calc, **keywords)
        drawn: PlottedJob = self._drawing(path, plot, data, render or {})
        drawn.calc, drawn.table = data.calc, self._table(name, data) if table else None
        return drawn

    PlotJob = plot

    def _table(self, name: str, data: BuildJob) -> BuildJob:
        outputs = self.path_of(f"{name}.tsv", "plot(table=True)")
        table: BuildJob = self.declare(BuildJob, outputs.paths[0], "plot", write_table, outputs,
                                       {"needs": {"data": data}}, ("path",))  # fmt: skip
        return table

    def _drawing(self, path: Any, plot: Function, data: BuildJob, render: dict[str, Any]) -> PlottedJob:
        outputs = self.path_of(path, "plot()")
        drawn = PlottedJob(self, outputs.paths[0], "plot", plot, outputs, {}, dict(data.options), data.place)
        drawn.action, drawn.details, drawn.named = "draw", {"data": data, "render": render}, {"data": data}
        self.register(drawn)
        return drawn


def write_table(path: Any, data: Any) -> None:
    """A DataFrame, or several, as text with tabs."""
    frames = data.items() if isinstance(data, dict) else [("", data)]
    with open(path, "w", encoding="utf-8") as file:
        for name, frame in frames:
            if name:
                file.write(f"# {name}\n")
            frame.to_csv(file, sep="\t")
