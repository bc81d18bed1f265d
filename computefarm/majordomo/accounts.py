"""What `why` says of one task: everything that is known of it, in the order in which one asks."""

from __future__ import annotations

import msgspec

from computefarm.journal.history import RunRow, TaskRow
from computefarm.messages import Explanation, Obstacle, Outcome

from .presentation import Json, attempt_json, attempt_line, how, tail_of
from .summary import exit_words, seconds


class Account(msgspec.Struct, frozen=True):
    """Everything that is known of one task, for `why`."""

    task: str
    live: Explanation | None
    """What a manager knows now; None when no farm runs it."""
    past: tuple[tuple[RunRow, TaskRow], ...]
    """Its records, newest first."""
    last_lines: tuple[str, ...] = ()


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
        "kind": row.kind if row else None,
        "tail": tail_of(row) if row else None,
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
        lines += [f"  now: {attempt_line(one)}" for one in account.live.attempts]
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
    lines += [f"  {attempt_line(one)}" for one in row.attempts if len(row.attempts) > 1]
    if row.reason or row.exit_code:
        lines.append(f"  {how(row.outcome, row.kind)}: {row.reason or exit_words(row.exit_code)}")
    lines += [f"   | {line}" for line in account.last_lines or tail_of(row).splitlines()]
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
