"""One line for each request that was answered: who asked, what, how long it took, where, and how it ended."""

from __future__ import annotations

import logging

from computefarm.messages import Reply

log = logging.getLogger("computefarm.taskmanager")

ANSWERED = frozenset({"ok", "no_proof"})
FIRST_DROPPED = 15
"""At k = 32 a request that lacks this many bits of each x and one more is of level C1."""


def log_reply(who: str, reply: Reply) -> None:
    """Log an answer to `who`."""
    level = logging.INFO if reply.status in ANSWERED else logging.WARNING
    if not log.isEnabledFor(level):
        return
    where = f"{reply.device or 'nothing'} of {reply.worker}" if reply.worker else "nobody"
    log.log(
        level,
        "request from %s: %s took %.1f ms on %s, waited %.1f ms, attempt %d: %s%s",
        who,
        _printable(_named(reply.about)),
        reply.wall_ms,
        _printable(where),
        reply.queue_ms,
        reply.attempts,
        _printable(reply.status),
        f" ({_printable(reply.reason)})" if reply.reason else "",
    )


def _named(about: str) -> str:
    """Return what was asked, with the name that harvesters know the level by."""
    words = about.split()
    dropped = next((word[2:] for word in words if word.startswith("d=")), "")
    if "k=32" in words and dropped.isdecimal() and FIRST_DROPPED < int(dropped) <= FIRST_DROPPED + 9:
        return f"{about} (C{int(dropped) - FIRST_DROPPED})"
    return about or "a request"


def _printable(text: str) -> str:
    """Return text that is one line, whatever a peer has put into it."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:500])
