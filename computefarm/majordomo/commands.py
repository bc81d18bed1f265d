"""The commands that look: `why`, `history`, `capabilities` and `config`.

They read what runs left behind and ask a farm when one is configured; `presentation` makes what they print.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from computefarm.errors import FarmError, UsageError
from computefarm.logs.tasklog import last_lines
from computefarm.messages import Explanation, Outcome

from .accounts import Account, why_json, why_text
from .look import (
    DIR,
    FARM,
    JSON,
    RUN,
    Look,
    folder_of,
    nearest,
    option,
    put,
    put_json,
    refuse,
    run_state,
    show,
)
from .presentation import (
    history_json,
    history_text,
    offering_json,
    offering_text,
    run_line,
    table,
)

ERROR_LINES = 10


class CapabilitiesCommand(Look):
    """`majordomo capabilities`."""

    name = "capabilities"
    doc_purpose = "show what the farm offers, and what no worker can do"
    doc_usage = ""
    cmd_options = (JSON, FARM, DIR)

    def look(self, options: dict[str, Any], names: list[str]) -> int:
        """Print what is offered."""
        refuse(names)
        from .this_machine import offering_here, offering_of

        with self.farm(options) as viewer:
            if viewer is None:
                offering = offering_here(self.home, folder_of(options), self.environ)
            else:
                offering = offering_of(viewer.name, viewer.pools(), self.home, folder_of(options))
        if options["json"]:
            put_json(offering_json(offering))
        else:
            put(offering_text(offering))
        return 0


class HistoryCommand(Look):
    """`majordomo history`."""

    name = "history"
    doc_purpose = "show a past run, one line per task"
    doc_usage = ""
    cmd_options = (JSON, RUN, DIR, option("list", "l", "list the newest runs of this folder", bool, False))

    def look(self, options: dict[str, Any], names: list[str]) -> int:
        """Print one run, or the list of runs."""
        refuse(names)
        if options["list"]:
            self._list(options)
            return 0
        run = self.chosen_run(options)
        rows, state = self.history().tasks(run.run), run_state(run)
        if options["json"]:
            put_json(history_json(run, rows, state))
        else:
            put(history_text(run, rows, state))
        return 0

    def _list(self, options: Mapping[str, Any]) -> None:
        for run in self.history().recent(folder_of(options)):
            state = run_state(run)
            put_json(history_json(run, (), state)) if options["json"] else put([run_line(run, state)])


class WhyCommand(Look):
    """`majordomo why TASK`."""

    name = "why"
    doc_purpose = "say why a task ran, waits, failed, was slow, or ran where it did"
    doc_usage = "TASK"
    doc_description = "Asks the farm when one is configured, and the history of this folder's runs."
    cmd_options = (JSON, FARM, DIR)

    def look(self, options: dict[str, Any], names: list[str]) -> int:
        """Print the account of one task."""
        if len(names) != 1:
            raise UsageError(
                "why needs one task", hint="majordomo why TASK    # their names: majordomo list --all"
            )
        account = self._account(names[0], options)
        if options["json"]:
            put_json(why_json(account))
        else:
            put(why_text(account))
        return 0

    def _account(self, task: str, options: Mapping[str, Any]) -> Account:
        folder = folder_of(options)
        past = tuple(self.history().latest_of(folder, task))
        live = self._live(task, options, needed=not past)
        known = live is not None and live.state != "unknown"
        if not past and not known:
            self._check_name(task, folder)
        lines: tuple[str, ...] = ()
        if past and past[0][1].outcome is not Outcome.SUCCEEDED and past[0][1].log_path:
            lines = tuple(last_lines(Path(past[0][1].log_path), ERROR_LINES))
        return Account(task, live if known else None, past, lines)

    def _live(self, task: str, options: Mapping[str, Any], *, needed: bool) -> Explanation | None:
        """Ask the farm; without it, what history knows is still worth saying."""
        try:
            with self.farm(options) as viewer:
                # Another folder's run, or another user's, may have a task of this name under way.
                run = self.history().last(folder_of(options))
                return None if viewer is None else viewer.explain_name(task, run.run if run else "")
        except FarmError as error:
            if needed:
                raise
            print(f"majordomo why: from history only: {error}", file=sys.stderr)
            return None

    def _check_name(self, task: str, folder: Path) -> None:
        """Raise for a name that neither the last run nor the dodo file has."""
        run = self.history().last(folder)
        known = [row.task for row in self.history().tasks(run.run)] if run is not None else []
        known = sorted({*known, *self._names_in_dodo(folder)})
        if task not in known:
            hint = "majordomo list --all" if known else "majordomo history --list"
            raise UsageError(f"there is no task {task!r} in {folder}{nearest(task, known)}", hint=hint)

    def _names_in_dodo(self, folder: Path) -> list[str]:
        if self._loader is None or not (folder / "dodo.py").exists():
            return []
        where = {"dodoFile": str(folder / "dodo.py"), "cwdPath": None, "seek_file": False, **self.opt_vals}
        try:
            self._loader.setup(where)
            return [task.name for task in self._loader.load_tasks(cmd=self, pos_args=[])]
        except Exception as error:
            from .commands_doit import user_trace

            raise UsageError(
                f"no run of it is recorded, and the dodo file fails: {user_trace(error)}"
            ) from error


class ConfigCommand(Look):
    """`majordomo config`."""

    name = "config"
    doc_purpose = "show every setting, and where it came from"
    doc_usage = ""
    cmd_options = (JSON, DIR, option("show-origin", "", "say where each value came from", bool, False))

    def look(self, options: dict[str, Any], names: list[str]) -> int:
        """Print the settings that hold in this folder."""
        refuse(names)
        rows = list(self.settings(options).rows())
        if options["json"]:
            put_json({key: {"value": value, "origin": origin} for key, value, origin in rows})
        elif options["show-origin"]:
            put(table([["SETTING", "VALUE", "FROM"], *([k, show(v), origin] for k, v, origin in rows)]))
        else:
            put(f"{key} = {show(value)}" for key, value, _ in rows)
        return 0


COMMANDS = (WhyCommand, HistoryCommand, CapabilitiesCommand, ConfigCommand)
"""For `DOIT_CMDS`."""
