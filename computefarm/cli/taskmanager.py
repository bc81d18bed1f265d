"""`cf-taskmanager`: the one process with an open port."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time

import zmq

from computefarm import __version__
from computefarm.backends.choice import connect
from computefarm.errors import FarmError, Unreachable, UsageError
from computefarm.home import Home
from computefarm.host.running import Running, end
from computefarm.majordomo.presentation import status_json, status_text
from computefarm.quantities import parse_duration
from computefarm.services.equip import store_root
from computefarm.services.loop import Loop
from computefarm.services.taskmanager import TaskManagerService
from computefarm.settings import Settings, load_settings
from computefarm.store.blobs import BlobStore
from computefarm.store.results import ResultCache
from computefarm.transport.addresses import parse_address
from computefarm.transport.authorized import Authorization, clean_name, format_line
from computefarm.transport.farms import (
    check_farm_name,
    farms_folder,
    open_farm,
    publish,
    read_access,
    withdraw,
)
from computefarm.transport.invitation import Enrolment, invite
from computefarm.transport.keys import read_key
from computefarm.transport.manager_end import ManagerEnd

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

PROGRAM = "cf-taskmanager"
DEFAULT_FARM = "default"
log = logging.getLogger("computefarm.taskmanager")


def main() -> int:
    """Run the command line; return the exit code."""
    arguments = _parser().parse_args()
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
    start.add_argument("--name", default=DEFAULT_FARM, metavar="FARM", help="the farm's name")
    start.add_argument("--daemon", action="store_true", help="go to the background")
    start.add_argument("--verbose", action="store_true", help="log more")
    start.set_defaults(call=_start)

    stop = commands.add_parser("stop", help="stop it")
    stop.add_argument("--name", default="", metavar="FARM")
    stop.set_defaults(call=_stop)

    status = commands.add_parser("status", help="what the farm does now")
    status.add_argument("--name", default="", metavar="FARM")
    status.add_argument("--json", action="store_true")
    status.set_defaults(call=_status)

    invitation = commands.add_parser("invite", help="print a line that lets one more machine join")
    invitation.add_argument("--role", required=True, choices=("worker", "client", "viewer"))
    invitation.add_argument(
        "--for", dest="duration", default="1h", metavar="TIME", help="how long it is good"
    )
    invitation.add_argument("--name", default="", metavar="FARM")
    invitation.set_defaults(call=_invite)

    keys = commands.add_parser("keys", help="list who may connect")
    keys.add_argument("--name", default="", metavar="FARM")
    keys.set_defaults(call=_keys)

    allow = commands.add_parser("allow", help="let a key in")
    allow.add_argument("key", help="the public key, as the refused machine prints it")
    allow.add_argument("--role", required=True, choices=("worker", "client", "viewer", "monitor"))
    allow.add_argument("--as", dest="label", default="", metavar="NAME", help="a name for the key")
    allow.add_argument("--name", default="", metavar="FARM")
    allow.set_defaults(call=_allow)

    revoke = commands.add_parser("revoke", help="shut a key out, at once")
    revoke.add_argument("key", help="the key, or the name it has in `keys`")
    revoke.add_argument("--name", default="", metavar="FARM")
    revoke.set_defaults(call=_revoke)
    return parser


# --- start and stop -----------------------------------------------------------------------------------


def _start(arguments: argparse.Namespace, home: Home, settings: Settings) -> int:
    name = check_farm_name(arguments.name)
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
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    end_ = ManagerEnd(context, farm.keys, farm.table)
    store = BlobStore(store_root(home), limit_bytes=settings.store_limit)
    try:
        address = end_.bind(arguments.listen or f"tcp://127.0.0.1:{settings.port}")
        loop = Loop()
        signals = Signals(loop)
        signals.stop_on_signals()
        service = TaskManagerService(
            farm=farm.name,
            end=end_,
            store=store,
            results=ResultCache(home.cache / "results.db"),
            enrolment=Enrolment(farm.table, farm.name),
            heartbeat_s=settings.heartbeat_s,
        )
        loop.add(service)
        publish(farm, address)
        running.claim("taskmanager", farm.name, address)
        text = f"farm {farm.name!r} is at {address}, process {os.getpid()}; stop it with: {PROGRAM} stop"
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


# --- who may connect ----------------------------------------------------------------------------------


def _own_farm(arguments: argparse.Namespace, home: Home) -> str:
    """Return the farm that is managed here and meant."""
    managed = sorted(path.parent.parent.name for path in farms_folder(home).glob("*/keys/manager.key"))
    if arguments.name:
        name = check_farm_name(arguments.name)
        if name not in managed:
            raise UsageError(
                f"no farm {name!r} is managed here (there are: {', '.join(managed) or 'none'})",
                hint=f"{PROGRAM} start --name {name} --daemon",
            )
        return name
    if len(managed) == 1:
        return managed[0]
    if not managed:
        raise UsageError("no farm is managed here", hint=f"{PROGRAM} start --daemon")
    raise UsageError(f"several farms are managed here: {', '.join(managed)}", hint="name one with --name")


def _invite(arguments: argparse.Namespace, home: Home, settings: Settings) -> int:
    name = _own_farm(arguments, home)
    farm = open_farm(home, name)
    try:
        access = read_access(farm.folder / "access.json")
    except FarmError as error:
        raise UsageError(
            f"the TaskManager of farm {name!r} is not running, so nobody could join",
            hint=f"{PROGRAM} start --name {name} --daemon",
        ) from error
    try:
        valid_s = parse_duration(arguments.duration)
    except ValueError as error:
        raise UsageError(
            f"--for {arguments.duration}: {error}", hint=f"{PROGRAM} invite --role {arguments.role} --for 1h"
        ) from error
    line = invite(
        farm.table,
        access,
        role=arguments.role,
        valid_s=valid_s,
        address=parse_address(access.address),
        wall=time.time(),
    )
    if sys.stdout.isatty():
        verb = "cf-worker --capability NAME --join" if arguments.role == "worker" else "majordomo join"
        print(f"on the other machine, within {arguments.duration}:\n  {verb} {line}")
    else:
        print(line)
    return 0


def _keys(arguments: argparse.Namespace, home: Home, settings: Settings) -> int:
    farm = open_farm(home, _own_farm(arguments, home))
    farm.table.refresh()
    for entry in farm.table.entries.values():
        print(format_line(entry))
    return 0


def _allow(arguments: argparse.Namespace, home: Home, settings: Settings) -> int:
    farm = open_farm(home, _own_farm(arguments, home))
    try:
        key = read_key(arguments.key)
    except ValueError as error:
        raise UsageError(str(error)) from error
    farm.table.add(Authorization(role=arguments.role, name=clean_name(arguments.label or "allowed"), key=key))
    print(f"{arguments.role} key let in")
    return 0


def _revoke(arguments: argparse.Namespace, home: Home, settings: Settings) -> int:
    farm = open_farm(home, _own_farm(arguments, home))
    removed = farm.table.remove(arguments.key)
    if not removed:
        raise UsageError(f"no key {arguments.key!r} here", hint=f"{PROGRAM} keys")
    for entry in removed:
        print(f"revoked {entry.role} {entry.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
