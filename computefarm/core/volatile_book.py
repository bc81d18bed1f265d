"""Requests that are not answered yet: who asks, who has them, and in which order the others wait."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator

import msgspec

from computefarm.messages import Request

from .commands import PeerId

Need = tuple[object, ...]
"""What a worker must have."""

Identity = tuple[object, ...]
"""What equal requests have in common."""


class Asker(msgspec.Struct, frozen=True):
    """Who waits for an answer, under which number, and until when."""

    peer: PeerId
    number: int
    until: float
    others: bool = False
    """It has others to ask."""


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
    same: Identity = ()

    @property
    def about(self) -> str:
        """Return what it asks, for people."""
        sizes = (f"{name}={value}" for name, value in self.request.sizes)
        return " ".join((self.request.kernel, *sizes))[:255]

    @property
    def until(self) -> float:
        """Return when nobody waits for it any more."""
        return max(asker.until for asker in self.askers)


class Book:
    """The tickets of one manager."""

    def __init__(self) -> None:
        self.tickets: dict[int, Ticket] = {}
        self.asked: dict[tuple[PeerId, int], int] = {}
        """Ticket by asker and number."""
        self.each: dict[PeerId, int] = {}
        """Requests of each asker."""
        self.queued = 0
        """Tickets that nobody has."""
        self.bytes = 0
        """Of all requests."""
        self.same: dict[Identity, int] = {}
        self.waiting: dict[Need, list[tuple[float, int]]] = {}
        """Heaps of turn and ticket; those that do not wait any more are skipped."""
        self._turns: dict[PeerId, float] = {}
        self._turn = 0.0
        self._due: list[tuple[float, int]] = []
        """When a ticket's first asker has waited long enough."""
        self._counter = 0

    # --- tickets --------------------------------------------------------------------------------------

    def equal(self, same: Identity) -> Ticket | None:
        """Return the ticket of equal requests, if there is one."""
        key = self.same.get(same)
        return self.tickets[key] if key is not None else None

    def enter(self, request: Request, peer: PeerId, same: Identity, now: float) -> Ticket:
        """Return a new ticket, at the end of the queue of those whose turn it is."""
        self._counter += 1
        turn = max(self._turn, self._turns.get(peer, 0.0)) + 1.0
        self._turns[peer] = turn
        ticket = Ticket(self._counter, request, now, [], turn=turn, same=same)
        self.tickets[ticket.key] = ticket
        self.same[same] = ticket.key
        self.bytes += len(request.body)
        self.queue(ticket)
        return ticket

    def join(self, ticket: Ticket, asker: Asker, reminder: float) -> None:
        """Add somebody who waits for it; `overdue` names the ticket at `reminder`."""
        ticket.askers.append(asker)
        self.asked[asker.peer, asker.number] = ticket.key
        self.each[asker.peer] = self.each.get(asker.peer, 0) + 1
        heapq.heappush(self._due, (reminder, ticket.key))

    def forget(self, ticket: Ticket) -> None:
        """Forget a ticket and whoever waits for it."""
        del self.tickets[ticket.key]
        self.same.pop(ticket.same, None)
        self.bytes -= len(ticket.request.body)
        if not ticket.worker:
            self.queued -= 1
        self.drop(ticket, ticket.askers)

    def drop(self, ticket: Ticket, askers: Collection[Asker]) -> None:
        """Forget some of those who wait for it."""
        for asker in askers:
            self.asked.pop((asker.peer, asker.number), None)
            left = self.each.get(asker.peer, 0) - 1
            if left > 0:
                self.each[asker.peer] = left
            else:
                self.each.pop(asker.peer, None)
        ticket.askers = [asker for asker in ticket.askers if asker not in askers]

    def leave(self, peer: PeerId, number: int) -> Ticket | None:
        """Forget that this was asked; return the ticket when nobody waits for it any more."""
        key = self.asked.get((peer, number))
        if key is None:
            return None
        ticket = self.tickets[key]
        self.drop(ticket, [asker for asker in ticket.askers if (asker.peer, asker.number) == (peer, number)])
        return None if ticket.askers else ticket

    # --- the queue ------------------------------------------------------------------------------------

    def queue(self, ticket: Ticket) -> None:
        """Let it wait, at its old place where it had one: that is the front by now."""
        ticket.worker = ""
        request = ticket.request
        need = (request.kernel, request.version, request.device, request.memory, request.sizes, request.vram)
        heapq.heappush(self.waiting.setdefault(need, []), (ticket.turn, ticket.key))
        self.queued += 1

    def first(self, blocked: Collection[Need]) -> tuple[Need, Ticket] | None:
        """Return the ticket whose turn it is, of those with other needs than `blocked`."""
        best: tuple[float, int] | None = None
        for need, heap in list(self.waiting.items()):
            while heap and not self._waits(heap[0][1]):
                heapq.heappop(heap)
            if not heap:
                del self.waiting[need]
            elif need not in blocked and (best is None or heap[0] < best):
                best, chosen = heap[0], need
        return (chosen, self.tickets[best[1]]) if best is not None else None

    def _waits(self, key: int) -> bool:
        ticket = self.tickets.get(key)
        return ticket is not None and not ticket.worker

    def give(self, need: Need, ticket: Ticket, worker: str, now: float) -> int:
        """Enter who has the first ticket of a need; return the number it is sent under."""
        heapq.heappop(self.waiting[need])
        self.queued -= 1
        self._counter += 1
        ticket.worker, ticket.given_at = worker, now
        ticket.tried.append(worker)
        self._turn = max(self._turn, ticket.turn)
        return self._counter

    # --- time -----------------------------------------------------------------------------------------

    def next_due(self) -> float | None:
        """Return when `overdue` may have something."""
        while self._due and self._due[0][1] not in self.tickets:
            heapq.heappop(self._due)  # answered: nobody need wake up for it
        return self._due[0][0] if self._due else None

    def overdue(self, now: float) -> Iterator[Ticket]:
        """Yield tickets of which somebody may have waited long enough."""
        while self._due and self._due[0][0] <= now:
            _, key = heapq.heappop(self._due)
            ticket = self.tickets.get(key)
            if ticket is not None:
                yield ticket

    def forget_turns(self, here: Collection[PeerId]) -> None:
        """Forget whose turn it was, of those who are not here."""
        for name in [name for name in self._turns if name not in here]:
            del self._turns[name]
