"""`majordomo run`: doit's run command with the asynchronous runner."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from doit.action import PythonAction
from doit.cmd_run import Run as DoitRun
from doit.reporter import ConsoleReporter
from doit.task import Stream

from computefarm.backends.base import Backend
from computefarm.errors import UsageError
from computefarm.home import Home
from computefarm.settings import Settings, load_settings

from .commands_doit import DATABASE, Own, shown
from .dispatch import Control
from .line_parsers import LineParsers
from .options import RunOptions
from .reporting import RunWatcher
from .runner import FarmRunner
from .watching import Watching


def option(name: str, long: str, text: str, kind: type = str, default: Any = "") -> dict[str, Any]:
    """Return an option in doit's form."""
    shape = {"section": "farm", "name": name, "short": "", "long": long, "type": kind}
    return {**shape, "default": default, "help": text}


OPTIONS = (
    option("farm", "farm", "NAME, PATH of an access file, or local [default: the configured farm]"),
    option("capability", "capability", "send all command tasks to workers with this capability"),
    option("wait_workers", "wait-workers", "how long to wait for a worker that offers what is needed: 10m"),
    option("gui", "gui", "show the logs in a window as well (pip install 'computefarm[gui]')", bool, False),
)


class SilentReporter(ConsoleReporter):
    """doit's side of the default display: the watchers show tasks, this only what is no task's."""

    desc = "progress of the farm: a display on a terminal, one line per event elsewhere"

    def _nothing(self, *_: Any) -> None:
        """Leave it to the watchers."""

    get_status = execute_task = add_failure = add_success = skip_uptodate = _nothing
    teardown_task = _nothing

    def skip_ignore(self, task: Any) -> None:
        """Say it as doit does."""
        self.write(f"!! {task.title()}\n")

    def complete_run(self) -> None:
        """Say what went wrong outside of any task."""
        for text in self.runtime_errors:
            sys.stderr.write(f"ERROR: {text}\n")


class Context:
    """What a run is made with; the command line builds it, tests replace parts of it."""

    def backend(
        self, *, home: Home, settings: Settings, run_id: str, project: Path, slots: int | None
    ) -> Backend:
        """Return the backend that the settings name, not started."""
        from computefarm.backends.choice import choose

        return choose(home=home, settings=settings, session=run_id, project=project, slots=slots)

    def watchers(
        self, *, home: Home, project: Path, dodo: str, mode: str, stream: Any,
        title: Callable[[str], str], verbosity: Callable[[str], int], keep: int = 50,
        parser: Callable[[str], str] = lambda name: "", capability: Callable[[str], str] = lambda name: "",
    ) -> Sequence[RunWatcher]:  # fmt: skip
        """Return who wants to know about a run: the recorder first, then the display if there is a `mode`."""
        from .recorder import Recorder

        recorder = Recorder(home.state, project, dodo, keep=keep, parser=parser, capability=capability)
        if not mode:
            return (recorder,)
        from .displays import choose_progress

        display = choose_progress(
            stream, os.environ, mode=mode, title=title, verbosity=verbosity,
            log_path=recorder.log_path, logs=recorder.logs_folder, parser=parser,
        )  # fmt: skip
        return (recorder, display)


class Run(Own, DoitRun):
    """`majordomo run`."""

    name = "run"
    doc_purpose = "run tasks, on the farm where they name a capability"
    doc_usage = "[DODO_FILE] [TASK/TARGET...]"
    cmd_options = (*DoitRun.cmd_options, *OPTIONS)
    writes = True
    asks_farm = True
    context = Context()

    def get_reporters(self) -> dict[str, Any]:
        """Return doit's reporters and ours, which is the default."""
        reporters: dict[str, Any] = super().get_reporters()
        reporters["farm"] = SilentReporter
        if "reporter" in self.cmdparser:
            parameter = self.cmdparser["reporter"]
            parameter.choices = {**parameter.choices, "farm": SilentReporter.desc}
            if parameter.default == "console" and "reporter" not in self.config_vals:
                parameter.default = "farm"
        return reporters

    def settings(self, params: Any) -> Settings:
        """Return the settings of this run, the command line's first."""
        # A loader of the user's own may know no dodo file.
        self._dodo = str(params.get("dodoFile") or "dodo.py")
        self._home = Home.find(os.environ)
        self._gui = bool(params["gui"])
        self._settings = load_settings(
            {
                "farm": params["farm"] or None,
                "default_capability": params["capability"] or None,
                "wait_workers": params["wait_workers"] or None,
            },
            os.environ,
            self._home,
            Path.cwd(),
        )
        return self._settings

    def _sync(self) -> Any:
        return functools.partial(sync_targets, Path.cwd())

    def _digest_cache(self) -> Path | None:
        name = hashlib.sha256(os.fsencode(os.getcwd())).hexdigest()[:16]
        return Home.find(os.environ).cache / "digests" / name

    def _execute(
        self,
        outfile: Any,
        verbosity: int | None = None,
        always: bool = False,
        continue_: bool = False,
        reporter: Any = "farm",
        num_process: int = 0,
        single: bool = False,
        auto_delayed_regex: bool = False,
        force_verbosity: bool = False,
        failure_verbosity: int = 0,
        pdb: bool = False,
    ) -> int:
        """Run the selected tasks and return the exit code."""
        if num_process < 0:
            raise UsageError(f"-n {num_process}: expected a number of slots, 1 or more")
        PythonAction.pm_pdb = pdb
        self.control = self._control(single, auto_delayed_regex)
        with contextlib.ExitStack() as stack:
            if isinstance(outfile, str):
                outfile = stack.enter_context(open(outfile, "w", encoding="utf-8"))
            self.outstream = outfile
            reporter_cls = self.reporters[reporter] if isinstance(reporter, str) else reporter
            display = reporter_cls is SilentReporter
            runner = self._runner(
                reporter_cls, outfile, Stream(verbosity, force_verbosity), display,
                continue_=continue_, always=always, slots=num_process or None, dodo=self._dodo, pdb=bool(pdb),
                failure_verbosity=failure_verbosity,
            )  # fmt: skip
            try:
                code = runner.run_all(self.control.task_dispatcher())
            finally:
                self.digests.save()
        for error in runner.fatal:
            shown(error)
        return code

    def _control(self, single: bool, auto_delayed_regex: bool) -> Control:
        control = Control(self.task_list, auto_delayed_regex=auto_delayed_regex)
        control.process(self.sel_tasks)
        if single:
            for name in control.selected_tasks:
                task = control.tasks[name]
                for each in [control.tasks[sub] for sub in task.task_dep] if task.has_subtask else [task]:
                    each.task_dep = []
        return control

    def _runner(
        self, reporter_cls: Any, outstream: Any, stream: Stream, display: bool, *,
        continue_: bool, always: bool, slots: int | None, dodo: str, pdb: bool, failure_verbosity: int,
    ) -> FarmRunner:  # fmt: skip
        root = Path.cwd()
        identity = run_id()
        home, settings = self._home, self._settings
        parser = LineParsers(self._capability_of, home, root, self.farm.logs)
        watchers = self.context.watchers(
            home=home, project=root, dodo=dodo, mode=settings.progress if display else "", stream=outstream,
            title=self._title, verbosity=self._shown_at(stream), keep=settings.log_runs,
            parser=parser, capability=self._capability_of,
        )  # fmt: skip
        if self._gui:
            watchers = (*watchers, *self._window(parser))
        # doit's reporters may swap sys.stdout when they are made (json), so ours come first.
        reporter = (
            reporter_cls(outstream, {"failure_verbosity": failure_verbosity})
            if isinstance(reporter_cls, type)
            else reporter_cls
        )
        explicit = settings.origins.get("wait_workers_s")
        return FarmRunner(
            self.dep_manager, reporter, continue_, always, stream,
            options=RunOptions(
                run_id=identity,
                root=str(root),
                wait_workers=settings.wait_workers_s if explicit == "--wait-workers" else None,
                vanished_s=settings.wait_workers_s,
                echo=not display,
                in_place=pdb,
                state=home.state,
            ),
            farm=self.farm,
            open_backend=lambda: self.context.backend(
                home=home, settings=settings, run_id=identity, project=root, slots=slots
            ),
            watching=Watching(watchers),
        )  # fmt: skip

    def _window(self, parser: Callable[[str], str]) -> Sequence[RunWatcher]:
        """Return the log window's watcher, or none after saying why."""
        from .log_window import LogWindow, feed_or_say

        def say(text: str) -> None:
            sys.stderr.write(f"majordomo: {text}\n")

        feed = feed_or_say(os.environ, self._home.state / "window", say)
        return () if feed is None else (LogWindow(feed, say, parser=parser, capability=self._capability_of),)

    def _capability_of(self, name: str) -> str:
        task = self.control.tasks.get(name)
        needs = self.farm.needs(task) if task is not None else None
        return needs.capability if needs is not None else ""

    def _title(self, name: str) -> str:
        task = self.control.tasks.get(name)
        return str(task.title()) if task is not None and task.custom_title else name

    def _shown_at(self, stream: Stream) -> Callable[[str], int]:
        """Return how much of a task's output a display prints; a local task has printed its own already."""

        def verbosity(name: str) -> int:
            task = self.control.tasks.get(name)
            if task is None or self.farm.needs(task) is None or task.io.capture is not True:
                return 0
            return int(stream.effective_verbosity(task.verbosity))

        return verbosity


def run_id() -> str:
    """Return a new run's name: sorts by time, unique by chance."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def sync_targets(project: Path, paths: Sequence[str]) -> None:
    """Write targets through to the disk before their success is remembered."""
    from computefarm.store.deliver import Delivery

    relative = [os.path.normpath(path) for path in paths]
    # Local tasks may write anywhere; what is not a file of the project is not ours to sync.
    inside = [path for path in relative if not path.startswith(("/", "..")) and (project / path).is_file()]
    Delivery(project).sync(inside)


__all__ = ["DATABASE", "Context", "Run", "SilentReporter", "run_id"]
