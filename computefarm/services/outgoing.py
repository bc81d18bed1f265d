"""What the manager is about to tell its peers: gathered in a turn, sent at its end, kept for full sockets."""

from __future__ import annotations

from collections.abc import Callable

from computefarm.messages import FromManager
from computefarm.transport.manager_end import ManagerEnd

from .peers import NEVER, Peer


class Outgoing:
    """The control connections' way out."""

    def __init__(
        self, end: ManagerEnd, *, clock: Callable[[], float], choked: Callable[[Peer], None]
    ) -> None:
        """`choked` is told which peer does not read."""
        self._end = end
        self._clock = clock
        self._choked = choked
        self._dirty: dict[str, Peer] = {}
        self._waiting: dict[str, Peer] = {}
        """Those with something held back, looked at again when the first of them is due."""
        self._placed_due = float("inf")

    def say(self, peer: Peer, message: FromManager) -> None:
        """Tell `peer` at the end of this turn."""
        peer.gather(message, self._clock())
        self._dirty[peer.name] = peer

    def flush(self) -> None:
        """Send what this turn has gathered, and what was kept."""
        if self._clock() >= self._placed_due:
            self._dirty.update(self._waiting)
            self._waiting = {}
            self._placed_due = float("inf")
        if self._dirty:
            dirty, self._dirty = self._dirty, {}
            # Workers first: they have something to do, the others only hear of it.
            for peer in sorted(dirty.values(), key=_audience) if len(dirty) > 1 else dirty.values():
                self.flush_peer(peer)

    def flush_peer(self, peer: Peer) -> None:
        """Send what there is for one peer."""
        peer.close_turn(self._clock())
        due = peer.due()
        if due < NEVER:
            self._placed_due = min(self._placed_due, due)
            self._waiting[peer.name] = peer
        while peer.frames:
            if peer.control is None or not self._end.send(peer.control, peer.frames[0]):
                if peer.control is None or self._end.gone(peer.control):
                    # It will be told again what still matters when it comes back.
                    peer.forget_frames()
                break
            peer.sent()
        if peer.choked:
            self._choked(peer)
        elif peer.frames:
            self._dirty[peer.name] = peer

    def forget(self, peer: Peer) -> None:
        """Tell this one nothing more."""
        self._dirty.pop(peer.name, None)
        self._waiting.pop(peer.name, None)

    def deadline(self) -> float:
        """Return when to flush again."""
        return min(self._placed_due, self._clock() + 0.01) if self._dirty else self._placed_due


def _audience(peer: Peer) -> bool:
    return peer.role != "worker"
