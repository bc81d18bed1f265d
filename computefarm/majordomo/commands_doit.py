"""doit's own commands over our database, and what all of ours have in common."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import pprint
import shutil
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from doit.action import CmdAction
from doit.cmd_base import (
    Command,
    DodoTaskLoader,
    DoitCmdBase,
    NamespaceTaskLoader,
    opt_backend,
    opt_check_file_uptodate,
    opt_codec,
)
from doit.cmd_clean import Clean as DoitClean
from doit.cmd_completion import TabCompletion as DoitTabCompletion
from doit.cmd_forget import Forget as DoitForget
from doit.cmd_help import Help as DoitHelp
from doit.cmd_ignore import Ignore as DoitIgnore
from doit.cmd_info import Info as DoitInfo
from doit.cmd_list import List as DoitList
from doit.cmd_resetdep import ResetDep as DoitResetDep
from doit.cmd_strace import Strace as DoitStrace
from doit.cmdparse import CmdParseError
from doit.dependency import JSONCodec
from doit.doit_cmd import DoitMain
from doit.exceptions import InvalidCommand, InvalidDodoFile, InvalidTask
from doit.globals import Globals

from computefarm.errors import FarmError, UsageError

from .argv import option_error
from .checker import ContentChecker, Digests, Files
from .database import Database
from .dependency import Dependencies
from .farm_tasks import FarmTasks
from .loading import quick
from .lock import RunLock
from .reasons import reason_sentences

DATABASE = ".majordomo.db"
PROBLEM = "problem.yaml"

BROKEN_PIPE = 141
"""Exit code of a command whose reader has gone, as a shell gives it."""

opt_database = {
    "section": "DB backend",
    "name": "dep_file",
    "short": "",
    "long": "db-file",
    "type": str,
    "default": DATABASE,
    "help": "file used to save successful runs [default: %(default)s]",
}

USER_ERRORS = (InvalidDodoFile, InvalidCommand, InvalidTask)
"""What doit itself reports in one line."""


def shown(error: FarmError) -> int:
    """Print an error as one message; return its exit code."""
    sys.stdout.flush()
    sys.stderr.write(f"ERROR: {error}\n")
    return error.exit_code


class Own(DoitCmdBase):
    """Mixed into doit's commands: our database, our checks, one message for every error."""

    base_options = (opt_database, opt_backend, opt_codec, opt_check_file_uptodate)
    writes = False
    """Whether the command changes the database, and so must not run beside another that does."""
    asks_farm = False
    """Whether up-to-date checks of this command know farm tasks."""

    def parse_execute(self, in_args: list[str]) -> Any:
        """Parse and execute; an error becomes a message and its exit code."""
        try:
            return super().parse_execute(in_args)
        except FarmError as error:
            return shown(error)
        except CmdParseError as error:
            return shown(option_error(error, self.name))
        except USER_ERRORS:
            raise
        except BrokenPipeError:
            # The reader has gone, as in `majordomo list | head`; nothing is left to say, nor to flush.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return BROKEN_PIPE
        except Exception as error:
            if self.pdb:
                raise
            sys.stdout.flush()
            sys.stderr.write(f"ERROR: {user_trace(error)}\n")
            return 3

    def execute(self, params: Any, args: list[str]) -> Any:
        """Load the dodo file, open the database, and call `_execute`, as doit's own does."""
        # Thousands of tasks are made and none is garbage: collecting meanwhile only costs time.
        gc.disable()
        try:
            self._choose_file(params, args)
            self._choose_loader(str(params.get("dodoFile")))
            self.loader.setup(params)
            if isinstance(self.loader, NamespaceTaskLoader):
                self.loader.namespace = quick(self.loader.namespace)
            params.update_defaults(self.loader.load_doit_config())
            self._prepare(params, args)
            with contextlib.ExitStack() as stack:
                name = self._database_name(params)
                if self.writes:
                    stack.enter_context(RunLock(f"{name}.lock"))
                self._open_database(name, params)
                # A plain dodo file runs unchanged, so only doit's own commands are taken as task names.
                self.loader.cmd_names = sorted(command.get_name() for command in DoitMain.DOIT_CMDS)
                self.task_list = self.loader.load_tasks(cmd=self, pos_args=args)
                gc.freeze()
                return self._call(params, args)
        finally:
            gc.enable()

    def _choose_file(self, params: Any, args: list[str]) -> None:
        """Take problem.yaml where there is no dodo.py and no other file was named; one must be there."""
        named = "dodoFile" in params._non_default_keys or params.get("dodoFile") != "dodo.py"
        if not (named or params.get("seek_file") or os.path.exists("dodo.py")) and os.path.isfile(PROBLEM):
            params["dodoFile"] = PROBLEM
        file = str(params.get("dodoFile"))
        if type(self.loader) is DodoTaskLoader and not params.get("seek_file") and not os.path.exists(file):
            meant = file if named or not args or not args[0].endswith(".py") else args[0]
            either = "" if named or meant != file else f", nor {PROBLEM}"
            raise UsageError(
                f"Could not find dodo file '{os.path.abspath(meant)}'{either}",
                hint="ls *.py *.yaml    # which is it? Or begin: majordomo init DIR",
            )

    def _choose_loader(self, file: str) -> None:
        """Take tasks from a problem description if that is what was named."""
        if file.endswith((".yaml", ".yml")) and type(self.loader) is DodoTaskLoader:
            from .problem_tasks import ProblemLoader

            self.loader: Any = ProblemLoader()

    def _prepare(self, params: Any, args: list[str]) -> None:
        self.check_minversion(params.get("minversion"))
        self.sel_default_tasks = len(args) == 0
        self.sel_tasks = args or params.get("default_tasks")
        CmdAction.STRING_FORMAT = params.get("action_string_formatting", "old")
        if CmdAction.STRING_FORMAT not in ("old", "both", "new"):
            raise InvalidDodoFile("`action_string_formatting` must be one of `old`, `both`, `new`")

    def _database_name(self, params: Any) -> str:
        """Return our database's file; `dep_file` in a configuration file means doit's own."""
        given = "dep_file" in params._non_default_keys
        return str(params["dep_file"]) if given else DATABASE

    def _open_database(self, name: str, params: Any) -> None:
        codec_cls = self.get_codec_cls(params["codec_cls"])
        database = Database(name, codec_cls(), sync=self._sync())
        self.digests = Digests(self._digest_cache())
        files = Files(database, self.digests)
        kind = params["check_file_uptodate"]
        checker = ContentChecker(files) if kind == "md5" else self.get_checker_cls(kind)()
        self.dep_manager = Dependencies(database, checker, files)
        Globals.dep_manager = self.dep_manager
        if self.asks_farm:
            self.farm = FarmTasks(os.getcwd(), self._default_capability(params))
            self.dep_manager.farm = self.farm

    def _sync(self) -> Any:
        return None

    def _digest_cache(self) -> Path | None:
        """Return where digests are kept between runs; only in memory where few files are read."""
        return None

    def _default_capability(self, params: Mapping[str, Any]) -> str:
        return str(self.settings(params).default_capability)

    def settings(self, params: Mapping[str, Any]) -> Any:
        """Return the settings that hold in the dodo file's folder."""
        from computefarm.home import Home
        from computefarm.settings import load_settings

        return load_settings({}, os.environ, Home.find(os.environ), Path.cwd())

    def _call(self, params: Any, args: list[str]) -> Any:
        import inspect

        params["pos_args"] = args
        params["continue_"] = params.get("continue")
        params["force_verbosity"] = "verbosity" in params._non_default_keys
        names = inspect.signature(self._execute).parameters
        return self._execute(**{name: params[name] for name in names})


def user_trace(error: BaseException) -> str:
    """Say what went wrong in the user's own code, and where, without frames of doit's or ours."""
    ours = tuple(
        os.path.dirname(os.path.abspath(file)) for file in (__file__, gc_of_doit(), importlib.__file__)
    )
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if not f.filename.startswith((*ours, "<frozen"))]
    said = traceback.format_exception_only(error)
    if not own and not isinstance(error, SyntaxError):
        # Nothing of the user's took part, so the bug is ours or doit's: everything helps.
        return "".join(traceback.format_exception(error)).rstrip()
    where = "".join(traceback.format_list(own))
    return f"{''.join(said).strip()}\n{where}".rstrip()


def gc_of_doit() -> str:
    """Return where doit's code is."""
    import doit

    return str(doit.__file__)


class List(Own, DoitList):
    """`majordomo list`."""

    def _call(self, params: Any, args: list[str]) -> Any:
        if params.get("status"):
            self.farm = FarmTasks(os.getcwd(), self._default_capability(params))
            self.dep_manager.farm = self.farm
        return super()._call(params, args)


class Info(Own, DoitInfo):
    """`majordomo info`."""

    asks_farm = True

    def _execute(self, pos_args: list[str], hide_status: bool = False) -> Any:
        if len(pos_args) == 1 and pos_args[0] not in {task.name for task in self.task_list}:
            raise UsageError(f"there is no task {pos_args[0]!r}", hint="majordomo list --all")
        return super()._execute(pos_args, hide_status)

    @staticmethod
    def get_reasons(reasons: Mapping[str, Any]) -> str:
        """Return doit's own words, and ours for what doit does not know."""
        own = ("capability_changed", "command_changed", "toolchain_changed", "changed_inputs")
        ours = reason_sentences({key: reasons[key] for key in own if reasons.get(key)})
        text = str(DoitInfo.get_reasons(reasons))
        return "\n".join(filter(None, [text, *(f" * {line}" for line in ours)]))


class Clean(Own, DoitClean):
    """`majordomo clean`."""

    writes = True


class Forget(Own, DoitForget):
    """`majordomo forget`."""

    writes = True

    def _execute(self, forget_sub: bool, forget_disable_default: bool, forget_all: bool) -> Any:
        # Where nothing is named and no default is set, doit has no tasks to walk through: all are meant.
        self.sel_tasks = self.sel_tasks or [task.name for task in self.task_list if not task.subtask_of]
        return super()._execute(forget_sub, forget_disable_default, forget_all)


class Ignore(Own, DoitIgnore):
    """`majordomo ignore`."""

    writes = True


class ResetDep(Own, DoitResetDep):
    """`majordomo reset-dep`."""

    writes = True
    asks_farm = True


class Strace(Own, DoitStrace):
    """`majordomo strace`: runs its one task here, whatever it needs."""

    writes = True

    def execute(self, params: Any, args: list[str]) -> Any:
        """Run the task under strace, and print which files it read and wrote."""
        if len(args) != 1:
            raise UsageError("strace needs one task", hint="majordomo list --all")
        if shutil.which("strace") is None:
            raise UsageError("there is no program `strace` here", hint="sudo apt install strace")
        trace = Path(self.TRACE_OUT)
        trace.unlink(missing_ok=True)
        result = super().execute(params, args)
        if not params["keep_trace"]:
            trace.unlink(missing_ok=True)
        return result


class Help(Own, DoitHelp):
    """`majordomo help`."""

    def execute(self, params: Any, args: list[str]) -> Any:
        """Print the help of a command, of a task of the dodo file, or all commands."""
        if len(args) != 1 or args[0] == "task" or args[0] in self.cmds:
            return DoitHelp.execute(self, params, args)
        if args[0] in ("problem", "problem-schema"):
            return self._problem(args[0])
        with contextlib.suppress(InvalidDodoFile):
            if super().execute(params, args):
                return 0
        raise UsageError(f"there is no command and no task {args[0]!r}", hint="majordomo help")

    @staticmethod
    def _problem(topic: str) -> int:
        import json

        from computefarm.problem import PROBLEM as SCHEMA

        from .problem_help import lines

        print(json.dumps(SCHEMA, indent=2) if topic == "problem-schema" else "\n".join(lines()))
        return 0

    def print_usage(self, cmds: Mapping[str, Any]) -> None:
        """Print all commands with a line of each."""
        print("majordomo -- runs the tasks of a dodo file, across every computer you own\n")
        for name in sorted(cmds):
            print(f"  majordomo {name:13}  {cmds[name].doc_purpose}")
        print("\n  majordomo help COMMAND   its options (majordomo COMMAND --help is the same)")
        print("  majordomo help TASK      a task's own options")
        print("  majordomo help task      what a task's dictionary may hold")
        print("  majordomo help problem   what a problem description may hold")
        print("\nWithout a command it runs: `majordomo TASK` is `majordomo run TASK`.")


class TabCompletion(Own, DoitTabCompletion):
    """`majordomo tabcompletion`."""

    def execute(self, params: Any, args: list[str]) -> Any:
        """Print a script for the shell; the dodo file is read only when asked to."""
        return DoitTabCompletion.execute(self, params, args)


class DumpDB(Command):
    """`majordomo dumpdb`."""

    name = "dumpdb"
    doc_purpose = "dump the success database"
    doc_usage = ""
    cmd_options = (opt_database,)

    def execute(self, opt_values: Mapping[str, Any], pos_args: list[str]) -> int:
        """Print every task with what is remembered of it."""
        name = opt_values["dep_file"] if "dep_file" in opt_values._non_default_keys else DATABASE  # type: ignore[attr-defined]
        if not os.path.exists(name):
            return shown(UsageError(f"there is no {name} here", hint="majordomo run    # makes it"))
        database = Database(name, JSONCodec())
        try:
            tasks = sorted(database.names())
        except FarmError as error:
            return shown(error)
        for task in tasks:
            entry = database.entry(task)
            assert entry is not None
            row: dict[str, Any] = dict(database.data(entry))
            row["checker:"] = entry.checker
            for number in (*entry.deps, *entry.inputs):
                state = database.states[number]
                row[state.path] = (state.mtime_ns / 1e9, state.size, state.digest.hex())
            if entry.capability:
                row["farm:"] = {
                    "capability": entry.capability,
                    "version": entry.version,
                    "fingerprint": entry.fingerprint,
                    "command": entry.command.split("\0")[0],
                }
            print(f"{task} -> {pprint.pformat(row, indent=4, width=100)}")
        return 0
