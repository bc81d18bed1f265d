"""`cf-monitor`: tells the TaskManager how busy this machine is, so that its owner never notices."""

from __future__ import annotations

import argparse
import logging
import math
import os
import sys
from pathlib import Path

import zmq

from computefarm import __version__
from computefarm.errors import FarmError, Refused, UsageError
from computefarm.home import Home, host_id, hostname
from computefarm.host.load import LoadSampler
from computefarm.host.pids import OwnProcesses
from computefarm.host.policy import FILE, PolicyFile
from computefarm.host.running import Running
from computefarm.services.dialling import Dialler
from computefarm.services.loop import Loop
from computefarm.services.monitor import MonitorService
from computefarm.services.own_records import own_records
from computefarm.settings import load_settings

from .process import Parser, Signals, fail, quiet_garbage_collector, registered, set_up_logging, wait_for_farm

PROGRAM = "cf-monitor"
NAME = "host"
log = logging.getLogger("computefarm.monitor")


def main() -> int:
    """Run the command line; return the exit code."""
    arguments = _parser().parse_args()
    home = Home.find(os.environ)
    running = Running(home)
    set_up_logging(arguments.verbose)
    try:
        if arguments.max_load is not None and not 0 < arguments.max_load < math.inf:
            text = f"--max-load {arguments.max_load:g}: a load per core above 0 was expected, as 0.8"
            raise UsageError(text)
        if not 0 < arguments.interval < math.inf:
            raise UsageError(f"--interval {arguments.interval:g}: a number of seconds above 0 was expected")
        path = Path(arguments.policy) if arguments.policy else home.config / FILE
        policy = PolicyFile(path, required=arguments.policy is not None)
        running.claim("monitor", NAME)
    except Refused as error:
        # Two workers that start together both start a monitor; one is enough, and that is no failure.
        return 0 if arguments.with_workers else fail(error, PROGRAM)
    except FarmError as error:
        return fail(error, PROGRAM)
    try:
        with registered():
            return _serve(arguments, home, running, policy)
    except FarmError as error:
        return fail(error, PROGRAM)
    except KeyboardInterrupt:
        return 130
    finally:
        running.release("monitor", NAME)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog=PROGRAM, description="Report this machine's load to a farm.")
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    parser.add_argument("--interval", type=float, default=3.0, metavar="SECONDS", help="between reports")
    parser.add_argument("--max-load", type=float, default=None, metavar="X", help="strict limit, per core")
    parser.add_argument(
        "--policy", metavar="FILE", help=f"when tasks may begin (default: {FILE} beside config.toml)"
    )
    parser.add_argument("--farm", default=None, metavar="NAME|PATH", help="which farm to report to")
    parser.add_argument("--with-workers", action="store_true", help="end when no worker runs here any more")
    parser.add_argument("--verbose", action="store_true", help="log more")
    return parser


def _serve(arguments: argparse.Namespace, home: Home, running: Running, policy: PolicyFile) -> int:
    settings = load_settings({"farm": arguments.farm}, os.environ, home)
    wanted = (lambda: bool(running.alive("worker"))) if arguments.with_workers else None
    access = wait_for_farm(home, settings.farm, wanted or (lambda: True))
    if access is None:
        return 0
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    dialler = Dialler(context, home, settings.farm, access, "monitor")
    loop = Loop()
    signals = Signals(loop)
    signals.stop_on_signals()
    service = MonitorService(
        host=host_id(home),
        hostname=hostname(),
        own=own_records(),
        control=dialler.dial(),
        sampler=LoadSampler(OwnProcesses(), home.cache),
        interval_s=arguments.interval,
        max_load=arguments.max_load,
        policy=policy.current,
        wanted=wanted,
        done=loop.stop,
        dialler=dialler,
    )
    loop.add(service)
    quiet_garbage_collector()
    try:
        loop.run()
    finally:
        context.destroy(linger=100)
    return 0


if __name__ == "__main__":
    sys.exit(main())
