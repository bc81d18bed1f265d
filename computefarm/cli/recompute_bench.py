"""`cf-recompute bench` measures what servers (or this machine) answer; `estimate` tells it in a moment."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from computefarm.errors import UsageError
from computefarm.recompute import Answer
from computefarm.recompute.estimating import (
    DIFFICULTY,
    FILTERS,
    LOAD,
    Estimate,
    estimate,
    expected_s,
    lookup_s,
    percentile,
    plots,
    proofs_per_lookup,
)
from computefarm.recompute.known import LEVELS, known, operations
from computefarm.recompute.local import LocalClient
from computefarm.recompute.pipeline import in_order
from computefarm.worker_api.kernel import ANSWERED, OK

from .recompute_asking import Asked, add_options, client, slots_of
from .recompute_reading import requests_of

USUAL = LEVELS[:7]
"""C8 was never released, and a proof of C9 takes minutes."""

DEADLINE_MS = 120_000
ROUND = 2
"""At least so many requests per slot are measured."""

OVERHEAD = 20
CALIBRATE = "C2"
"""Some 30 to 80 ms per proof: enough to tell how fast a core is."""

Rows = Iterator[str]


class Measured(msgspec.Struct, frozen=True):
    """Answers to one kind of request."""

    count: int
    p50_ms: float
    p95_ms: float
    cpu_ms: float
    per_s: float
    troubles: dict[str, int] = {}
    """What went wrong, and how often."""


def add(commands: Any) -> None:
    """Add the commands to the parser's."""
    bench = commands.add_parser(
        "bench", help="measure what the servers answer, and how many plots that serves"
    )
    bench.add_argument("requests", metavar="REQUESTS.jsonl", nargs="?", help="these, instead of known proofs")
    bench.add_argument("--seconds", type=float, default=4.0, metavar="S", help="for each level (default 4)")
    bench.set_defaults(call=run_bench)

    guess = commands.add_parser("estimate", help="what each compression level would cost on these servers")
    guess.set_defaults(call=run_estimate)

    for command, default in ((bench, "C1 to C7"), (guess, "all")):
        command.add_argument(
            "--level", action="append", choices=LEVELS, metavar="LEVEL", help=f"C1 to C9; default: {default}"
        )
        command.add_argument(
            "--difficulty", type=float, default=DIFFICULTY, metavar="D",
            help=f"of the pool's partial proofs (default {DIFFICULTY})",
        )  # fmt: skip
        command.add_argument("--json", action="store_true", help="for programs")
        add_options(command, local=True)


def _check(arguments: argparse.Namespace) -> None:
    if not 0 < arguments.difficulty < float("inf"):
        raise UsageError(f"--difficulty {arguments.difficulty:g}: a number above 0 was expected")


def _assumed(difficulty: float) -> str:
    share = proofs_per_lookup(difficulty)
    return (
        f"plots: slots busy {LOAD:.0%} of the time; partials at difficulty {difficulty:g}, "
        f"a whole proof for {'every lookup' if share >= 1 else f'1 lookup in {1 / share:.0f}'}"
    )


# --- bench --------------------------------------------------------------------------------------------


def run_bench(arguments: argparse.Namespace) -> int:
    """Measure; return the exit code."""
    _check(arguments)
    if not 0 < arguments.seconds <= 86_400:
        raise UsageError(f"--seconds {arguments.seconds:g}: a number above 0 was expected")
    given = list(requests_of(arguments.requests)) if arguments.requests else []
    if arguments.requests and not given:
        raise UsageError(f"{arguments.requests} has no requests")
    if given and arguments.level:
        raise UsageError("--level is for the known proofs, not for a file of requests")
    with client(arguments, timeout_ms=DEADLINE_MS) as asked:
        slots = slots_of(asked)
        # One more than is computed: the next one is there when a slot becomes free.
        limit = arguments.max_cores or slots + 1
        if given:
            return _file(arguments, asked, given, limit)
        said = {
            "where": "local" if isinstance(asked, LocalClient) else "servers",
            "slots": slots,
            "difficulty": arguments.difficulty,
            "load": LOAD,
            "overhead_ms": round(_overhead_ms(asked), 3),
        }
        if not arguments.json:
            print(f"slots: {slots} ({said['where']}), {said['overhead_ms']:.1f} ms beside the computing")
            print(_assumed(arguments.difficulty))
            filters = "".join(f"{f'filter {each}':>13}" for each in FILTERS)
            print(f"level  quality ms p50     p95  proof ms p50       p95  proofs/s  plots:{filters}")
        rows = []
        for level in arguments.level or USUAL:
            rows.append(_level(arguments, asked, level, limit))
            if not arguments.json:
                print(_line(rows[-1]), flush=True)
    if arguments.json:
        print(json.dumps({**said, "levels": rows}, indent=2))
    return _verdict(rows)


def _level(arguments: argparse.Namespace, asked: Asked, level: str, limit: int) -> dict[str, Any]:
    kinds = operations(level)
    seconds = arguments.seconds / len(kinds)
    row: dict[str, Any] = {"level": level}
    found = {op: _measure(asked, level, op, seconds, limit) for op in kinds}
    for op, measured in found.items():
        row[op] = msgspec.to_builtins(measured)
    each = {op: 1 / measured.per_s if measured.per_s else 0.0 for op, measured in found.items()}
    whole = "quality" not in each
    seconds_of_all = lookup_s(each.get("quality", 0.0), each["proof"], arguments.difficulty, whole=whole)
    good = all(each.values())
    row["plots"] = {str(f): plots(seconds_of_all, 1, f) if good else 0 for f in FILTERS}
    return row


def _measure(asked: Asked, level: str, op: str, seconds: float, limit: int) -> Measured:
    proofs = known()
    until = time.monotonic() + seconds

    def requests() -> Iterator[Mapping[str, object]]:
        number = 0
        while number < ROUND * limit or time.monotonic() < until:
            # Equal requests would be computed once for all who ask at a time.
            yield {**proofs[number % len(proofs)].request(level, op), "salt": time.time_ns()}
            number += 1

    began = time.monotonic()
    answers = list(in_order(asked.submit, requests(), lambda: limit))
    took = time.monotonic() - began
    troubles: dict[str, int] = {}
    good = []
    for number, answer in enumerate(answers):
        trouble = _trouble(answer, op, getattr(proofs[number % len(proofs)], op))
        if trouble:
            troubles[trouble] = troubles.get(trouble, 0) + 1
        else:
            good.append(answer)
    return _measured(good, took, troubles)


def _measured(good: Sequence[Answer], took: float, troubles: dict[str, int]) -> Measured:
    times = [answer.wall_ms for answer in good]
    return Measured(
        count=len(good),
        p50_ms=round(percentile(times, 0.5), 3),
        p95_ms=round(percentile(times, 0.95), 3),
        cpu_ms=round(sum(answer.cpu_ms for answer in good) / max(1, len(good)), 3),
        per_s=round(len(good) / took, 4),
        troubles=troubles,
    )


def _trouble(answer: Answer, op: str, right: str) -> str:
    """Return what is wrong with an answer, or nothing."""
    if answer.status != OK:
        return f"{answer.status}: {answer.reason}"
    every = "qualities" if op == "quality" else "proofs"
    if bytes.fromhex(right) in (answer.values.get(op), *answer.values.get(every, ())):
        return ""
    return f"{answer.worker or 'a server'} has answered with a wrong {op}"


def _overhead_ms(asked: Asked) -> float:
    """Return the milliseconds between asking and having the answer in which nothing is computed."""
    times = []
    for number in range(OVERHEAD):
        request = known()[number % len(known())].request("C1", "quality")
        began = time.monotonic()
        answer = asked.submit({**request, "salt": time.time_ns()}).result()
        times.append((time.monotonic() - began) * 1000 - answer.wall_ms)
    return max(0.0, percentile(times, 0.5))


def _line(row: Mapping[str, Any]) -> str:
    quality, proof = row.get("quality"), row["proof"]
    told = f"{quality['p50_ms']:14.1f}  {quality['p95_ms']:6.1f}" if quality else f"{'-':>14}  {'-':>6}"
    served = "".join(f"{count:13,}" for count in row["plots"].values())
    return (
        f"{row['level']:5}  {told}  {proof['p50_ms']:12.1f}  {proof['p95_ms']:8.1f}  {proof['per_s']:8.2f}"
        f"         {served}"
    )


def _verdict(rows: Sequence[Mapping[str, Any]]) -> int:
    code = 0
    for row in rows:
        for op in operations(row["level"]):
            for trouble, count in row[op]["troubles"].items():
                print(f"cf-recompute: {row['level']} {op}: {count} times: {trouble}", file=sys.stderr)
                code = 1
    return code


def _file(
    arguments: argparse.Namespace, asked: Asked, given: Sequence[Mapping[str, object]], limit: int
) -> int:
    """Measure the requests of a file, again and again."""
    began = time.monotonic()

    def again() -> Iterator[Mapping[str, object]]:
        while True:
            for raw in given:
                if time.monotonic() - began >= arguments.seconds:
                    return
                yield {**{key: raw[key] for key in raw if key != "id"}, "salt": time.time_ns()}

    answers = list(in_order(asked.submit, again(), lambda: limit))
    took = time.monotonic() - began
    troubles: dict[str, int] = {}
    for answer in answers:
        if answer.status not in ANSWERED:
            reason = f"{answer.status}: {answer.reason}"
            troubles[reason] = troubles.get(reason, 0) + 1
    measured = _measured([a for a in answers if a.status in ANSWERED], took, troubles)
    workers: dict[str, int] = {}
    for answer in answers:
        workers[answer.worker] = workers.get(answer.worker, 0) + 1
    if arguments.json:
        print(json.dumps({**msgspec.to_builtins(measured), "workers": workers}, indent=2))
    else:
        print(f"answered {measured.count} of {len(answers)} in {took:.1f} s: {measured.per_s:.2f} per second")
        times = f"p50 {measured.p50_ms:.1f} ms, p95 {measured.p95_ms:.1f} ms"
        print(f"computing: {measured.cpu_ms:.1f} ms CPU, {times}")
        for worker, count in sorted(workers.items()):
            print(f"  {worker or 'nobody'}: {count}")
    for trouble, count in sorted(troubles.items())[:5]:
        print(f"cf-recompute: {count} times: {trouble}", file=sys.stderr)
    return 1 if troubles else 0


# --- estimate -----------------------------------------------------------------------------------------


def run_estimate(arguments: argparse.Namespace) -> int:
    """Tell what levels cost; return the exit code."""
    _check(arguments)
    with client(arguments, timeout_ms=DEADLINE_MS) as asked:
        slots = slots_of(asked)
        factor = _calibrated(asked, slots)
    found = [
        estimate(level, slots, difficulty=arguments.difficulty, factor=factor)
        for level in arguments.level or LEVELS
    ]
    if arguments.json:
        said = {"slots": slots, "difficulty": arguments.difficulty, "load": LOAD, "factor": round(factor, 3)}
        print(json.dumps({**said, "levels": [_row(one) for one in found]}, indent=2))
        return 0
    print(
        f"slots: {slots}, one core for each request; expected from a few proofs of {CALIBRATE}, not measured"
    )
    print(_assumed(arguments.difficulty))
    filters = "".join(f"{f'filter {each}':>13}" for each in FILTERS)
    print(f"level   memory/slot  quality s   proof s  slots/1000 plots  plots:{filters}")
    for one in found:
        served = "".join(f"{count:13,}" for count in one.plots.values())
        cost = f"{one.memory >> 20:8} MiB  {one.quality_s:9.3f}  {one.proof_s:8.3f}"
        print(f"{one.level:5} {cost}  {one.slots_per_1000:16.3f}        {served}")
    return 0


def _calibrated(asked: Asked, slots: int) -> float:
    """Return how much longer than the kernel expects a proof takes, with all slots busy."""
    proofs = known()
    count = max(len(proofs), ROUND * slots)
    requests = (
        {**proofs[n % len(proofs)].request(CALIBRATE, "proof"), "salt": time.time_ns()} for n in range(count)
    )
    answers = list(in_order(asked.submit, requests, lambda: slots))
    times = [answer.wall_ms for answer in answers if answer.status == OK]
    if not times:
        raise UsageError(f"the servers do not compute: {answers[0].status}: {answers[0].reason}")
    return percentile(times, 0.5) / 1000 / expected_s(CALIBRATE, "proof")


def _row(one: Estimate) -> dict[str, object]:
    return {
        "level": one.level,
        "memory": one.memory,
        "quality_s": round(one.quality_s, 4),
        "proof_s": round(one.proof_s, 4),
        "slots_per_1000_plots": round(one.slots_per_1000, 3),
        "plots": one.plots,
    }
