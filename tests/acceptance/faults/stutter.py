"""Run a program of the farm that says much twice: `python stutter.py PROGRAM ARGUMENTS…`.

TCP keeps order, so what a manager can see is what re-sending makes: a message again at once, or again
after others have passed. Chunks (they have a data frame) and the first word of a connection are said once.
"""

from __future__ import annotations

import importlib
import random
import sys

from computefarm.transport.peer_end import Buffer, LinkState, PeerEnd

MODULES = {"majordomo": "majordomo", "cf-worker": "worker"}
chance = random.Random(13)
late: dict[PeerEnd, list[bytes]] = {}
fresh: set[PeerEnd] = set()
once, news = PeerEnd.send, PeerEnd.events


def send(self: PeerEnd, body: bytes, data: Buffer | None = None) -> bool:
    """Send, and send again now or later."""
    sent = once(self, body, data)
    if sent and data is None:
        if self not in fresh:
            fresh.add(self)
            return sent
        waiting = late.setdefault(self, [])
        if chance.random() < 0.5:
            once(self, body)
        if waiting and chance.random() < 0.3:
            once(self, waiting.pop(chance.randrange(len(waiting))))
        if chance.random() < 0.3:
            waiting.append(bytes(body))
    return sent


def events(self: PeerEnd) -> list[object]:
    """Forget what belongs to a connection that has ended."""
    told = news(self)
    if any(event.state is not LinkState.UP for event in told):
        fresh.discard(self)
        late.pop(self, None)
    return told  # type: ignore[return-value]


if __name__ == "__main__":
    PeerEnd.send = send  # type: ignore[method-assign]
    PeerEnd.events = events  # type: ignore[assignment, method-assign]
    name = sys.argv[1]
    sys.argv = sys.argv[1:]
    sys.exit(importlib.import_module(f"computefarm.cli.{MODULES[name]}").main())
