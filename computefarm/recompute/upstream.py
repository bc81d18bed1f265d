"""A TaskManager's upstream: another TaskManager that requests are passed on to.

    client ──Request──▶ this manager's core ──▶ Upstream ──Request──▶ the other manager ──▶ its workers
                        chooses among its own
                        workers and upstreams

To the core an upstream is a worker like others: it has slots (what the other manager grants), a tier and a
weight, it can be down, and what it does not answer is given to others. Requests are all that it takes; tasks
stay with this manager's own workers. A manager that passes requests on to this one, itself or through
others, is not asked: they would go round in circles.
"""

from __future__ import annotations

import logging
import platform
import secrets
from collections.abc import Callable, Iterable

import msgspec
import zmq

from computefarm import __version__
from computefarm.core.seats import together
from computefarm.core.volatile_devices import VRAM
from computefarm.core.volatile_servers import BEHIND, DEVICES, KERNEL, MANAGER, REQUESTS
from computefarm.errors import UsageError
from computefarm.home import Home, host_id, hostname
from computefarm.messages import (
    PROTOCOL,
    Declined,
    Disconnect,
    FromManager,
    Goodbye,
    Heartbeat,
    Hello,
    Offer,
    Pool,
    Register,
    Reply,
    Request,
    Run,
    ToManager,
    Welcome,
    Withdraw,
)
from computefarm.services.loop import Loop
from computefarm.services.taskmanager import TaskManagerService
from computefarm.settings import Settings
from computefarm.transport.keys import PublicKey, fingerprint
from computefarm.transport.peer_end import PeerEnd

from .balance import REST_S, Balance, Standing
from .calls import DIALLED, Call
from .hosts import HostEntry, access_of, parse_hosts
from .service import RecomputeService

BEAT_S = 0.3
"""With requests in hand an upstream that lives says so this often: others would get them else."""

KEY_LETTERS = 12
"""Of a manager's fingerprint, in tags and paths: enough to tell those of one user apart."""

MANAGERS = 100
"""Behind one upstream; more are a mistake."""

log = logging.getLogger("computefarm.taskmanager")


def short_name(key: PublicKey) -> str:
    """Return what a manager is called where its requests' way is told."""
    return fingerprint(key).removeprefix("SHA256:")[:KEY_LETTERS]


class Upstream:
    """Part of a manager's loop, between its core and the connection to another manager."""

    def __init__(
        self,
        entry: HostEntry,
        connection: PeerEnd,
        *,
        manager: TaskManagerService,
        own: str,
        other: str,
        host: str,
        hostname: str,
        settings: Settings,
    ) -> None:
        """`own` and `other` are the short names of the two managers."""
        self.name = str(entry)
        self._entry = entry
        self._manager = manager
        self._own = own
        self._other = other
        self._host = host
        self._hostname = hostname
        self._service = RecomputeService(
            Balance([Standing(self.name)], retry_s=settings.recompute_retry_interval_s),
            [connection],
            host=host,
            hostname=hostname,
            connect_s=settings.recompute_connect_timeout / 1000.0,
            patience_s=0.0,  # the core has others to ask
            changed=self._note,
        )
        self._inbox: list[FromManager] = []
        self._calls: dict[int, Call] = {}
        self._heartbeat_s = 2.0
        self._beat_at = 0.0
        self._news = False
        self._busy = ""
        self._rest_until = 0.0
        self._admitted = False
        self._registered: Register | None = None
        self._told: tuple[str, int] | None = None

    # --- the loop's side ------------------------------------------------------------------------------

    def attach(self, loop: Loop) -> None:
        """Dial the other manager, and be a worker of this one."""
        self._clock = loop.clock
        self._service.attach(loop)
        self._admit()

    def tick(self, now: float) -> None:
        """Pass on what came from the core, and what has changed at the other manager."""
        inbox, self._inbox = self._inbox, []
        for message in inbox:
            self._take(message, now)
        if not self._admitted and now >= self._beat_at:
            self._admit()
        deadline = self._service.next_deadline()
        if deadline is not None and deadline <= now:
            self._service.tick(now)
        if self._news:
            self._news = False
            self._register()
        if now >= self._beat_at:
            self._beat_at = now + (BEAT_S if self._calls else self._heartbeat_s)
            self._say(Heartbeat())
            self._register()  # a rest or a retry interval may be over

    def next_deadline(self) -> float | None:
        """Return when to call `tick`."""
        if self._inbox or self._news:
            return float("-inf")
        deadline = self._service.next_deadline()
        return self._beat_at if deadline is None else min(self._beat_at, deadline)

    def pace(self) -> float:
        """Everybody waits for every answer."""
        return 0.0

    def flush(self) -> None:
        """Send what this turn has gathered."""
        self._service.flush()

    def close(self) -> None:
        """Let go of both managers."""
        self._calls.clear()
        self._say(Goodbye("stops"))
        self._service.close()

    # --- towards the core -----------------------------------------------------------------------------

    def _admit(self) -> None:
        hello = Hello(
            PROTOCOL, __version__, "worker", secrets.token_hex(8), host=self._host, hostname=self._hostname
        )
        self._admitted = True
        self._speak: Callable[[ToManager], None] = self._manager.admit(
            hello, lambda message: self._inbox.append(message)
        )
        self._registered = None
        self._register()

    def _say(self, message: ToManager) -> None:
        if self._admitted:
            self._speak(message)

    def _note(self) -> None:
        """Something has changed: told before the answers that follow from it, at the latest in this turn."""
        if not self._service.usable:
            self._register()
        else:
            self._news = True

    def _register(self) -> None:
        pools = self._service.pools(self.name)
        tags = merged_tags(pools, self._other)
        slots = sum(pool.slots for pool in pools)
        held = self._service.trouble(self.name)
        if self._own in tags[BEHIND].split():
            held = "it passes requests on to this TaskManager itself, maybe through others: take one out"
        elif len(tags[BEHIND].split()) > MANAGERS:
            held = f"it passes requests on to more than {MANAGERS} others"
        elif not held and not slots:
            held = "no worker there answers requests"
        elif not held and self._clock() < self._rest_until:
            held = self._busy
        register = Register(
            worker=self.name[:255],
            host=self._host,
            hostname=self._hostname,
            platform=f"{platform.system()}-{platform.machine()}".lower(),
            slots=max(1, 0 if held else slots),
            offers=(Offer(REQUESTS, __version__, tags=tuple(sorted(tags.items()))),),
            tier=self._entry.tier,
            weight=self._entry.weight,
            held=held,
        )
        if register != self._registered:
            self._registered = register
            self._log(held, slots)
            self._say(register)
            if held and held != self._busy:
                self._hand_back(held)

    def _hand_back(self, held: str) -> None:
        """Let others have what the other manager can do nothing with."""
        calls, self._calls = self._calls, {}
        for number, call in calls.items():
            self._service.withdraw(call)
            self._say(Reply(number, "error", held))

    def _log(self, held: str, slots: int) -> None:
        if (held, slots) == self._told:
            return
        self._told = (held, slots)
        if held == DIALLED:
            log.info("upstream %s: %s", self.name, held)
        elif held:
            log.warning("upstream %s is not asked: %s", self.name, held)
        else:
            log.info("upstream %s is asked, %d at a time", self.name, slots)

    # --- from the core --------------------------------------------------------------------------------

    def _take(self, message: FromManager, now: float) -> None:
        match message:
            case Welcome(heartbeat_s=heartbeat_s):
                self._heartbeat_s = heartbeat_s
            case Request():
                self._pass_on(message, now)
            case Withdraw(numbers=numbers):
                for number in numbers:
                    call = self._calls.pop(number, None)
                    if call is not None:
                        self._service.withdraw(call)
            case Run():
                self._say(Declined(message.key, message.attempt, "an upstream takes requests, no tasks"))
            case Disconnect():
                self._admitted = False
                self._beat_at = now + BEAT_S
                for call in self._calls.values():
                    self._service.withdraw(call)
                self._calls.clear()

    def _pass_on(self, request: Request, now: float) -> None:
        number = request.number
        if self._own in request.path:
            self._say(Reply(number, "error", "it came back here: TaskManagers pass it on in a circle"))
            return

        def then(reply: Reply) -> None:
            if self._calls.pop(number, None) is not None:
                if reply.status == "busy":
                    self._rest(reply.reason)
                self._say(msgspec.structs.replace(reply, number=number))

        if not self._calls:
            self._beat_at = now + BEAT_S
        sent = msgspec.structs.replace(request, path=(*request.path, self._own), others=True)
        # Entered first: without a connection the answer comes at once.
        self._calls[number] = Call(sent, request.budget_s, then)
        self._service.take(self._calls[number])

    def _rest(self, reason: str) -> None:
        """Leave a manager alone for a moment that can do nothing with requests now."""
        self._busy = reason
        self._rest_until = self._clock() + REST_S
        self._beat_at = min(self._beat_at, self._rest_until)
        self._register()


def merged_tags(pools: Iterable[Pool], manager: str) -> dict[str, str]:
    """Return what some worker of another manager offers: kernels, devices, sizes, and who is behind it."""
    offered = [pool.offer.tags for pool in pools]
    behind: set[str] = set()
    vram: set[str] = set()
    tags: dict[str, str] = {}
    for name, value in (pair for told in offered for pair in told):
        if name in (BEHIND, MANAGER):
            behind.update(value.split())
        elif name == VRAM:
            vram.update(value.split())
        elif name.startswith(KERNEL):
            tags[name] = str(max(_whole(tags.get(name, "")), _whole(value)))
        elif "-" in value:
            tags[name] = _hull(tags.get(name, value), value)
    if offered:
        tags |= {name: value for name, value in together(offered) if name.partition(":")[0] == DEVICES}
    if vram:
        tags[VRAM] = " ".join(sorted(vram))
    return tags | {MANAGER: manager, BEHIND: " ".join(sorted(behind))}


def _whole(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _hull(one: str, other: str) -> str:
    """Return the range that holds two ranges `LEAST-MOST`; what is none is left as it is."""
    ends = [part for text in (one, other) for part in text.split("-")]
    if len(ends) != 4 or not all(part.isdecimal() for part in ends):
        return one
    return f"{min(map(int, ends))}-{max(map(int, ends))}"


class Upstreams:
    """The managers that `--upstream` names."""

    def __init__(self, given: Iterable[str], home: Home, settings: Settings) -> None:
        """`given` are lists as in `CF_RECOMPUTE_HOST`.

        Raises `SettingsError` for a malformed list, `Refused` for a manager that this machine has not joined.
        """
        entries = parse_hosts(",".join(given), port=settings.port, origin="--upstream")
        self._found = [(entry, access_of(home, entry)) for entry in entries]
        self._host = host_id(home)
        self._settings = settings

    def connect(
        self, manager: TaskManagerService, key: PublicKey, context: zmq.Context[zmq.Socket[bytes]]
    ) -> list[Upstream]:
        """Return one part of the loop for each; `key` is the public key of `manager`."""
        for entry, access in self._found:
            if access.server_key == key:
                raise UsageError(f"--upstream {entry}: that is this TaskManager itself")
        return [
            Upstream(
                entry,
                PeerEnd(
                    context,
                    access.address,
                    server_key=access.server_key,
                    keys=access.keys("client"),
                    role="client",
                    farm=access.farm,
                ),
                manager=manager,
                own=short_name(key),
                other=short_name(access.server_key),
                host=self._host,
                hostname=hostname(),
                settings=self._settings,
            )
            for entry, access in self._found
        ]
