"""What the commands that look have in common: their options, the farm they ask, and how they fail."""

from __future__ import annotations

import contextlib
import getopt
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

from doit.cmd_base import Command
from doit.cmdparse import CmdParseError

from computefarm.errors import FarmError, UsageError
from computefarm.home import Home
from computefarm.journal.history import FILE, History, RunRow
from computefarm.messages import Explanation, Pool, SessionStatus, Status
from computefarm.settings import Settings, load_settings
from computefarm.spelling import did_you_mean

from .argv import option_error

NEAREST = 3


class Viewer(Protocol):
    """A farm that answers questions."""

    name: str

    def status(self) -> Status:
        """Return the farm's state now."""

    def pools(self) -> tuple[Pool, ...]:
        """Return what its workers offer now."""

    def explain_name(self, task: str, session: str = "") -> Explanation:
        """Return what it knows of a run's (or any) task; state `unknown` when it has none of that name."""

    def sessions(self) -> tuple[SessionStatus, ...]:
        """Return the runs of this key that the farm knows."""

    def cancel_run(self, session: str, tasks: Sequence[str], reason: str) -> int:
        """Cancel tasks of a run by name, or all; return how many there were that had not ended."""

    def close(self) -> None:
        """Hang up."""


Connect = Callable[[Home, Settings], Viewer | None]
"""Return the configured farm, or None when there is none; raise `FarmError` when it cannot be reached."""


def connect_to_farm(home: Home, settings: Settings) -> Viewer | None:
    """Connect to the farm that `settings` name."""
    # Sockets and their libraries are loaded only by the commands that need them.
    from computefarm.backends.choice import connect

    return connect(home=home, settings=settings, session="")


def option(
    name: str, short: str, help_text: str, kind: type = str, default: object = ""
) -> dict[str, object]:
    """Return the description of one option in doit's form."""
    return {"name": name, "short": short, "long": name, "type": kind, "default": default, "help": help_text}


JSON = option("json", "", "print JSON", bool, False)
FARM = option("farm", "", "a farm's name, the path of an access file, or `local`")
DIR = option("dir", "d", "the project's folder [default: this one]", default=".")
RUN = option("run", "", "a run's name, a beginning of it, or `last`", default="last")


class Look(Command):
    """Base of the commands that look: turns errors into one message and an exit code."""

    connect: ClassVar[Connect] = staticmethod(connect_to_farm)
    environ: ClassVar[Mapping[str, str]] = os.environ
    parse: ClassVar[Callable[..., tuple[list[tuple[str, str]], list[str]]]] = staticmethod(getopt.gnu_getopt)
    """How a command line is taken apart: options may come after names."""

    def __init__(self, task_loader: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._loader = task_loader

    def parse_execute(self, in_args: list[str]) -> int:
        """Take options after names too (`why TASK --json`), which doit's own parser does not."""
        try:
            found, names = self.parse(in_args, self.cmdparser.get_short(), self.cmdparser.get_long())
            options = [part for name, value in found for part in self._words(name, value)]
            return int(super().parse_execute([*options, "--", *names]))
        except (getopt.GetoptError, CmdParseError) as error:
            print(f"majordomo {self.name}: {option_error(error, self.name)}", file=sys.stderr)
            return UsageError.exit_code

    def _words(self, name: str, value: str) -> tuple[str, ...]:
        """Return an option as it was written; an empty value counts, as in `--farm ''`."""
        found, _ = self.cmdparser.get_option(name)
        return (name,) if found is not None and found.type is bool else (name, value)

    def execute(self, opt_values: dict[str, Any], pos_args: list[str]) -> int:
        """Run the command and return its exit code."""
        try:
            return self.look(opt_values, pos_args)
        except FarmError as error:
            print(f"majordomo {self.name}: {error}", file=sys.stderr)
            return error.exit_code
        except BrokenPipeError:
            # The reader has gone, as in `majordomo history | head`; nothing more can be said to it.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0

    def look(self, options: dict[str, Any], names: list[str]) -> int:
        """Do the work; raise `FarmError` for what the user must know."""
        raise NotImplementedError

    @property
    def home(self) -> Home:
        """Where this user's files are."""
        return Home.find(self.environ)

    def settings(self, options: Mapping[str, Any]) -> Settings:
        """Return the settings, with this command's flags on top."""
        flags = {"farm": options.get("farm") or None}
        return load_settings(flags, self.environ, self.home, folder_of(options))

    def farm(self, options: Mapping[str, Any]) -> contextlib.AbstractContextManager[Viewer | None]:
        """Connect to the configured farm for the length of a `with` block; None when there is none."""
        viewer = type(self).connect(self.home, self.settings(options))
        return contextlib.nullcontext(None) if viewer is None else contextlib.closing(viewer)

    def address(self, options: Mapping[str, Any]) -> str:
        """Return where the configured farm is: `tcp://HOST:PORT`; empty when there is none."""
        from computefarm.transport.farms import find_access

        access = find_access(self.home, self.settings(options).farm)
        return access.address if access is not None else ""

    def history(self) -> History:
        """Return what past runs left."""
        return History(self.home.state / FILE)

    def chosen_run(self, options: Mapping[str, Any]) -> RunRow:
        """Return the run that `--run` and `--dir` mean."""
        folder, wanted = folder_of(options), str(options.get("run") or "last")
        run = self.history().last(folder) if wanted == "last" else self.history().find(wanted)
        if run is not None:
            return run
        if wanted == "last":
            raise UsageError(f"no run is recorded for {folder}", hint="majordomo run")
        recent = [row.run for row in self.history().recent(count=NEAREST)]
        raise UsageError(
            f"no run, or more than one, is called {wanted!r}; the newest are: {', '.join(recent) or 'none'}",
            hint="majordomo history --list",
        )


def run_state(run: RunRow) -> str:
    """Return `ended`, `running`, or `killed` for a run without an end whose process is gone."""
    if run.ended is not None:
        return "ended"
    import psutil

    try:
        # Another process may have the number by now: ours was started before its run.
        return "running" if psutil.Process(run.pid).create_time() <= run.started + 1 else "killed"
    except psutil.Error:
        return "killed"


def folder_of(options: Mapping[str, Any]) -> Path:
    """Return the project's folder."""
    return Path(options.get("dir") or ".").resolve()


def put(lines: Iterable[str]) -> None:
    """Print lines."""
    for line in lines:
        print(line)


def put_json(value: object) -> None:
    """Print one JSON object on one line."""
    print(json.dumps(value), flush=True)


def nearest(name: str, known: Sequence[str]) -> str:
    """Return `; did you mean …?` with names of tasks or runs, or the empty string."""
    return did_you_mean(name, known, form="{}", most=NEAREST)


def show(value: object) -> str:
    """Return a setting as one writes it."""
    return json.dumps(value) if isinstance(value, str) else str(value)


def refuse(names: Sequence[str]) -> None:
    """Raise when a command that takes no names was given some."""
    if names:
        raise UsageError(f"unexpected: {' '.join(names)}")
