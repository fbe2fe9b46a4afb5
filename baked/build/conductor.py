"""Which job is next: a pure machine that is told what happened and says what is to be done.

A job is *settled* when its fingerprint is known, or when it is known that there will be none. Once all that a job needs
is settled, it is decided whether it runs (``decide``). What makes lasting files is then kept, or wanted. What makes
nothing that lasts is *latent*: its fingerprint is the one on record, and it runs only when somebody who needs it does,
which then waits for it. If it is out of date itself it runs at once, to learn whether it comes out different, as long
as something lasting lies behind it; else it is dormant until a generator adds such a thing. In the same way a value is
computed to learn its fingerprint, if it says that itself and is made of other things than before.

A job in a state of WAITING, DORMANT, LATENT, WANTED or RUNNING may still go on; the other states are final, but for
files that are removed after use and then wanted by a job that was generated late.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import NamedTuple, Protocol

from .decide import Verdict

__all__ = ["Conductor", "JobOrder", "Judge", "Node", "Status"]


class Status(Enum):
    """Where a job stands."""

    WAITING = "waiting"
    DORMANT = "dormant"
    LATENT = "latent"
    WANTED = "wanted"
    RUNNING = "running"
    KEPT = "kept"
    MADE = "made"
    FAILED = "failed"
    BLOCKED = "blocked"
    STOPPED = "stopped"


class Node:
    """A job as the conductor sees it.

    Args:
        job_id: its id.
        role: 'file', 'load', 'generate' or 'watch'.
        needs: of each need its id, and the one path that is meant, or None for all of it.
        is_lazy: whether it makes nothing that lasts.
        is_fleeting: whether some of its files are removed after use.
        seconds: how long it took before; None where nobody knows.
        lasting: where some of its files are removed after use, the paths of the others: who reads those only does not
            want it made again.
        after: ids of jobs that have to be over before it is decided about; nothing else follows from them.
    """

    def __init__(
        self, job_id: str, role: str, needs: Iterable[tuple[str, str | None]] = (), is_lazy: bool = False,
        is_fleeting: bool = False, priority: float = 0, seconds: float | None = None, after: Iterable[str] = (),
        lasting: Iterable[str] = (),
    ) -> None:  # fmt: skip
        self.id = job_id
        self.role = role
        self.need_ids = list(needs)
        self.is_lazy = is_lazy
        self.is_fleeting = is_fleeting
        self.priority = priority
        self.seconds = seconds
        self.needs: list[tuple[Node, str | None]] = []
        self.users: list[Node] = []
        self.lasting = frozenset(lasting)
        self.readers: list[Node] = []
        self.after_ids = list(after)
        self.followers: list[Node] = []
        self.status = Status.WAITING
        self.is_settled = False
        self.unsettled_count = 0
        self.fingerprints: Mapping[str, str] = {}
        self.needs_before: dict[str, str] = {}
        self.needs_planned: Mapping[str, str] = {}
        self.reasons: list[str] = []
        self.is_material = False
        self.awaited: set[Node] = set()
        self.waiters: list[Node] = []
        self.leads_to_lasting = False
        self.has_passed = False
        self.way_length = 0.0
        self.number = 0

    def __repr__(self) -> str:
        return f"<{self.id}: {self.status.value}>"

    @property
    def can_be_demanded(self) -> bool:
        """Whether somebody who runs may want it made that would not be made for itself."""
        return self.role == "file" and (self.is_lazy or self.is_fleeting)


class Judge(Protocol):
    """What the conductor has to be told about jobs; it has no way to look itself."""

    def verdict(self, job_id: str, needs: Mapping[str, str]) -> Verdict:
        """Whether the job is out of date, with these fingerprints of its needs."""

    def recorded(self, job_id: str) -> Mapping[str, str]:
        """The fingerprints of its files as they are if it does not run; of a value, what it said of itself."""

    def of_load(self, job_id: str, needs: Mapping[str, str]) -> str:
        """The fingerprint of a value."""

    def has_to_be_asked(self, job_id: str, needs: Mapping[str, str]) -> bool:
        """Whether a value says its own fingerprint, which nobody knows now."""

    def is_there(self, job_id: str) -> bool:
        """Whether all files of the job exist as they are on record."""


class JobOrder(NamedTuple):
    """What is to be done: 'run' or 'generate' a job with these loads, 'remove' its files, note that it is 'kept'."""

    verb: str
    job_id: str
    loads: Sequence[str] = ()


FINAL = frozenset({Status.KEPT, Status.MADE, Status.FAILED, Status.BLOCKED, Status.STOPPED})
_BAD = frozenset({Status.FAILED, Status.BLOCKED, Status.STOPPED})


class Conductor:
    """Takes in what happened (``start``, ``ended``, ``generated`` ...), and has what is to be done in ``orders``.

    Args:
        nodes: all jobs that take part, in the order of their declaration.
        judge: who knows records and files.
        keeps_going: whether after a failure what does not depend on it is begun still.
    """

    def __init__(self, nodes: Iterable[Node], judge: Judge, keeps_going: bool = True) -> None:
        self.nodes: dict[str, Node] = {}
        self.judge = judge
        self.keeps_going = keeps_going
        self.is_stopping = False
        self.orders: list[JobOrder] = []
        self.loads_used: set[str] = set()
        self._open_generators: set[Node] = set()
        self._todo: list[Node] = []
        self._add(nodes)

    # the graph --------------------------------------------------------------------------------------------------------

    def _add(self, nodes: Iterable[Node]) -> list[Node]:
        added = list(nodes)
        for node in added:
            node.number = len(self.nodes)
            self.nodes[node.id] = node
            if node.role == "generate":
                self._open_generators.add(node)
        for node in added:
            for need_id, path in node.need_ids:
                self._link(node, self.nodes[need_id], path)
            for before in map(self.nodes.__getitem__, node.after_ids):
                before.followers.append(node)
                node.unsettled_count += not before.is_settled
        for node in added:
            if (node.role == "file" and not node.is_lazy) or node.role == "generate":
                self._mark_lasting(node)
        self._measure_ways(added)
        return added

    def _link(self, user: Node, need: Node, path: str | None) -> None:
        user.needs.append((need, path))
        need.users.append(user)
        if path not in need.lasting:
            need.readers.append(user)
        if not need.is_settled:
            user.unsettled_count += 1
        if need.has_passed:
            self._unpass(need)

    def _unpass(self, node: Node) -> None:
        """Somebody new may want a file made that nobody did: what that would read has not been used by all, either."""
        stack = [node]
        while stack:
            at = stack.pop()
            if at.has_passed and at.status is not Status.MADE and (at.role == "load" or at.can_be_demanded):
                at.has_passed = False
                stack += (need for need, _ in at.needs)

    def _mark_lasting(self, node: Node) -> None:
        """Notes at all that lies before it that something lasting follows; what was dormant for want of it wakes."""
        stack = [node]
        while stack:
            at = stack.pop()
            if at.leads_to_lasting:
                continue
            at.leads_to_lasting = True
            if at.status is Status.DORMANT:
                at.status = Status.WAITING
                self._want(at)
            stack += (need for need, _ in at.needs)

    def _measure_ways(self, added: Sequence[Node]) -> None:
        """How long the longest way from each of them to an end is: users first, by depth-first search."""
        known = {id(node) for node in self.nodes.values()} - {id(node) for node in added}
        for start in added:
            stack = [start]
            while stack:
                node = stack[-1]
                open_users = [user for user in node.users if id(user) not in known]
                if open_users:
                    stack += open_users
                    continue
                stack.pop()
                known.add(id(node))
                ahead = max((user.way_length for user in node.users), default=0.0)
                node.way_length = ahead + (1e-3 if node.seconds is None else node.seconds)

    # what happens -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begins with what needs nothing."""
        self._todo += [node for node in self.nodes.values() if not node.unsettled_count]
        self._work_off()

    def watched(self, job_id: str, fingerprints: Mapping[str, str]) -> None:
        """Something that is only watched is known."""
        self._settle(self.nodes[job_id], fingerprints)
        self._work_off()

    def ended(self, job_id: str, fingerprints: Mapping[str, str]) -> None:
        """A job was made; these are the fingerprints of its files."""
        node = self.nodes[job_id]
        node.status = Status.LATENT if node.role == "load" else Status.MADE
        node.is_material = True
        if not node.is_settled:
            self._settle(node, fingerprints)
        self._release(node)
        self._passed(node)
        self._work_off()

    def generated(self, job_id: str, nodes: Iterable[Node], edges: Iterable[tuple[str, str, str | None]] = ()) -> None:
        """A generator is through; it brought jobs, and needs (user, need, path) of jobs that wait for it."""
        generator = self.nodes[job_id]
        added = self._add(nodes)
        for user_id, need_id, path in edges:
            self._link(self.nodes[user_id], self.nodes[need_id], path)
            if self.nodes[user_id].leads_to_lasting:
                self._lead(self.nodes[need_id])
        self._open_generators.discard(generator)
        self._todo += [node for node in added if not node.unsettled_count]
        generator.status = Status.MADE
        self._settle(generator, {})
        self._passed(generator)
        self._work_off()
        self._sweep()

    def _lead(self, node: Node) -> None:
        if not node.leads_to_lasting:
            self._mark_lasting(node)

    def failed(self, job_id: str) -> None:
        """A job failed, so what needs it is blocked."""
        node = self.nodes[job_id]
        if node.status is Status.FAILED:
            return
        node.status = Status.FAILED
        node.is_material = False
        is_generator = node in self._open_generators
        self._open_generators.discard(node)
        self._block_users(node)
        self._work_off()
        if is_generator:
            self._sweep()
        if not self.keeps_going:
            self.stop()

    def again(self, job_id: str) -> None:
        """An attempt came to nothing for reasons that are not the job's: it waits again."""
        node = self.nodes[job_id]
        node.status = Status.WANTED
        self._order(node)

    def blocked(self, job_id: str) -> None:
        """A job could not begin, since a value that it needs could not be had."""
        self._block(self.nodes[job_id])
        self._work_off()

    def stopped(self, job_id: str) -> None:
        """A job was killed, or given back before it began."""
        self.nodes[job_id].status = Status.STOPPED

    def stop(self) -> None:
        """Begins nothing new."""
        self.is_stopping = True

    def end(self) -> None:
        """Nothing is under way any more: what has not been begun never will be."""
        not_begun = Status.STOPPED if self.is_stopping else Status.KEPT
        for node in self.nodes.values():
            if node.status in {Status.LATENT, Status.DORMANT}:
                node.status = Status.KEPT
            elif node.status is Status.WAITING:
                node.status = not_begun  # it waits for what is dormant
            elif node.status not in FINAL:
                node.status = Status.STOPPED
        for node in self.nodes.values():
            if node.is_fleeting and all(user.status in {Status.KEPT, Status.MADE} for user in (node, *node.readers)):
                self.orders.append(JobOrder("remove", node.id))

    # deciding ---------------------------------------------------------------------------------------------------------

    def _work_off(self) -> None:
        while self._todo:
            node = self._todo.pop()
            if node.status is Status.WAITING and not node.is_settled:
                self._decide(node)

    def _decide(self, node: Node) -> None:
        if node.role == "watch":
            return  # the run tells
        if any(need.status in _BAD for need, _ in node.needs):
            self._block(node)
            return
        node.needs_before = now = self.fingerprints_of_needs(node)
        if node.role == "load" and node.leads_to_lasting and self.judge.has_to_be_asked(node.id, now):
            self._want(node)
        elif node.role == "load":
            node.status = Status.LATENT
            self._settle(node, {node.id: self.judge.of_load(node.id, now)})
            self._passed(node)
        elif node.role == "generate":
            self._want(node)
        else:
            self._decide_files(node, now)

    def _decide_files(self, node: Node, now: Mapping[str, str]) -> None:
        verdict = self.judge.verdict(node.id, now)
        node.reasons = verdict.reasons
        if verdict.reasons and node.is_lazy and not node.leads_to_lasting:
            node.status = Status.DORMANT
        elif verdict.reasons:
            self._want(node)
        else:
            if verdict.is_new_record:
                self.orders.append(JobOrder("record", node.id))
            node.is_material = node.can_be_demanded and self.judge.is_there(node.id)
            node.status = Status.LATENT if node.is_lazy else Status.KEPT
            self._settle(node, self.judge.recorded(node.id))
            self._passed(node)

    def fingerprints_of_needs(self, node: Node) -> dict[str, str]:
        """Those of all needs as they are now."""
        now: dict[str, str] = {}
        for need, path in node.needs:
            if path is None:
                now.update(need.fingerprints)
            else:
                now[path] = need.fingerprints[path]
        return now

    def _settle(self, node: Node, fingerprints: Mapping[str, str]) -> None:
        node.fingerprints = fingerprints
        self._settled(node)

    def _settled(self, node: Node) -> None:
        if node.is_settled:
            return
        node.is_settled = True
        for user in (*node.users, *node.followers):
            user.unsettled_count -= 1
            if not user.unsettled_count:
                self._todo.append(user)

    def _block(self, node: Node) -> None:
        node.status = Status.BLOCKED
        self._open_generators.discard(node)
        self._block_users(node)

    def _block_users(self, node: Node) -> None:
        """What waits for its files is blocked now; what has not been decided, when all its needs are known."""
        stack = [node]
        while stack:
            at = stack.pop()
            waiters, at.waiters = at.waiters, []
            latent = [user for user in at.users if user.role == "load" and user.status is Status.LATENT]
            for user in (*latent, *waiters):
                if user.status in {Status.WANTED, Status.LATENT}:
                    user.status = Status.BLOCKED
                    self._open_generators.discard(user)
                    stack.append(user)
            self._settled(at)

    # running ----------------------------------------------------------------------------------------------------------

    def _want(self, node: Node) -> None:
        """Has a job run, after what it needs has been made that is not there."""
        node.status = Status.WANTED
        stack = [node]
        while stack:
            at = stack.pop()
            at.has_passed = False  # it may have been made and removed before
            for need in self._material_of(at):
                if need.status in _BAD:
                    self._block(at)
                elif not need.is_material:
                    if need.status not in {Status.WANTED, Status.RUNNING}:
                        need.status = Status.WANTED
                        need.reasons = [*need.reasons, f"needed by {at.id}"]
                        stack.append(need)
                    at.awaited.add(need)
                    need.waiters.append(at)
            if not at.awaited and at.status is Status.WANTED:
                self._order(at)

    def _material_of(self, node: Node) -> Iterable[Node]:
        """The files without lasting that it reads: its own needs, and those of the values it is given."""
        seen: set[int] = set()
        stack = [need for need, path in node.needs if path not in need.lasting]
        while stack:
            need = stack.pop()
            if id(need) in seen:
                continue
            seen.add(id(need))
            if need.role == "load":
                stack += (other for other, path in need.needs if path not in other.lasting)
            elif need.can_be_demanded:
                yield need

    def _order(self, node: Node) -> None:
        loads = self.loads_of(node)
        self.orders.append(JobOrder("generate" if node.role == "generate" else "run", node.id, loads))

    def began(self, job_id: str, loads: Sequence[str]) -> None:
        """A job is under way."""
        self.nodes[job_id].status = Status.RUNNING
        self.loads_used.update(loads, [job_id] if self.nodes[job_id].role == "load" else [])

    def can_begin(self, job_id: str) -> bool:
        """Whether a job that was ordered is still to run; a load of it may have failed since."""
        node = self.nodes[job_id]
        if self.is_stopping or node.status is not Status.WANTED:
            return False
        if any(self.nodes[load].status in _BAD for load in self.loads_of(node)):
            self._block(node)
            self._work_off()
            return False
        return True

    def loads_of(self, node: Node) -> list[str]:
        """All values that a job needs, also for its values, in an order in which they can be computed."""
        loads: dict[str, None] = {}

        def visit(at: Node) -> None:
            for need, _ in at.needs:
                if need.role == "load" and need.id not in loads:
                    visit(need)
                    loads[need.id] = None

        visit(node)
        return list(loads)

    def _release(self, node: Node) -> None:
        waiters, node.waiters = node.waiters, []
        for waiter in waiters:
            waiter.awaited.discard(node)
            if not waiter.awaited and waiter.status is Status.WANTED:
                self._order(waiter)

    # what is removed after use ----------------------------------------------------------------------------------------

    def _passed(self, node: Node) -> None:
        """A job may need nothing any more: files before it may have been used by all."""
        stack = [node]
        while stack:
            at = stack.pop()
            if not self._is_through(at):
                continue
            at.has_passed = True
            if at.is_fleeting:
                self._remove_if_used(at)
            for need, _ in at.needs:
                if need.is_fleeting:
                    self._remove_if_used(need)
                if not need.has_passed:
                    stack.append(need)

    def _is_through(self, node: Node) -> bool:
        """Whether it will not run, or run again, so that it reads no files any more."""
        if node.role == "load" or (node.can_be_demanded and node.status is not Status.MADE):
            is_idle = node.status in {Status.KEPT, Status.LATENT}
            return is_idle and all(user.has_passed for user in node.users)
        return node.status in {Status.KEPT, Status.MADE}

    def _remove_if_used(self, node: Node) -> None:
        if node.status not in {Status.MADE, Status.LATENT, Status.KEPT}:
            return
        if node.waiters or not all(user.has_passed for user in node.readers):
            return
        if self._open_generators and self._is_before_a_generator(node):
            return
        node.is_material = False
        self.orders.append(JobOrder("remove", node.id))

    def _is_before_a_generator(self, node: Node) -> bool:
        seen: set[int] = set()
        stack = [node]
        while stack:
            at = stack.pop()
            if at in self._open_generators:
                return True
            if id(at) not in seen:
                seen.add(id(at))
                stack += at.users
        return False

    def _sweep(self) -> None:
        """After a generator: files that were kept for what it might have brought."""
        for node in list(self.nodes.values()):
            if node.is_fleeting and node.is_material:
                self._remove_if_used(node)
