"""What the read commands print: each function takes plain values and returns lines of text or a JSON object.

The JSON objects are described in docs/reference/json.md; fields are only ever added.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from computefarm.journal.history import RunRow, TaskRow
from computefarm.messages import Attempt, Explanation, Obstacle, Offer, Outcome, Pool, Status

from .summary import exit_words, plural, seconds, size

Json = dict[str, Any]


class Offering(msgspec.Struct, frozen=True):
    """What a farm offers, and what it lacks."""

    farm: str
    pools: tuple[Pool, ...]
    missing: Mapping[str, Sequence[str]]
    """Capabilities with a file but no worker, and why."""


class Account(msgspec.Struct, frozen=True):
    """Everything that is known of one task, for `why`."""

    task: str
    live: Explanation | None
    """What a manager knows now; None when no farm runs it."""
    past: tuple[tuple[RunRow, TaskRow], ...]
    """Its records, newest first."""
    last_lines: tuple[str, ...] = ()


# --- status -------------------------------------------------------------------------------------------


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
            }
            for worker in status.workers
        ],
        "tasks": {"waiting": status.waiting, "running": status.running},
    }


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
    rows = [["HOST", "LOAD", "CPUS", "MEMORY FREE", "GPUS", "REPORT", "POLICY"]]
    for host in status.hosts:
        load = "-" if host.load is None else f"{host.load:.2f}"
        memory = f"{size(host.memory_available)} of {size(host.memory_total)}" if host.memory_total else "-"
        age = "never" if host.last_report_s is None else f"{seconds(host.last_report_s)} ago"
        report = age if host.online else f"offline ({age})"
        row = [host.hostname or host.host, load, str(host.cpus), memory, str(host.gpus), report, host.policy]
        rows.append(row)
    lines += ["", *table(rows)]
    rows = [["WORKER", "HOST", "STATE", "RUNNING", "DONE", "FAILED", "OFFERS"]]
    for worker in status.workers:
        offers = ", ".join(f"{offer.capability} {offer.version}".strip() for offer in worker.offers)
        running = f"{worker.running}/{worker.slots}"
        where = worker.hostname or worker.host
        row = [worker.worker, where, worker.state, running, str(worker.done), str(worker.failed), offers]
        rows.append(row)
    if len(rows) > 1:
        lines += ["", *table(rows)]
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
        }
        offered.setdefault(pool.offer.capability, []).append(entry)
    missing = {name: list(reasons) for name, reasons in offering.missing.items()}
    return {"farm": offering.farm, "capabilities": offered, "missing": missing}


def offering_text(offering: Offering) -> list[str]:
    """Return what is offered and what is missing as lines."""
    rows = [["CAPABILITY", "VERSION", "SLOTS", "WORKERS", "PLATFORM", "TAGS"]]
    for pool in offering.pools:
        tags = ", ".join(f"{key}={value}" for key, value in pool.offer.tags)
        workers = ", ".join(pool.workers) or "this machine"
        offer = pool.offer
        rows.append([offer.capability, offer.version, str(pool.slots), workers, pool.platform, tags])
    place = "this machine" if offering.farm == "local" else f"farm {offering.farm}"
    lines = [f"{place} offers:", *table(rows)] if len(rows) > 1 else [f"{place} offers nothing"]
    for name, reasons in sorted(offering.missing.items()):
        lines.append(f"not offered: {name}: {'; '.join(reasons)}")
    return lines


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
    }


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
    }


def history_text(run: RunRow, rows: Sequence[TaskRow], state: str) -> list[str]:
    """Return a run's records as a table, with lost attempts and reasons under their task."""
    lines = [run_line(run, state)]
    body: list[tuple[list[str], list[str]]] = []
    for row in rows:
        outcome = "from cache" if row.cached and row.outcome is Outcome.SUCCEEDED else str(row.outcome)
        took = seconds(row.run_s) if row.run_s and not row.cached else ""
        place = f"{row.host} ({row.worker})" if row.worker else row.host
        attempt = str(row.attempt) if row.attempt > 1 else ""
        below = [
            f"attempt {one.attempt} on {one.hostname} ({one.worker}): {one.outcome}: {one.reason}".rstrip(
                ": "
            )
            for one in row.attempts
            if len(row.attempts) > 1
        ]
        if row.reason:
            below.append(row.reason.splitlines()[0])
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


# --- why ----------------------------------------------------------------------------------------------


def state_of(account: Account) -> str:
    """Return `waiting`, `running`, or how it ended last; `never run` when nothing is known."""
    if account.live is not None and account.live.state in ("waiting", "running"):
        return account.live.state
    return str(account.past[0][1].outcome) if account.past else "never run"


def last_work(account: Account) -> tuple[RunRow, TaskRow] | None:
    """Return the newest record in which the task was more than up to date."""
    return next((entry for entry in account.past if entry[1].outcome is not Outcome.UP_TO_DATE), None)


def why_json(account: Account) -> Json:
    """Return `why TASK --json`."""
    work = last_work(account)
    row = work[1] if work else None
    attempts = account.live.attempts if account.live and account.live.attempts else ()
    return {
        "task": account.task,
        "state": state_of(account),
        "rerun": list(row.rerun) if row else [],
        "waiting": [{one.place: one.name, "reason": one.reason} for one in obstacles(account)],
        "attempts": [attempt_json(one) for one in attempts or (row.attempts if row else ())],
        "run": work[0].run if work else None,
        "capability": row.capability if row else None,
        "host": row.host if row else None,
        "worker": row.worker if row else None,
        "cached": row.cached if row else None,
        "reason": row.reason if row else None,
        "exit_code": row.exit_code if row else None,
        "queued_s": row.queued_s if row else None,
        "run_s": row.run_s if row else None,
        "log": row.log_path if row else None,
        "others": list(row.others) if row else [],
    }


def obstacles(account: Account) -> tuple[Obstacle, ...]:
    """Return what a waiting task waits for."""
    return account.live.obstacles if account.live is not None and state_of(account) == "waiting" else ()


def why_text(account: Account) -> list[str]:
    """Return what is known of a task, in the order in which one asks."""
    state = state_of(account)
    lines = [f"{account.task}: {state}"]
    if state == "waiting":
        lines += [f"  waits: {one.place} {one.name}: {one.reason}" for one in obstacles(account)]
    if account.live is not None and state == "running":
        lines += [f"  now: {_attempt_line(one)}" for one in account.live.attempts]
    work = last_work(account)
    if work is None:
        if account.past:
            lines.append("  no recorded run has executed it: its results were up to date each time")
        return lines
    run, row = work
    if account.past[0][1] is not row:
        lines.append(f"  it was up to date in the last run; what follows is from run {run.run}")
    lines += [f"  ran because: {reason}" for reason in row.rerun]
    lines += _where(row)
    lines += [f"  {_attempt_line(one)}" for one in row.attempts if len(row.attempts) > 1]
    if row.reason or row.exit_code:
        lines.append(f"  {row.outcome}: {row.reason or exit_words(row.exit_code)}")
    lines += [f"   | {line}" for line in account.last_lines]
    if row.log_path:
        lines.append(f"  full log: {row.log_path}")
    return lines + _pace(account, row)


def _where(row: TaskRow) -> list[str]:
    if row.outcome is Outcome.BLOCKED:
        return []
    if row.cached:
        return ["  not run: the farm's result cache had the result of exactly this command on these inputs"]
    if not row.capability:
        return [f"  ran here, without a capability, for {seconds(row.run_s)}"]
    if not row.host:
        return ["  ran nowhere"]
    where = f"{row.host} ({row.worker})" if row.worker else row.host
    return [
        f"  ran on {where} for {seconds(row.run_s)}, after {seconds(row.queued_s)} in the queue:"
        f" it offered {row.capability} and was expected to finish it first",
        *(f"  not used: {other}; a run keeps to one toolchain" for other in row.others),
    ]


def _attempt_line(attempt: Attempt) -> str:
    text = f"attempt {attempt.attempt} on {attempt.hostname} ({attempt.worker}): {attempt.outcome}"
    return f"{text}: {attempt.reason}" if attempt.reason else text


def _pace(account: Account, row: TaskRow) -> list[str]:
    """Say when the task was much slower than usual."""
    earlier = sorted(
        old.run_s
        for _, old in account.past
        if old is not row and old.outcome is Outcome.SUCCEEDED and not old.cached and old.run_s > 0
    )
    if len(earlier) < 2 or row.cached:
        return []
    usual = earlier[len(earlier) // 2]
    if row.run_s < 2 * usual or row.run_s - usual < 0.1:
        return []
    return [f"  slow: {seconds(row.run_s)}, where {seconds(usual)} is usual over {len(earlier)} earlier runs"]


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
