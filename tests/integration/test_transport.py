"""Both ends of the port on loopback, with right, wrong, odd and hostile peers."""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from computefarm.codec import HEADER, MAX_FRAME, decode_to_manager, encode
from computefarm.errors import ProtocolError, Refused, Unreachable, UsageError
from computefarm.home import Home
from computefarm.messages import Heartbeat, Join
from computefarm.transport.addresses import parse_address
from computefarm.transport.authorized import Authorization, Authorized
from computefarm.transport.farms import Farm, find_access, open_farm, publish
from computefarm.transport.invitation import Enrolment, Invitation, invite, join, parse_invitation
from computefarm.transport.keys import KeyPair, load_keys, spell
from computefarm.transport.manager_end import Incoming, ManagerEnd
from computefarm.transport.peer_end import LinkEvent, LinkState, PeerEnd

BEAT = encode([Heartbeat()])
PATIENCE_S = 10.0


class Manager:
    """A manager that answers Join, and every other message with its own body, on a thread of its own."""

    def __init__(self, folder: Path) -> None:
        self.home = Home.find({"CF_HOME": str(folder / "manager")})
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.farm: Farm = open_farm(self.home, "lab")
        self.end = ManagerEnd(self.context, self.farm.keys, self.farm.table)
        self.address = self.end.bind("tcp://127.0.0.1:*")
        self.access = publish(self.farm, self.address)
        self.got: list[Incoming] = []
        self.departed: list[bytes] = []
        self.refusals: list[str] = []
        self.orders: list[Callable[[], object]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop)
        self._thread.start()

    @property
    def port(self) -> int:
        return parse_address(self.address).port

    @property
    def table(self) -> Authorized:
        """A second view of the file, as another process would have."""
        return Authorized(self.farm.table.path)

    def _loop(self) -> None:
        enrolment = Enrolment(self.farm.table, "lab")
        poller = zmq.Poller()
        for one in self.end.sockets():
            poller.register(one, zmq.POLLIN)
        while not self._stop.is_set():
            poller.poll(20)
            while self.orders:
                self.orders.pop(0)()
            for incoming in self.end.receive():
                self.got.append(incoming)
                answer = incoming.body
                for message in decode_to_manager(incoming.body):
                    if isinstance(message, Join):
                        answer = encode([enrolment.join(incoming.identity, message, time.time())])
                self.end.send(incoming.route, answer, incoming.data)
            self.departed += self.end.departed()
            self.refusals += map(str, self.end.refusals())

    def invite(self, *, valid_s: float = 60, role: str = "worker") -> str:
        return invite(
            self.table,
            self.access,
            role=role,
            valid_s=valid_s,
            address=parse_address(self.address),
            wall=time.time(),
        )

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self.end.close()
        self.context.term()


class Peer:
    """A PeerEnd with patience."""

    def __init__(self, end: PeerEnd) -> None:
        self.end = end
        self.events: list[LinkEvent] = []
        self.got: list[tuple[bytes, bytes | None]] = []

    def turn(self, wait_ms: int = 20) -> None:
        poller = zmq.Poller()
        for one in self.end.sockets():
            poller.register(one, zmq.POLLIN)
        poller.poll(wait_ms)
        self.events += self.end.events()
        self.got += [(body, None if data is None else bytes(data)) for body, data in self.end.receive()]

    def until(self, state: LinkState) -> LinkEvent:
        wait_for(lambda: any(event.state is state for event in self.events), self.turn, lambda: self.events)
        return next(event for event in self.events if event.state is state)

    def echo(self, data: bytes | None = None) -> None:
        before = len(self.got)
        wait_for(lambda: self.end.send(BEAT, data), self.turn)
        wait_for(lambda: len(self.got) > before, self.turn)
        assert self.got[before:] == [(BEAT, data)]


def wait_for(
    what: Callable[[], object],
    turn: Callable[[], object] = lambda: time.sleep(0.01),
    show: Callable[[], object] = str,
) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline, f"did not happen: {show()}"
        turn()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    running = Manager(tmp_path)
    yield running
    running.close()


Dial = Callable[..., Peer]


@pytest.fixture
def dial(manager: Manager) -> Iterator[Dial]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    ends: list[PeerEnd] = []

    def call(
        role: str = "worker", *, keys: KeyPair | None = None, server_key: str = "", address: str = ""
    ) -> Peer:
        end = PeerEnd(
            context,
            address or manager.address,
            server_key=server_key or manager.access.server_key,
            keys=keys or manager.access.keys(role),
        )
        ends.append(end)
        return Peer(end)

    yield call
    for end in ends:
        end.close()
    context.term()


class Dealers:
    """Bare ZeroMQ clients, with none of our own end's manners."""

    def __init__(self, manager: Manager, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self._manager = manager
        self._context = context
        self._made: list[zmq.Socket[bytes]] = []

    def __call__(self, **options: object) -> zmq.Socket[bytes]:
        self._made.append(raw_dealer(self._manager, self._context, **options))
        return self._made[-1]


def raw_dealer(
    manager: Manager, context: zmq.Context[zmq.Socket[bytes]], **options: object
) -> zmq.Socket[bytes]:
    keys = manager.access.keys("worker")
    dealer = context.socket(zmq.DEALER)
    dealer.linger = 0
    if options.pop("curve", True):
        dealer.curve_serverkey = manager.access.server_key.encode()
        dealer.curve_publickey = keys.public.encode()
        dealer.curve_secretkey = keys.secret.encode()
    for name, value in options.items():
        setattr(dealer, name, value)
    dealer.connect(manager.address)
    return dealer


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    made: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    yield made
    made.destroy(linger=0)


@pytest.fixture
def dealers(manager: Manager, context: zmq.Context[zmq.Socket[bytes]]) -> Dealers:
    return Dealers(manager, context)


# --- peers that belong here ---------------------------------------------------------------------------


def test_right_key_is_answered_and_named(manager: Manager, dial: Dial) -> None:
    peer = dial("worker")

    peer.until(LinkState.UP)
    peer.echo()
    peer.echo(b"z" * (1 << 20))

    first = manager.got[0]
    assert (first.identity.role, first.identity.key) == ("worker", manager.access.keys("worker").public)
    assert first.route[0] == 0


def test_two_connections_of_one_process_stay_apart(manager: Manager, dial: Dial) -> None:
    control, bulk = dial("worker"), dial("worker")

    for peer in (control, bulk):
        peer.until(LinkState.UP)
        peer.echo()

    assert len({incoming.route for incoming in manager.got}) == 2
    assert len({incoming.identity.key for incoming in manager.got}) == 1


def test_end_of_a_connection_is_told_after_its_last_message(manager: Manager, dial: Dial) -> None:
    peer = dial("worker")
    peer.until(LinkState.UP)
    for _ in range(50):
        assert peer.end.send(BEAT)
    wait_for(lambda: manager.got)

    peer.end.close()

    wait_for(lambda: manager.departed)
    assert manager.departed == [manager.got[0].route]
    assert manager.refusals == []


def test_link_that_breaks_comes_back_with_nothing_left_from_before(manager: Manager, dial: Dial) -> None:
    peer = dial("worker")
    peer.until(LinkState.UP)
    peer.echo()
    route = manager.got[0].route

    manager.orders.append(lambda: manager.end.drop(route))

    peer.until(LinkState.DOWN)
    # Whatever was queued before must not come ahead of the first message of the new connection.
    assert not peer.end.send(encode([Heartbeat(), Heartbeat()]))
    peer.events.clear()
    peer.until(LinkState.UP)
    peer.echo()
    assert manager.got[-1].route != route
    assert {incoming.body for incoming in manager.got} == {BEAT}


def test_full_queue_is_told_and_nothing_of_it_is_lost(manager: Manager, dial: Dial) -> None:
    peer = dial("worker")
    peer.until(LinkState.UP)
    stop = threading.Event()
    manager.orders.append(lambda: stop.wait(PATIENCE_S))

    sent = 0
    while peer.end.send(BEAT, b"x" * 65536):
        sent += 1
    stop.set()

    assert sent >= 1000
    wait_for(lambda: len(manager.got) >= sent, peer.turn)


def test_in_process_end_needs_no_keys(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    end = ManagerEnd(context)
    assert end.bind("inproc://farm") == "inproc://farm"
    peer = Peer(PeerEnd(context, "inproc://farm"))
    peer.turn(0)

    assert peer.events == [LinkEvent(LinkState.UP, "connected")]
    assert peer.end.send(BEAT, b"data")
    [incoming] = end.receive()
    assert (incoming.body, bytes(incoming.data or b"")) == (BEAT, b"data")
    assert all(incoming.identity.may(role) for role in ("client", "worker", "monitor"))
    assert end.send(incoming.route, b"answer")
    peer.turn(1000)
    assert peer.got == [(b"answer", None)]
    peer.end.close()
    wait_for(lambda: not end.send(incoming.route, b"answer"))
    assert end.gone(incoming.route)
    assert end.departed() == [incoming.route]
    end.close()


# --- peers that do not --------------------------------------------------------------------------------


def test_unknown_key_is_told_what_to_type(manager: Manager, dial: Dial) -> None:
    keys = KeyPair.make()
    start = time.monotonic()

    event = dial(keys=keys).until(LinkState.REFUSED)

    assert time.monotonic() - start < 2
    assert "does not know this machine's key" in event.text
    assert f"cf-taskmanager allow {spell(keys.public)} --role ROLE --as " in event.hint
    wait_for(lambda: manager.refusals)
    assert f"(key {spell(keys.public)}) at 127.0.0.1: unknown key" in manager.refusals[0]
    assert manager.got == []


def test_refused_peer_gets_in_once_its_key_is_allowed(manager: Manager, dial: Dial) -> None:
    keys = KeyPair.make()
    peer = dial(keys=keys)
    peer.until(LinkState.REFUSED)

    manager.table.add(Authorization(role="worker", name="late", key=keys.public))
    peer.end.reconnect()
    wait_for(lambda: peer.end.up, peer.turn)

    peer.echo()
    assert manager.got[-1].identity.name == "late"


def test_each_dial_on_demand_is_answered_anew(dial: Dial) -> None:
    peer = dial(keys=KeyPair.make())
    for _ in range(3):
        peer.until(LinkState.REFUSED)
        peer.events.clear()
        peer.end.reconnect()


def test_expired_key_and_key_from_elsewhere_are_refused(manager: Manager, dial: Dial) -> None:
    old, far = KeyPair.make(), KeyPair.make()
    manager.table.add(Authorization(role="worker", name="old", key=old.public, expires_at=1.0))
    manager.table.add(Authorization(role="worker", name="far", key=far.public, hosts=("192.0.2.7",)))

    for keys in (old, far):
        dial(keys=keys).until(LinkState.REFUSED)

    wait_for(lambda: len(manager.refusals) == 2)
    assert "refused old" in manager.refusals[0]
    assert "expired" in manager.refusals[0]
    assert "may connect from 192.0.2.7 only" in manager.refusals[1]


def test_key_that_expires_loses_its_live_connection(manager: Manager, dial: Dial) -> None:
    keys = KeyPair.make()
    manager.table.add(
        Authorization(role="worker", name="brief", key=keys.public, expires_at=float(int(time.time()) + 2))
    )
    peer = dial(keys=keys)
    peer.until(LinkState.UP)
    peer.echo()

    peer.until(LinkState.DOWN)

    peer.until(LinkState.REFUSED)
    assert len(manager.departed) == 1


def test_revoked_key_stops_on_a_live_connection(manager: Manager, dial: Dial) -> None:
    keys = KeyPair.make()
    manager.table.add(Authorization(role="worker", name="lost-laptop", key=keys.public))
    peer, other = dial(keys=keys), dial("client")
    for one in (peer, other):
        one.until(LinkState.UP)
        one.echo()
    route = manager.got[0].route

    manager.table.remove("lost-laptop")

    peer.until(LinkState.DOWN)
    peer.until(LinkState.REFUSED)
    assert manager.departed == [route]
    assert any("lost-laptop" in text and "taken out of the file" in text for text in manager.refusals)
    other.echo()


def test_wrong_manager_key_is_not_the_manager_we_paired_with(manager: Manager, dial: Dial) -> None:
    event = dial(server_key=KeyPair.make().public).until(LinkState.STRANGER)

    assert "is not the manager that this machine joined" in event.text
    assert "cf-taskmanager invite" in event.hint
    wait_for(lambda: manager.refusals)
    assert "meant for another manager" in manager.refusals[0]


def test_client_without_encryption_gets_nothing(manager: Manager, dial: Dial, dealers: Dealers) -> None:
    dealer = dealers(curve=False)
    dealer.send_multipart([HEADER, BEAT])

    wait_for(lambda: manager.refusals)

    assert manager.got == []
    dial().echo()


def test_without_a_door_keeper_nobody_gets_in(
    tmp_path: Path, context: zmq.Context[zmq.Socket[bytes]]
) -> None:
    farm = open_farm(Home.find({"CF_HOME": str(tmp_path)}), "lab")
    end = ManagerEnd(context, farm.keys, farm.table)
    address = end.bind("tcp://127.0.0.1:*")
    assert end._door is not None
    end._door.close()
    keys = load_keys(farm.folder / "keys" / "worker.key")
    peer = Peer(PeerEnd(context, address, server_key=farm.keys.public, keys=keys))

    wait_for(lambda: peer.events, peer.turn)

    assert peer.events[0].state is not LinkState.UP
    assert not peer.end.send(BEAT)
    peer.end.close()
    end.close()


def test_chosen_routing_id_is_refused(manager: Manager, dealers: Dealers) -> None:
    for name in (b"worker-1", b"\0abc", b"\0abcdefg"):
        dealers(routing_id=name).send_multipart([HEADER, BEAT])

    wait_for(lambda: sum("chose its own routing id" in text for text in manager.refusals) >= 1)

    assert manager.got == []


def test_routes_cannot_be_foretold() -> None:
    script = (
        "import zmq; from computefarm.transport.manager_end import ManagerEnd; "
        "context = zmq.Context(); end = ManagerEnd(context); end.bind('inproc://x'); "
        "peer = context.socket(zmq.DEALER); peer.connect('inproc://x'); peer.send_multipart([b'CFARM1', b'x']); "
        "print(end.receive()[0].route.hex()); peer.close(); end.close(); context.term()"
    )
    routes = {
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
        for _ in range(3)
    }

    # A peer that takes the next route for itself brings ZeroMQ down.
    assert len(routes) == 3


def test_frame_over_the_limit_ends_only_that_connection(
    manager: Manager, dial: Dial, dealers: Dealers
) -> None:
    bystander = dial("client")
    bystander.echo()
    dealer = dealers()
    dealer.send_multipart([HEADER, BEAT])
    wait_for(lambda: len(manager.got) == 2)

    dealer.send_multipart([HEADER, b"x" * (MAX_FRAME + 4096)])

    wait_for(lambda: manager.departed)
    bystander.echo()
    assert len(manager.got) == 3


def test_largest_frame_passes_and_our_own_end_refuses_a_larger_one(manager: Manager, dial: Dial) -> None:
    peer = dial()
    peer.echo(b"x" * MAX_FRAME)

    with pytest.raises(ProtocolError, match="is the limit"):
        peer.end.send(BEAT, b"x" * (MAX_FRAME + 1))
    with pytest.raises(ProtocolError, match="is the limit"):
        peer.end.send(b"x" * (MAX_FRAME + 1))


@pytest.mark.parametrize(
    "frames", [[b"hello"], [b""], [HEADER], [b"CFARM9", BEAT], [HEADER, BEAT, b"", b"", b"more"]]
)
def test_other_frames_from_a_known_key(
    manager: Manager, dial: Dial, dealers: Dealers, frames: list[bytes]
) -> None:
    dealer = dealers()
    dealer.send_multipart(frames)
    dealer.send_multipart(frames)
    dealer.send_multipart([HEADER, BEAT])

    wait_for(lambda: manager.got and not manager.got[-1].data)

    # The last two frames of five are thrown away; what does not begin as ours is refused whole.
    assert len(manager.got) == (3 if frames[:2] == [HEADER, BEAT] else 1)
    if len(manager.got) == 1:
        wait_for(lambda: any("not a ComputeFarm message" in text for text in manager.refusals))
    dial().echo()


@pytest.mark.parametrize(
    "junk", [b"\0" * 64, b"\xff" * 4096, b"GET / HTTP/1.1\r\n\r\n", bytes(range(256)) * 64, b""]
)
def test_random_bytes_at_the_port(manager: Manager, dial: Dial, junk: bytes) -> None:
    with socket.create_connection(("127.0.0.1", manager.port)) as link:
        link.sendall(junk)
        # The manager may hang up before it is done with us.
        with contextlib.suppress(OSError):
            link.shutdown(socket.SHUT_WR)
        wait_for(lambda: manager.refusals)

    assert manager.refusals[0].startswith("refused a connection")
    dial().echo()


def test_burst_of_junk_connections_keeps_nobody_out(manager: Manager, dial: Dial) -> None:
    peer = dial()
    peer.echo()
    links = []
    for number in range(300):
        link = socket.create_connection(("127.0.0.1", manager.port))
        link.send(struct.pack("<Q", number) * 4)
        if number % 2:
            # Half of them are torn down hard at once, half stay silent.
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            link.close()
        else:
            links.append(link)

    peer.echo()
    dial("client").echo()

    for link in links:
        link.close()
    assert manager.departed == []


# --- who answers at an address ------------------------------------------------------------------------


def test_nobody_listens(dial: Dial) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        event = dial(address=address).until(LinkState.UNREACHABLE)

    assert address in event.text
    assert event.hint.startswith("cf-taskmanager start")


def test_another_program_answers(dial: Dial) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        peer = dial(address=f"tcp://127.0.0.1:{other.getsockname()[1]}")
        link, _ = other.accept()
        with link:
            link.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
            event = peer.until(LinkState.STRANGER)

    assert "does not speak ComputeFarm" in event.text


def test_busy_port_is_said_with_the_next_step(
    manager: Manager, context: zmq.Context[zmq.Socket[bytes]]
) -> None:
    end = ManagerEnd(context, manager.farm.keys, manager.farm.table)

    with pytest.raises(UsageError, match=rf"port {manager.port} .*in use(.|\n)*--listen"):
        end.bind(manager.address)
    end.close()


def test_no_port_without_keys(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    bare = ManagerEnd(context)

    for listen in ("tcp://127.0.0.1:*", "tcp://0.0.0.0:*", "[::]:*"):
        with pytest.raises(UsageError, match="needs a key pair"):
            bare.bind(listen)
    bare.close()


@pytest.mark.parametrize("listen", ["tcp://0.0.0.0:*", "tcp://[::]:*", "tcp://localhost:*"])
def test_every_interface(listen: str, tmp_path: Path, context: zmq.Context[zmq.Socket[bytes]]) -> None:
    farm = open_farm(Home.find({"CF_HOME": str(tmp_path)}), "lab")
    end = ManagerEnd(context, farm.keys, farm.table)
    try:
        address = parse_address(end.bind(listen))
    except UsageError as error:
        end.close()
        pytest.skip(f"NOT TESTED: this machine has no IPv6: {error}")
    keys = load_keys(farm.folder / "keys" / "worker.key")
    peer = Peer(
        PeerEnd(context, f"tcp://127.0.0.1:{address.port}", server_key=farm.keys.public, keys=keys)
    )
    got: list[Incoming] = []
    wait_for(
        lambda: peer.end.up and peer.end.send(BEAT), lambda: (peer.turn(), got.extend(end.receive()))
    )
    wait_for(lambda: got, lambda: got.extend(end.receive()))

    assert end.address_of(got[0].route) == "127.0.0.1"
    peer.end.close()
    end.close()


def test_ipv6_loopback(tmp_path: Path, context: zmq.Context[zmq.Socket[bytes]]) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"this machine has no IPv6 loopback: {error}")
    farm = open_farm(Home.find({"CF_HOME": str(tmp_path)}), "lab")
    end = ManagerEnd(context, farm.keys, farm.table)
    access = publish(farm, end.bind("tcp://[::1]:*"))
    peer = Peer(PeerEnd(context, access.address, server_key=access.server_key, keys=access.keys("worker")))

    wait_for(lambda: peer.end.up, lambda: (peer.turn(), end.receive()), lambda: peer.events)

    peer.end.close()
    end.close()


# --- invitations --------------------------------------------------------------------------------------


@pytest.fixture
def laptop(tmp_path: Path) -> Home:
    return Home.find({"CF_HOME": str(tmp_path / "laptop")})


def test_join_makes_keys_here_and_opens_the_farm(manager: Manager, dial: Dial, laptop: Home) -> None:
    line = manager.invite()

    access = join(line, laptop, name="Ada's laptop")

    assert find_access(laptop, "") == access
    peer = dial(keys=access.keys("worker"))
    peer.echo()
    identity = manager.got[-1].identity
    assert (identity.name, identity.role, identity.may("monitor")) == ("Ada-s-laptop", "worker", True)
    modes = {path.name: path.stat().st_mode & 0o777 for path in access.folder.rglob("*")}
    assert modes == {"access.json": 0o600, "keys": 0o700, "worker.key": 0o600}
    assert not (access.folder.parent / ".joining").exists()


def test_same_home_may_use_its_line_again_but_nobody_else(
    manager: Manager, laptop: Home, tmp_path: Path
) -> None:
    line = manager.invite()
    first = join(line, laptop, name="laptop")

    assert join(line, laptop, name="laptop") == first
    with pytest.raises(Refused, match="was used already, by laptop on") as caught:
        join(line, Home.find({"CF_HOME": str(tmp_path / "thief")}), name="thief")
    assert caught.value.exit_code == 6
    assert not (tmp_path / "thief").exists() or not list((tmp_path / "thief").rglob("*.key"))


def test_second_role_joins_the_same_farm(manager: Manager, laptop: Home) -> None:
    join(manager.invite(role="worker"), laptop, name="laptop")
    access = join(manager.invite(role="client"), laptop, name="laptop")

    assert find_access(laptop, "lab") == access
    assert access.keys("worker") != access.keys("client")
    assert len(access.invitations) == 2


def test_expired_invitation(manager: Manager, laptop: Home) -> None:
    line = manager.invite(valid_s=-5)

    with pytest.raises(Refused, match="this invitation expired on "):
        join(line, laptop, name="laptop")


def test_damaged_invitation(manager: Manager, laptop: Home) -> None:
    line = manager.invite()
    changed = line.replace(":lab:", ":lap:")

    with pytest.raises(Refused, match="damaged"):
        join(changed, laptop, name="laptop")
    assert join(line, laptop, name="laptop").farm == "lab"


def test_code_the_manager_never_made(manager: Manager, laptop: Home) -> None:
    real = parse_invitation(manager.invite())
    wrong = Invitation(address=real.address, server_key=real.server_key, farm="lab", keys=KeyPair.make())

    with pytest.raises(Refused, match="does not know this invitation"):
        join(wrong.line(), laptop, name="laptop")


def test_code_that_leads_to_another_manager(manager: Manager, laptop: Home) -> None:
    real = parse_invitation(manager.invite())
    wrong = Invitation(address=real.address, server_key=KeyPair.make().public, farm="lab", keys=real.keys)

    with pytest.raises(Refused, match="is not the manager that made this invitation"):
        join(wrong.line(), laptop, name="laptop")


def test_join_with_the_manager_away_is_unreachable(tmp_path: Path, laptop: Home) -> None:
    manager = Manager(tmp_path)
    line = manager.invite()
    manager.close()

    with pytest.raises(Unreachable, match=r"no TaskManager answers at tcp://127.0.0.1"):
        join(line, laptop, name="laptop", timeout_s=0.3)


def test_invitation_key_is_never_taken_for_a_role(manager: Manager, dial: Dial) -> None:
    peer = dial(keys=parse_invitation(manager.invite()).keys)
    peer.echo()

    identity = manager.got[-1].identity
    assert identity.invited
    assert not any(identity.may(role) for role in ("worker", "monitor", "client", "viewer", "admin"))


def test_two_machines_with_one_invitation(manager: Manager, tmp_path: Path) -> None:
    line = manager.invite()
    ends: list[str] = []

    def enrol(name: str) -> None:
        try:
            ends.append(join(line, Home.find({"CF_HOME": str(tmp_path / name)}), name=name).farm)
        except Refused as error:
            ends.append("refused" if "used already" in str(error) else str(error))

    threads = [threading.Thread(target=enrol, args=(name,)) for name in ("one", "two", "three")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(ends) == ["lab", "refused", "refused"]
