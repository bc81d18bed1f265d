"""Who is connected to the manager: processes by name, by connection and by what they call themselves."""

from __future__ import annotations

from collections.abc import Iterator

from computefarm.messages import Hello
from computefarm.transport.manager_end import Incoming, ManagerEnd

from .peers import Peer


class Roster:
    """A process has two connections, each of which may end and come again; the process is what counts."""

    def __init__(self, end: ManagerEnd, patience_s: float) -> None:
        """`patience_s`: how long a process may be without its control connection."""
        self._end = end
        self._patience_s = patience_s
        self._routes: dict[bytes, Peer] = {}
        self._by_name: dict[str, Peer] = {}
        self._by_boot: dict[tuple[str, str], Peer] = {}
        self._uncontrolled: dict[str, float] = {}
        """Peers without a control connection, and when they are forgotten."""
        self._left: dict[tuple[str, str], float] = {}
        """Processes that said goodbye, and when: their second connection may be heard of only afterwards."""
        self._counter = 0

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[Peer]:
        return iter(list(self._by_name.values()))

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def get(self, name: str) -> Peer | None:
        """Return a process by its name."""
        return self._by_name.get(name)

    def behind(self, route: bytes) -> Peer | None:
        """Return the process behind a connection, if it has greeted."""
        return self._routes.get(route)

    def bulk_route(self, name: str) -> bytes | None:
        """Return the connection for files of a process, if it has one now."""
        peer = self._by_name.get(name)
        return peer.bulk if peer is not None else None

    def workers_on(self, host: str) -> list[str]:
        """Return the workers that are connected from a machine of this name."""
        found = self._by_name.values()
        return [peer.name for peer in found if peer.role == "worker" and peer.hello.hostname == host]

    def new_name(self, role: str) -> str:
        """Return a name that no process has had."""
        self._counter += 1
        return f"{role}-{self._counter}"

    def greet(self, incoming: Incoming, hello: Hello, role: str, now: float) -> Peer | None:
        """Take a connection for that of the process that says so; None when that has left already."""
        boot = (incoming.identity.key, hello.boot)
        if boot in self._left and hello.channel == "bulk":
            self._end.drop(incoming.route)
            return None
        peer = self._by_boot.get(boot)
        if peer is None or peer.role != role:
            peer = self._enter(incoming, hello, role)
        self._routes[incoming.route] = peer
        if hello.channel == "bulk":
            self._forget_route(peer.bulk)
            peer.bulk = incoming.route
            if peer.control is None:
                self._uncontrolled.setdefault(peer.name, now + self._patience_s)
        else:
            self._forget_route(peer.control)
            peer.control, peer.met = incoming.route, True
            self._uncontrolled.pop(peer.name, None)
            peer.forget_unsent()
        return peer

    def _enter(self, incoming: Incoming, hello: Hello, role: str) -> Peer:
        identity = incoming.identity
        peer = Peer(self.new_name(hello.role), identity.key, role, hello)
        where = self._end.address_of(incoming.route)
        peer.who = f"{peer.name} ({hello.hostname}, key {identity.name} at {where or 'this process'})"
        self._by_boot[identity.key, hello.boot] = peer
        self._by_name[peer.name] = peer
        return peer

    def unplugged(self, route: bytes, now: float) -> tuple[Peer | None, str]:
        """A connection has ended by itself; return whose it was, if it still counted, and which."""
        peer = self._routes.pop(route, None)
        if peer is None:
            return None, ""  # its process has connected anew already
        if peer.control == route:
            peer.control = None
            peer.forget_unsent()
            self._uncontrolled[peer.name] = now + self._patience_s
            return peer, "control"
        if peer.bulk == route:
            peer.bulk = None
        return peer, "bulk"

    def said_goodbye(self, peer: Peer, now: float) -> None:
        """Expect nothing more of a process."""
        self._left[peer.owner, peer.hello.boot] = now

    def overdue(self, now: float) -> list[str]:
        """Return who has been without a control connection for too long."""
        for boot in [boot for boot, at in self._left.items() if now >= at + self._patience_s]:
            del self._left[boot]
        return [name for name, until in self._uncontrolled.items() if now >= until]

    def remove(self, name: str) -> Peer | None:
        """Take a process off the list; hang up with `forget` when it has been told why."""
        return self._by_name.pop(name, None)

    def forget(self, peer: Peer) -> None:
        """Hang up, and know nothing more of a process."""
        self._uncontrolled.pop(peer.name, None)
        self._forget_route(peer.control)
        self._forget_route(peer.bulk)
        boot = (peer.owner, peer.hello.boot)
        if self._by_boot.get(boot) is peer:
            del self._by_boot[boot]

    def _forget_route(self, route: bytes | None) -> None:
        if route is not None:
            self._routes.pop(route, None)
            self._end.drop(route)
