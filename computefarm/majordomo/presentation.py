"""What the read commands print: each function takes plain values and returns lines of text or a JSON object.

The JSON objects are described in docs/reference/json.md; fields are only ever added.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from computefarm.journal.history import RunRow, TaskRow
from computefarm.messages import Attempt, DeviceStatus, Offer, Outcome, Pool, Status

from .summary import FAILURES, plural, seconds, size

Json = dict[str, Any]

PLAIN = ("exit", "timeout", "cancelled")
"""Kinds of failure that the outcome or the exit code says already."""

TAIL_LINES = 3
"""Last lines of a failed task in `history`; `why` has them all."""


class Described(msgspec.Struct, frozen=True):
    """One capability as its file describes it."""

    summary: str
    source: str
    """The file; two, joined by `and`, where one adds to the other."""
    actions: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()
    """In order of preference."""
    own: bool = False
    """It is not (only) the shipped description."""


class Offering(msgspec.Struct, frozen=True):
    """What a farm offers, and what it lacks."""

    farm: str
    pools: tuple[Pool, ...]
    missing: Mapping[str, Sequence[str]]
    """Capabilities with a file but no worker, and why."""
    described: Mapping[str, Described] = {}
    """What the capability files that apply here say, by name."""


# --- status -------------------------------------------------------------------------------------------


CLOCK_S = 2.0
"""From so many seconds on it is said that a host's clock is wrong; log lines are corrected anyway."""


def status_json(status: Status, address: str) -> Json:
    """Return `status --json`."""
    return {
        "farm": status.farm,
        "address": address,
        "version": status.version,
        "uptime_s": round(status.uptime_s, 3),
        "hosts": [
            {
                "host": host.host,
                "online": host.online,
                "load": host.load,
                "cpus": host.cpus,
                "memory_total": host.memory_total,
                "memory_available": host.memory_available,
                "gpus": host.gpus,
                "last_report_s": host.last_report_s,
                "policy": host.policy,
                "hostname": host.hostname,
                "clock_offset_s": None if host.clock_offset_s is None else round(host.clock_offset_s, 6),
            }
            for host in status.hosts
        ],
        "workers": [
            {
                "worker": worker.worker,
                "host": worker.host,
                "capabilities": capabilities_of(worker.offers),
                "slots": worker.slots,
                "running": worker.running,
                "state": worker.state,
                "tier": worker.tier,
                "weight": worker.weight,
                "done": worker.done,
                "failed": worker.failed,
                "hostname": worker.hostname,
                "reason": worker.reason,
            }
            for worker in status.workers
        ],
        "tasks": {"waiting": status.waiting, "running": status.running},
        "journal": status.journal,
        "requests": {
            "waiting": status.requests,
            "servers": [
                {**msgspec.structs.asdict(one), "devices": [msgspec.structs.asdict(d) for d in one.devices]}
                for one in status.servers
            ],
        },
    }


def _servers(status: Status) -> list[str]:
    """Return how the workers do that answer requests; nothing where none does."""
    if not status.servers:
        return []
    counted = ("IN HAND", "OLDEST", "SERVED", "FAILED", "P50 ms", "P95", "P99")
    rows = [["SERVER", "DEVICE", "STATE", *counted, "BECAUSE"]]
    for one in status.servers:
        oldest = seconds(one.oldest_s) if one.pending else "-"
        times = [f"{value:.1f}" for value in (one.p50_ms, one.p95_ms, one.p99_ms)]
        counts = [str(one.pending), oldest, str(one.served), str(one.failed)]
        name = f"{one.worker} (upstream)" if one.upstream else one.worker
        device = one.devices[0].device if len(one.devices) == 1 else "" if one.devices else "-"
        rows.append([name, device, one.state, *counts, *times, one.reason])
        rows += [_device(each) for each in one.devices if len(one.devices) > 1]
    return ["", f"requests: {status.requests} waiting", *table(rows)]


def _device(one: DeviceStatus) -> list[str]:
    oldest = seconds(one.oldest_s) if one.running else "-"
    times = [f"{value:.1f}" for value in (one.p50_ms, one.p95_ms, one.p99_ms)]
    return ["", one.device, "", str(one.running), oldest, str(one.served), str(one.failed), *times, ""]


def capabilities_of(offers: Iterable[Offer]) -> Json:
    """Return `{name: {version, fingerprint, tags}}`."""
    return {
        offer.capability: {
            "version": offer.version,
            "fingerprint": offer.fingerprint,
            "tags": dict(offer.tags),
        }
        for offer in offers
    }


def status_text(status: Status, address: str) -> list[str]:
    """Return the farm, its hosts and its workers as lines."""
    if status.farm == "local" and not address:
        lines = ["no farm is configured: `majordomo run` uses the embedded farm on this machine"]
    else:
        lines = [f"farm {status.farm} at {address}, version {status.version}, up {seconds(status.uptime_s)}"]
        lines.append(f"tasks: {status.waiting} waiting, {status.running} running")
        if status.journal:
            lines.append(f"its journal is in trouble: {status.journal}")
    rows = [["HOST", "LOAD", "CPUS", "MEMORY FREE", "GPUS", "REPORT", "POLICY"]]
    for host in status.hosts:
        load = "-" if host.load is None else f"{host.load:.2f}"
        memory = f"{size(host.memory_available)} of {size(host.memory_total)}" if host.memory_total else "-"
        age = "never" if host.last_report_s is None else f"{seconds(host.last_report_s)} ago"
        report = age if host.online else f"offline ({age})"
        if abs(host.clock_offset_s or 0.0) >= CLOCK_S:
            wrong = "fast" if (host.clock_offset_s or 0.0) > 0 else "slow"
            report += f"; its clock is {seconds(abs(host.clock_offset_s or 0.0))} {wrong}"
        row = [host.hostname or host.host, load, str(host.cpus), memory, str(host.gpus), report, host.policy]
        rows.append(row)
    lines += ["", *table(rows)]
    rows = [["WORKER", "HOST", "STATE", "RUNNING", "DONE", "FAILED", "OFFERS", "BECAUSE"]]
    for worker in status.workers:
        offers = ", ".join(
            f"{offer.capability} {offer.version}".strip() + (" (named actions only)" if offer.actions else "")
            for offer in worker.offers
        )
        running = f"{worker.running}/{worker.slots}"
        where = worker.hostname or worker.host
        counts = [running, str(worker.done), str(worker.failed)]
        rows.append([worker.worker, where, worker.state, *counts, offers, worker.reason])
    if len(rows) > 1:
        lines += ["", *table(rows)]
        lines += _servers(status)
    elif address:
        lines += ["", "no worker is connected; start one:  cf-worker --capability shell"]
    return lines


# --- capabilities -------------------------------------------------------------------------------------


def offering_json(offering: Offering) -> Json:
    """Return `capabilities --json`."""
    offered: dict[str, list[Json]] = {}
    for pool in offering.pools:
        entry = {
            "version": pool.offer.version,
            "fingerprint": pool.offer.fingerprint,
            "tags": dict(pool.offer.tags),
            "platform": pool.platform,
            "slots": pool.slots,
            "workers": list(pool.workers),
            "only_actions": lent_actions(pool.offer),
        }
        offered.setdefault(pool.offer.capability, []).append(entry)
    missing = {name: list(reasons) for name, reasons in offering.missing.items()}
    described = {name: msgspec.to_builtins(said) for name, said in offering.described.items()}
    for said in described.values():
        del said["own"]
    return {"farm": offering.farm, "capabilities": offered, "missing": missing, "described": described}


def lent_actions(offer: Offer) -> list[str]:
    """Return the names of the actions that are all an offer is good for; none when it runs any command."""
    return [label.partition(":")[0] for label in offer.actions]


def offering_text(offering: Offering) -> list[str]:
    """Return what is offered and what is missing as lines."""
    rows = [["CAPABILITY", "VERSION", "SLOTS", "WORKERS", "PLATFORM", "TAGS", "RUNS"]]
    restricted = any(pool.offer.actions for pool in offering.pools)
    for pool in offering.pools:
        tags = ", ".join(f"{key}={value}" for key, value in pool.offer.tags)
        lent = lent_actions(pool.offer)
        runs = f"only: {', '.join(lent)}" if lent else "any command" if restricted else ""
        workers = ", ".join(pool.workers) or "this machine"
        offer = pool.offer
        rows.append([offer.capability, offer.version, str(pool.slots), workers, pool.platform, tags, runs])
    place = "this machine" if offering.farm == "local" else f"farm {offering.farm}"
    lines = [f"{place} offers:", *table(rows)] if len(rows) > 1 else [f"{place} offers nothing"]
    for name, reasons in sorted(offering.missing.items()):
        lines.append(f"not offered: {name}: {'; '.join(reasons)}")
    named = [[name, ", ".join(said.actions)] for name, said in offering.described.items() if said.actions]
    if named:
        lines += ["", *table([["CAPABILITY", "ACTIONS"], *named])]
    own = [f"{name} is described by {said.source}" for name, said in offering.described.items() if said.own]
    return [*lines, "", *own] if own else lines


# --- history ------------------------------------------------------------------------------------------


def history_json(run: RunRow, rows: Sequence[TaskRow], state: str) -> Json:
    """Return `history --json`; `state` is `ended`, `running` or `killed`."""
    return {
        "run": run.run,
        "started": run.started,
        "ended": run.ended,
        "exit": run.exit,
        "tasks": [task_json(row) for row in rows],
        "folder": run.folder,
        "dodo": run.dodo,
        "farm": run.farm,
        "state": state,
    }


def task_json(row: TaskRow) -> Json:
    """Return one record of `history --json`."""
    return {
        "task": row.task,
        "outcome": str(row.outcome),
        "capability": row.capability,
        "host": row.host,
        "worker": row.worker,
        "attempt": row.attempt,
        "attempts": [attempt_json(attempt) for attempt in row.attempts],
        "cached": row.cached,
        "reason": row.reason,
        "exit_code": row.exit_code,
        "queued_s": row.queued_s,
        "run_s": row.run_s,
        "bytes_in": row.bytes_in,
        "bytes_out": row.bytes_out,
        "started": row.started_at,
        "ended": row.ended_at,
        "cpu_s": row.cpu_s,
        "peak_memory": row.peak_memory,
        "rerun": list(row.rerun),
        "log": row.log_path,
        "kind": row.kind,
        "tail": tail_of(row),
    }


def tail_of(row: TaskRow) -> str:
    """Return the last lines that a failed task printed, as far as the farm told them."""
    return row.attempts[-1].tail if row.attempts and row.outcome is not Outcome.SUCCEEDED else ""


def attempt_json(attempt: Attempt) -> Json:
    """Return one attempt of a task."""
    return {
        "attempt": attempt.attempt,
        "worker": attempt.worker,
        "host": attempt.hostname,
        "outcome": attempt.outcome,
        "reason": attempt.reason,
        "started": attempt.started_at,
        "run_s": attempt.run_s,
        "kind": attempt.kind,
        "tail": attempt.tail,
    }


def attempt_line(attempt: Attempt) -> str:
    """Say which attempt it was, where, and how it ended."""
    ended = how(attempt.outcome, attempt.kind)
    text = f"attempt {attempt.attempt} on {attempt.hostname} ({attempt.worker}): {ended}"
    return f"{text}: {attempt.reason}" if attempt.reason else text


def how(outcome: str, kind: str) -> str:
    """Return an outcome with its kind, where that says more: `failed (out of memory)`."""
    return str(outcome) if not kind or kind in PLAIN else f"{outcome} ({kind.replace('-', ' ')})"


def history_text(run: RunRow, rows: Sequence[TaskRow], state: str) -> list[str]:
    """Return a run's records as a table, with lost attempts and reasons under their task."""
    lines = [run_line(run, state)]
    body: list[tuple[list[str], list[str]]] = []
    for row in rows:
        outcome = (
            "from cache" if row.cached and row.outcome is Outcome.SUCCEEDED else how(row.outcome, row.kind)
        )
        took = seconds(row.run_s) if row.run_s and not row.cached else ""
        place = f"{row.host} ({row.worker})" if row.worker else row.host
        attempt = str(row.attempt) if row.attempt > 1 else ""
        below = [
            attempt_line(one)
            for one in (row.attempts[:-1] if row.reason else row.attempts)
            if len(row.attempts) > 1
        ]
        if row.reason:
            below.append(row.reason.splitlines()[0])
        if row.outcome in FAILURES:
            below += [f"| {line}" for line in tail_of(row).splitlines()[-TAIL_LINES:]]
        body.append(([outcome, row.task, row.capability, place, attempt, took], below))
    shown = table([["OUTCOME", "TASK", "CAPABILITY", "WHERE", "ATTEMPT", "TOOK"], *(row for row, _ in body)])
    lines += shown[:1]
    for line, (_, below) in zip(shown[1:], body, strict=True):
        lines.append(line)
        lines += [f"    {text}" for text in below]
    return lines


def run_line(run: RunRow, state: str) -> str:
    """Return one line about a run."""
    if run.ended is not None:
        end = f"exit {run.exit}, {seconds(max(0.0, run.ended - run.started))}"
    else:
        end = "still running" if state == "running" else "it was killed"
    return f"run {run.run} of {moment(run.started)} on farm {run.farm}: {end}, {plural(run.tasks, 'task')}"


# --- shapes -------------------------------------------------------------------------------------------


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as aligned columns; a column that is empty under its heading is left out."""
    filled = [
        place
        for place in range(len(rows[0]))
        if place == 0 or len(rows) == 1 or any(row[place] for row in rows[1:])
    ]
    widths = [max(len(row[place]) for row in rows) for place in filled]
    return [
        "  ".join(row[place].ljust(width) for place, width in zip(filled, widths, strict=True)).rstrip()
        for row in rows
    ]


def moment(at: float) -> str:
    """Return a wall-clock time in this machine's zone: `2026-01-31 12:05:09`."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
