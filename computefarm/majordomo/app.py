"""MajorDomo: doit's command line, with our commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Sequence
from typing import Any

from doit.cmd_base import get_loader
from doit.cmdparse import CmdOption
from doit.doit_cmd import DoitMain
from doit.plugin import PluginDict, PluginEntry

from computefarm import __version__
from computefarm.errors import FarmError, UsageError
from computefarm.spelling import QUOTED, did_you_mean

from .argv import asked, rewrite
from .commands_doit import (
    Clean,
    DumpDB,
    Forget,
    Help,
    Ignore,
    Info,
    List,
    ResetDep,
    Strace,
    TabCompletion,
    shown,
)

LATER = {
    "run": "computefarm.majordomo.command_run:Run",
    "init": "computefarm.majordomo.commands_start:InitCommand",
    "join": "computefarm.majordomo.commands_start:JoinCommand",
    "host": "computefarm.majordomo.commands_host:HostCommand",
    "status": "computefarm.majordomo.commands_status:StatusCommand",
    "why": "computefarm.majordomo.commands:WhyCommand",
    "history": "computefarm.majordomo.commands:HistoryCommand",
    "logs": "computefarm.majordomo.commands_logs:LogsCommand",
    "capabilities": "computefarm.majordomo.commands:CapabilitiesCommand",
    "config": "computefarm.majordomo.commands:ConfigCommand",
    "cancel": "computefarm.majordomo.commands_cancel:CancelCommand",
    "graph": "computefarm.majordomo.commands_graph:Graph",
    "export": "computefarm.majordomo.commands_graph:Export",
    "submit": "computefarm.majordomo.commands_submit:SubmitCommand",
}
"""Imported when they are called: `majordomo list` needs none of them."""


class MajorDomo(DoitMain):
    """The application."""

    BIN_NAME = "majordomo"
    DOIT_CMDS = (List, Info, Clean, Forget, Ignore, DumpDB, Strace, TabCompletion, ResetDep, Help)

    def __init__(self, *arguments: Any, later: dict[str, str] | None = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._later = {**LATER, **(later or {})}

    def get_cmds(self) -> Any:
        """Return all commands; those of `LATER` without importing them."""
        commands = PluginDict()
        for command in self.DOIT_CMDS:
            commands[command.get_name()] = command
        for name, place in self._later.items():
            commands[name] = PluginEntry("COMMAND", name, place)
        commands.add_plugins(self.config, "COMMAND")
        return commands

    @staticmethod
    def print_version() -> None:
        """Print our version and doit's."""
        from doit.version import VERSION

        print(f"majordomo {__version__} (doit {'.'.join(map(str, VERSION))})")

    def run(self, all_args: Sequence[str]) -> int:
        """Run a command line and return its exit code."""
        arguments = list(all_args) if _verbatim(all_args) else [word for word in all_args if word]
        try:
            commands = self.get_cmds()
            if not {"dodoFile", "seek_file", "loader"} & self.config.get("GLOBAL", {}).keys():
                _check_command(arguments, commands)
            answer = asked(arguments, commands)
            arguments = answer or rewrite(arguments, commands, lambda name: self._options(commands, name))
            code = super().run(arguments)
        except FarmError as error:
            return shown(error)
        except KeyboardInterrupt:
            sys.stderr.write("interrupted\n")
            return 130
        return int(code or 0)

    def process_args(self, cmd_args: Sequence[str]) -> list[str]:
        """Take doit's `NAME=VALUE` variables out of a command line, where they can be meant."""
        return list(cmd_args) if _verbatim(cmd_args) else list(super().process_args(cmd_args))

    def _options(self, commands: Any, name: str) -> list[CmdOption]:
        """Return a command's options, the loader's and doit's among them."""
        command = commands.get_plugin(name)
        loader = get_loader(self.config, self.task_loader, commands)
        texts = (*getattr(command, "base_options", ()), *loader.cmd_options, *command.cmd_options)
        return [CmdOption(text) for text in texts]


def _check_command(arguments: Sequence[str], commands: Collection[str]) -> None:
    """Refuse a first word that is no command where nothing could have a task of that name."""
    first = arguments[0] if arguments else "-"
    if not first[:1].isalpha() or first in commands or "=" in first or "." in first:
        return
    if not any(os.path.exists(name) for name in ("dodo.py", "problem.yaml")):
        raise UsageError(
            f"{first!r} is no command, and there is no dodo.py here with such a task"
            f"{did_you_mean(first, commands, QUOTED)}",
            hint="majordomo help    # all commands",
        )


def _verbatim(arguments: Sequence[str]) -> bool:
    """Say whether a command line holds somebody else's words, of which none may be touched."""
    return bool(arguments) and arguments[0] == "submit"
