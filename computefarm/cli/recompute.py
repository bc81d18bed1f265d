"""`cf-recompute`: ask warm workers for answers."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from computefarm import __version__
from computefarm.errors import FarmError, Unreachable, UsageError
from computefarm.home import Home
from computefarm.recompute import Answer, Client
from computefarm.recompute.estimating import LEVELS, Estimate, estimate, plots
from computefarm.settings import load_settings
from computefarm.worker_api.kernel import ANSWERED

from .process import Parser, fail

PROGRAM = "cf-recompute"
LINE_LIMIT = 1 << 20
"""Bytes of one request; what is longer is no request."""

READY_S = 10.0


def main() -> int:
    """Run the command line; return the exit code."""
    arguments = _parser().parse_args()
    try:
        code: int = arguments.call(arguments)
        return code
    except FarmError as error:
        return fail(error, PROGRAM)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog=PROGRAM, description="Have requests answered by warm workers, with low latency.")
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="answer the requests of a file, one JSON object per line")
    run.add_argument("requests", metavar="REQUESTS.jsonl", help="a file, or - for standard input")
    run.set_defaults(call=_run)

    bench = commands.add_parser("bench", help="measure how many requests the servers answer")
    bench.add_argument("requests", metavar="REQUESTS.jsonl", help="what to ask, again and again")
    bench.add_argument("--seconds", type=float, default=10.0, metavar="S", help="for how long (default 10)")
    bench.set_defaults(call=_bench)

    guess = commands.add_parser("estimate", help="what a compression level would cost on these servers")
    guess.add_argument("--level", action="append", choices=LEVELS, help="default: all of them")
    guess.add_argument("--json", action="store_true")
    guess.set_defaults(call=_estimate)

    for command in (run, bench, guess):
        command.add_argument(
            "--hosts", default="", metavar="LIST", help="HOST[:PORT],… (default: CF_RECOMPUTE_HOST, the farm)"
        )
        command.add_argument(
            "--deadline-ms", type=int, default=None, metavar="MS", help="of requests that name none"
        )
        command.add_argument(
            "--max-cores", type=int, default=None, metavar="N", help="in flight (default: what servers grant)"
        )
    return parser


def _client(arguments: argparse.Namespace) -> Client:
    home = Home.find(os.environ)
    flags = {
        "recompute_timeout": arguments.deadline_ms,
        "recompute_max_cores": arguments.max_cores,
    }
    settings = load_settings(flags, os.environ, home)
    return Client(arguments.hosts, home=home, settings=settings)


# --- run ----------------------------------------------------------------------------------------------


def _lines(source: str) -> Iterator[bytes]:
    if source == "-":
        yield from sys.stdin.buffer
        return
    path = Path(source)
    try:
        with path.open("rb") as file:
            yield from file
    except OSError as error:
        raise UsageError(f"cannot read {source}: {error.strerror}") from error


def _requests(source: str) -> Iterator[Mapping[str, object]]:
    """Yield a request per line; what is none becomes a request that is answered `bad_request`."""
    for number, line in enumerate(_lines(source), 1):
        if not line.strip():
            continue
        try:
            raw = json.loads(line) if len(line) <= LINE_LIMIT else None
        except (ValueError, RecursionError) as error:
            yield {"kernel": "", "line": f"line {number} is not JSON: {error}"}
            continue
        if isinstance(raw, dict):
            yield raw
        else:
            what = "too long" if raw is None else "not a JSON object"
            yield {"kernel": "", "line": f"line {number} is {what}"}


def _run(arguments: argparse.Namespace) -> int:
    requests = _requests(arguments.requests)
    first = next(requests, None)
    if first is None:
        return 0
    good = True
    with _client(arguments) as client:
        asked: list[Mapping[str, object]] = []

        def remembered() -> Iterator[Mapping[str, object]]:
            for raw in itertools.chain((first,), requests):
                asked.append(raw)
                # An `id` in a file may be any text or number; it is for this output alone.
                yield {key: value for key, value in raw.items() if key != "id"}

        for number, answer in enumerate(client.map(remembered())):
            raw, asked[number] = asked[number], {}
            _print(answer, raw, sys.stdout)
            good = good and answer.status in ANSWERED
            _fail_early(client, answer)
    return 0 if good else 1


def _fail_early(client: Client, answer: Answer) -> None:
    """Stop with the reason when no server can be used at all."""
    if answer.status in ("error", "deadline") and not answer.worker:
        error = client.unusable()
        if error is not None:
            raise error


def _print(answer: Answer, raw: Mapping[str, object], out: IO[str]) -> None:
    said = json.loads(answer.as_json())
    said["id"] = raw.get("id", "")
    if raw.get("kernel") == "" and "line" in raw:
        said["reason"] = raw["line"]
    print(json.dumps(said), file=out, flush=True)


# --- bench --------------------------------------------------------------------------------------------


def _bench(arguments: argparse.Namespace) -> int:
    if not 0 < arguments.seconds <= 86_400:
        raise UsageError(f"--seconds {arguments.seconds:g}: a number above 0 was expected")
    requests = list(_requests(arguments.requests))
    if not requests:
        raise UsageError(f"{arguments.requests} has no requests")
    with _client(arguments) as client:
        began = time.monotonic()
        answers = list(client.map(_again(requests, began + arguments.seconds)))
        took = time.monotonic() - began
        for answer in answers:
            _fail_early(client, answer)
    good = [answer for answer in answers if answer.status in ANSWERED]
    for line in _figures(answers, good, took):
        print(line)
    return 0 if len(good) == len(answers) else 1


def _again(requests: Sequence[Mapping[str, object]], until: float) -> Iterator[Mapping[str, object]]:
    number = 0
    while True:
        for raw in requests:
            if time.monotonic() >= until:
                return
            number += 1
            # Equal requests would be computed once for all who ask at a time.
            yield {**raw, "salt": number}


def _figures(answers: Sequence[Answer], good: Sequence[Answer], took: float) -> Iterator[str]:
    rate = len(good) / took
    times = sorted(answer.wall_ms for answer in good) or [0.0]
    cpu_ms = sum(answer.cpu_ms for answer in good) / max(1, len(good))
    yield f"answered {len(good)} of {len(answers)} in {took:.1f} s: {rate:.2f} per second"
    p50, p95 = times[len(times) // 2], times[int(len(times) * 0.95)]
    yield f"computing: {cpu_ms:.1f} ms CPU, p50 {p50:.1f} ms, p95 {p95:.1f} ms"
    for worker in sorted({answer.worker for answer in good}):
        yield f"  {worker}: {sum(answer.worker == worker for answer in good)}"
    for reason in sorted({f"{a.status}: {a.reason}" for a in answers if a.status not in ANSWERED})[:5]:
        yield f"  not answered: {reason}"
    for factor in (512, 256, 128):
        yield f"plots served, at one such request per lookup and filter {factor}: {plots(rate, factor):,}"


# --- estimate -----------------------------------------------------------------------------------------


def _estimate(arguments: argparse.Namespace) -> int:
    with _client(arguments) as client:
        slots = client.slots(READY_S)
        error = client.unusable()
    if error is not None:
        raise error
    if not slots:
        raise Unreachable(
            "no worker offers recompute now", hint="cf-worker --capability recompute    # on any machine"
        )
    found = [estimate(level, slots) for level in arguments.level or LEVELS]
    if arguments.json:
        print(json.dumps([_row(one) for one in found], indent=2))
        return 0
    print(f"{slots} slots; one core each; expected, not measured (bench measures)")
    print("level   memory   quality s   proof s   plots at filter 512")
    for one in found:
        cost = f"{one.memory >> 20:5} MiB  {one.quality_s:9.3f}  {one.proof_s:8.3f}"
        print(f"{one.level:5}  {cost}  {one.plots:19,}")
    return 0


def _row(one: Estimate) -> dict[str, object]:
    return {
        "level": one.level,
        "memory": one.memory,
        "quality_s": round(one.quality_s, 4),
        "proof_s": round(one.proof_s, 4),
        "plots": one.plots,
    }


if __name__ == "__main__":
    sys.exit(main())
