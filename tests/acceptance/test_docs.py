"""The documentation is true: its examples run, its tables are complete, its links lead somewhere.

`<!-- file: NAME -->` before a block puts it into a file; `<!-- run -->` runs the block's `$` lines, and each other
line must be part of what the command above it printed, in order. A page is one session in a folder of its own.
`<!-- needs: PROGRAM … -->` names what must be installed.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from doit.cmd_base import DodoTaskLoader

from computefarm import capability
from computefarm.cli import monitor, recompute, taskmanager, worker
from computefarm.majordomo.app import LATER, MajorDomo
from computefarm.majordomo.argv import DODO_COMMANDS
from computefarm.settings import SETTINGS

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(
    r"^<!-- (run|file: (?P<name>\S+)) -->\n```\w+\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
RUNNABLE = [page for page in PAGES if "<!-- run -->" in page.read_text()]


class Session:
    """A shell's worth of commands: the folder stays, background processes end with the page."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self.folder = folder
        self.environ = environ
        self.background: list[subprocess.Popen[bytes]] = []

    def run(self, line: str, expected: list[str]) -> None:
        """Run one line, check what it prints."""
        if line.endswith("&"):
            self.start(line[:-1])
            return
        script = f"set -o pipefail; {line}\ncode=$?; pwd > $PWD_FILE; exit $code"
        where = self.folder / ".where"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder, env={**self.environ, "PWD_FILE": str(where)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"$ {line}\nexit {done.returncode}:\n{done.stdout}"
        left = done.stdout
        for text in expected:
            assert text in left, f"$ {line}\nprinted no {text!r} here:\n{done.stdout}"
            left = left.partition(text)[2]
        self.folder = Path(where.read_text().strip())

    def start(self, line: str) -> None:
        """Start one line in the background; like a shell, take note as soon as it ends."""
        command = ["bash", "-c", f"exec env {line}"]
        with (self.folder / "background.log").open("ab") as log:
            process = subprocess.Popen(
                command, cwd=self.folder, env=self.environ, stdout=log, stderr=log, start_new_session=True
            )
        self.background.append(process)
        threading.Thread(target=process.wait, daemon=True).start()

    def end(self) -> None:
        """End what the page left running."""
        for process in self.background:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                pytest.fail("a page left a process running")


@pytest.fixture
def session(machine: Any, tmp_path: Path) -> Iterator[Session]:
    folder = tmp_path / "page"
    folder.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # A page may take an example with it, as a reader does in a checkout.
    (folder / "examples").symlink_to(ROOT / "examples")
    made = Session(folder, {**machine.environ, "CF_PORT": str(port)})
    yield made
    # A page that failed half-way leaves its farms running, those in homes of its own too.
    for home in (machine.home, *(path.parents[1] for path in folder.glob("*/state/run"))):
        for program in ("cf-worker", "cf-taskmanager"):
            subprocess.run(
                [program, "stop"], cwd=folder, env={**made.environ, "CF_HOME": str(home)},
                stdout=subprocess.DEVNULL, timeout=60, check=False,
            )  # fmt: skip
    made.end()


@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_s_examples_do_what_it_says(page: Path, session: Session) -> None:
    for program in re.findall(r"^<!-- needs: (.*) -->$", page.read_text(), re.MULTILINE):
        if missing := [name for name in program.split() if shutil.which(name) is None]:
            pytest.skip(f"NOT TESTED: {page.name} needs {', '.join(missing)}, which are not installed")
    top = session.folder
    for block in BLOCK.finditer(page.read_text()):
        if block["name"]:
            path = top / block["name"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block["text"])
            continue
        commands: list[tuple[str, list[str]]] = []
        for line in block["text"].splitlines():
            if line.startswith("$ "):
                commands.append((line[2:], []))
            else:
                commands[-1][1].append(line)
        for command, expected in commands:
            session.run(command, expected)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())

    assert [target for target in targets if not (page.parent / target).exists()] == []


def first_column(page: str, after: str) -> list[str]:
    text = (ROOT / "docs/reference" / page).read_text().partition(after)[2].lstrip().partition("\n\n")[0]
    return re.findall(r"^\| `([^`]+)`", text, re.MULTILINE)


def test_every_setting_is_described() -> None:
    described = first_column("configuration.md", "<!-- settings -->")

    assert [name for name in described if not name.startswith("~")] == [setting.key for setting in SETTINGS]


def test_every_field_of_a_capability_file_is_described() -> None:
    assert first_column("capabilities.md", "<!-- fields -->") == list(capability.FIELDS)


def test_every_command_is_described() -> None:
    section = (
        (ROOT / "docs/reference/commands.md").read_text().partition("## majordomo")[2].partition("\n## ")[0]
    )

    assert {name.split()[0] for name in re.findall(r"^\| `([^`]+)`", section, re.MULTILINE)} >= set(LATER)


# --- commands and their options -----------------------------------------------------------------------

COMMANDS_PAGE = (ROOT / "docs/reference/commands.md").read_text()


def described_options(title: str) -> set[str]:
    """Return the spellings of all options in the table of one command; none when it has no table."""
    table = COMMANDS_PAGE.partition(f"<!-- options: {title} -->\n")[2].partition("\n\n")[0]
    first_cells = [row.split(" | ")[0] for row in table.splitlines()[2:]]
    return {spelling for cell in first_cells for spelling in re.findall(r"`(--?[\w-]+)", cell)}


def spellings(options: Iterable[Any]) -> set[str]:
    """Return how options of doit's kind are written."""
    found = set()
    for option in options:
        found |= {f"-{option.short}"} if option.short else set()
        found |= {f"--{name}" for name in (option.long, option.inverse) if name}
    return found


def doit_commands() -> dict[str, set[str]]:
    """Return majordomo's commands with all their options."""
    app = MajorDomo()
    commands = app.get_cmds()
    return {
        name: spellings(commands.get_plugin(name)(cmds=commands, task_loader=DodoTaskLoader()).get_options())
        for name in commands
    }


def parsers(parser: argparse.ArgumentParser) -> Iterator[tuple[str, set[str]]]:
    """Yield a command and its sub-commands with their options."""
    names: set[str] = set()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from parsers(sub)
        else:
            names.update(action.option_strings)
    yield parser.prog, names - {"-h", "--help", "--version"}


def test_every_option_of_majordomo_is_described() -> None:
    common = described_options("common")
    for name, options in doit_commands().items():
        reads_dodo = name in DODO_COMMANDS or name == "help"
        assert described_options(f"majordomo {name}") == (options - common if reads_dodo else options), name
    assert common <= doit_commands()["list"]


@pytest.mark.parametrize("program", [taskmanager, worker, monitor, recompute], ids=lambda module: module.PROGRAM)
def test_every_option_of_the_other_programs_is_described(program: Any) -> None:
    for prog, options in parsers(program._parser()):
        assert described_options(prog) == options, prog
