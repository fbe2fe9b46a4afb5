"""Who asked to be told how jobs go is told in the script's own thread, while the build runs in another one."""

from __future__ import annotations

import queue
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from .conductor import FINAL, Node, Status

__all__ = ["Events", "RunEvents"]

Events = Callable[[str, str, float], object]
"""Called with the id of a job, its state, and how long it took."""

_UNTOLD = frozenset({Status.STOPPED})


class RunEvents:
    """Notices what has changed since it looked last, and tells it.

    Args:
        events: what is called; that it raises is said once, and changes nothing.
        nodes: the jobs as the run knows them; generators may add some.
    """

    def __init__(self, events: Events, nodes: Mapping[str, Node]) -> None:
        self._events = events
        self._nodes = nodes
        self._told: dict[str, Status] = {}
        self._open = {job_id: None for job_id, node in nodes.items() if node.role == "file"}
        self._waiting: queue.SimpleQueue[tuple[str, str, float] | None] = queue.SimpleQueue()
        self._outcomes: Mapping[str, Any] = {}
        self._has_raised = False

    def look(self, outcomes: Mapping[str, Any]) -> None:
        """Notes each job that stands elsewhere than before; in the thread of the run."""
        self._outcomes = outcomes
        for job_id in list(self._open):
            status = self._nodes[job_id].status
            if status is not self._told.get(job_id) and (status is Status.RUNNING or status in FINAL):
                self._told[job_id] = status
                if status not in _UNTOLD:
                    outcome = outcomes.get(job_id)
                    seconds = outcome.seconds if outcome is not None and status is not Status.RUNNING else 0.0
                    self._waiting.put((job_id, status.value, seconds))
            if status in FINAL and not self._nodes[job_id].is_fleeting:
                del self._open[job_id]  # files that are removed after use may be wanted once more

    def tell_while(self, perform: Callable[[], object]) -> None:
        """Tells all that is noted while ``perform`` runs in a thread; raises what that raises."""
        errors: list[BaseException] = []

        def run() -> None:
            try:
                perform()
            except BaseException as error:
                errors.append(error)
            finally:
                self._waiting.put(None)

        thread = threading.Thread(target=run, name="build")
        self.look({})
        thread.start()
        while (event := self._waiting.get()) is not None:
            self._tell(event)
        thread.join()
        if errors:
            raise errors[0]

    def tell_rest(self) -> None:
        """What came of the others, once all is over."""
        self.look(self._outcomes)
        while not self._waiting.empty():
            event = self._waiting.get()
            if event is not None:
                self._tell(event)

    def _tell(self, event: tuple[str, str, float]) -> None:
        try:
            self._events(*event)
        except Exception:
            if not self._has_raised:
                self._has_raised = True
                sys.stderr.write(f"build: events= raised, and goes on being called:\n{traceback.format_exc()}")
