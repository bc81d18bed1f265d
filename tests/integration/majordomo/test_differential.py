"""Stock doit and majordomo on the same dodo files: same order, files, exit code, and same second run.

Deliberate differences are written down in `DIFFERENT`, each with the rule behind it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from .front_end import DOIT, MAJORDOMO, WITH_DOUBLE, Ran, run
from .scenarios import FAILING, FARM, HEAD, LOCAL, SEVERAL

IGNORED = {
    ".doit.db",
    ".majordomo.db",
    ".majordomo.db-wal",
    ".majordomo.db-shm",
    ".majordomo.db.lock",
    "dodo.py",
}

PARTIAL = {"first_failing_action_ends_the_task": {"out"}}
"""What a task that failed half-way leaves behind under doit; from the farm only whole results come back."""

DIFFERENT = {
    # A task that is only blocked does not count: 1 (a task failed) instead of 2 (an error).
    ("python_failure", "-c"): 1,
    ("command_failure", "-c"): 1,
}


def project(folder: Path, text: str, meta: str = "None") -> Path:
    folder.mkdir()
    (folder / "in.txt").write_text("input\n")
    (folder / "dodo.py").write_text(HEAD.replace("{META}", meta) + text)
    return folder


def files(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() and name.split(".doit.db")[0] and name not in IGNORED and "__pycache__" not in name:
            found[name] = path.read_text()
    return found


def values(program: tuple[str, ...], folder: Path) -> dict[str, object]:
    """What the database remembers of each task, apart from how files are fingerprinted."""
    if program == DOIT:
        code = (
            "import json; from doit.dependency import DbmDB, JSONCodec; db = DbmDB('.doit.db', JSONCodec());"
            "print(json.dumps({k.decode(): json.loads(db._dbm[k]) for k in db._dbm.keys()}))"
        )
    else:
        code = (
            "import json; from computefarm.majordomo.database import Database; from doit.dependency import JSONCodec;"
            "db = Database('.majordomo.db', JSONCodec());"
            "print(json.dumps({k: dict(db.data(db.entry(k)), **{'deps:': db.get(k, 'deps:') or []}) for k in db.names()}))"
        )
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True, timeout=60
    )
    kept = {}
    for task, row in json.loads(out.stdout).items():
        table = {
            key: value
            for key, value in (row.get("_values_:") or {}).items()
            if not key.startswith(("in.txt.", "success-time"))
        }
        kept[task] = (table, row.get("result:"), sorted(row.get("deps:") or []))
    return kept


def compare(
    name: str,
    flags: tuple[str, ...],
    ours: tuple[str, ...],
    text: str,
    tmp_path: Path,
    *,
    meta: str,
    order: bool,
) -> None:
    stock, majordomo = project(tmp_path / "doit", text, "None"), project(tmp_path / "cf", text, meta)
    code = 0
    for turn in ("first", "second", "after a change"):
        if turn != "first" and code == 3:
            break  # nothing has run, and nothing will
        if turn == "after a change":
            (stock / "in.txt").write_text("another input\n")
            (majordomo / "in.txt").write_text("another input\n")
        with ThreadPoolExecutor(1) as beside:
            stock_run = beside.submit(run, DOIT, "run", *flags, folder=stock)
            got, expected = run(ours, "run", *flags, folder=majordomo), stock_run.result()
        code = DIFFERENT.get((name, flags[0] if flags else ""), expected.code)
        assert got.code == code, explain(turn, expected, got)
        theirs, mine = files(stock), files(majordomo)
        theirs = {path: text for path, text in theirs.items() if path not in PARTIAL.get(name, ())}
        if not order:
            theirs, mine = unordered(theirs), unordered(mine)
        assert mine == theirs, explain(turn, expected, got)
        if (stock / ".doit.db").exists() and code == 0:
            assert values(ours, majordomo) == values(DOIT, stock), turn
        assert not (majordomo / ".doit.db").exists()


def unordered(found: dict[str, str]) -> dict[str, str]:
    """Farm tasks overlap, so only which lines there are is comparable."""
    return {**found, "order": "\n".join(sorted(found.get("order", "").splitlines()))}


def explain(turn: str, expected: Ran, got: Ran) -> str:
    return f"{turn} run\n--- doit {expected.code}\n{expected.out}{expected.err}\n--- majordomo {got.code}\n{got.out}{got.err}"


def rounds(scenarios: Iterable[str]) -> list[object]:
    chosen: list[tuple[str, tuple[str, ...]]] = []
    for name in scenarios:
        chosen.append((name, ()))
        chosen += [(name, ("-c",))] if name in FAILING else []
        chosen += [(name, ("-a",))] if name in SEVERAL else []
    return [pytest.param(name, flags, id=f"{name}{''.join(flags)}") for name, flags in chosen]


@pytest.mark.parametrize(("name", "flags"), rounds(LOCAL))
def test_local_tasks_behave_as_under_doit(name: str, flags: tuple[str, ...], tmp_path: Path) -> None:
    compare(name, flags, MAJORDOMO, LOCAL[name], tmp_path, meta="None", order=True)


@pytest.mark.parametrize(("name", "flags"), rounds(FARM))
def test_farm_tasks_leave_what_doit_leaves(name: str, flags: tuple[str, ...], tmp_path: Path) -> None:
    meta = "__import__('computefarm').needs('shell')"
    compare(name, flags, WITH_DOUBLE, FARM[name], tmp_path, meta=meta, order=False)
