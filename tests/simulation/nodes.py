"""What every process of the world has: a life, a clock of its own, timers, and moments in which it stands still."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .world import World


class Node:
    """A process. What happens to it goes through `do`, which drops it for the dead and keeps it for the frozen."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.random = world.stream(name)
        self.alive = False
        self.life = 0
        self.frozen = False
        self.inbox: list[Callable[[], None]] = []
        self.offset = 0.0
        self.rate = 1.0
        self.ring_at = float("inf")

    @property
    def now(self) -> float:
        """Return the node's own monotonic time."""
        return self.offset + self.rate * self.world.now

    def born(self) -> None:
        """Begin a life."""
        self.life += 1
        self.alive = True
        self.frozen = False
        self.inbox.clear()
        self.ring_at = float("inf")
        if "skew" in self.world.faults.kinds:
            skew = self.world.faults.streams["skew"]
            self.offset = skew.uniform(0, 1e5)
            self.rate = skew.uniform(0.995, 1.005)

    def dies(self) -> None:
        """End a life: nothing that was meant for it happens any more."""
        self.alive = False
        self.frozen = False
        self.inbox.clear()

    def do(self, what: Callable[[], None]) -> None:
        """Let something happen to the node now, or when it thaws."""
        if self.frozen:
            self.inbox.append(what)
        elif self.alive:
            what()

    def later(self, delay: float, what: Callable[[], None]) -> None:
        """Let something happen to this life of the node after `delay` seconds of the world."""
        life = self.life
        self.world.after(delay, lambda: self.life == life and self.do(what))

    def freeze(self, seconds: float) -> None:
        """Stand still for a while."""
        if not self.alive or self.frozen:
            return
        self.world.tell(self.name, "freezes for %.1f s", seconds)
        self.frozen = True
        life = self.life
        self.world.after(seconds, lambda: self.life == life and self.thaw())

    def thaw(self) -> None:
        """Go on: with what has gathered, then with the clock, or the other way round."""
        if not self.frozen:
            return
        self.frozen = False
        self.world.tell(self.name, "goes on, %d things have gathered", len(self.inbox))
        clock_first = self.random.random() < 0.5
        if clock_first:
            self.ring()
        inbox, self.inbox = self.inbox, []
        for what in inbox:
            self.do(what)
        if not clock_first and self.alive:
            self.ring()

    # --- timers

    def deadline(self) -> float | None:
        """Return when, on its own clock, the node wants to be woken."""
        raise NotImplementedError

    def tick(self) -> None:
        """Do what time alone makes necessary."""
        raise NotImplementedError

    def arm(self) -> None:
        """See to it that the node is woken in time."""
        deadline = self.deadline()
        if deadline is None:
            return
        at = max(self.world.now + 0.001, (deadline - self.offset) / self.rate)
        if at < self.ring_at - 1e-9:
            self.ring_at = at
            life = self.life
            self.world.at(at, lambda: self.life == life and self.rung(at))

    def rung(self, at: float) -> None:
        """A timer has run out."""
        if at == self.ring_at:
            self.ring_at = float("inf")
            self.do(self.ring)

    def ring(self) -> None:
        """Wake the node."""
        if not self.alive:
            return
        deadline = self.deadline()
        if deadline is not None and deadline <= self.now + 1e-6:
            self.tick()
        if self.alive:
            self.arm()
