"""`cf-taskmanager fsck`: what a farm's journal holds, what is wrong with it, and how to mend it."""

from __future__ import annotations

import argparse
import secrets
from pathlib import Path

from computefarm.errors import Refused, UsageError
from computefarm.home import Home
from computefarm.host.running import Running
from computefarm.journal.folder import FolderLock, segment_paths
from computefarm.journal.reading import Contents, survey
from computefarm.journal.repair import Repaired, repair
from computefarm.journal.tasks import JournalDamaged, journal_folder, living_entries, take_stock
from computefarm.transport.farms import check_farm_name, farms_folder

from .process import Parser

PROGRAM = "cf-taskmanager"
DAMAGED = 1
"""Exit code."""


def add_fsck(commands: argparse._SubParsersAction[Parser]) -> argparse.ArgumentParser:
    """Add the subcommand; its caller says what to call."""
    fsck = commands.add_parser("fsck", help="check the journal of a farm, and mend it with --repair")
    fsck.add_argument("--name", default="", metavar="FARM")
    fsck.add_argument(
        "--repair",
        action="store_true",
        help="keep every record that can still be read; the damaged files are kept beside",
    )
    return fsck


def fsck(arguments: argparse.Namespace, home: Home) -> int:
    """Explain a journal; return 0 when it is in order, 1 when it is damaged (and was not repaired)."""
    farm = _farm(arguments.name, home)
    folder = journal_folder(home, farm)
    if not segment_paths(folder):
        if not (farms_folder(home) / farm).is_dir():
            raise UsageError(f"no farm {farm!r} is managed here", hint=f"{PROGRAM} start --name {farm}")
        print(f"farm {farm!r} has no journal yet ({folder})")
        return 0
    lock = _locked(folder, farm, home)
    try:
        contents = survey(folder)
        print("\n".join(explain(contents, farm)))
        faults = _faults(contents)
        if not faults:
            return 0
        if not arguments.repair:
            again = f"{PROGRAM} fsck --name {farm} --repair"
            print(f"\nthe journal is damaged, and the TaskManager does not start with it\n  {again}")
            return DAMAGED
        print("\n".join(_told(repair(folder, secrets.token_hex(8)))))
        print("now: " + "\n     ".join(_conclusion(survey(folder))))
        return 0
    finally:
        lock.close()


def explain(contents: Contents, farm: str) -> list[str]:
    """Return what is in a journal, for people."""
    lines = [f"journal of farm {farm!r} in {contents.folder}, lineage {contents.lineage or 'unknown'}"]
    for segment in contents.segments:
        state = "closed" if segment.closed else "not closed: its manager was killed"
        if segment.header is None:
            state = "unreadable"
        lines.append(f"  {segment.path.name}  {segment.records:,} records  {segment.size:,} bytes  {state}")
        if segment.note:
            lines.append(f"      {segment.note}")
    lines += [f"  {path.name}  does not count any more" for path in contents.void]
    lines += _conclusion(contents)
    lines += [f"DAMAGE in {fault}" for fault in _faults(contents)]
    return lines


def _conclusion(contents: Contents) -> list[str]:
    if _faults(contents):
        return []
    stock = take_stock(living_entries(contents))
    many = f"{stock.waiting:,} waiting, {stock.running:,} running, {stock.owed:,} ended and not fetched"
    return [f"{stock.tasks:,} tasks: {many}; {len(contents.tally.forgotten):,} are done with", "in order"]


def _faults(contents: Contents) -> list[str]:
    if contents.damage:
        return [str(damage) for damage in contents.damage]
    try:
        living_entries(contents)
    except JournalDamaged as error:
        return [str(error)]
    return []


def _told(done: Repaired) -> list[str]:
    lines = ["", f"repaired: {done.kept:,} records kept; the old files are in {done.aside}"]
    lines += [f"  lost: {text}" for text in done.lost]
    if done.orphans:
        keys = ", ".join(map(str, sorted(done.orphans)[:10]))
        more = " …" if len(done.orphans) > 10 else ""
        lines.append(
            f"  lost: what {len(done.orphans):,} tasks were ({keys}{more}); their clients, if they still"
            " run, submit them again"
        )
    return lines


def _farm(name: str, home: Home) -> str:
    """Return the farm that is meant."""
    try:
        there = sorted(path.name for path in (home.state / "journal").iterdir() if path.is_dir())
    except OSError:
        there = []
    if name:
        return check_farm_name(name)
    if len(there) > 1:
        raise UsageError(
            f"several farms have a journal here: {', '.join(there)}",
            hint=f"{PROGRAM} fsck --name {there[0]}",
        )
    return there[0] if there else "default"


def _locked(folder: Path, farm: str, home: Home) -> FolderLock:
    try:
        return FolderLock(folder)
    except Refused as error:
        alive = [entry.pid for entry in Running(home).alive("taskmanager") if entry.name == farm]
        who = f"process {alive[0]}" if alive else "another process"
        raise Refused(
            f"the journal of farm {farm!r} is in use: its TaskManager runs ({who})",
            hint=f"{PROGRAM} stop --name {farm}",
        ) from error
