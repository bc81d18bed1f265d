"""Imports only go down, the core stays pure, and nobody imports the workers.

    6 cli · 5 majordomo · 4 backends, testing · 3 services · 2 hands · 1 decisions · 0 words

All imports count, those inside functions too; only circles are judged by what is imported at import time.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

FLOORS = {
    0: ("messages", "errors", "spelling"),
    1: ("core", "codec", "capability", "needs", "_needs", "located", "quantities", "worker_api"),
    2: ("transport", "store", "sandbox", "logs", "host", "journal", "remote", "catalogue", "problem", "settings", "home"),
    3: ("services", "farm"),
    4: ("backends", "testing", "recompute"),
    5: ("majordomo",),
    6: ("cli",),
}
FLOOR = {part: floor for floor, parts in FLOORS.items() for part in parts}

OPEN_TO_NEIGHBOURS = {1: ("codec", "located", "quantities"), 2: ("home", "settings"), 4: ("backends",)}
"""Parts that others on the same floor may import: pure words in bytes and in YAML, where things are,
and the seam that the shipped doubles stand in for."""

IMPURE = {
    "_thread", "aiohttp", "asyncio", "concurrent", "ctypes", "curses", "datetime", "doit", "fcntl",
    "fileinput", "ftplib", "getpass", "glob", "http", "io", "logging", "mmap", "multiprocessing", "os",
    "pathlib", "pickle", "platform", "psutil", "pty", "queue", "random", "readline", "requests",
    "resource", "rich", "sched", "secrets", "select", "selectors", "shelve", "shutil", "signal",
    "socket", "socketserver", "sqlite3", "ssl", "subprocess", "syslog", "tempfile", "termios",
    "threading", "time", "tracemalloc", "tty", "urllib", "uuid", "yaml", "zmq", "zoneinfo",
}  # fmt: skip
"""What the core must not import: all of it can wait, reads a clock, rolls dice or touches the machine."""

IMPURE_CALLS = frozenset({"open", "print", "input", "exec", "eval", "breakpoint", "__import__"})


def part(module: str) -> str:
    """Return a module's part of the building: `core` for `computefarm.core.state`."""
    return module.split(".")[1]


def imported(module: str, is_package: bool, node: ast.AST, modules: frozenset[str]) -> Iterator[str]:
    """Yield the full names of the modules that an import statement names."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            package = module.split(".") if is_package else module.split(".")[:-1]
            package = package[: len(package) - node.level + 1]
            base = ".".join([*package, *base.split(".")] if base else package)
        for alias in node.names:
            inner = f"{base}.{alias.name}"
            yield inner if inner in modules else base


def violations(sources: Mapping[str, str], packages: frozenset[str] = frozenset()) -> list[str]:
    """Return what is wrong in a tree of modules, each with its module and line."""
    modules = frozenset(sources)
    wrong: list[str] = []
    for module, source in sorted(sources.items()):
        for node in ast.walk(ast.parse(source)):
            for name in imported(module, module in packages, node, modules):
                if reason := refusal(module, name):
                    wrong.append(f"{module}:{getattr(node, 'lineno', 0)}: imports {name}: {reason}")
            if module.startswith("computefarm.core") and impure_call(node):
                wrong.append(
                    f"{module}:{getattr(node, 'lineno', 0)}: calls {impure_call(node)}: core does no I/O"
                )
    return wrong + circles(sources, packages)


def impure_call(node: ast.AST) -> str:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_CALLS:
        return node.func.id
    return ""


def refusal(module: str, name: str) -> str | None:
    """Say why `module` must not import `name`, or return None."""
    if name.split(".")[0] == "workers":
        return "workers are reached by entry point"
    if module.startswith("computefarm.core.") and name.split(".")[0] in IMPURE:
        return "core is pure"
    if name.split(".")[0] != "computefarm":
        return None
    if module.startswith("computefarm.workers"):
        allowed = name.startswith(("computefarm.worker_api", "computefarm.workers."))
        return None if allowed else "workers import only worker_api"
    if name.startswith("computefarm.workers"):
        return "workers are reached by entry point"
    if name == "computefarm":
        return (
            None if not module.startswith("computefarm.core.") else "core imports messages and siblings only"
        )
    if name.startswith("computefarm.capabilities"):
        return "capability files are read by the catalogue, as data"
    return storeys(module, name)


def storeys(module: str, name: str) -> str | None:
    if part(name) not in FLOOR:
        return f"{part(name)!r} has no floor yet: add it to FLOORS"
    if module == "computefarm":
        return None if part(name) == "needs" else "the package's front imports needs only"
    if part(module) not in FLOOR:
        return f"{part(module)!r} has no floor yet: add it to FLOORS"
    here, there = FLOOR[part(module)], FLOOR[part(name)]
    if part(module) == part(name) or there < here:
        return None
    if there > here:
        return f"floor {here} imports floor {there}"
    if part(name) in OPEN_TO_NEIGHBOURS.get(here, ()):
        return None
    # The single modules at the top are siblings in one package; folders are packages of their own.
    if module.count(".") == 1 and name.count(".") == 1 and not {part(module), part(name)} & FOLDERS:
        return None
    return f"neighbours on floor {here} do not know each other"


FOLDERS = frozenset(path.name for path in (ROOT / "computefarm").iterdir() if path.is_dir()) | {
    "core",
    "store",
}


def circles(sources: Mapping[str, str], packages: frozenset[str]) -> list[str]:
    """Return each circle of modules that import each other when they are imported."""
    modules = frozenset(sources)
    edges: dict[str, set[str]] = {}
    for module, source in sources.items():
        at_import = list(at_import_time(ast.parse(source)))
        named = {name for node in at_import for name in imported(module, module in packages, node, modules)}
        edges[module] = (named & modules) - {module}
    # Take away what imports nothing that is left, until only circles are.
    while free := [module for module, names in edges.items() if not names & edges.keys()]:
        for module in free:
            del edges[module]
    return [f"these import each other in a circle (or from one): {', '.join(sorted(edges))}"] if edges else []


def at_import_time(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield the statements that run when a module is imported."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        for child in ast.iter_child_nodes(node):
            lazy = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
            if not lazy and not typing_only:
                waiting.append(child)


def the_tree() -> tuple[dict[str, str], frozenset[str]]:
    """Return the sources of computefarm/ and workers/ by module name, and which of them are packages."""
    sources: dict[str, str] = {}
    packages: set[str] = set()
    for folder, prefix in (("computefarm", "computefarm"), ("workers", "computefarm.workers")):
        for path in sorted((ROOT / folder).rglob("*.py")):
            inside = path.relative_to(ROOT / folder).with_suffix("").parts
            is_package = inside[-1] == "__init__"
            module = ".".join([prefix, *(inside[:-1] if is_package else inside)])
            sources[module] = path.read_text(encoding="utf-8")
            if is_package:
                packages.add(module)
    return sources, frozenset(packages)


def test_every_import_goes_down() -> None:
    sources, packages = the_tree()

    assert len(sources) > 20, "the files were not found"
    assert violations(sources, packages) == []


def test_every_part_has_a_floor() -> None:
    there = {
        path.stem
        for path in (ROOT / "computefarm").iterdir()
        if path.suffix == ".py" or (path.is_dir() and path.name != "__pycache__")
    }

    assert there - {"__init__", "__main__"} <= FLOOR.keys()


@pytest.mark.parametrize(
    ("module", "source", "reason"),
    [
        ("computefarm.core.state", "import time", "core is pure"),
        ("computefarm.core.state", "import os.path", "core is pure"),
        ("computefarm.core.state", "from asyncio import sleep", "core is pure"),
        ("computefarm.core.state", "def f():\n    import random", "core is pure"),
        ("computefarm.core.state", "import zmq", "core is pure"),
        ("computefarm.core.state", "import logging", "core is pure"),
        ("computefarm.core.state", "open('x')", "core does no I/O"),
        ("computefarm.core.state", "from computefarm import __version__", "core imports messages"),
        ("computefarm.core.state", "from computefarm.capability import parse", "neighbours on floor 1"),
        ("computefarm.core.state", "from computefarm import store", "floor 1 imports floor 2"),
        ("computefarm.errors", "from computefarm.codec import encode", "floor 0 imports floor 1"),
        ("computefarm.codec", "from .store import blobs", "floor 1 imports floor 2"),
        ("computefarm.store.blobs", "from computefarm.transport.mailbox import Mailbox", "neighbours on floor 2"),
        ("computefarm.store.blobs", "from ..transport import mailbox", "neighbours on floor 2"),
        ("computefarm.store.blobs", "from computefarm.catalogue import probe", "neighbours on floor 2"),
        ("computefarm.store.blobs", "import computefarm.services.worker", "floor 2 imports floor 3"),
        ("computefarm.backends.local", "from computefarm.majordomo import app", "floor 4 imports floor 5"),
        ("computefarm.backends.local", "from computefarm.testing.farm import Farm", "neighbours on floor 4"),
        ("computefarm.cli.worker", "from computefarm.workers.shell.worker import ShellWorker", "entry point"),
        ("computefarm.cli.worker", "import workers.shell", "entry point"),
        ("computefarm.cli.worker", "from computefarm import workers", "entry point"),
        ("computefarm.catalogue", "import computefarm.capabilities", "as data"),
        ("computefarm.workers.shell.worker", "from computefarm.messages import Action", "only worker_api"),
        ("computefarm.workers.shell.worker", "from computefarm import needs", "only worker_api"),
        ("computefarm.core.state", "import computefarm.novelty", "has no floor yet"),
        ("computefarm.novelty", "import computefarm.errors", "has no floor yet"),
        ("computefarm", "from computefarm.codec import encode", "imports needs only"),
    ],
)  # fmt: skip
def test_a_planted_violation_is_found(module: str, source: str, reason: str) -> None:
    others = dict.fromkeys(
        ("computefarm.store", "computefarm.workers", "computefarm.majordomo", "computefarm.needs"), ""
    )

    wrong = violations({**others, module: source})

    assert len(wrong) == 1, wrong
    assert wrong[0].startswith(f"{module}:")
    assert reason in wrong[0]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("computefarm.core.state", "import heapq, enum\nfrom computefarm.messages import Need\nfrom .commands import Send"),
        ("computefarm.located", "from .quantities import parse_size"),
        ("computefarm.catalogue", "from .home import Home\nfrom importlib.resources import files"),
        ("computefarm.store.blobs", "import os\nfrom computefarm.settings import Settings"),
        ("computefarm.cli.worker", "from computefarm import __version__\nfrom computefarm.services.worker import x"),
        ("computefarm.workers.shell.worker", "from computefarm.worker_api.contract import Action\nfrom .parse import x"),
        ("computefarm.services.worker", "def open_all():\n    open('x')"),
        ("computefarm", "from computefarm.needs import needs"),
    ],
)  # fmt: skip
def test_what_is_allowed_is_left_alone(module: str, source: str) -> None:
    assert violations({module: source}) == []


def test_a_circle_is_found_and_a_lazy_import_is_none() -> None:
    a, b = "computefarm.core.a", "computefarm.core.b"

    assert "circle" in violations({a: "from .b import x", b: "from .a import y"})[0]
    assert violations({a: "from .b import x", b: "def f():\n    from .a import y"}) == []
    assert violations({a: "from .b import x", b: "if TYPE_CHECKING:\n    from .a import y"}) == []
