from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from computefarm.majordomo.displays import choose_progress
from computefarm.majordomo.live import LiveProgress
from computefarm.majordomo.progress import KEPT, Facts, PlainProgress
from computefarm.majordomo.reporting import RunWatcher, TaskRecord
from computefarm.messages import Attempt, Need, Obstacle, Outcome, Piece


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class ClosedPipe(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def piece(text: str, stream: int = 1) -> Piece:
    return Piece(stream=stream, created_at=0.0, text=text)


def lines_of(tell: Callable[[PlainProgress], None], verbosity: int = 1, exit_code: int = 0) -> list[str]:
    stream = io.StringIO()
    progress = PlainProgress(stream, facts=Facts(verbosity=lambda name: verbosity), clock=lambda: 0.0)
    progress.run_started("r1", 3, [], "local")
    tell(progress)
    progress.run_ended(exit_code)
    return stream.getvalue().splitlines()


def test_each_event_is_one_line_in_doit_s_marks() -> None:
    def tell(progress: PlainProgress) -> None:
        progress.task_queued("a")
        progress.task_placed("a", "w1", "h1", 1)
        progress.task_ended(TaskRecord("a", Outcome.SUCCEEDED))
        progress.task_ended(TaskRecord("b", Outcome.UP_TO_DATE))
        progress.task_ended(TaskRecord("c", Outcome.SUCCEEDED, cached=True))

    assert lines_of(tell) == [
        ".  a",
        "-- b",
        "=  c",
        "3 tasks: 1 run, 1 from cache, 1 up to date, 0 failed · wall 0.00 s",
    ]


@pytest.mark.parametrize(("verbosity", "shown"), [(0, []), (1, ["warning"]), (2, ["out", "warning", "more"])])
def test_output_is_shown_as_doit_s_verbosity_says(verbosity: int, shown: list[str]) -> None:
    def tell(progress: PlainProgress) -> None:
        progress.task_placed("a", "w1", "h1", 1)
        progress.task_printed("a", [piece("out\n"), piece("warning\n", 2)])
        progress.task_printed("a", [piece("more\n")])
        progress.task_ended(TaskRecord("a", Outcome.SUCCEEDED))

    assert lines_of(tell, verbosity)[:-1] == [".  a", *shown]


def test_output_of_tasks_that_run_together_is_not_mixed() -> None:
    def tell(progress: PlainProgress) -> None:
        for name in "ab":
            progress.task_placed(name, "w1", "h1", 1)
        for text in ("1\n", "2\n"):
            for name in "ab":
                progress.task_printed(name, [piece(name + text)])
        for name in "ab":
            progress.task_ended(TaskRecord(name, Outcome.SUCCEEDED))

    assert lines_of(tell, verbosity=2)[:-1] == [".  a", ".  b", ">> a", "a1", "a2", ">> b", "b1", "b2"]


def test_output_that_came_only_with_the_result_is_shown_once() -> None:
    def tell(progress: PlainProgress) -> None:
        progress.task_ended(TaskRecord("a", Outcome.SUCCEEDED, "gcc", cached=True, log=(piece("hi\n"),)))
        progress.task_placed("b", "w1", "h1", 1)
        progress.task_printed("b", [piece("live\n")])
        progress.task_ended(TaskRecord("b", Outcome.SUCCEEDED, "gcc", log=(piece("live\n"),)))

    assert lines_of(tell, verbosity=2)[:-1] == ["=  a", "hi", ".  b", "live"]


def test_a_local_task_has_printed_by_itself() -> None:
    def tell(progress: PlainProgress) -> None:
        progress.task_placed("a", "", "", 1)
        progress.task_ended(TaskRecord("a", Outcome.SUCCEEDED, log=(piece("hi\n"),)))
        progress.task_placed("b", "", "", 1)
        progress.task_ended(TaskRecord("b", Outcome.FAILED, reason="broken", log=(piece("boom\n"),)))

    assert lines_of(tell, verbosity=2)[:4] == [".  a", ".  b", "!! FAILED b: broken", "   | boom"]


def test_private_tasks_are_not_marked_and_titles_are_used() -> None:
    stream = io.StringIO()
    progress = PlainProgress(stream, facts=Facts(title=lambda name: f"[{name}]"))
    progress.run_started("r1", 3, [], "local")
    progress.task_placed("_hidden", "w1", "h1", 1)
    progress.task_placed("a", "w1", "h1", 1)
    progress.task_ended(TaskRecord("_old", Outcome.UP_TO_DATE))
    progress.task_ended(TaskRecord("b", Outcome.UP_TO_DATE))
    progress.run_ended(0)

    assert stream.getvalue().splitlines()[:-1] == [".  [a]", "-- [b]"]


def test_a_failure_shows_its_last_lines_whatever_the_verbosity() -> None:
    def tell(progress: PlainProgress) -> None:
        progress.task_placed("a", "w1", "h1", 1)
        progress.task_printed("a", [piece("".join(f"{n}\n" for n in range(50)))])
        progress.task_ended(TaskRecord("a", Outcome.FAILED, host="h1", worker="w1", exit_code=3))

    lines = lines_of(tell, verbosity=0, exit_code=1)
    assert lines[:12] == [
        ".  a",
        "!! FAILED a on h1 (w1): exit code 3",
        *(f"   | {n}" for n in range(40, 50)),
    ]
    assert lines[-1] == "failed: a"


def test_a_failure_names_its_log_file_and_reads_it_when_nothing_was_printed_live(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("from the file\n")
    stream = io.StringIO()
    progress = PlainProgress(stream, facts=Facts(log_path=lambda name: log, logs=lambda: str(tmp_path)))
    progress.run_started("r1", 1, [], "local")
    progress.task_ended(TaskRecord("a", Outcome.FAILED, reason="broken"))
    progress.run_ended(1)

    lines = stream.getvalue().splitlines()
    assert lines[:3] == ["!! FAILED a: broken", "   | from the file", f"   full log: {log}"]
    assert lines[-1] == f"logs: {tmp_path}"


def test_a_lost_attempt_and_the_next_one_are_said() -> None:
    lost = Attempt(1, "w1", "h1", "lost", "silent for 9 s")

    def tell(progress: PlainProgress) -> None:
        progress.task_placed("a", "w1", "h1", 1)
        progress.task_placed("a", "w2", "h2", 2)
        progress.task_ended(
            TaskRecord("a", Outcome.SUCCEEDED, attempts=(lost, Attempt(2, "w2", "h2", "succeeded")))
        )

    assert lines_of(tell)[:3] == [
        ".  a",
        "   a: attempt 2 on h2 (w2)",
        "   a: attempt 1 on h1 (w1) was lost: silent for 9 s",
    ]


def test_waiting_is_said_once_per_reason() -> None:
    need, obstacle = Need("gcc", version=">=99"), Obstacle("worker", "w1", "gcc 12.2.0")

    def tell(progress: PlainProgress) -> None:
        for _ in range(3):
            progress.held(["a"], need, [obstacle], False, False)

    assert lines_of(tell)[:-1] == ["waiting: 1 task (a) and nothing offers gcc>=99 (w1: gcc 12.2.0)"]


def test_a_note_about_the_run_is_said() -> None:
    def tell(progress: PlainProgress) -> None:
        progress.note("clocks differ by 3 s")

    assert lines_of(tell)[0] == "clocks differ by 3 s"


def test_a_flood_is_cut_at_its_beginning() -> None:
    def tell(progress: PlainProgress) -> None:
        progress.task_placed("a", "w1", "h1", 1)
        for _ in range(3):
            progress.task_printed("a", [piece("x" * (KEPT // 2) + "\n")])
        progress.task_ended(TaskRecord("a", Outcome.SUCCEEDED))

    lines = lines_of(tell, verbosity=2)
    assert sum(map(len, lines)) <= KEPT + 500
    assert "bytes more, see majordomo logs" in lines[-2]


def test_a_reader_that_went_away_stops_nothing() -> None:
    progress = PlainProgress(ClosedPipe())
    progress.run_started("r1", 1, [], "lab")
    progress.task_ended(TaskRecord("a", Outcome.UP_TO_DATE))
    progress.run_ended(0)

    assert progress.tally.ended == 1


@pytest.mark.parametrize(
    ("stream", "environ", "kind"),
    [
        (Terminal(), {"TERM": "xterm"}, LiveProgress),
        (Terminal(), {"TERM": "dumb"}, PlainProgress),
        (Terminal(), {}, PlainProgress),
        (Terminal(), {"TERM": "xterm", "CI": "true"}, PlainProgress),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": "1"}, PlainProgress),
        (io.StringIO(), {"TERM": "xterm"}, PlainProgress),
    ],
)
def test_the_display_fits_the_stream(
    stream: io.StringIO, environ: dict[str, str], kind: type[RunWatcher]
) -> None:
    assert type(choose_progress(stream, environ)) is kind


def test_a_mode_that_is_asked_for_is_used_whatever_the_stream() -> None:
    assert type(choose_progress(io.StringIO(), {}, mode="rich")) is LiveProgress
    assert type(choose_progress(Terminal(), {"TERM": "xterm"}, mode="plain")) is PlainProgress


def test_the_mode_none_has_failures_and_the_summary() -> None:
    stream = io.StringIO()
    progress = choose_progress(stream, {}, mode="none")
    progress.run_started("r1", 3, [], "local")
    progress.task_placed("a", "w1", "h1", 1)
    progress.task_ended(TaskRecord("a", Outcome.SUCCEEDED))
    progress.task_ended(TaskRecord("b", Outcome.FAILED, reason="broken"))
    progress.run_ended(1)

    lines = stream.getvalue().splitlines()
    assert [line.partition(":")[0] for line in lines] == ["!! FAILED b", "2 tasks", "failed"]


def test_the_live_picture_has_counts_running_tasks_and_what_waits() -> None:
    from rich.console import Console

    now = 0.0
    progress = LiveProgress(Terminal(), clock=lambda: now, calm_s=60.0)
    progress.run_started("r1", 20, [], "local")
    for number in range(10):
        progress.task_placed(f"t{number}", "w1", "h1", 1)
    now = 5.0
    for number in range(4):
        progress.task_ended(TaskRecord(f"t{number}", Outcome.SUCCEEDED))
    progress.held(["t20"], Need("gcc"), [Obstacle("worker", "w1", "busy")], True, True)
    shown = io.StringIO()
    console = Console(file=shown, width=100)
    console.print(progress.picture())
    progress.run_ended(0)

    assert isinstance(console.file, io.StringIO)
    text = shown.getvalue()
    assert "4 tasks: 4 run" in text
    assert "4/20" in text
    assert "about 20.0 s left" in text
    assert "5.0 s  h1  t4" in text
    assert "waiting: 1 task (t20) for gcc (w1: busy)" in text


def test_on_a_terminal_a_short_run_is_its_summary_and_its_failures() -> None:
    stream = Terminal()
    progress = LiveProgress(stream, clock=lambda: 0.0, calm_s=60.0)
    progress.run_started("r1", 3, [], "local")
    progress.task_placed("a", "w1", "h1", 1)
    progress.task_ended(TaskRecord("a", Outcome.FAILED, reason="broken"))
    progress.task_ended(TaskRecord("b", Outcome.UP_TO_DATE))
    progress.task_ended(TaskRecord("c", Outcome.SUCCEEDED, cached=True))
    progress.run_ended(1)

    assert stream.getvalue().splitlines() == [
        "!! FAILED a: broken",
        "3 tasks: 0 run, 1 from cache, 1 up to date, 1 failed · wall 0.00 s",
        "failed: a",
    ]


def test_a_long_run_on_a_terminal_has_a_display_and_ends_with_the_summary() -> None:
    stream = Terminal()
    progress = LiveProgress(stream, calm_s=0.0)
    progress.run_started("r1", 1, [], "local")
    assert progress._flusher is not None
    progress._flusher.join(20)
    progress.note("above the display")
    progress.task_ended(TaskRecord("a", Outcome.FAILED, reason="[red] is no colour here"))
    progress.run_ended(1)

    text = stream.getvalue()
    assert "above the display" in text
    assert "!! FAILED a: [red] is no colour here" in text
    assert text.endswith("failed: a\n")


def test_the_live_picture_counts_tasks_that_were_made_during_the_run() -> None:
    from rich.console import Console

    progress = LiveProgress(Terminal(), calm_s=60.0)
    progress.run_started("r1", 1, [], "local")
    for name in ("fetch", "compile:a", "compile:b"):
        progress.task_queued(name)
    progress.task_ended(TaskRecord("fetch", Outcome.SUCCEEDED))
    shown = io.StringIO()
    console = Console(file=shown, width=100)

    console.print(progress.picture())

    assert "1/3" in shown.getvalue()


def test_a_failure_shows_only_what_the_last_attempt_printed() -> None:
    stream = io.StringIO()
    progress = PlainProgress(stream)
    progress.run_started("r1", 1, [], "lab")
    for attempt in (1, 2):
        progress.task_placed("t", f"w{attempt}", "vm", attempt)
        progress.task_printed("t", [Piece(1, 0.0, f"from {attempt}\n")])
    first, second = (Attempt(n, f"w{n}", "vm", "failed", f"exit status {n}") for n in (1, 2))
    record = TaskRecord(
        "t", Outcome.FAILED, "shell", "vm", "w2", 2, (first, second), reason="exit status 2", exit_code=2
    )
    progress.task_ended(record)
    progress.run_ended(1)

    text = stream.getvalue()
    assert "attempt 1 on vm (w1) failed: exit status 1" in text, "why it was tried again"
    assert "attempt 2 on vm (w2) failed" not in text, "the failure itself says that"
    assert "| from 2" in text
    assert "from 1" not in text


# --- what a line parser has found ---


def found_in(record: TaskRecord, text: str, *, verbosity: int = 1, parser: str = "gcc", live: bool = True) -> list[str]:
    """Return what is shown of one task that printed `text` on stderr."""
    stream = io.StringIO()
    facts = Facts(verbosity=lambda name: verbosity, parser=lambda name: parser)
    progress = PlainProgress(stream, facts=facts, clock=lambda: 0.0)
    progress.run_started("r1", 3, [], "local")
    if live:
        progress.task_placed(record.task, "w1", "h1", 1)
        progress.task_printed(record.task, [piece(text, 2)])
    progress.task_ended(record)
    progress.run_ended(0)
    return stream.getvalue().splitlines()


GCC = """\
a.c: In function 'main':
a.c:4:2: warning: unused variable 'x' [-Wunused-variable]
a.c:5:3: error: expected ';'
    5 |   return
"""


def test_a_failure_begins_with_its_errors() -> None:
    lines = found_in(TaskRecord("a", Outcome.FAILED, host="h1", worker="w1", exit_code=1), GCC)
    assert lines == [
        ".  a",
        "!! FAILED a on h1 (w1): exit code 1",
        "   a.c:5:3: error: expected ';'",
        "   | a.c: In function 'main':",
        "   | a.c:4:2: warning: unused variable 'x' [-Wunused-variable]",
        "   |     5 |   return",
        "1 task: 0 run, 0 from cache, 0 up to date, 1 failed · wall 0.00 s",
        "failed: a",
        "1 warning: majordomo logs --level warning",
    ]


def test_ten_thousand_errors_are_the_first_ones_a_count_and_the_last_lines() -> None:
    text = "".join(f"a.c:{n}:3: error: number {n}\n" for n in range(1, 10_001)) + "make: *** [Makefile:1: a] Error 1\n"
    lines = found_in(TaskRecord("a b", Outcome.FAILED, exit_code=1), text)
    assert lines[2:12] == [f"   a.c:{n}:3: error: number {n}" for n in range(1, 11)]
    assert lines[12] == "   and 9990 more errors: majordomo logs 'a b' --level error"
    assert lines[-4:-2] == ["   | a.c:10000:3: error: number 10000", "   | make: *** [Makefile:1: a] Error 1"]
    assert len(lines) < 30


def test_the_warnings_of_a_success_are_counted_above_its_output() -> None:
    record = TaskRecord("a", Outcome.SUCCEEDED, "gcc")
    warning = "a.c:4:2: warning: unused\n"
    assert found_in(record, warning)[1:3] == [">> a: 1 warning", "a.c:4:2: warning: unused"]
    hidden = found_in(record, warning * 2, verbosity=0)
    assert hidden[1:3] == [">> a: 2 warnings", "1 task: 1 run, 0 from cache, 0 up to date, 0 failed · wall 0.00 s"]
    assert hidden[3] == "2 warnings: majordomo logs --level warning"


def test_warnings_that_came_with_the_result_count_too() -> None:
    record = TaskRecord("a", Outcome.SUCCEEDED, "gcc", cached=True, log=(piece("a.c:4:2: warning: unused\n", 2),))
    assert found_in(record, "", live=False)[-1] == "1 warning: majordomo logs --level warning"


def test_without_a_parser_nothing_is_found() -> None:
    lines = found_in(TaskRecord("a", Outcome.FAILED, exit_code=1), GCC, parser="")
    assert lines[2] == "   | a.c: In function 'main':"
    assert not any("majordomo logs" in line for line in lines)


def test_what_a_daemon_logs_is_said() -> None:
    def tell(progress: PlainProgress) -> None:
        progress.overheard({"level": "error", "msg": "disk full on vm"}, "worker: disk full on vm")

    assert lines_of(tell)[0] == "worker: disk full on vm"
