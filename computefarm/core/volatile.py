"""Requests to warm workers: balanced, merged, given to others when a worker fails, dropped when late.

Nothing of this is written down. A request is a pure function, so it may be computed twice; its client keeps
it and asks again. What waits is bounded: a client that sends more is told `busy`.

    Request ──▶ queue ──▶ given to a worker ──▶ Reply
                  ▲              │
                  └── worker lost, silent or failing (twice at most)
"""

from __future__ import annotations

import heapq

import msgspec

from computefarm.messages import Heartbeat, Reply, Request, ServerStatus, Withdraw

from .commands import PeerId
from .state import Peer
from .tables import Tables
from .volatile_servers import CAPABILITY, Pending, Server, answers, choose, mismatch

FAILOVERS = 2
"""After so many other workers a request is given up."""

SILENT_S = 1.2
"""A worker with requests in hand says something four times in this time, or others get them."""

GRACE_S = 0.25
"""After its deadline a request that nobody has answered is answered here."""

QUEUED_EACH = 4096
QUEUED = 20_000
QUEUED_BYTES = 256 * 1024 * 1024
"""What waits, per client and in all; more is refused."""

DESERTED = "no worker answers requests there now"

GOOD = frozenset({"ok", "no_proof"})

AGAIN = frozenset({"error", "busy"})
"""Statuses that another worker may do better than."""


class Asker(msgspec.Struct, frozen=True):
    """Who waits for an answer, under which number, and until when."""

    peer: PeerId
    number: int
    until: float
    passed_on: bool = False
    """It is a manager, and may have others to ask."""


class Ticket(msgspec.Struct, eq=False):
    """One computation, for one or more askers."""

    key: int
    request: Request
    queued_at: float
    askers: list[Asker]
    tried: list[str] = []
    """Workers that it was given to, in order."""
    troubles: list[str] = []
    """What became of that, in words."""
    given_at: float = 0.0
    worker: str = ""
    """Who has it; empty while it waits."""
    turn: float = 0.0
    """Its place in the queue: clients take turns."""
    same: tuple[object, ...] = ()
    """What equal requests have in common."""

    @property
    def about(self) -> str:
        """Return what it asks, for people."""
        sizes = (f"{name}={value}" for name, value in self.request.sizes)
        return " ".join((self.request.kernel, *sizes))[:255]

    @property
    def until(self) -> float:
        """Return when nobody waits for it any more."""
        return max(asker.until for asker in self.askers)


class Volatile:
    """The requests of one manager. `settle` is called whenever something has changed."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._tickets: dict[int, Ticket] = {}
        self._waiting: dict[tuple[object, ...], list[tuple[float, int]]] = {}
        """By what a worker must have: heaps of turn and ticket."""
        self._same: dict[tuple[object, ...], int] = {}
        self._asked: dict[tuple[PeerId, int], int] = {}
        self._each: dict[PeerId, int] = {}
        self._turns: dict[PeerId, float] = {}
        self._turn = 0.0
        self._servers: dict[str, Server] = {}
        self._due: list[tuple[float, int]] = []
        """When a ticket's first asker has waited long enough."""
        self._counter = 0
        self._passes_on = False
        """There is an upstream."""
        self._bytes = 0
        self.queued = 0

    # --- what comes in --------------------------------------------------------------------------------

    def request(self, peer: Peer, request: Request, now: float) -> None:
        """Take a request in, join it with an equal one, or refuse it."""
        if (peer.peer, request.number) in self._asked:
            return  # said again on a new connection
        self._meet()
        until = now + min(max(0.0, request.budget_s), 86_400.0)
        asker = Asker(peer.peer, request.number, until, bool(request.path))
        same = self._identity(request)
        key = self._same.get(same)
        if key is None:
            refused = self._refusal(peer.peer, request, now)
            if refused is not None:
                self._tables.say(peer.peer, refused, now)
                return
            key = self._enter(peer.peer, request, asker, same, now)
        else:
            self._tickets[key].askers.append(asker)
        self._asked[peer.peer, request.number] = key
        self._each[peer.peer] = self._each.get(peer.peer, 0) + 1
        heapq.heappush(self._due, (until + GRACE_S, key))

    def reply(self, peer: Peer, reply: Reply, now: float) -> None:
        """Pass a worker's answer on, or ask another worker."""
        server = self._servers.get(peer.worker)
        pending = server.pending.pop(reply.number, None) if server is not None else None
        if server is None or pending is None or server.peer != peer.peer:
            return  # withdrawn meanwhile
        good = reply.status in ("ok", "no_proof", "bad_request")
        server.served += good
        server.failed += not good and reply.status != "deadline"
        server.device = reply.device or server.device
        server.devices.answered(
            reply.device, good, not good and reply.status != "deadline", now - pending.since
        )
        if good:
            server.took(now - pending.since)
        ticket = self._tickets.get(pending.ticket)
        if ticket is None:
            return
        ours = ticket.worker == server.worker.name
        if not good and not ours:
            return  # somebody else has it by now
        if reply.status in AGAIN and self._again(ticket, server, reply.reason or reply.status, now):
            return
        if reply.status == "deadline" and now < ticket.until:
            self._requeue(ticket)  # somebody with more time has joined since it was sent
            return
        self._answer(ticket, reply, server, now)

    def heard(self, peer: Peer, message: Heartbeat, now: float) -> None:
        """Take what a worker says of its devices."""
        server = self._servers.get(peer.worker)
        if server is not None and message.devices:
            server.devices.heard(message.devices, now)

    def withdraw(self, peer: Peer, message: Withdraw, now: float) -> None:
        """Forget what a client does not want any more."""
        for number in message.numbers:
            self._leave(peer.peer, number, now)

    # --- what time and others do ----------------------------------------------------------------------

    def settle(self, now: float) -> None:
        """Notice who came, went or fell silent, and place what can be placed."""
        if not self._tickets and not any(one.pending or one.silent for one in self._servers.values()):
            return
        self._meet()
        self._review(now)
        if self.queued:
            self._place(now)
        if self.queued and self._deserted:
            self._send_back(now)

    def tick(self, now: float) -> None:
        """Answer what is late, and forget what clients that are gone have asked."""
        for peer, number in [name for name in self._asked if name[0] not in self._tables.peers]:
            self._leave(peer, number, now)
        while self._due and self._due[0][0] <= now:
            _, key = heapq.heappop(self._due)
            ticket = self._tickets.get(key)
            if ticket is not None:
                self._late(ticket, now)
        for name in [name for name in self._turns if name not in self._tables.peers]:
            del self._turns[name]

    def next_deadline(self) -> float | None:
        """Return when to call `tick`."""
        deadline = self._due[0][0] if self._due else None
        for server in self._servers.values():
            if server.pending and not server.silent:
                known = self._tables.peers.get(server.peer)
                since = min(one.since for one in server.pending.values())
                at = max(since, known.seen_at if known is not None else 0.0) + SILENT_S
                deadline = at if deadline is None else min(deadline, at)
        return deadline

    def servers(self, now: float) -> tuple[ServerStatus, ...]:
        """Return how the workers do that answer requests."""
        self._meet()
        here = sorted(self._servers.keys() & self._tables.workers.keys())
        return tuple(self._servers[name].status(now) for name in here)

    # --- tickets --------------------------------------------------------------------------------------

    def _identity(self, request: Request) -> tuple[object, ...]:
        """Return what equal requests have in common.

        Where requests are passed on, those that came another way are not equal: two managers that pass on
        to each other would wait for each other's answer.
        """
        path = request.path if self._passes_on else ()
        return request.kernel, request.version, request.device, request.body, path

    def _refusal(self, peer: PeerId, request: Request, now: float) -> Reply | None:
        number, count = request.number, len(self._tickets)
        if self._each.get(peer, 0) >= QUEUED_EACH:
            text = f"{QUEUED_EACH} requests of this client wait already; ask again when some are answered"
            return Reply(number, "busy", text, attempts=0)
        if count >= QUEUED or self._bytes + len(request.body) > QUEUED_BYTES:
            return Reply(number, "busy", f"{count} requests wait already; ask again later", attempts=0)
        if request.path and self._deserted:
            return Reply(number, "busy", DESERTED, attempts=0)
        reason = self._impossible(request) if now >= self._tables.settled_at else ""
        return Reply(number, "error", reason, attempts=0) if reason else None

    def _impossible(self, request: Request) -> str:
        """Say why no worker that is here can ever answer; while none is here, one may come."""
        reasons: dict[str, str] = {}
        for name in sorted(self._servers):
            reason = mismatch(request, self._servers[name].worker)
            if not reason:
                return ""
            reasons.setdefault(reason, name)
        if not reasons:
            return ""
        told = "; ".join(f"{name} {reason}" for reason, name in list(reasons.items())[:3])
        return f"no worker can do this: {told}"

    def _enter(
        self, peer: PeerId, request: Request, asker: Asker, same: tuple[object, ...], now: float
    ) -> int:
        self._counter += 1
        key = self._counter
        turn = max(self._turn, self._turns.get(peer, 0.0)) + 1.0
        self._turns[peer] = turn
        ticket = Ticket(key, request, now, [asker], turn=turn, same=same)
        self._tickets[key] = ticket
        self._same[same] = key
        self._bytes += len(request.body)
        self._queue(ticket)
        return key

    def _queue(self, ticket: Ticket) -> None:
        ticket.worker = ""
        request = ticket.request
        need = (request.kernel, request.version, request.device, request.memory, request.sizes, request.vram)
        heapq.heappush(self._waiting.setdefault(need, []), (ticket.turn, ticket.key))
        self.queued += 1

    def _requeue(self, ticket: Ticket) -> None:
        """Back to where it was in the queue, which is the front by now."""
        self._queue(ticket)

    def _forget(self, ticket: Ticket) -> None:
        del self._tickets[ticket.key]
        self._same.pop(ticket.same, None)
        self._bytes -= len(ticket.request.body)
        if not ticket.worker:
            self.queued -= 1  # its entry in the heap is skipped when it comes up
        for asker in ticket.askers:
            self._unask(asker)

    def _unask(self, asker: Asker) -> None:
        self._asked.pop((asker.peer, asker.number), None)
        left = self._each.get(asker.peer, 0) - 1
        if left > 0:
            self._each[asker.peer] = left
        else:
            self._each.pop(asker.peer, None)

    def _leave(self, peer: PeerId, number: int, now: float) -> None:
        key = self._asked.get((peer, number))
        if key is None:
            return
        ticket = self._tickets[key]
        gone = [asker for asker in ticket.askers if (asker.peer, asker.number) == (peer, number)]
        ticket.askers = [asker for asker in ticket.askers if asker not in gone]
        for asker in gone:
            self._unask(asker)
        if not ticket.askers:
            self._call_back(ticket, now)
            self._forget(ticket)

    def _late(self, ticket: Ticket, now: float) -> None:
        """Tell those whose time is over."""
        over = [asker for asker in ticket.askers if asker.until + GRACE_S <= now]
        ticket.askers = [asker for asker in ticket.askers if asker not in over]
        for asker in over:
            self._unask(asker)
            waited_ms = (now - ticket.queued_at) * 1000.0
            reply = Reply(
                asker.number,
                "deadline",
                f"no answer within {waited_ms:.0f} ms: {self._story(ticket, now)}",
                queue_ms=((ticket.given_at or now) - ticket.queued_at) * 1000.0,
                attempts=len(ticket.tried),
                about=ticket.about,
            )
            self._tables.say(asker.peer, reply, now)
        if over and not ticket.askers:
            self._call_back(ticket, now)
            self._forget(ticket)

    def _story(self, ticket: Ticket, now: float) -> str:
        """Return what became of a ticket, for people."""
        told = list(ticket.troubles)
        if ticket.worker and not (told and told[-1].startswith(f"{ticket.worker}: ")):
            told.append(f"{ticket.worker} has had it for {(now - ticket.given_at) * 1000:.0f} ms")
        elif not self._servers:
            told.append(f"no worker offers {CAPABILITY}")
        elif not told:
            told.append(self._impossible(ticket.request) or self._held() or "every worker was busy")
        count = len(ticket.tried)
        return f"{count} attempt{'' if count == 1 else 's'}; " + "; ".join(told)

    @property
    def _deserted(self) -> bool:
        """Return whether nobody is here who could answer anything."""
        servers = self._servers.values()
        return not any(one.worker.peer and not one.silent and not one.worker.held for one in servers)

    def _send_back(self, now: float) -> None:
        """Have other managers ask somebody else than us, who can only wait."""
        for ticket in [ticket for ticket in self._tickets.values() if not ticket.worker]:
            back = [asker for asker in ticket.askers if asker.passed_on]
            ticket.askers = [asker for asker in ticket.askers if not asker.passed_on]
            for asker in back:
                self._unask(asker)
                tries = len(ticket.tried)
                reply = Reply(asker.number, "busy", DESERTED, attempts=tries, about=ticket.about)
                self._tables.say(asker.peer, reply, now)
            if not ticket.askers:
                self._forget(ticket)

    def _held(self) -> str:
        """Say why no worker takes anything now, when that is so."""
        states = [f"{name}: {server.worker.held}" for name, server in sorted(self._servers.items())]
        return "; ".join(states[:3]) if all(one.worker.held for one in self._servers.values()) else ""

    def _call_back(self, ticket: Ticket, now: float) -> None:
        """Tell whoever has it that nobody wants it any more."""
        server = self._servers.get(ticket.worker)
        if server is None:
            return
        numbers = tuple(number for number, one in server.pending.items() if one.ticket == ticket.key)
        for number in numbers:
            del server.pending[number]
        if numbers:
            self._tables.say(server.peer, Withdraw(numbers), now)

    def _answer(self, ticket: Ticket, reply: Reply, server: Server, now: float) -> None:
        waited_ms = (ticket.given_at - ticket.queued_at) * 1000.0
        reason = reply.reason
        if reply.status == "deadline":
            since_ms = (now - ticket.queued_at) * 1000.0
            reason = f"no answer within {since_ms:.0f} ms: {self._story(ticket, now)}"
        elif ticket.troubles and reply.status in AGAIN:
            reason = f"given up after {self._story(ticket, now)}"
        if ticket.worker and ticket.worker != server.worker.name:
            self._call_back(ticket, now)
        where, hostname, tries = server.worker.name, server.worker.hostname, len(ticket.tried)
        if server.upstream and reply.worker:
            where, hostname = f"{where}/{reply.worker}"[:255], reply.hostname
            tries += max(0, reply.attempts - 1)
        for asker in ticket.askers:
            late = reply.status in GOOD and now > asker.until
            answer = msgspec.structs.replace(
                reply,
                number=asker.number,
                status="deadline" if late else reply.status,
                values=b"" if late else reply.values,
                reason=f"answered {(now - asker.until) * 1000:.0f} ms too late" if late else reason,
                queue_ms=reply.queue_ms + waited_ms,
                worker=where,
                hostname=hostname,
                attempts=tries,
                merged=reply.merged or len(ticket.askers) > 1,
                about=ticket.about,
            )
            self._tables.say(asker.peer, answer, now)
        self._forget(ticket)

    def _again(self, ticket: Ticket, server: Server, trouble: str, now: float) -> bool:
        """Give a ticket to somebody else, unless that was done often enough; return whether it was."""
        ticket.troubles.append(f"{server.worker.name}: {trouble}")
        if len(ticket.tried) > FAILOVERS or now >= ticket.until:
            return False
        _, fresh = choose(ticket.request, self._servers.values(), ticket.tried, now)
        gone = not server.worker.peer or server.silent or bool(server.worker.held)
        if not fresh and not gone:
            return False
        self._requeue(ticket)
        return True

    # --- workers --------------------------------------------------------------------------------------

    def _meet(self) -> None:
        """Know every worker that offers to answer requests, under its connection of now."""
        for name, worker in self._tables.workers.items():
            if answers(worker) is None:
                continue
            server = self._servers.get(name)
            if server is None:
                given = min((other.given for other in self._servers.values()), default=0.0)
                self._servers[name] = Server(worker, worker.peer, given=given)
                self._passes_on = self._passes_on or self._servers[name].upstream
            elif server.worker is not worker:
                server.worker = worker  # the same name, restarted; `_review` sees that its peer is another

    def _review(self, now: float) -> None:
        for name, server in list(self._servers.items()):
            worker = self._tables.workers.get(name)
            if worker is None or worker.peer != server.peer:
                gone = worker is None or not worker.peer
                self._lost(server, "its connection ended" if gone else "was restarted", now)
                server.peer = worker.peer if worker is not None else ""
            if worker is None:
                del self._servers[name]
                continue
            if server.pending or server.silent:
                self._listen(server, now)

    def _listen(self, server: Server, now: float) -> None:
        """Give a worker's requests to others when it says nothing, and trust it again when it does."""
        known = self._tables.peers.get(server.peer)
        heard = known.seen_at if known is not None else 0.0
        since = min((one.since for one in server.pending.values()), default=heard)
        silent = now >= max(since, heard) + SILENT_S
        if silent and not server.silent:
            server.silent = True
            for number, one in server.pending.items():
                ticket = self._tickets.get(one.ticket)
                if ticket is not None and ticket.worker == server.worker.name and not one.abandoned:
                    one.abandoned = True
                    self._hand_on(ticket, server, f"silent for {now - heard:.1f} s", number, now)
        elif server.silent and known is not None and now < heard + SILENT_S:
            server.silent = False
            over = tuple(number for number, one in server.pending.items() if one.abandoned)
            for number in over:
                del server.pending[number]
            if over:
                self._tables.say(server.peer, Withdraw(over), now)

    def _lost(self, server: Server, trouble: str, now: float) -> None:
        lost, server.pending, server.silent = server.pending, {}, False
        for number, one in lost.items():
            ticket = self._tickets.get(one.ticket)
            if ticket is not None and ticket.worker == server.worker.name:
                server.failed += 1
                self._hand_on(ticket, server, trouble, number, now)

    def _hand_on(self, ticket: Ticket, server: Server, trouble: str, number: int, now: float) -> None:
        gone = server.silent
        server.silent = True  # it is not there: asking it again later is better than giving up
        if not self._again(ticket, server, trouble, now):
            self._answer(ticket, Reply(number, "error", trouble), server, now)
        server.silent = gone

    def _place(self, now: float) -> None:
        """Give what waits to workers with room, the earliest turn first."""
        blocked: set[tuple[object, ...]] = set()
        while True:
            best: tuple[float, int] | None = None
            for need, heap in list(self._waiting.items()):
                while heap and not self._waits(heap[0][1]):
                    heapq.heappop(heap)
                if not heap:
                    del self._waiting[need]
                elif need not in blocked and (best is None or heap[0] < best):
                    best, chosen = heap[0], need
            if best is None:
                return
            ticket = self._tickets[best[1]]
            server, _ = choose(ticket.request, self._servers.values(), ticket.tried, now)
            if server is None:
                blocked.add(chosen)
                continue
            heapq.heappop(self._waiting[chosen])
            self._give(ticket, server, now)

    def _waits(self, key: int) -> bool:
        ticket = self._tickets.get(key)
        return ticket is not None and not ticket.worker

    def _give(self, ticket: Ticket, server: Server, now: float) -> None:
        self.queued -= 1
        self._counter += 1
        number = self._counter
        ticket.worker, ticket.given_at = server.worker.name, now
        ticket.tried.append(server.worker.name)
        self._turn = max(self._turn, ticket.turn)
        server.given += 1.0 / server.worker.weight
        server.pending[number] = Pending(ticket.key, ticket.request.memory, now, ticket.until)
        sent = msgspec.structs.replace(
            ticket.request, number=number, budget_s=max(0.0, ticket.until - now), attempt=len(ticket.tried)
        )
        self._tables.say(server.peer, sent, now)
