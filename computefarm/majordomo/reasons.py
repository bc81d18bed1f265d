"""Why a task runs, in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def reason_sentences(reasons: Mapping[str, Any]) -> list[str]:
    """Return why a task runs, one sentence each."""
    lines = []
    if reasons.get("has_no_dependencies"):
        lines.append("it has no dependencies")
    lines += [f"its `uptodate` {ask!r} says so" for ask, _, _ in reasons.get("uptodate_false", ())]
    if change := reasons.get("checker_changed"):
        lines.append("the way to check files changed from {} to {}".format(*change))
    if change := reasons.get("capability_changed"):
        lines.append("capability changed {} → {}".format(*change))
    if change := reasons.get("toolchain_changed"):
        lines.append(toolchain_sentence(*change))
    if change := reasons.get("command_changed"):
        lines.append(command_sentence(*change))
    for key, sentence in (
        ("missing_target", "{} is missing"),
        ("changed_file_dep", "{} changed"),
        ("missing_file_dep", "{} does not exist"),
        ("added_file_dep", "{} was added to file_dep"),
        ("removed_file_dep", "{} was removed from file_dep"),
        ("changed_inputs", "{} changed"),
    ):
        lines += [sentence.format(item) for item in reasons.get(key, ())]
    return lines


def toolchain_sentence(capability: str, before: str, now: str) -> str:
    """Say how a capability's toolchain changed."""
    if before and now and before != now:
        return f"{capability} changed {before} → {now}"
    return f"{capability} changed (another build of {now or 'it'})"


def command_sentence(before: str, now: str) -> str:
    """Say how a command changed; the part after the first zero byte is everything but the command."""
    old, new = before.split("\0")[0], now.split("\0")[0]
    if old == new:
        return "its targets, parameters or environment changed"
    return f"the command changed: {_short(old)} → {_short(new)}"


def _short(text: str, width: int = 120) -> str:
    line = " ; ".join(text.splitlines())
    return line if len(line) <= width else f"{line[: width - 1]}…"
