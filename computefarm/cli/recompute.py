"""`cf-recompute`: ask warm workers for answers."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
from collections.abc import Iterator, Mapping
from typing import IO, NoReturn

from computefarm import __version__
from computefarm.errors import FarmError
from computefarm.home import Home
from computefarm.recompute import Answer, Client
from computefarm.recompute.pipeline import in_order
from computefarm.services.equip import KERNELS
from computefarm.worker_api import registry
from computefarm.worker_api.contract import Action, TaskContext
from computefarm.worker_api.kernel import ANSWERED

from . import recompute_bench, recompute_devices, recompute_plot
from .process import Parser, fail
from .recompute_asking import add_options, nobody, server_client
from .recompute_reading import REFUSED, requests_of

PROGRAM = "cf-recompute"
WORKER = "recompute"


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
    add_options(run, local=False)
    run.set_defaults(call=_run)

    recompute_plot.add(commands)
    recompute_bench.add(commands)
    recompute_devices.add(commands)

    batch = commands.add_parser("batch", help="compute a file of requests on this machine, into another file")
    batch.add_argument("requests", metavar="REQUESTS.jsonl")
    batch.add_argument("results", metavar="RESULTS.jsonl")
    batch.set_defaults(call=_batch)
    return parser


# --- run ----------------------------------------------------------------------------------------------


def _run(arguments: argparse.Namespace) -> int:
    requests = requests_of(arguments.requests)
    first = next(requests, None)
    if first is None:
        return 0
    good = True
    with server_client(arguments) as client:
        asked: list[Mapping[str, object]] = []

        def remembered() -> Iterator[Mapping[str, object]]:
            for raw in itertools.chain((first,), requests):
                asked.append(raw)
                # An `id` in a file may be any text or number; it is for this output alone.
                yield {key: value for key, value in raw.items() if key != "id"}

        for number, answer in enumerate(in_order(client.submit, remembered(), client.granted)):
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
        if not client.slots(0.0):
            raise nobody()


def _print(answer: Answer, raw: Mapping[str, object], out: IO[str]) -> None:
    said = json.loads(answer.as_json())
    said["id"] = raw.get("id", "")
    if raw.get("kernel") == "" and REFUSED in raw:
        said["reason"] = raw[REFUSED]
    print(json.dumps(said), file=out, flush=True)


# --- batch --------------------------------------------------------------------------------------------


def _batch(arguments: argparse.Namespace) -> NoReturn:
    """Become the program that a task of this capability runs: so a dodo file works without a farm too."""
    home = Home.find(os.environ)
    action = Action(WORKER, ((PROGRAM, "batch", arguments.requests, arguments.results),))
    context = TaskContext(os.getcwd(), cache=str(home.cache / KERNELS))
    (command,) = registry.find(WORKER).commands(action, context)
    sys.stdout.flush()
    try:
        os.execv(command[0], command)
    except OSError as error:
        raise FarmError(f"{command[0]} cannot be started: {error.strerror}") from error


if __name__ == "__main__":
    sys.exit(main())
