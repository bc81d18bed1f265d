"""What is said about the farm: pools, status, why a task waits."""

from __future__ import annotations

from computefarm.messages import (
    Attempt as Past,
)
from computefarm.messages import (
    Explanation,
    HostStatus,
    Need,
    Obstacle,
    Offer,
    Offers,
    Pool,
    SessionStatus,
    Status,
    Waiting,
    WorkerStatus,
)

from .placement import NOT_OFFERED, Refusal, over_limit, quarantined, refusal
from .state import Group, Host, Notice, Session, Task, TaskState, Worker
from .tables import Tables
from .volatile import Volatile

PATIENCE_S = 1.0
"""How long nothing can be placed before a client is told why."""

LOOKS = frozenset({"client", "viewer", "admin"})
"""Roles that are told what the farm offers."""

GONE = 256
"""Offers of the past that are told, at most."""

OBSTACLES = 64
"""Workers named in one notice, at most."""


class Report:
    """Answers questions, and tells clients what they should know unasked."""

    def __init__(self, tables: Tables, farm: str, version: str, volatile: Volatile) -> None:
        self._tables = tables
        self._volatile = volatile
        self._farm = farm
        self._version = version
        self._pools: tuple[Pool, ...] | None = None
        self._settled = False
        self._look_at: float | None = None
        """When a group may have waited for long enough to tell its client."""

    # --- pools ----------------------------------------------------------------------------------------

    def pools(self) -> tuple[Pool, ...]:
        """Return what live workers offer, those that offer the same counted together."""
        if self._pools is None or self._tables.offers_changed:
            pools: dict[tuple[Offer, str], list[Worker]] = {}
            for name in sorted(self._tables.workers):
                worker = self._tables.workers[name]
                for offer in worker.offers.values():
                    pools.setdefault((offer, worker.platform), []).append(worker)
            self._pools = tuple(
                Pool(offer, platform, sum(w.slots for w in workers), tuple(w.name for w in workers))
                for (offer, platform), workers in pools.items()
            )
        return self._pools

    def offers(self, now: float) -> Offers:
        """Return the message that tells a client what can be had."""
        pools = self.pools()
        offered = {(pool.offer, pool.platform) for pool in pools}
        seen = self._tables.offers_seen
        gone = tuple(Pool(*one, 0, ()) for one in seen if one not in offered)
        return Offers(pools, now >= self._tables.settled_at, gone[:GONE])

    def push_offers(self, now: float) -> None:
        """Tell every client when what can be had has changed."""
        settled = now >= self._tables.settled_at
        if not self._tables.offers_changed and settled == self._settled:
            return
        news = self.offers(now)
        self._settled = settled
        self._tables.offers_changed = False
        for peer in list(self._tables.peers.values()):
            if peer.role in LOOKS:
                self._tables.say(peer.peer, news, now)

    # --- notices --------------------------------------------------------------------------------------

    def look(self, now: float) -> None:
        """Tell clients about tasks that cannot be placed, and about those that can again."""
        queues = self._tables.queues
        if self._look_at is None or now < self._look_at:
            return
        if not queues.waiting:
            self._look_at = None
            return
        for queue in list(queues.busy.values()):
            hopeless = not queue.offering and not queue.ever
            for group in list(queue.groups.values()):
                if hopeless:
                    due = now >= self._tables.settled_at
                else:
                    due = now >= group.since + PATIENCE_S
                if due or group.notice is not None:
                    self._notify(group, now)
        self._look_at = now + PATIENCE_S

    def arm(self, now: float) -> None:
        """Make sure that what waits is looked at in time, and at once where it is hopeless."""
        if self._look_at is None and self._tables.queues.waiting:
            self._look_at = now + PATIENCE_S
        if self._tables.unheard and now >= self._tables.settled_at:
            unheard, self._tables.unheard = self._tables.unheard, {}
            for queue in unheard.values():
                for group in list(queue.groups.values()):
                    if not queue.ever and group.notice is None:  # `look` tells of those that follow
                        self._notify(group, now)

    def deadline(self) -> float | None:
        """Return when `look` may have something to say."""
        return self._look_at

    def _notify(self, group: Group, now: float) -> None:
        """Tell a group's client why it waits, if it does not know yet, or that the reason is gone."""
        queue = group.queue
        refusals = self._refusals(queue.need, now)
        # A worker that is only busy takes the task when it is done: that is a queue, not an obstacle.
        if any(said is None or said.kind in ("busy", "reserved") for _, said in refusals):
            if group.notice is not None:
                group.notice = None
                self._say(group, self._tables.queues.tasks(group), (), now)
            return
        kinds = frozenset((worker.name, said.kind) for worker, said in refusals if said is not None)
        told = group.notice if group.notice is not None and group.notice.kinds == kinds else None
        if told is not None and group.newest <= told.newest:
            return  # with a million waiting tasks it matters not to look at each
        tasks = self._tables.queues.tasks(group)
        if told is not None:
            tasks = [task for task in tasks if task.key > told.newest]
        if tasks:
            newest = max(task.key for task in tasks)
            group.notice = Notice(kinds, newest)
            self._say(group, tasks, _obstacles(refusals), now)

    def _say(self, group: Group, tasks: list[Task], obstacles: tuple[Obstacle, ...], now: float) -> None:
        queue = group.queue
        numbers = tuple(task.number for task in tasks)
        offered = bool(queue.able)  # a worker that is too small for it will not grow
        waiting = Waiting(group.session.name, numbers, queue.need, obstacles, offered, queue.ever)
        self._tables.say(group.session.peer, waiting, now)

    def _refusals(self, need: Need, now: float) -> list[tuple[Worker, Refusal | None]]:
        return [
            (self._tables.workers[name], refusal(need, self._tables.workers[name], now))
            for name in sorted(self._tables.workers)
        ]

    # --- questions ------------------------------------------------------------------------------------

    def explain(self, session: str, task: str, now: float, owner: str = "") -> Explanation:
        """Return what is known of a task, by name or number; an empty session means any, newest first.

        With `owner`, only that key's sessions are looked at.
        """
        for name in [session] if session else reversed(list(self._tables.sessions)):
            if owner and name in self._tables.sessions and self._tables.sessions[name].owner != owner:
                continue
            found = self._explain_in(name, task, now)
            if found is not None:
                return found
        return Explanation(task, "unknown")

    def status(self, now: float) -> Status:
        """Return the whole farm at this moment."""
        tables = self._tables
        return Status(
            self._farm,
            self._version,
            now - tables.started_at,
            tuple(
                _host_status(tables.hosts[name], now, self._host_works(name)) for name in sorted(tables.hosts)
            ),
            tuple(_worker_status(tables.workers[name], now) for name in sorted(tables.workers)),
            sum(session.unended - session.running for session in tables.sessions.values()),
            sum(session.running for session in tables.sessions.values()),
            tables.journal_fault,
            self._volatile.servers(now),
            self._volatile.queued,
        )

    def sessions(self, now: float) -> tuple[SessionStatus, ...]:
        """Return all runs that are known, the oldest first."""
        return tuple(self._session_status(session, now) for session in self._tables.sessions.values())

    def _session_status(self, session: Session, now: float) -> SessionStatus:
        peer = self._tables.peers.get(session.peer)
        return SessionStatus(
            session.name,
            session.owner,
            (peer.hostname or peer.host) if peer is not None else "",
            session.unended - session.running,
            session.running,
            len(session.tasks) - session.unended,
            None if session.peer else max(0.0, session.expires_at - now),
        )

    def _host_works(self, host: str) -> bool:
        return any(worker.peer and worker.host.host == host for worker in self._tables.workers.values())

    def _explain_in(self, session_name: str, name: str, now: float) -> Explanation | None:
        session = self._tables.sessions.get(session_name)
        if session is None:
            return None
        for number, key in session.tasks.items():
            task = self._tables.tasks[key]
            if name in (task.name, str(number)):
                return self._explain_task(task, now)
        for names in (session.put_off or {}).values():
            if any(name in (off, str(number)) for number, off in names.items()):
                return Explanation(name, "waiting", (self._tables.journal_obstacle(),))
        for number, (old, past) in session.remembered.items():
            if name in (old, str(number)):
                return Explanation(old, "ended", (), past)
        return None

    def _explain_task(self, task: Task, now: float) -> Explanation:
        if task.leader:
            leader = self._tables.tasks[task.leader]
            said = self._explain_task(leader, now)
            return Explanation(task.name, said.state, said.obstacles, said.attempts)
        past = task.past
        if task.live is not None:
            worker = self._tables.workers[task.live.worker]
            started_at = task.live.sent_at + self._tables.wall_offset
            reason = "waits at the worker for a slot" if task.live.backlog else ""
            if task.live.result is not None:
                reason = "finished; its outputs are on their way"
            run_s = now - task.live.sent_at
            present = Past(task.attempt, worker.name, worker.hostname, "running", reason, started_at, run_s)
            past = (*past, present)
        obstacles = self._why_waits(task, now) if task.state is TaskState.WAITING else ()
        return Explanation(task.name, task.state.name.lower(), obstacles, past)

    def _why_waits(self, task: Task, now: float) -> tuple[Obstacle, ...]:
        if task.looking:
            return (Obstacle("host", "manager", "the result cache is being searched"),)
        if task.lacking:
            peer = self._tables.peers.get(task.session.peer)
            files = "1 input has" if task.lacking == 1 else f"{task.lacking} inputs have"
            name = (peer.hostname or peer.host) if peer is not None else "client"
            return (Obstacle("host", name, f"{files} not arrived from there yet"),)
        if self._tables.holding(now):
            return (self._tables.holding_obstacle(now),)
        refusals = []
        for worker, said in self._refusals(task.queue.need, now):
            rest = task.avoid.get(worker.name) if task.avoid else None
            if said is None and rest is not None and now < rest.until:
                said = Refusal(
                    "rest", f"declined it ({rest.reason}); asked again in {rest.until - now:.0f} s"
                )
            refusals.append((worker, said))
        return _obstacles(refusals)


def _obstacles(refusals: list[tuple[Worker, Refusal | None]]) -> tuple[Obstacle, ...]:
    """Return the refusals as clients read them; the nearest misses first, a host's own only once."""
    entries: dict[tuple[str, str], tuple[bool, Obstacle]] = {}
    for worker, said in refusals:
        if said is None:
            continue
        name = worker.name if said.place == "worker" else worker.host.hostname or worker.host.host
        obstacle = Obstacle(said.place, name, said.reason)
        entries[said.place, name] = (said.kind in NOT_OFFERED, obstacle)
    if not refusals:
        return (Obstacle("host", "manager", "no worker is connected"),)
    largest = _largest(refusals)
    ordered = sorted(entries.values(), key=lambda entry: (entry[0], entry[1].name != largest, entry[1].name))
    return tuple(obstacle for _, obstacle in ordered[:OBSTACLES])


def _largest(refusals: list[tuple[Worker, Refusal | None]]) -> str:
    """Return the largest of the workers that offer what is needed, if all of them are too small."""
    offering = [(worker, said) for worker, said in refusals if said and said.kind not in NOT_OFFERED]
    if any(said.kind != "size" for _, said in offering):
        return ""
    return max(((w.slots, w.memory, w.gpus, w.name) for w, _ in offering), default=(0, 0, 0, ""))[3]


def _host_status(host: Host, now: float, works: bool) -> HostStatus:
    report = host.report
    if report is None:
        return HostStatus(host.host, host.hostname, works, None, 0, 0, 0, 0, None, "")
    return HostStatus(
        host.host,
        host.hostname,
        not host.stale(now),
        report.load,
        report.cpus,
        report.memory_total,
        report.memory_available,
        report.gpus,
        now - host.reported_at,
        report.policy,
        report.clock_offset_s,
    )


def _worker_status(worker: Worker, now: float) -> WorkerStatus:
    return WorkerStatus(
        worker.name,
        worker.host.host,
        worker.hostname,
        tuple(worker.offers.values()),
        worker.slots,
        len(worker.running),
        _state_of(worker, now),
        worker.tier,
        worker.weight,
        worker.done,
        worker.failed,
        _reason_of(worker, now),
    )


def _state_of(worker: Worker, now: float) -> str:
    if not worker.peer:
        return "silent"
    if worker.draining:
        return "draining"
    if now < worker.quarantined_until:
        return "quarantined"
    if worker.held or over_limit(worker, now) is not None:
        return "held"
    if worker.reserved is not None:
        return "reserved"
    return "busy" if worker.running else "idle"


def _reason_of(worker: Worker, now: float) -> str:
    match _state_of(worker, now):
        case "quarantined":
            return quarantined(worker, now)
        case "held":
            limit = over_limit(worker, now)
            return worker.held or (limit.reason if limit is not None else "")
        case "reserved":
            return f"kept free for {worker.reserved_for}"
    return "; ".join(f"no longer offers {name}: {gone.reason}" for name, gone in worker.withdrawn.items())
