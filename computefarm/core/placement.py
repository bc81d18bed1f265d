"""Who may run a task, and who should: pure functions of the tables.

`mismatch` and `too_small` depend only on what a worker is; `hindrance` on what it is doing now.
Each answers with the reason, so that what decides is also what explains.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from computefarm.messages import Need, Offer

from .state import Host, Worker
from .versions import satisfies


class Refusal(NamedTuple):
    """Why a worker does not take a task."""

    kind: str
    """`capability version fingerprint tag action` (not offered) · `size` (never fits) ·
    `draining held quarantine reserved silent load busy memory gpus` (not now)."""
    reason: str
    """For people."""
    place: str = "worker"
    """`worker` or `host`."""


NOT_OFFERED = frozenset({"capability", "version", "fingerprint", "tag", "action"})
"""Kinds of refusals that say the worker does not offer what is needed."""


ONLY = "runs named actions only"
"""How a refusal of kind `action` begins."""

WAITS_FOR_OTHERS = frozenset({"busy", "memory", "gpus"})
"""Kinds of refusals that end by themselves when other tasks do."""


def mismatch(need: Need, offer: Offer | None, platform: str) -> Refusal | None:
    """Return why `offer` is not what `need` asks for, or None."""
    if offer is None:
        return Refusal("capability", f"does not offer {need.capability}")
    if need.version and not satisfies(offer.version, need.version):
        version = offer.version or "of unknown version"
        return Refusal("version", f"{offer.capability} {version}, needs {need.version}")
    if need.fingerprint and need.fingerprint != offer.fingerprint:
        return Refusal("fingerprint", f"another {offer.capability} ({offer.version}) than the run has chosen")
    for name, value in need.tags:
        have = dict(offer.tags).get(name, platform if name == "platform" else None)
        if have != value:
            return Refusal("tag", f"{name} is {have}, needs {value}" if have else f"has no {name} {value}")
    if offer.actions and need.action not in offer.actions:
        return Refusal("action", _not_lent(need.action, offer))
    return None


def _not_lent(action: str, offer: Offer) -> str:
    """Say why a worker that does named actions only does not do this."""
    own = [label.partition(":")[0] for label in offer.actions]
    text = f"{ONLY} ({', '.join(own)})"
    name, unusual, parameter = action.partition("!")
    if unusual:
        return f"{text}, and {name} only with ordinary {parameter}"
    name = action.partition(":")[0]
    return f"{text}, and its own capability file describes {name} otherwise" if name in own else text


def too_small(need: Need, worker: Worker) -> Refusal | None:
    """Return why the task could not run here even if the worker were idle, or None."""
    if need.cpus > worker.slots:
        return Refusal("size", f"has {worker.slots} slots, needs {need.cpus}")
    if need.gpus > worker.gpus:
        return Refusal("size", f"has {worker.gpus} GPUs, needs {need.gpus}")
    if worker.memory and need.memory > worker.memory:
        return Refusal("size", f"has {mebibytes(worker.memory)}, needs {mebibytes(need.memory)}")
    return None


def hindrance(need: Need, worker: Worker, now: float) -> Refusal | None:
    """Return why an able worker does not take the task at this moment, or None."""
    if not worker.peer:
        return Refusal("silent", "has fallen silent")
    if worker.draining:
        return Refusal("draining", "takes no new work")
    if worker.held:
        return Refusal("held", worker.held)
    if now < worker.quarantined_until:
        return Refusal("quarantine", quarantined(worker, now))
    if worker.reserved is not None and worker.reserved != need:
        return Refusal("reserved", f"kept free for {worker.reserved_for}, which fits nowhere else")
    host = worker.host
    report = host.report
    limits = worker.max_load is not None or (report is not None and report.max_load is not None)
    if limits and (held := over_limit(worker, now)) is not None:
        return held
    if need.exclusive and (worker.running or worker.backlog):
        return Refusal("busy", f"busy with {_tasks(len(worker.running))}, the task must run alone")
    if need.cpus > worker.slots - worker.used:
        return Refusal("busy", f"{worker.free} of {worker.slots} slots free, needs {need.cpus}")
    if need.gpus > worker.gpus - worker.gpus_used:
        return Refusal("gpus", f"{worker.gpus - worker.gpus_used} GPUs free, needs {need.gpus}")
    if need.memory:
        return _short_of_memory(need, worker, host, now)
    return None


def refusal(need: Need, worker: Worker, now: float) -> Refusal | None:
    """Return why `worker` does not take a task with this need now, or None when it would."""
    withdrawn = worker.withdrawn.get(need.capability)
    if withdrawn is not None:
        return Refusal("capability", f"no longer offers {need.capability}: {withdrawn.reason}")
    return (
        mismatch(need, worker.offers.get(need.capability), worker.platform)
        or too_small(need, worker)
        or hindrance(need, worker, now)
    )


def choose(need: Need, workers: Iterable[Worker], now: float) -> Worker | None:
    """Return the worker that should finish first among those that do not refuse now, or None.

    The workers are expected to offer what is needed. A lower tier always goes first; then hosts that report,
    hosts that would not be overloaded, the earlier finish, the less loaded, and the name to settle a draw.
    """
    willing = [worker for worker in workers if hindrance(need, worker, now) is None]
    if len(willing) > 1:
        return min(willing, key=lambda worker: rank(need, worker, now))
    return willing[0] if willing else None


def quarantined(worker: Worker, now: float) -> str:
    """Return why a worker is left alone, and for how long."""
    return f"in quarantine for {worker.quarantined_until - now:.0f} s more: {worker.quarantine}"


def mebibytes(count: int) -> str:
    """Return an amount of memory for people."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


Rank = tuple[int, bool, bool, float, float, str]
"""The lowest goes first; no two workers have the same."""


def rank(need: Need, worker: Worker, now: float) -> Rank:
    """Return a worker's place in the choice, see `choose`."""
    host = worker.host
    cpus = host.report.cpus if host.report else worker.cpus
    projected = host.ledger.projected(cpus) + need.load / max(1, cpus)
    # On an overloaded host tasks share the cores, so a run takes longer by the overload.
    finish = max(1.0, projected) / worker.weight
    return worker.tier, host.stale(now), projected > 1.001, finish, projected, worker.name


def over_limit(worker: Worker, now: float) -> Refusal | None:
    """Return the owner's strict limit that is reached, of the worker or its host, or None.

    A host that has fallen silent is chosen last but not refused: its last report says nothing about now.
    """
    host = worker.host
    if host.stale(now):
        return None
    projected = host.projected(worker.cpus)
    if worker.max_load is not None and projected >= worker.max_load:
        return Refusal("load", f"load {projected:.2f} is at its limit of {worker.max_load:g}")
    if host.report is not None and host.report.max_load is not None and projected >= host.report.max_load:
        if host.report.policy:
            return Refusal("policy", host.report.policy, "host")
        text = f"load {projected:.2f} is at the owner's limit of {host.report.max_load:g}"
        return Refusal("load", text, "host")
    return None


def _short_of_memory(need: Need, worker: Worker, host: Host, now: float) -> Refusal | None:
    ledger = host.ledger
    if worker.memory and ledger.memory + need.memory > worker.memory:
        left = max(0, worker.memory - ledger.memory)
        return Refusal("memory", f"{mebibytes(left)} not promised to others, needs {mebibytes(need.memory)}")
    if host.report is not None and not host.stale(now):
        left = max(0, host.report.memory_available - ledger.memory_since)
        if need.memory > left:
            return Refusal("memory", f"{mebibytes(left)} free, needs {mebibytes(need.memory)}", "host")
    return None


def _tasks(count: int) -> str:
    return "1 task" if count == 1 else f"{count} tasks"
