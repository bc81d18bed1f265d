"""Control connections between processes and the manager, and everything that can happen to one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from computefarm.codec import decode_from_manager, decode_to_manager, encode
from computefarm.messages import (
    PROTOCOL,
    Begun,
    Disconnect,
    FromManager,
    Heartbeat,
    Hello,
    LoadReport,
    Placed,
    Submit,
    ToManager,
    Welcome,
)

from .nodes import Node

if TYPE_CHECKING:
    from .world import World

LOSSY = (Heartbeat, Begun, LoadReport, Placed)
"""Messages that the dialogue can do without, one by one."""

WELCOME_S = 8.0
"""How long a process waits for its welcome before it dials again."""


class Line:
    """One connection: first in, first out in each direction, until something happens to it."""

    def __init__(self, world: World, process: Process) -> None:
        self.world = world
        self.process = process
        self.open = world.manager.alive
        self.peer = ""
        """The manager's name for the process; given with its Hello."""
        self.free_at = {"up": 0.0, "down": 0.0}
        self.swallows: set[str] = set()

    def up(self, *messages: ToManager) -> None:
        """Send to the manager."""
        self.carry("up", messages)

    def down(self, *messages: FromManager) -> None:
        """Send to the process."""
        self.carry("down", messages)

    def carry(self, way: str, messages: Sequence[ToManager | FromManager]) -> None:
        """Let messages travel, late, perhaps not at all, perhaps twice."""
        if not self.open or way in self.swallows:
            return
        world, faults = self.world, self.world.faults
        if isinstance(messages[0], LOSSY) and faults.happens("loss", 0.1):
            world.tell(self.process.name, "%s: %s is lost", way, messages[0])
            return
        body = encode(messages)
        at = max(self.free_at[way], world.now + world.random.expovariate(50))
        self.free_at[way] = at
        world.at(at, lambda: self.arrive(way, body))
        if faults.happens("copies", 0.03):
            # A submission is never said again on the same connection: its copy is not late.
            late = 0.0 if isinstance(messages[0], Submit) else faults.streams["copies"].expovariate(0.5)
            world.at(at + late, lambda: self.arrive(way, body))

    def arrive(self, way: str, body: bytes) -> None:
        """Reach the other end, if there is still one."""
        if not self.open or way in self.swallows:
            return
        manager = self.world.manager
        if way == "up":
            manager.do(lambda: manager.hear(self, decode_to_manager(body)))
        else:
            self.process.do(lambda: self.process.hear(self, decode_from_manager(body)))

    # --- what happens to it

    def stall(self, way: str, seconds: float) -> None:
        """Let a direction stand still for a while; nothing is lost."""
        self.free_at[way] = max(self.free_at[way], self.world.now + seconds)

    def cut(self) -> None:
        """Lose everything in flight; each end finds out later, or only by silence."""
        if self.open:
            self.open = False
            self.notice("up", 0.7)
            self.notice("down", 0.7)

    def close(self) -> None:
        """The process has hung up."""
        if self.open:
            self.open = False
            self.notice("up", 0.5)

    def drop(self) -> None:
        """The manager has hung up."""
        if self.open:
            self.open = False
            self.notice("down", 0.5)

    def notice(self, way: str, probability: float) -> None:
        """Let one end find out that the connection has ended."""
        world = self.world
        if world.random.random() >= probability:
            return
        delay = world.random.expovariate(1)
        if way == "up":
            manager = world.manager
            manager.later(delay, lambda: manager.departed(self))
        else:
            self.process.later(delay, lambda: self.process.unplugged(self))


class Process(Node):
    """What workers and clients have in common: they dial, and dial again."""

    role = ""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self.line: Line | None = None
        self.welcome = False

    @property
    def boot(self) -> str:
        """Return what tells this life from others."""
        return f"{self.name}.{self.life}"

    def dial(self) -> None:
        """Open a connection and say Hello on it."""
        line = self.line = Line(self.world, self)
        self.welcome = False
        self.obey(self.session.connected(self.now))
        line.up(Hello(PROTOCOL, "1", self.role, self.boot, host=self.name))
        if line.open:
            self.later(WELCOME_S, lambda: None if self.welcome else self.unplugged(line))
        else:
            self.later(self.random.expovariate(1), lambda: self.unplugged(line))
        self.arm()

    def unplugged(self, line: Line) -> None:
        """The connection has turned out to be dead."""
        if self.line is line:
            self.obey(self.session.disconnected(self.now))
            self.redial()

    def redial(self) -> None:
        """Give the connection up and make another one soon."""
        if self.line is not None:
            self.line.close()
        self.line = None
        self.later(self.random.expovariate(1), lambda: None if self.line is not None else self.dial())

    def say(self, message: ToManager) -> None:
        """Send to the manager, if there is a connection."""
        if self.line is not None:
            self.line.up(message)

    def hear(self, line: Line, messages: list[FromManager]) -> None:
        """Take what the manager said on the present connection."""
        for message in messages:
            if not self.alive or self.line is not line:
                return
            self.world.audit.heard(self, message)
            if isinstance(message, Welcome):
                self.welcome = True
            elif isinstance(message, Disconnect):
                self.world.tell(self.name, "is turned away: %s", message)
            self.obey(self.session.receive(message, self.now))
        if self.alive:
            self.arm()

    def deadline(self) -> float | None:
        return self.session.next_deadline()

    def tick(self) -> None:
        self.obey(self.session.tick(self.now))

    def obey(self, commands: list) -> None:
        raise NotImplementedError
