"""The client's loop: one connection per server, requests balanced over them, answers to whoever waits."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from computefarm.core.volatile_servers import CAPABILITY, REQUESTS
from computefarm.errors import FarmError, Refused, Unreachable
from computefarm.messages import (
    AskTime,
    Disconnect,
    FromManager,
    Goodbye,
    Heartbeat,
    Offers,
    Pool,
    Reply,
    Request,
    Welcome,
    Withdraw,
)
from computefarm.services.link import Link, link_error
from computefarm.services.loop import Loop
from computefarm.transport.mailbox import Mailbox
from computefarm.transport.peer_end import LinkEvent, LinkState, PeerEnd

from .balance import FAILOVERS, Balance, Standing
from .calls import Call, Server, common_error

GRACE_S = 0.5
"""After its deadline: the server's own word on what happened is on its way."""

FOR_GOOD = ("role", "key", "version")
"""Codes of those who will not have us, however often we come."""


class RecomputeService:
    """Part of a loop; `ask` may be called from any thread."""

    def __init__(
        self,
        balance: Balance,
        connections: Sequence[PeerEnd],
        *,
        host: str,
        hostname: str,
        connect_s: float,
        patience_s: float | None = None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """`connections` belong to the balance's standings, in their order.

        Without any usable server requests wait for `patience_s` (`connect_s` unless given) for one to come
        back. `changed` is called when a server comes, goes, or offers something else.
        """
        self._balance = balance
        self._connections = tuple(connections)
        self._host = host
        self._hostname = hostname
        self._connect_s = connect_s
        self._patience_s = connect_s if patience_s is None else patience_s
        self._changed = changed
        self._mail: Mailbox[Call | Callable[[], None]] = Mailbox()
        self._servers: dict[str, Server] = {}
        self._queue: deque[Call] = deque()
        self._due: list[tuple[float, int, Call]] = []
        """When somebody has waited long enough; those that have ended are skipped."""
        self._number = 0
        self._counter = 0
        self._in_flight = 0
        self._lonely_at = 0.0
        """Since when no server can be used; meaningless while one can."""
        self._lonely = True
        self._asking: tuple[Callable[[int], None], float] | None = None

    # --- for other threads ----------------------------------------------------------------------------

    def ask(self, request: Request, deadline_s: float, then: Callable[[Reply], None]) -> Call:
        """Have this answered; `then` is called on the loop's thread."""
        call = Call(request, deadline_s, then)
        self._mail.put(call)
        return call

    def call(self, action: Callable[[], None]) -> None:
        """Do this on the loop's thread."""
        self._mail.put(action)

    # --- on the loop's thread -------------------------------------------------------------------------

    def take(self, call: Call) -> None:
        """Have this answered, like `ask`; without any server it is answered before this returns."""
        now = self._clock()
        self._enter(call, now)
        self._send(now)

    def withdraw(self, call: Call) -> None:
        """Forget a request: nobody waits for its answer any more."""
        if call.ended:
            return
        call.ended = True
        server = self._servers.get(call.host)
        if server is not None:
            self._release(server, call)
            self._say(server, Withdraw((call.number,)), self._clock())
        elif call in self._queue:
            self._queue.remove(call)
        self._send(self._clock())

    def when_ready(self, then: Callable[[int], None], patience_s: float) -> None:
        """Call `then` with the slots of all servers when each has said what it offers, or cannot be used."""
        self._asking = (then, self._clock() + patience_s)
        self._tell_slots(self._clock())

    def pools(self, name: str) -> tuple[Pool, ...]:
        """Return what a server offers, for requests."""
        return self._servers[name].pools

    @property
    def usable(self) -> bool:
        """Return whether any server may be asked now."""
        return any(server.standing.usable(self._clock()) for server in self._servers.values())

    def trouble(self, name: str) -> str:
        """Return why a server cannot be asked, or nothing."""
        server = self._servers[name]
        return "" if server.standing.usable(self._clock()) else self._state(server)

    def _tell_slots(self, now: float) -> None:
        if self._asking is None:
            return
        then, until = self._asking
        servers = self._servers.values()
        if now >= until or all(server.error or server.standing.slots for server in servers):
            self._asking = None
            then(sum(server.standing.slots for server in servers if server.standing.up))

    # --- the loop's side ------------------------------------------------------------------------------

    def attach(self, loop: Loop) -> None:
        """Dial every server."""
        self._clock = loop.clock
        now = self._lonely_at = loop.clock()
        loop.watch(self._mail.fileno(), self._read_mail)
        for standing, end in zip(self._balance.standings, self._connections, strict=True):
            self._dial(loop, standing, end, now)

    def _dial(self, loop: Loop, standing: Standing, end: PeerEnd, now: float) -> None:
        link = Link(
            role="client",
            host=self._host,
            hostname=self._hostname,
            control=end,
            bulk=None,
            up=lambda: None,
            message=lambda message: self._heard(server, message),
            down=lambda event: self._down(server, event),
        )
        server = Server(standing, link, now, now, now)
        self._servers[standing.name] = server
        link.attach(loop)

    def tick(self, now: float) -> None:
        """Heartbeats, deadlines, servers that say nothing."""
        for server in self._servers.values():
            server.link.tick(now)
            if server.standing.up and now >= server.said_at + server.heartbeat_s:
                self._say(server, Heartbeat(), now)
            if server.silent(now, self._connect_s):
                self._fallen_silent(server, now)
            elif server.calls and now >= server.ask_at(self._connect_s):
                server.asked_at = now
                server.link.say(AskTime(now))
        self._expire(now)
        self._send(now)
        self._tell_slots(now)

    def next_deadline(self) -> float | None:
        """Return when to call `tick`."""
        times = [self._due[0][0]] if self._due else []
        if self._asking is not None:
            times.append(self._asking[1])
        for server in self._servers.values():
            if server.standing.up:
                times += [server.said_at + server.heartbeat_s, server.quiet_at(self._connect_s)]
            if server.calls:
                times.append(server.ask_at(self._connect_s))
            if (at := server.link.next_deadline()) is not None:
                times.append(at)
        if self._queue:
            if (at := self._balance.readmission(self._clock())) is not None:
                times.append(at)
            if self._lonely:
                times.append(self._lonely_at + self._patience_s)
        return min(times, default=None)

    def pace(self) -> float:
        """Everybody waits for every answer."""
        return 0.0

    def flush(self) -> None:
        """Send what this turn has gathered."""
        for server in self._servers.values():
            server.link.flush()

    def close(self) -> None:
        """Say goodbye; whoever still waits is told."""
        now = self._clock()
        for call in [*self._queue, *(c for s in self._servers.values() for c in s.calls.values())]:
            self._end(call, Reply(0, "error", "the client was closed"))
        for server in self._servers.values():
            if server.standing.up:
                self._say(server, Goodbye("done"), now)
            server.link.close()
        self._mail.close()

    # --- requests -------------------------------------------------------------------------------------

    def _read_mail(self) -> None:
        now = self._clock()
        for item in self._mail.drain():
            if isinstance(item, Call):
                self._enter(item, now)
            else:
                item()
        self._send(now)

    def _enter(self, call: Call, now: float) -> None:
        if call.ended:
            return
        call.until = now + call.deadline_s
        self._queue.append(call)
        self._remind(call, call.until)

    def _remind(self, call: Call, at: float) -> None:
        self._counter += 1
        heapq.heappush(self._due, (at, self._counter, call))

    def _send(self, now: float) -> None:
        lonely = not self.usable
        if lonely and not self._lonely:
            self._lonely_at = now
        self._lonely = lonely
        while self._queue and (lonely or self._in_flight < self._balance.limit(now)):
            standing = None if lonely else self._balance.choose(self._queue[0].tried, now)
            if standing is None:
                self._nobody(now)
                return
            self._give(self._queue.popleft(), standing, now)

    def _give(self, call: Call, standing: Standing, now: float) -> None:
        self._number += 1
        call.number, call.host = self._number, standing.name
        call.tried.append(standing.name)
        self._balance.give(standing)
        self._in_flight += 1
        server = self._servers[standing.name]
        if not server.calls:
            server.heard_at = server.asked_at = now
        server.calls[call.number] = call
        budget = max(0.0, call.until - now)
        # The last one that is asked keeps it until somebody there can do it.
        others = call.request.others or (len(self._servers) > 1 and len(call.tried) <= FAILOVERS)
        sent = msgspec.structs.replace(call.request, number=call.number, budget_s=budget, others=others)
        server.link.say(sent)
        server.said_at = now

    def _nobody(self, now: float) -> None:
        """Nobody can be asked: wait a little for connections that are being made, then say so."""
        awaited = any(server.awaited for server in self._servers.values())
        if awaited and now < self._lonely_at + self._patience_s:
            return
        told = "; ".join(f"{name}: {self._state(server)}" for name, server in self._servers.items())
        while self._queue:
            call = self._queue.popleft()
            reason = f"no recompute server is available: {told}"
            if call.troubles:
                reason += f" (before that: {'; '.join(call.troubles)})"
            self._end(call, Reply(0, "error", reason, attempts=0))

    def _state(self, server: Server) -> str:
        return server.state(self._connect_s, new=self._clock() < self._lonely_at + self._connect_s)

    def error(self) -> FarmError | None:
        """Return why no server can be used at all, when that is so."""
        return common_error(server.error for server in self._servers.values())

    def _expire(self, now: float) -> None:
        while self._due and (self._due[0][0] <= now or self._due[0][2].ended):
            _, _, call = heapq.heappop(self._due)
            if call.ended:
                continue
            if call.host and now < call.until + GRACE_S:
                self._remind(call, call.until + GRACE_S)
                continue
            told = list(call.troubles)
            server = self._servers.get(call.host)
            if server is not None:
                self._release(server, call)
                self._say(server, Withdraw((call.number,)), now)
                told.append(f"{server.standing.name} has not answered")
            else:
                self._queue.remove(call)
                states = (f"{n}: {self._state(s)}" for n, s in self._servers.items() if s.error)
                told = told or list(states) or ["every server was busy"]
            waited_ms = call.deadline_s * 1000
            reason = f"no answer within {waited_ms:.0f} ms: {'; '.join(told)}"
            self._end(call, Reply(0, "deadline", reason, attempts=len(call.tried)))

    def _release(self, server: Server, call: Call) -> None:
        del server.calls[call.number]
        call.host = ""
        server.standing.pending -= 1
        self._in_flight -= 1

    def _again(self, call: Call, host: str, trouble: str, now: float) -> bool:
        """Ask another server, unless that was done often enough."""
        call.troubles.append(f"{host}: {trouble}")
        if len(call.tried) > FAILOVERS or now >= call.until:
            return False
        self._queue.appendleft(call)
        return True

    def _end(self, call: Call, reply: Reply) -> None:
        call.ended = True
        if reply.number and len(call.tried) > 1:
            reply = msgspec.structs.replace(reply, attempts=reply.attempts + len(call.tried) - 1)
        call.then(reply)

    # --- servers --------------------------------------------------------------------------------------

    def _say(self, server: Server, message: Heartbeat | Goodbye | Withdraw, now: float) -> None:
        server.link.say(message)
        server.said_at = now

    def _heard(self, server: Server, message: FromManager) -> None:
        now = self._clock()
        server.heard_at = now
        match message:
            case Welcome(heartbeat_s=heartbeat_s):
                server.heartbeat_s = heartbeat_s
                server.met, server.error = True, None
                self._balance.readmit(server.standing)
                self._changed()
            case Offers(pools=pools):
                server.pools = tuple(p for p in pools if p.offer.capability in (CAPABILITY, REQUESTS))
                server.standing.slots = sum(pool.slots for pool in server.pools)
                self._tell_slots(now)
                self._changed()
            case Reply():
                self._replied(server, message, now)
            case Disconnect(code=code, text=text):
                server.error = Refused(text) if code in FOR_GOOD else Unreachable(text)
                server.standing.up = False
                self._give_up(server, text, now, out=code != "stopping")
                server.link.reconnect_later()
        self._send(now)

    def _replied(self, server: Server, reply: Reply, now: float) -> None:
        call = server.calls.get(reply.number)
        if call is None:
            return
        self._release(server, call)
        again = reply.status in ("busy", "error") and self._balance.others(call.tried, now)
        if reply.status == "busy" and len(self._servers) > 1:
            self._balance.rest(server.standing, now)
            again = True
        if not (again and self._again(call, server.standing.name, reply.reason or reply.status, now)):
            self._end(call, reply)

    def _down(self, server: Server, event: LinkEvent) -> None:
        now = self._clock()
        server.standing.up = False
        server.error = link_error(event)
        self._give_up(server, event.text, now, out=False)
        self._tell_slots(now)
        if event.state is LinkState.REFUSED and all(s.error for s in self._servers.values()):
            self._nobody(now)
        self._send(now)

    def _fallen_silent(self, server: Server, now: float) -> None:
        """Give its requests to others, and dial anew: who answers that is there again."""
        server.standing.up = False
        self._give_up(server, f"silent for {now - server.heard_at:.1f} s", now, out=True)
        server.link.reconnect()

    def _give_up(self, server: Server, trouble: str, now: float, *, out: bool) -> None:
        """Give what a server has in hand to others."""
        server.standing.trouble = trouble
        if out:
            self._balance.fail(server.standing, trouble, now)
        self._changed()
        for call in list(server.calls.values()):
            self._release(server, call)
            if not self._again(call, server.standing.name, trouble, now):
                self._end(call, Reply(0, "error", f"given up: {'; '.join(call.troubles)}"))
