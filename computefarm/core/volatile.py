"""Requests to warm workers: balanced, merged, given to others when a worker fails, dropped when late.

Nothing of this is written down. A request is a pure function, so it may be computed twice; its client keeps
it and asks again. What waits is bounded: a client that sends more is told `busy`.

    Request ──▶ queue ──▶ given to a worker ──▶ Reply
                  ▲              │
                  └── worker lost, silent or failing (twice at most)
"""

from __future__ import annotations

import msgspec

from computefarm.messages import Heartbeat, Reply, Request, ServerStatus, Withdraw

from .commands import PeerId
from .state import Peer
from .tables import Tables
from .volatile_book import Asker, Book, Identity, Need, Ticket
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


class Volatile:
    """The requests of one manager. `settle` is called whenever something has changed."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._book = Book()
        self._servers: dict[str, Server] = {}
        self._passes_on = False
        """There is an upstream."""
        self._settled = False

    @property
    def queued(self) -> int:
        """Return how many requests wait for a worker."""
        return self._book.queued

    # --- what comes in --------------------------------------------------------------------------------

    def request(self, peer: Peer, request: Request, now: float) -> None:
        """Take a request in, join it with an equal one, or refuse it."""
        book = self._book
        if (peer.peer, request.number) in book.asked:
            return  # said again on a new connection
        self._meet()
        same = self._identity(request)
        ticket = book.equal(same)
        if ticket is None:
            refused = self._refusal(peer.peer, request, now)
            if refused is not None:
                self._tables.say(peer.peer, refused, now)
                return
            ticket = book.enter(request, peer.peer, same, now)
        until = now + min(max(0.0, request.budget_s), 86_400.0)
        asker = Asker(peer.peer, request.number, until, request.others)
        book.join(ticket, asker, until + GRACE_S)

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
        ticket = self._book.tickets.get(pending.ticket)
        if ticket is None:
            return
        ours = ticket.worker == server.worker.name
        if not good and not ours:
            return  # somebody else has it by now
        if reply.status in AGAIN and self._again(ticket, server, reply.reason or reply.status, now):
            return
        if reply.status == "deadline" and now < ticket.until:
            self._book.queue(ticket)  # somebody with more time has joined since it was sent
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
        if not self._book.tickets and not any(one.pending or one.silent for one in self._servers.values()):
            return
        self._meet()
        self._review(now)
        if self.queued:
            self._place(now)
        if self.queued and self._deserted:
            self._send_back(now)

    def tick(self, now: float) -> None:
        """Answer what is late, and forget what clients that are gone have asked."""
        here = self._tables.peers
        for peer, number in [name for name in self._book.asked if name[0] not in here]:
            self._leave(peer, number, now)
        for ticket in self._book.overdue(now):
            self._late(ticket, now)
        if not self._settled and now >= self._tables.settled_at:
            self._settled = True
            self._meet()
            self._refuse_waiting(now)
        self._book.forget_turns(here)

    def next_deadline(self) -> float | None:
        """Return when to call `tick`."""
        deadline = self._book.next_due()
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

    def _identity(self, request: Request) -> Identity:
        """Return what equal requests have in common.

        Where requests are passed on, those that came another way are not equal: two managers that pass on
        to each other would wait for each other's answer.
        """
        path = request.path if self._passes_on else ()
        return request.kernel, request.version, request.device, request.body, path

    def _refusal(self, peer: PeerId, request: Request, now: float) -> Reply | None:
        book, number, count = self._book, request.number, len(self._book.tickets)
        if book.each.get(peer, 0) >= QUEUED_EACH:
            text = f"{QUEUED_EACH} requests of this client wait already; ask again when some are answered"
            return Reply(number, "busy", text, attempts=0)
        if count >= QUEUED or book.bytes + len(request.body) > QUEUED_BYTES:
            return Reply(number, "busy", f"{count} requests wait already; ask again later", attempts=0)
        if request.others and self._deserted:
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

    def _refuse_waiting(self, now: float) -> None:
        """Refuse what came while workers might still have come, and nobody who has come can ever answer."""
        for ticket in [ticket for ticket in self._book.tickets.values() if not ticket.worker]:
            reason = self._impossible(ticket.request)
            if reason:
                askers = list(ticket.askers)
                self._book.drop(ticket, askers)
                for asker in askers:
                    reply = Reply(asker.number, "error", reason, attempts=0, about=ticket.about)
                    self._tables.say(asker.peer, reply, now)
                self._book.forget(ticket)

    def _leave(self, peer: PeerId, number: int, now: float) -> None:
        deserted = self._book.leave(peer, number)
        if deserted is not None:
            self._call_back(deserted, now)
            self._book.forget(deserted)

    def _late(self, ticket: Ticket, now: float) -> None:
        """Tell those whose time is over."""
        over = [asker for asker in ticket.askers if asker.until + GRACE_S <= now]
        self._book.drop(ticket, over)
        for asker in over:
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
            self._book.forget(ticket)

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
        """Have those who can ask somebody else than us do so: here they would only wait."""
        for ticket in [ticket for ticket in self._book.tickets.values() if not ticket.worker]:
            back = [asker for asker in ticket.askers if asker.others]
            self._book.drop(ticket, back)
            for asker in back:
                tries = len(ticket.tried)
                reply = Reply(asker.number, "busy", DESERTED, attempts=tries, about=ticket.about)
                self._tables.say(asker.peer, reply, now)
            if not ticket.askers:
                self._book.forget(ticket)

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
        self._book.forget(ticket)

    def _again(self, ticket: Ticket, server: Server, trouble: str, now: float) -> bool:
        """Give a ticket to somebody else, unless that was done often enough; return whether it was."""
        ticket.troubles.append(f"{server.worker.name}: {trouble}")
        if len(ticket.tried) > FAILOVERS or now >= ticket.until:
            return False
        _, fresh = choose(ticket.request, self._servers.values(), ticket.tried, now)
        gone = not server.worker.peer or server.silent or bool(server.worker.held)
        if not fresh and not gone:
            return False
        self._book.queue(ticket)
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
                ticket = self._book.tickets.get(one.ticket)
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
            ticket = self._book.tickets.get(one.ticket)
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
        blocked: set[Need] = set()
        while (found := self._book.first(blocked)) is not None:
            need, ticket = found
            server, _ = choose(ticket.request, self._servers.values(), ticket.tried, now)
            if server is None:
                blocked.add(need)
            else:
                self._give(need, ticket, server, now)

    def _give(self, need: Need, ticket: Ticket, server: Server, now: float) -> None:
        number = self._book.give(need, ticket, server.worker.name, now)
        server.given += 1.0 / server.worker.weight
        server.pending[number] = Pending(ticket.key, ticket.request.memory, now, ticket.until)
        sent = msgspec.structs.replace(
            ticket.request, number=number, budget_s=max(0.0, ticket.until - now), attempt=len(ticket.tried)
        )
        self._tables.say(server.peer, sent, now)
