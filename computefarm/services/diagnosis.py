"""What the end of an attempt's commands means, in words and as a kind of failure. No I/O."""

from __future__ import annotations

import errno
import os
import re
import signal
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from computefarm.capability import Capability, Probe, VersionProbe
from computefarm.messages import Action, Outcome, Piece, Result
from computefarm.quantities import format_size
from computefarm.sandbox.launching import NOT_FOUND, NOT_RUNNABLE
from computefarm.sandbox.spawner import Ended
from computefarm.store.collect import Collected

from .attempts import Execution, with_outcome

TAIL = 2000
"""Characters at the end of a failed command's output that are looked at."""

SIGNALLED = 128
"""A shell exits with this much more than the number of the signal that killed its command."""

_ABSENT = re.compile(
    r"(?:^|[\s:])['\"\u2018]?([^\s:'\"\u2018\u2019]+)['\"\u2019]?: "
    r"(?:(?:command )?not found|No such file or directory|Permission denied)\s*$",
    re.MULTILINE,
)
_FULL = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT))
_KILLED = re.compile(r"\bKilled\b")


class Verdict(NamedTuple):
    """How an attempt ended."""

    outcome: Outcome
    reason: str = ""
    """For people; empty on success."""
    kind: str = ""
    """As in `Result.kind`."""


SUCCESS = Verdict(Outcome.SUCCEEDED)


def judge(action: Action, event: Ended, *, halted: str | None, over: str = "") -> Verdict:
    """Return what the end of the commands means before outputs and machine are looked at.

    `halted` is why the attempt was ended, None when it was not; `over` how it passed its memory.
    """
    if event.exit_code == 0 and not event.timed_out and halted is None and not event.error:
        return SUCCESS
    command = _shown(action, event.command)
    if over and event.exit_code != 0:
        return Verdict(Outcome.FAILED, f"killed: out of memory, {over}: {command}", "out-of-memory")
    if event.timed_out:
        text = f"timeout: ended at its limit of {action.timeout_s:g} s: {command}"
        return Verdict(Outcome.TIMEOUT, text, "timeout")
    if halted is not None:
        return Verdict(Outcome.CANCELLED, halted, "cancelled")
    if event.error:
        return Verdict(Outcome.FAILED, event.error, "exit")
    if event.signal is not None:
        return Verdict(Outcome.FAILED, f"killed by {_signal_name(event.signal)}: {command}", "signal")
    text = f"exit status {event.exit_code}"
    if (number := signal_of(event)) is not None and _by_shell(action, event.command):
        return Verdict(
            Outcome.FAILED, f"{text}, a command of it killed by {_signal_name(number)}: {command}", "signal"
        )
    return Verdict(Outcome.FAILED, f"{text}: {command}", "exit")


def result_of(execution: Execution, event: Ended, verdict: Verdict) -> Result:
    """Return the result of an attempt, before its outputs are looked at."""
    return Result(
        outcome=verdict.outcome,
        exit_code=event.exit_code,
        signal=event.signal,
        reason=verdict.reason,
        run_s=event.run_s,
        cpu_s=event.cpu_s,
        peak_memory=max(event.peak_memory, execution.peak),
        bytes_in=execution.bytes_in,
        log=execution.log.pieces() if execution.log is not None else (),
        kind=verdict.kind,
    )


def with_collected(result: Result, collected: Collected) -> Result:
    """Return the result of commands that succeeded, with what they made; a failure when not all is there."""
    if not collected.missing:
        size = sum(entry.size for entry in collected.entries)
        return with_outcome(result, result.outcome, "", outputs=collected.entries, bytes_out=size)
    plural = "s were" if len(collected.missing) > 1 else " was"
    text = f"declared target{plural} not produced: {', '.join(collected.missing)}"
    return with_outcome(result, Outcome.FAILED, text, missing=collected.missing, kind="output")


def signal_of(event: Ended) -> int | None:
    """Return the signal that ended the command, or a command of its shell; None when there was none."""
    if event.signal is not None:
        return event.signal
    number = (event.exit_code or 0) - SIGNALLED
    return number if number in _FATAL else None


def out_of_memory(action: Action, event: Ended, text: str, peak: int) -> Verdict | None:
    """Return the verdict when the kernel has just killed for want of memory; None when not this attempt.

    `text` is the end of its output, `peak` the most memory it is known to have had.
    """
    if signal_of(event) != signal.SIGKILL and not _KILLED.search(text):
        return None
    reason = f"killed: out of memory, peak {format_size(peak)}: {_shown(action, event.command)}"
    return Verdict(Outcome.FAILED, reason, "out-of-memory")


def says_full(text: str) -> bool:
    """Tell whether a command's output ends with the complaint that a disk or a quota is full."""
    return any(words in text for words in _FULL)


def absent_programs(action: Action, event: Ended, text: str) -> frozenset[str]:
    """Return the names of programs that a command, with output `text`, may have failed for want of."""
    if event.exit_code not in (NOT_FOUND, NOT_RUNNABLE):
        return frozenset()
    names = [match[1] for match in _ABSENT.finditer(text)]
    if event.error and event.command < len(action.commands):
        command = action.commands[event.command]
        names += [command[0]] if isinstance(command, tuple) and command else []
    return frozenset(os.path.basename(name) for name in names)


def programs_of(capability: Capability) -> frozenset[str]:
    """Return the names of the programs without which the capability is not there."""
    return frozenset(os.path.basename(name) for name in _programs(capability))


def tail(pieces: Iterable[Piece]) -> str:
    """Return the end of an attempt's output."""
    return "".join(piece.text for piece in pieces)[-TAIL:]


def _programs(capability: Capability) -> Iterator[str]:
    yield from capability.requires
    yield from _named(capability.probe, capability.fingerprint)
    for variant in capability.variants:
        yield from variant.requires
        yield from _named(variant.probe, variant.fingerprint)
    for action in capability.actions.values():
        yield from action.programs


def _named(probe: Probe, fingerprint: tuple[str | VersionProbe, ...]) -> Iterator[str]:
    asked = (probe.version, *(one for _, one in probe.tags), *fingerprint)
    yield from (one.run[0] for one in asked if isinstance(one, VersionProbe))
    yield from (one for one in fingerprint if isinstance(one, str))


_FATAL = frozenset(
    int(number)
    for number in (
        signal.SIGABRT,
        signal.SIGBUS,
        signal.SIGFPE,
        signal.SIGILL,
        signal.SIGKILL,
        signal.SIGSEGV,
        signal.SIGTERM,
        signal.SIGXCPU,
        signal.SIGXFSZ,
    )
)
"""Those that a command meets by accident; other exit statuses above 128 are somebody's own."""


def _by_shell(action: Action, place: int) -> bool:
    return place < len(action.commands) and isinstance(action.commands[place], str)


def _shown(action: Action, place: int) -> str:
    """Return a command for people, in one line."""
    command = action.commands[place] if place < len(action.commands) else ""
    lines = (command if isinstance(command, str) else " ".join(command)).strip().splitlines() or [""]
    return f"{lines[0]} …" if len(lines) > 1 else lines[0]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
