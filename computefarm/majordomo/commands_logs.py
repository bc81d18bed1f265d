"""`majordomo logs`: what tasks print, while they do and after."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from computefarm.errors import FarmError, UsageError
from computefarm.journal.history import RunRow, TaskRow
from computefarm.logs.farm_log import FILE
from computefarm.logs.kept_output import kept_path, read_page
from computefarm.logs.parsers import LEVELS
from computefarm.logs.reading import Wish
from computefarm.logs.records import Record, line_of
from computefarm.logs.tasklog import run_folder
from computefarm.messages import ReadOutput

from .log_lines import from_farm, from_file
from .log_whole import EXPIRED, OUTPUT, is_whole, last_attempt, pages_of, write_pages
from .look import DIR, FARM, JSON, Look, nearest, option, put_json, run_state
from .presentation import moment

EVERYTHING = "all"
INTERRUPTED = 130


class LogsCommand(Look):
    """`majordomo logs`."""

    name = "logs"
    doc_purpose = "print what tasks print, while they run and after"
    doc_usage = "[TASK ...]"
    doc_description = (
        "Without --run it is the last run of this folder; where none is recorded, the last one that the farm "
        "knows. A run of another machine is read through the TaskManager, with --run ID or --run last there. "
        "--run all is everything that the farm's log has, what its daemons say included.\n\n"
        "-f ends when the run ends; with --run all it begins with what comes next, and goes on until Ctrl-C "
        "(exit code 130)."
    )
    cmd_options = (
        JSON,
        FARM,
        DIR,
        option("run", "", "a run's name, a beginning of it, `last` or `all`"),
        option("follow", "f", "go on with what comes, until the run ends", bool, False),
        option("host", "", "only what was printed on this machine"),
        option("level", "", f"only this level and worse: {', '.join(LEVELS)}"),
        option("full", "", "all that a task printed, from its worker's own file", bool, False),
        option("gui", "", "in a window (cutelog: pip install 'computefarm[gui]')", bool, False),
    )

    def look(self, options: dict[str, Any], names: list[str]) -> int:
        """Print lines."""
        self._check(options, names)
        run = self._run_here(options)
        try:
            if options["full"]:
                self._full(options, run, names[0])
            elif run is not None and _as_it_came(options):
                self._stored(run, names)
            else:
                self._lines(options, names, run)
        except KeyboardInterrupt:
            return INTERRUPTED
        return 0

    def _check(self, options: Mapping[str, Any], names: Sequence[str]) -> None:
        level = options["level"]
        if level and level not in LEVELS:
            raise UsageError(
                f"--level {level}: one of {', '.join(LEVELS)} was expected{nearest(level, LEVELS)}"
            )
        if options["full"] and (len(names) != 1 or options["follow"] or options["json"] or options["gui"]):
            raise UsageError("--full prints the output of one task", hint="majordomo logs TASK --full")

    def _run_here(self, options: Mapping[str, Any]) -> RunRow | None:
        """Return the run of this machine that is meant; None when it is the farm's log that is asked."""
        wish = options["run"]
        if wish == EVERYTHING:
            return None
        try:
            return self.chosen_run({**options, "run": wish or "last"})
        except UsageError:
            if not self.address(options):
                raise
            return None

    def _file(self, run: RunRow) -> Path:
        return run_folder(self.home.state, run.run).parent / FILE

    # --- as records -----------------------------------------------------------------------------------

    def _lines(self, options: Mapping[str, Any], names: list[str], run: RunRow | None) -> None:
        if run is not None and run_state(run) != "running":
            self._check_names(run, names)
        task = names[0] if len(names) == 1 else ""
        with contextlib.ExitStack() as stack:
            records = self._records(options, run, task, stack)
            if len(names) > 1:
                records = (record for record in records if record["task"] in names)
            if options["gui"] and self._shown(records):
                return
            printer = _json if options["json"] else _Printer(alone=bool(task))
            record = None
            for record in records:
                printer(record)
            if record is None and not options["json"]:
                _say("there are no such lines")

    def _records(
        self, options: Mapping[str, Any], run: RunRow | None, task: str, stack: contextlib.ExitStack
    ) -> Iterator[Record]:
        wish = Wish("", task, options["host"], options["level"])
        if run is not None:
            name, follow = run.run, options["follow"]

            def going() -> bool:
                row = self.history().find(name) if follow else None
                return row is not None and run_state(row) == "running"

            return from_file(self._file(run), wish, going=going, say=_say)
        viewer = stack.enter_context(self.farm(options))
        if viewer is None:
            raise UsageError("no farm is configured, and --run all is its log", hint="majordomo logs")
        wanted = options["run"] or "last"
        wish = Wish("" if wanted == EVERYTHING else wanted, *wish_fields(wish))
        return from_farm(viewer, wish, follow=options["follow"], say=_say)  # type: ignore[arg-type]

    def _shown(self, records: Iterable[Record]) -> bool:
        """Show records in the log window; return False after saying why there is none."""
        from .log_window import STAYS, feed_or_say

        feed = feed_or_say(self.environ, self.home.state / "window", _say)
        if feed is None:
            return False
        feed.put_all(records)
        closed = feed.closed
        there = feed.close()
        if feed.trouble or there or closed:
            _say(feed.trouble or (STAYS if there else "the log window was closed"))
        return not feed.trouble

    # --- as it came -----------------------------------------------------------------------------------

    def _check_names(self, run: RunRow, names: Sequence[str]) -> list[TaskRow]:
        rows = self.history().tasks(run.run)
        known = [row.task for row in rows]
        for name in names:
            if name not in known:
                raise UsageError(f"run {run.run} had no task {name!r}{nearest(name, known)}")
        return list(rows)

    def _stored(self, run: RunRow, names: Sequence[str]) -> None:
        rows = self._check_names(run, names)
        chosen = [row for row in rows if row.task in names or (not names and row.log_path)]
        for row in chosen:
            self._print(row, heading=len(chosen) > 1)
        if not chosen:
            print(f"no task of run {run.run} ({moment(run.started)}) has printed anything", file=sys.stderr)

    def _print(self, row: TaskRow, *, heading: bool) -> None:
        if heading:
            print(f"==> {row.task} <==")
        if not row.log_path:
            print(f"{row.task} printed nothing", file=sys.stderr)
            return
        try:
            with open(row.log_path, encoding="utf-8", errors="replace") as file:
                for line in file:
                    print(line.removesuffix("\n"))
        except OSError as error:
            print(f"{row.task}: its log is gone: {row.log_path}: {error.strerror}", file=sys.stderr)

    def _full(self, options: Mapping[str, Any], run: RunRow | None, task: str) -> None:
        """Print all that a task printed: from here, or from its worker through the manager."""
        if run is None:
            self._full_of_farm(options, task)
            return
        row = next(row for row in self._check_names(run, [task]) if row.task == task)
        path = kept_path(self.home.state / OUTPUT, run.run, task, row.attempt or 1)
        if path.exists():
            write_pages(lambda cursor: read_page(path, cursor), _say)
            return
        if not row.log_path or is_whole(Path(row.log_path)):
            self._print(row, heading=False)  # it was little, and is there whole
            return
        if run.farm == "local":
            raise FarmError(
                f"{EXPIRED}: {path} is gone", hint=f"majordomo logs {task}    # what was kept of it"
            )
        with self.farm(options) as viewer:
            if viewer is None:
                hint = f"majordomo logs {task} --full --farm {run.farm}"
                raise UsageError(
                    f"what {task} printed in full lies on {row.host}; no farm is configured", hint=hint
                )
            asked = ReadOutput(0, run.run, task, row.attempt or 1, row.host)
            write_pages(pages_of(viewer, asked), _say)  # type: ignore[arg-type]

    def _full_of_farm(self, options: Mapping[str, Any], task: str) -> None:
        with self.farm(options) as viewer:
            if viewer is None:
                raise UsageError("no farm is configured here", hint="majordomo join LINE")
            wish = Wish(options["run"] if options["run"] != EVERYTHING else "", task)
            if not wish.run:
                wish = Wish("last", task)
            found = last_attempt(viewer, wish)  # type: ignore[arg-type]
            if found is None:
                raise UsageError(
                    f"run {wish.run} has no lines of a task {task!r}", hint="majordomo logs --run all"
                )
            if found.cut:
                write_pages(pages_of(viewer, found.asked), _say)  # type: ignore[arg-type]
                return
            for record in from_farm(viewer, Wish(found.asked.run, task), follow=False, say=_say):  # type: ignore[arg-type]
                if record["attempt"] == found.asked.attempt:
                    print(record["msg"])


def _as_it_came(options: Mapping[str, Any]) -> bool:
    """Return whether nothing is asked for that needs lines to be understood."""
    return not any(options[name] for name in ("json", "follow", "host", "level", "gui"))


def wish_fields(wish: Wish) -> tuple[str, str, str]:
    """Return all but the run."""
    return wish.task, wish.host, wish.level


def _say(text: str) -> None:
    sys.stderr.write(f"majordomo logs: {text}\n")


def _json(record: Record) -> None:
    put_json(record)


class _Printer:
    """Prints records for people: the task before each line, unless there is only one."""

    def __init__(self, *, alone: bool) -> None:
        self._alone = alone
        self._width = 0

    def __call__(self, record: Record) -> None:
        """Print one."""
        text = line_of(record)
        if self._alone:
            print(text, flush=True)
            return
        who = record["task"] or ".".join(str(record["name"]).split(".")[2:])
        self._width = min(24, max(self._width, len(who)))
        print(f"{who:<{self._width}}  {text}", flush=True)
