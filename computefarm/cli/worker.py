"""`cf-worker`: offers what this machine can do, and does it."""

from __future__ import annotations

import argparse
import contextlib
import logging
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time

import msgspec
import zmq

from computefarm import __version__
from computefarm.catalogue import Catalogue
from computefarm.core.versions import satisfies
from computefarm.errors import FarmError, NothingOffers, Refused, UsageError
from computefarm.home import Home, hostname
from computefarm.host.running import Entry, Running
from computefarm.messages import Offer
from computefarm.sandbox.pool import SpawnerPool
from computefarm.services.dialling import Dialler
from computefarm.services.equip import (
    PRIVATE,
    Toolbox,
    probe_offers,
    registration,
    store_root,
    task_facts,
    usable_cores,
)
from computefarm.services.loop import Loop
from computefarm.services.own_records import own_records
from computefarm.services.spill import FOLDER as OUTPUT
from computefarm.services.spill import Spill
from computefarm.services.warm import warm_capability
from computefarm.services.worker import WorkerService
from computefarm.settings import Settings, load_settings
from computefarm.store.blobs import BlobStore
from computefarm.store.layout import PrivateDirs
from computefarm.transport.farms import Access, find_access
from computefarm.transport.invitation import join

from .probing import probe, what_is_lent
from .process import Parser, Signals, fail, quiet_garbage_collector, registered, set_up_logging, wait_for_farm
from .serving import own_manager

PROGRAM = "cf-worker"
WARM = "recompute"
"""The capability whose workers can be servers by themselves."""

NICE = 10
"""Of tasks on a machine that somebody may be using."""

STOP, DRAIN = signal.SIGUSR2, signal.SIGUSR1
"""What `cf-worker stop` and `drain` send: a worker told to end has not been killed, and exits with 0."""

PATIENCE_S = 15.0
"""How long `stop` waits: ending all tasks takes two seconds at most."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)

log = logging.getLogger("computefarm.worker")


def main() -> int:
    """Run the command line; return the exit code."""
    arguments = _parser().parse_args()
    home = Home.find(os.environ)
    try:
        if arguments.command == "stop":
            return _end(home, arguments.name, STOP, "stopped")
        if arguments.command == "drain":
            return _end(home, arguments.name, DRAIN, "draining: it ends when its tasks have ended")
        if arguments.probe:
            return probe(home, _requirements(arguments.capability), only_actions=arguments.only_actions)
        return _work(arguments, home, load_settings({"farm": arguments.farm}, os.environ, home))
    except FarmError as error:
        return fail(error, PROGRAM)
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog=PROGRAM, description="Run tasks for a farm on this machine.")
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    parser.add_argument(
        "command",
        nargs="?",
        choices=("stop", "drain"),
        help="end the workers of this CF_HOME, now or when idle",
    )
    parser.add_argument(
        "--capability",
        action="append",
        default=[],
        metavar="NAME[>=VERSION]",
        help="what to offer; repeatable",
    )
    parser.add_argument("--slots", type=int, default=None, metavar="N", help="tasks at once (default: cores)")
    parser.add_argument("--farm", default=None, metavar="NAME|PATH", help="which farm to work for")
    parser.add_argument("--join", metavar="CODE", help="the line that `cf-taskmanager invite` printed")
    parser.add_argument(
        "--serve",
        nargs="?",
        const="",
        metavar="HOST[:PORT]",
        help="be a server by itself: start a TaskManager too (default: this machine only, port 11989)",
    )
    parser.add_argument("--name", default="", help="the worker's name (default: host name and number)")
    parser.add_argument(
        "--tier", type=int, default=0, metavar="N", help="0 first; higher tiers are a reserve"
    )
    parser.add_argument("--weight", type=float, default=1.0, metavar="W", help="speed relative to others")
    parser.add_argument(
        "--max-load", type=float, default=None, metavar="X", help="no task above this load per core"
    )
    parser.add_argument(
        "--nice", type=int, default=NICE, metavar="N", help=f"niceness of tasks (default {NICE})"
    )
    parser.add_argument(
        "--only-actions",
        action="store_true",
        help="run nothing but the named actions of this machine's own capability files",
    )
    parser.add_argument("--no-monitor", action="store_true", help="do not start a monitor beside the worker")
    parser.add_argument("--probe", action="store_true", help="print what this machine could offer, and stop")
    parser.add_argument("--verbose", action="store_true", help="log more")
    return parser


# --- looking ------------------------------------------------------------------------------------------


def _end(home: Home, name: str, number: signal.Signals, done: str) -> int:
    """Tell the workers of this CF_HOME, or the one called `name`, to end; wait for those that end at once."""
    running = Running(home).alive("worker")
    # `status` shows a worker without a name of its own together with its process number.
    workers = [entry for entry in running if name in ("", entry.name, f"{entry.name}.{entry.pid}")]
    if not workers and name:
        names = ", ".join(entry.name for entry in running) or "none"
        raise UsageError(f"no worker named {name!r} runs here; there are: {names}")
    if not workers:
        print("no worker runs here")
        return 0
    for entry in workers:
        _signal(entry, number)
    until = time.monotonic() + PATIENCE_S
    for entry in workers:
        while number == STOP and entry.alive:
            if time.monotonic() >= until:
                raise FarmError(
                    f"worker {entry.name}, process {entry.pid}, does not end", hint=f"kill -9 {entry.pid}"
                )
            time.sleep(0.02)
        print(f"{entry.name}: {done}")
    return 0


def _signal(entry: Entry, number: signal.Signals) -> None:
    try:
        os.kill(entry.pid, number)
    except ProcessLookupError:
        return  # it has just ended, which is what was wanted
    except PermissionError as error:
        raise Refused(f"worker {entry.name}, process {entry.pid}, belongs to another user") from error


# --- working ------------------------------------------------------------------------------------------


def _work(arguments: argparse.Namespace, home: Home, settings: Settings) -> int:
    if not arguments.capability:
        raise UsageError(
            "name what to offer", hint=f"{PROGRAM} --capability gcc    # or look: {PROGRAM} --probe"
        )
    set_up_logging(arguments.verbose)
    slots = arguments.slots if arguments.slots is not None else usable_cores()
    _check(arguments, slots)
    catalogue = Catalogue.load(home)
    offers = _offers(catalogue, arguments.capability, home, only_actions=arguments.only_actions)
    running = Running(home)
    # Before the farm is looked for, so that `stop` finds a worker that waits for one.
    name = _claim_name(running, arguments.name)
    _end_while_waiting()
    try:
        with contextlib.ExitStack() as own, registered():
            if arguments.serve is not None:
                farm = own.enter_context(own_manager(home, arguments.serve, settings.port, settings.farm))
                settings = msgspec.structs.replace(settings, farm=farm)
            access = _access(arguments, home, settings)
            return _serve(arguments, home, settings, access, catalogue, offers, slots, name, running)
    finally:
        running.release("worker", name)


def _check(arguments: argparse.Namespace, slots: int) -> None:
    """Refuse numbers and names that no manager would take."""
    if slots < 1:
        wanted = arguments.capability[0]
        hint = f"{PROGRAM} --capability {wanted} --slots {usable_cores()}    # this machine's cores"
        raise UsageError(f"--slots {slots}: a worker needs at least one slot", hint=hint)
    if arguments.tier < 0:
        raise UsageError(f"--tier {arguments.tier}: 0 or more was expected; 0 is served first")
    if not 0 < arguments.weight < math.inf:
        raise UsageError(f"--weight {arguments.weight:g}: a number above 0 was expected; 1 is ordinary")
    if arguments.max_load is not None and not 0 < arguments.max_load < math.inf:
        raise UsageError(f"--max-load {arguments.max_load:g}: a load per core above 0 was expected, as 0.8")
    if arguments.serve is not None and arguments.join:
        raise UsageError("--serve starts a farm of its own and --join works for another: choose one")
    if not 0 <= arguments.nice <= 19:
        raise UsageError(f"--nice {arguments.nice}: a number from 0 to 19 was expected")
    if arguments.name and NAME.fullmatch(arguments.name) is None:
        raise UsageError(
            f"--name {arguments.name!r}: letters, digits, `.`, `_` and `-` were expected, 63 at most"
        )


def _end_while_waiting() -> None:
    """Until the loop takes the signals over: end in order, so that nothing of this worker stays behind."""
    for number, code in ((STOP, 0), (DRAIN, 0), (signal.SIGTERM, 128 + signal.SIGTERM)):
        signal.signal(number, lambda *_, code=code: sys.exit(code))


def _requirements(wanted: list[str]) -> dict[str, str]:
    """Return the constraint on the version of each capability asked for."""
    from computefarm.needs import parse_requirement

    return dict(parse_requirement(text) for text in wanted)


def _offers(catalogue: Catalogue, wanted: list[str], home: Home, *, only_actions: bool) -> list[Offer]:
    """Probe what was asked for; offer what there is, and refuse to start with nothing."""
    asked = _requirements(wanted)
    offers, lacking = probe_offers(catalogue, list(asked), home, os.environ, only_actions=only_actions)
    for probed in lacking:
        log.warning("not offering %s: %s", probed.capability, "; ".join(probed.missing))
    good = []
    for offer in offers:
        constraint = asked[offer.capability]
        if constraint and not satisfies(offer.version, constraint):
            log.warning("not offering %s: this is %s, not %s", offer.capability, offer.version, constraint)
        else:
            good.append(offer)
            log.info("offering %s %s (fingerprint %s)", offer.capability, offer.version, offer.fingerprint)
            if only_actions:
                log.info("%s", what_is_lent(catalogue.get(offer.capability), offer))
    if not good:
        raise NothingOffers(
            f"this machine can offer nothing of: {', '.join(wanted)}",
            hint=f"{PROGRAM} --probe{' --only-actions' if only_actions else ''}    # says why",
        )
    return good


def _access(arguments: argparse.Namespace, home: Home, settings: Settings) -> Access:
    """Join, or find the farm of this CF_HOME; wait for one that is not there yet."""
    if arguments.join:
        return join(arguments.join, home, name=hostname())
    if not settings.farm and WARM in arguments.capability and find_access(home, "") is None:
        line = f"{PROGRAM} --capability {WARM} --serve"
        log.warning("no farm is configured here; for a server that needs none: %s", line)
    access = wait_for_farm(home, settings.farm)
    assert access is not None
    return access


def _claim_name(running: Running, wanted: str) -> str:
    """Enter this process under its name, or under the first free number of this host."""
    if wanted:
        running.claim("worker", wanted)
        return wanted
    number = 1
    while True:
        name = f"{hostname()}-{number}"
        try:
            running.claim("worker", name)
        except Refused:
            number += 1
        else:
            return name


def _serve(
    arguments: argparse.Namespace,
    home: Home,
    settings: Settings,
    access: Access,
    catalogue: Catalogue,
    offers: list[Offer],
    slots: int,
    name: str,
    running: Running,
) -> int:
    own = own_records()
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    farm = settings.farm if not arguments.join else access.farm
    dialler = Dialler(context, home, farm, access, "worker")
    loop = Loop()
    signals = Signals(loop)
    signals.stop_on_signals()
    store = BlobStore(store_root(home), limit_bytes=settings.cache_limit)
    exit_codes: list[int] = []

    def quit_(reason: str, code: str) -> None:
        if code:
            log.error("the TaskManager refused this worker: %s", reason)
        exit_codes.append(Refused.exit_code if code else 0)
        loop.stop()

    toolbox = Toolbox(
        catalogue,
        cache=home.cache,
        constraints=_requirements(arguments.capability),
        only_actions=arguments.only_actions,
    )
    warm, at_once = warm_capability(toolbox, offers, slots=slots, cache=home.cache, nice=arguments.nice)
    register = registration(
        home=home,
        # Farm-wide names: the same number on two CF_HOMEs of one host is not the same worker.
        worker=name if arguments.name else f"{name}.{os.getpid()}",
        slots=slots,
        offers=at_once,
        tier=arguments.tier,
        weight=arguments.weight,
        max_load=arguments.max_load,
    )
    service = WorkerService(
        register=register,
        control=dialler.dial(),
        bulk=dialler.dial(),
        store=store,
        directories=PrivateDirs(home.cache / PRIVATE),
        spawners=SpawnerPool(nice=arguments.nice, slots=slots),
        toolbox=toolbox,
        facts=task_facts(register),
        quit=quit_,
        dialler=dialler,
        result_hold_s=settings.result_hold_s,
        spill=Spill(
            home.state / OUTPUT,
            limit=settings.log_limit,
            hold_s=settings.log_hold_s,
            hostname=hostname(),
        ),
        own=own,
        warm=warm,
    )
    signals.on(STOP, loop.stop)
    signals.on(DRAIN, service.drain)
    _on_hangup(signals, service)
    loop.add(service)
    log.info("worker %s for farm %s at %s, %d slots", register.worker, access.farm, access.address, slots)
    if not arguments.no_monitor:
        _start_monitor(farm, running)
    quiet_garbage_collector()
    try:
        loop.run()
    finally:
        store.close()
        context.destroy(linger=100)
    if exit_codes:
        return exit_codes[0]
    return 128 + signals.received if signals.received else 0


def _on_hangup(signals: Signals, service: WorkerService) -> None:
    """Probe again on SIGHUP, as services do; but end with the terminal that the worker was started in."""
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN and not os.isatty(2):
        signals.on(signal.SIGHUP, service.probe_again)


def _start_monitor(farm: str, running: Running) -> None:
    """Start a monitor for this host unless one runs; it ends with the last worker."""
    if running.alive("monitor"):
        return
    command = [sys.executable, "-m", "computefarm.cli.monitor", "--with-workers"]
    if farm:
        command += ["--farm", farm]
    monitor = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
    )
    # Should it end first, it must not stay behind as a zombie.
    threading.Thread(target=monitor.wait, name="cf-monitor-end", daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
