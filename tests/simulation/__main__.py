"""Many worlds from the command line: `python -m tests.simulation --seeds 0:100000 --jobs 2`.

A failing seed is run again, alone and exactly alike, with `--seed N --trace`; `--shrink` leaves out every kind
of fault that it fails without; `--without loss,crash` leaves out the kinds named.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import re
import subprocess
import sys
import time
from collections.abc import Collection
from pathlib import Path

from .faults import KINDS
from .mutants import MUTANTS, planted
from .world import World

CHUNK = 50
"""Seeds handed to a process at a time."""


def fault_of(seed: int, without: Collection[str] = (), mutant: str = "", scale: int = 1) -> str | None:
    """Return what goes wrong in a world, or None."""
    with planted(mutant):
        try:
            World(seed, without=without, scale=scale).run()
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    return None


def many(work: tuple[range, tuple[str, ...], str, int]) -> list[tuple[int, str]]:
    """Run some worlds; return the seeds that failed."""
    seeds, without, mutant, scale = work
    found = [(seed, fault_of(seed, without, mutant, scale)) for seed in seeds]
    return [(seed, fault) for seed, fault in found if fault is not None]


def shrink(seed: int, without: Collection[str], mutant: str = "", scale: int = 1) -> list[str]:
    """Return the kinds of faults that can be left out together while the world still fails in the same way."""
    left_out = list(without)
    first = alike(fault_of(seed, left_out, mutant, scale))
    for kind in KINDS:
        if kind not in left_out and alike(fault_of(seed, [*left_out, kind], mutant, scale)) == first:
            left_out.append(kind)
    return left_out


def alike(fault: str | None) -> str:
    """Return what two failures of one kind have in common."""
    return "" if fault is None else re.sub(r"\d+|\[.*", "", fault)[:40]


def version() -> str:
    """Return the commit that was tried, for the report of a failure."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.run(
            [*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
        )
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--", "../../computefarm", "."],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "an unknown commit"
    return f"commit {commit.stdout.strip()}{' with changes' if changed.stdout.strip() else ''}"


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", default="0:1000", metavar="FROM:TO", help="worlds to run (default 0:1000)")
    parser.add_argument("--seed", type=int, help="one world")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--trace", action="store_true", help="with --seed: print all that happens")
    parser.add_argument(
        "--shrink", action="store_true", help="leave out every kind of fault that a failure does not need"
    )
    parser.add_argument(
        "--without", default="", metavar="KIND,…", help=f"kinds of faults to leave out: {' '.join(KINDS)}"
    )
    parser.add_argument("--mutant", default="", choices=["", *MUTANTS], help="plant a bug")
    parser.add_argument("--scale", type=int, default=1, help="times as many workers, clients and seconds")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the tenth failing seed")
    options = parser.parse_args(argv)
    options.without = tuple(kind for kind in options.without.split(",") if kind)
    if unknown := set(options.without) - set(KINDS):
        parser.error(f"no such kind of fault: {', '.join(sorted(unknown))}; there are: {' '.join(KINDS)}")
    first, _, last = options.seeds.partition(":")
    try:
        options.seeds = range(int(first), int(last) if last else int(first) + 1)
    except ValueError:
        parser.error(f"--seeds is FROM:TO with two numbers, not {options.seeds!r}")
    return options


def one(options: argparse.Namespace) -> int:
    """Run one world and show it."""
    without = options.without
    if options.shrink and fault_of(options.seed, without, options.mutant, options.scale) is not None:
        without = shrink(options.seed, without, options.mutant, options.scale)
    with planted(options.mutant):
        world = World(options.seed, without=without, trace=options.trace, scale=options.scale)
        fault = None
        try:
            world.run()
        except Exception as error:
            fault = f"{type(error).__name__}: {error}"
    print("\n".join(world.trace or []))
    print(f"seed {options.seed} at {version()}, faults: {' '.join(sorted(world.faults.kinds)) or 'none'}")
    print(f"FAILED at {world.now:.4f} s: {fault}" if fault else f"all is well after {world.now:.0f} s")
    return 1 if fault else 0


def all_of(options: argparse.Namespace) -> int:
    """Run many worlds and name those that fail."""
    seeds = options.seeds
    blocks = [seeds[start : start + CHUNK] for start in range(0, len(seeds), CHUNK)]
    work = [(block, options.without, options.mutant, options.scale) for block in blocks]
    started = time.monotonic()
    failures: list[tuple[int, str]] = []
    done = 0
    with contextlib.ExitStack() as stack:
        reports = map(many, work)
        if options.jobs > 1:
            reports = stack.enter_context(multiprocessing.Pool(options.jobs)).imap(many, work)
        for block, found in zip(blocks, reports, strict=True):
            done += len(block)
            for seed, fault in found:
                print(f"seed {seed} at {version()}: {fault[:300]}", flush=True)
            failures += found
            if len(failures) >= 10 and not options.keep_going:
                break
    took = time.monotonic() - started
    print(
        f"{done} worlds, {len(failures)} failed; {took:.1f} s, {done / took:.0f} worlds a second; {version()}"
    )
    if failures:
        print(f"to see one: python -m tests.simulation --seed {failures[0][0]} --trace [--shrink]")
    return 1 if failures else 0


def main(argv: list[str] | None = None) -> int:
    """Run what the command line says; return 1 when a world failed."""
    options = arguments(argv)
    return one(options) if options.seed is not None else all_of(options)


if __name__ == "__main__":
    sys.exit(main())
