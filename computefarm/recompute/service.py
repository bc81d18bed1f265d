"""The client's loop: one connection per server, requests balanced over them, answers to whoever waits."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from computefarm.core.volatile_servers import CAPABILITY
from computefarm.errors import FarmError, Refused, Unreachable
from computefarm.messages import (
    Disconnect,
    FromManager,
    Goodbye,
    Heartbeat,
    Offers,
    Reply,
    Welcome,
    Withdraw,
)
from computefarm.services.link import Link, link_error
from computefarm.services.loop import Loop
from computefarm.transport.mailbox import Mailbox
from computefarm.transport.peer_end import LinkEvent, LinkState, PeerEnd

from .balance import FAILOVERS, Balance, Standing
from .requests import Answer, Order, answer_of

GRACE_S = 0.5
"""After its deadline: the server's own word on what happened is on its way."""

QUIET_BEATS = 1.5
"""A server with requests in hand that says nothing for so many heartbeats is given up."""

Then = Callable[[Answer], None]


class _Call(msgspec.Struct, eq=False):
    order: Order
    then: Then
    until: float
    number: int = 0
    host: str = ""
    tried: list[str] = []
    troubles: list[str] = []


class _Server(msgspec.Struct, eq=False):
    standing: Standing
    link: Link
    heard_at: float
    said_at: float
    heartbeat_s: float = 2.0
    calls: dict[int, _Call] = {}
    error: FarmError | None = None


class RecomputeService:
    """Part of a loop; `ask` may be called from any thread."""

    def __init__(
        self, balance: Balance, connections: Sequence[PeerEnd], *, host: str, hostname: str, connect_s: float
    ) -> None:
        """`connections` belong to the balance's standings, in their order."""
        self._balance = balance
        self._connections = tuple(connections)
        self._host = host
        self._hostname = hostname
        self._connect_s = connect_s
        self._mail: Mailbox[_Call | Callable[[], None]] = Mailbox()
        self._servers: dict[str, _Server] = {}
        self._queue: deque[_Call] = deque()
        self._number = 0
        self._in_flight = 0
        self._asking: tuple[Callable[[int], None], float] | None = None

    # --- for other threads ----------------------------------------------------------------------------

    def ask(self, order: Order, then: Then) -> None:
        """Have this answered; `then` is called on the loop's thread."""
        self._mail.put(_Call(order, then, 0.0))

    def call(self, action: Callable[[], None]) -> None:
        """Do this on the loop's thread."""
        self._mail.put(action)

    def when_ready(self, then: Callable[[int], None], patience_s: float) -> None:
        """Call `then` with the slots of all servers when each has said what it offers, or cannot be used."""
        self._asking = (then, self._clock() + patience_s)
        self._tell_slots(self._clock())

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
        now = loop.clock()
        self._began = now
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
        server = _Server(standing, link, now, now)
        self._servers[standing.name] = server
        link.attach(loop)

    def tick(self, now: float) -> None:
        """Heartbeats, deadlines, servers that say nothing."""
        for server in self._servers.values():
            server.link.tick(now)
            if server.standing.up and now >= server.said_at + server.heartbeat_s:
                self._say(server, Heartbeat(), now)
            if server.calls and now >= self._quiet_at(server):
                self._give_up(server, f"silent for {now - server.heard_at:.1f} s", now)
                server.link.reconnect()
        self._expire(now)
        self._send(now)
        self._tell_slots(now)

    def next_deadline(self) -> float | None:
        """Return when to call `tick`."""
        times = [call.until for call in self._queue]
        if self._asking is not None:
            times.append(self._asking[1])
        for server in self._servers.values():
            times += [call.until + GRACE_S for call in server.calls.values()]
            if server.standing.up:
                times.append(server.said_at + server.heartbeat_s)
            if server.calls:
                times.append(self._quiet_at(server))
            if (at := server.link.next_deadline()) is not None:
                times.append(at)
        if self._queue:
            if (at := self._balance.readmission(self._clock())) is not None:
                times.append(at)
            if self._clock() < self._began + self._connect_s:
                times.append(self._began + self._connect_s)
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
            if isinstance(item, _Call):
                item.until = now + item.order.deadline_s
                self._queue.append(item)
            else:
                item()
        self._send(now)

    def _send(self, now: float) -> None:
        while self._queue and self._in_flight < self._balance.limit(now):
            call = self._queue[0]
            standing = self._balance.choose(call.tried, now)
            if standing is None:
                self._nobody(now)
                return
            self._queue.popleft()
            self._number += 1
            call.number, call.host = self._number, standing.name
            call.tried.append(standing.name)
            self._balance.give(standing)
            self._in_flight += 1
            server = self._servers[standing.name]
            if not server.calls:
                server.heard_at = now
            server.calls[call.number] = call
            budget = max(0.0, call.until - now)
            request = msgspec.structs.replace(call.order.request, number=call.number, budget_s=budget)
            server.link.say(request)
            server.said_at = now

    def _nobody(self, now: float) -> None:
        """Nobody can be asked: wait for connections that are being made, then say so."""
        waiting = now < self._began + self._connect_s and any(
            server.error is None and not server.standing.up for server in self._servers.values()
        )
        if waiting:
            return
        told = "; ".join(f"{name}: {self._state(server)}" for name, server in self._servers.items())
        while self._queue:
            call = self._queue.popleft()
            reason = f"no recompute server is available: {told}"
            if call.troubles:
                reason += f" (before that: {'; '.join(call.troubles)})"
            self._end(call, Reply(0, "error", reason, attempts=0))

    def _state(self, server: _Server) -> str:
        if server.error is not None:
            return str(server.error).splitlines()[0]
        return server.standing.trouble or f"no answer within {self._connect_s * 1000:.0f} ms"

    def error(self) -> FarmError | None:
        """Return why no server can be used at all, when that is so."""
        errors = [server.error for server in self._servers.values()]
        if any(error is None for error in errors):
            return None
        refused = next((error for error in errors if isinstance(error, Refused)), None)
        return refused or next((error for error in errors if isinstance(error, Unreachable)), None)

    def _expire(self, now: float) -> None:
        for call in [call for call in self._queue if now >= call.until]:
            self._queue.remove(call)
            states = "; ".join(f"{name}: {self._state(s)}" for name, s in self._servers.items() if s.error)
            told = "; ".join(call.troubles) or states or "every server was busy"
            waited_ms = call.order.deadline_s * 1000
            self._end(call, Reply(0, "deadline", f"no answer within {waited_ms:.0f} ms: {told}", attempts=0))
        for server in self._servers.values():
            for call in [call for call in server.calls.values() if now >= call.until + GRACE_S]:
                self._release(server, call)
                self._say(server, Withdraw((call.number,)), now)
                waited_ms = call.order.deadline_s * 1000
                told = "; ".join([*call.troubles, f"{call.host} has not answered"])
                self._end(call, Reply(0, "deadline", f"no answer within {waited_ms:.0f} ms: {told}"))

    def _release(self, server: _Server, call: _Call) -> None:
        del server.calls[call.number]
        server.standing.pending -= 1
        self._in_flight -= 1

    def _again(self, call: _Call, trouble: str, now: float) -> bool:
        """Ask another server, unless that was done often enough."""
        call.troubles.append(f"{call.host}: {trouble}")
        if len(call.tried) > FAILOVERS or now >= call.until:
            return False
        self._queue.appendleft(call)
        return True

    def _end(self, call: _Call, reply: Reply) -> None:
        call.then(answer_of(call.order.id, reply, attempts=len(call.tried) - 1 if reply.number else 0))

    # --- servers --------------------------------------------------------------------------------------

    def _say(self, server: _Server, message: Heartbeat | Goodbye | Withdraw, now: float) -> None:
        server.link.say(message)
        server.said_at = now

    def _quiet_at(self, server: _Server) -> float:
        return server.heard_at + max(self._connect_s, QUIET_BEATS * server.heartbeat_s)

    def _heard(self, server: _Server, message: FromManager) -> None:
        now = self._clock()
        server.heard_at = now
        match message:
            case Welcome(heartbeat_s=heartbeat_s):
                server.heartbeat_s = heartbeat_s
                server.standing.up, server.error = True, None
                server.standing.out_until = 0.0
            case Offers(pools=pools):
                slots = sum(pool.slots for pool in pools if pool.offer.capability == CAPABILITY)
                server.standing.slots = slots
                self._tell_slots(now)
            case Reply():
                self._replied(server, message, now)
            case Disconnect(code=code, text=text):
                server.error = Refused(text) if code in ("role", "key", "version") else Unreachable(text)
                self._give_up(server, text, now)
                server.standing.up = False
                server.link.reconnect_later()
        self._send(now)

    def _replied(self, server: _Server, reply: Reply, now: float) -> None:
        call = server.calls.get(reply.number)
        if call is None:
            return
        self._release(server, call)
        again = reply.status in ("busy", "error") and self._balance.others(call.tried, now)
        if not (again and self._again(call, reply.reason or reply.status, now)):
            self._end(call, reply)

    def _down(self, server: _Server, event: LinkEvent) -> None:
        now = self._clock()
        server.standing.up = False
        server.error = link_error(event)
        server.standing.trouble = event.text
        self._give_up(server, event.text, now, out=False)
        self._tell_slots(now)
        if event.state is LinkState.REFUSED:
            self._nobody(now) if all(s.error for s in self._servers.values()) else None
        self._send(now)

    def _give_up(self, server: _Server, trouble: str, now: float, *, out: bool = True) -> None:
        """Give what a server has in hand to others."""
        if out:
            self._balance.fail(server.standing, trouble, now)
        for call in list(server.calls.values()):
            self._release(server, call)
            if not self._again(call, trouble, now):
                self._end(call, Reply(0, "error", f"given up: {'; '.join(call.troubles)}"))
