"""`cf-taskmanager`: the one process with an open port."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import resource
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import zmq

from computefarm import __version__
from computefarm.backends.choice import connect
from computefarm.catalogue import Catalogue
from computefarm.errors import FarmError, Unreachable, UsageError
from computefarm.home import Home, hostname
from computefarm.host.running import Running, end
from computefarm.journal.tasks import TaskJournal, journal_folder
from computefarm.logs.farm_log import FarmLog, log_folder
from computefarm.majordomo.presentation import status_json, status_text
from computefarm.services.connected import Connected
from computefarm.services.equip import store_root
from computefarm.services.loop import Loop
from computefarm.services.own_records import Direct
from computefarm.services.taskmanager import TaskManagerService
from computefarm.settings import Settings, load_settings
from computefarm.store.blobs import BlobStore
from computefarm.store.results import ResultCache
from computefarm.transport.addresses import Address, parse_address
from computefarm.transport.farms import Farm, check_farm_name, farms_folder, open_farm, publish, withdraw
from computefarm.transport.invitation import Enrolment
from computefarm.transport.keys import PublicKey, fingerprint
from computefarm.transport.manager_end import ManagerEnd
from computefarm.transport.reach import dialled_as, firewall_line, local_form

from .enrolment import add_commands, keys_last
from .fsck import add_fsck, fsck
from .process import (
    Parser,
    Signals,
    fail,
    into_background,
    quiet_garbage_collector,
    registered,
    set_up_logging,
    tell_parent,
)

if TYPE_CHECKING:
    from computefarm.recompute.upstream import Upstream

PROGRAM = "cf-taskmanager"
DEFAULT_FARM = "default"
SWITCH_S = 0.0005
"""How long the thread that answers everybody waits for one that writes or hashes."""
log = logging.getLogger("computefarm.taskmanager")


def main() -> int:
    """Run the command line; return the exit code."""
    arguments = _parser().parse_args(keys_last(sys.argv[1:]))
    home = Home.find(os.environ)
    try:
        settings = load_settings({}, os.environ, home)
        code: int = arguments.call(arguments, home, settings)
        return code
    except FarmError as error:
        tell_parent(str(error.exit_code))
        return fail(error, PROGRAM)
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog=PROGRAM, description="Accept tasks, hand them to workers, keep what they made.")
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    start = commands.add_parser("start", help="start the TaskManager (in the foreground unless --daemon)")
    start.add_argument("--listen", metavar="tcp://HOST:PORT", help="default tcp://127.0.0.1:11989")
    start.add_argument(
        "--address", default="", metavar="HOST[:PORT]", help="by what other machines reach this one"
    )
    start.add_argument("--name", default=DEFAULT_FARM, metavar="FARM", help="the farm's name")
    start.add_argument("--daemon", action="store_true", help="go to the background")
    start.add_argument(
        "--upstream",
        nargs="+",
        action="extend",
        default=[],
        metavar="HOST",
        help="pass recompute requests on to the TaskManagers at HOST[:PORT][/weight=W][/tier=N],…",
    )
    start.add_argument("--verbose", action="store_true", help="log more")
    start.add_argument("--lifeline", action="store_true", help="end when the standard input closes")
    start.set_defaults(call=_start)

    stop = commands.add_parser("stop", help="stop it")
    stop.add_argument("--name", default="", metavar="FARM")
    stop.set_defaults(call=_stop)

    status = commands.add_parser("status", help="what the farm does now")
    status.add_argument("--name", default="", metavar="FARM")
    status.add_argument("--json", action="store_true")
    status.set_defaults(call=_status)

    add_commands(commands)

    add_fsck(commands).set_defaults(call=lambda arguments, home, _settings: fsck(arguments, home))
    return parser


# --- start and stop -----------------------------------------------------------------------------------


def _start(arguments: argparse.Namespace, home: Home, settings: Settings) -> int:
    name = check_farm_name(arguments.name)
    if arguments.daemon and arguments.lifeline:
        raise UsageError("--daemon has no standard input, and --lifeline ends with it: choose one")
    if arguments.daemon:
        into_background(home, f"{PROGRAM}-{name}")
    set_up_logging(arguments.verbose)
    running = Running(home)
    running.claim("taskmanager", name)
    try:
        with registered():
            return _serve(arguments, home, settings, running)
    finally:
        withdraw(home, name)
        running.release("taskmanager", name)


def _serve(arguments: argparse.Namespace, home: Home, settings: Settings, running: Running) -> int:
    farm = open_farm(home, arguments.name)
    upstreams = _upstreams(arguments.upstream, home, settings)
    _raise_descriptor_limit()
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    end_ = ManagerEnd(context, farm.keys, farm.table)
    store = BlobStore(store_root(home), limit_bytes=settings.store_limit)
    try:
        address = end_.bind(arguments.listen or f"tcp://127.0.0.1:{settings.port}")
        sys.setswitchinterval(SWITCH_S)
        loop = Loop()
        signals = Signals(loop)
        signals.stop_on_signals()
        if arguments.lifeline:
            # Its other end is with whoever has started this process, and closes however that ends.
            loop.watch(sys.stdin.fileno(), loop.stop)
        journal = TaskJournal(journal_folder(home, farm.name), farm.name)
        farm_log = _open_log(home, farm.name, settings)
        service = TaskManagerService(
            farm=farm.name,
            end=end_,
            store=store,
            results=ResultCache(home.cache / "results.db"),
            enrolment=Enrolment(farm.table, farm.name),
            heartbeat_s=settings.heartbeat_s,
            journal=journal,
            farm_log=farm_log,
        )
        loop.add(service)
        for upstream in upstreams(service, farm.keys.public, context):
            loop.add(upstream)
        loop.add(Connected(end_, farm.folder))
        listening = parse_address(address)
        dialled = _dialled(arguments.address, listening)
        here = local_form(listening)
        publish(farm, str(here), str(dialled))
        running.claim("taskmanager", farm.name, str(here))
        text = _welcome(farm, listening, dialled)
        print(text, flush=True)
        tell_parent("ok" + text)
        quiet_garbage_collector()
        loop.run()
    finally:
        end_.close()
        store.close()
        context.destroy(linger=100)
    log.info("stopped")
    return 0


def _upstreams(
    given: list[str], home: Home, settings: Settings
) -> Callable[[TaskManagerService, PublicKey, zmq.Context[zmq.Socket[bytes]]], list[Upstream]]:
    """Return what makes the managers' parts of the loop that requests are passed on to."""
    if not given:
        return lambda _service, _key, _context: []
    from computefarm.recompute.upstream import Upstreams

    return Upstreams(given, home, settings).connect


def _open_log(home: Home, farm: str, settings: Settings) -> FarmLog:
    """Return the farm's log; this process's own records go there too."""
    try:
        catalogue = Catalogue.load(home)
        parsers = {name: catalogue.get(name).logs for name in catalogue.names()}
    except FarmError as error:
        log.warning("lines are logged as they are: %s", error)
        parsers = {}
    farm_log = FarmLog(
        log_folder(home.state, farm),
        limit=settings.farm_log_limit,
        runs=settings.log_runs,
        parser_of=lambda source: source.logs or parsers.get(source.capability, ""),
    )
    here = hostname()
    logging.getLogger().addHandler(Direct(lambda records: farm_log.reported(here, "taskmanager", records)))
    return farm_log


def _dialled(wanted: str, listening: Address) -> Address:
    """Return what invitations carry: what the user said, else a guess."""
    if not wanted:
        return dialled_as(listening)
    address = parse_address(wanted, default_port=listening.port)
    if address.is_any:
        raise UsageError(
            f"--address {wanted}: nobody can dial that",
            hint=f"{PROGRAM} start … --address the-name-of-this-machine",
        )
    return address


def _raise_descriptor_limit() -> None:
    """Allow as many open files as this user may have: each connection is one."""
    with contextlib.suppress(OSError, ValueError):
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _welcome(farm: Farm, listening: Address, dialled: Address) -> str:
    """Return what `start` prints."""
    lines = [f"farm {farm.name!r} is at {listening}, process {os.getpid()}; stop it with: {PROGRAM} stop"]
    if listening.is_loopback:
        lines.append(
            f"  this machine only; for others: {PROGRAM} stop && {PROGRAM} start --listen tcp://0.0.0.0:{listening.port}"
        )
    else:
        lines += [
            f"  other machines reach it at {dialled} (if not so: --address HOST[:PORT])",
            f"  its key is {fingerprint(farm.keys.public)}",
            f"  a firewall here must let it through: {firewall_line(listening.port)}",
        ]
    lines.append(f"  let a machine in: {PROGRAM} invite --role worker")
    return "\n".join(lines)


def _stop(arguments: argparse.Namespace, home: Home, settings: Settings) -> int:
    alive = [e for e in Running(home).alive("taskmanager") if e.name == (arguments.name or e.name)]
    if not arguments.name and len(alive) > 1:
        names = ", ".join(entry.name for entry in alive)
        raise UsageError(
            f"several TaskManagers run here: {names}", hint=f"{PROGRAM} stop --name {alive[0].name}"
        )
    for path in farms_folder(home).glob("*/access.json"):
        # What a killed TaskManager left behind would send every run to a port where nobody answers.
        if path.parent.name == (arguments.name or path.parent.name) and path.parent.name not in {
            entry.name for entry in alive
        }:
            withdraw(home, path.parent.name)
    if not alive:
        print("no TaskManager runs here")
        return 0
    entry = alive[0]
    if not end(entry):
        raise FarmError(f"process {entry.pid} does not end", hint=f"kill -9 {entry.pid}")
    withdraw(home, entry.name)
    print(f"farm {entry.name!r} has stopped")
    return 0


def _status(arguments: argparse.Namespace, home: Home, settings: Settings) -> int:
    import msgspec

    name = arguments.name or settings.farm
    alive = Running(home).alive("taskmanager")
    if not name and len(alive) > 1:
        names = ", ".join(entry.name for entry in alive)
        raise UsageError(
            f"several TaskManagers run here: {names}", hint=f"{PROGRAM} status --name {alive[0].name}"
        )
    chosen = msgspec.structs.replace(settings, farm=name or (alive[0].name if alive else ""))
    backend = connect(home=home, settings=chosen, session=f"status-{os.getpid()}")
    if backend is None:
        raise Unreachable("no TaskManager runs here", hint=f"{PROGRAM} start --daemon")
    try:
        status = backend.status()
        address = backend.address
    finally:
        backend.close()
    if arguments.json:
        json.dump(status_json(status, address), sys.stdout, indent=2)
        print()
    else:
        print("\n".join(status_text(status, address)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
