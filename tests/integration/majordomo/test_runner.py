"""The asynchronous runner against a backend that does as it is told, in one process."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from doit.action import CmdAction
from doit.cmd_base import ModuleTaskLoader

from computefarm import needs
from computefarm.backends.base import Broken, Link, Offered, Printed, Submission
from computefarm.codec import decode_action
from computefarm.errors import Unreachable
from computefarm.majordomo.app import MajorDomo
from computefarm.majordomo.command_run import Context, Run
from computefarm.majordomo.outputs import MARK
from computefarm.majordomo.reporting import TaskRecord
from computefarm.messages import Offer, Outcome, Piece
from computefarm.testing.backend import ScriptedBackend, pool

SHELL = needs("shell")


class Witness:
    """A watcher that remembers everything."""

    def __init__(self) -> None:
        self.records: dict[str, TaskRecord] = {}
        self.up_to_date: list[str] = []
        self.notes: list[str] = []
        self.queued: list[str] = []
        self.printed: list[str] = []
        self.exit_code: int | None = None
        self.total = 0

    def run_started(self, run_id: str, total: int, selected: Sequence[str], backend_name: str) -> None:
        self.total = total

    def task_queued(self, name: str) -> None:
        self.queued.append(name)

    def task_placed(self, name: str, worker: str, hostname: str, attempt: int) -> None:
        pass

    def task_printed(self, name: str, pieces: Sequence[Piece]) -> None:
        self.printed += [piece.text for piece in pieces]

    def task_ended(self, record: TaskRecord) -> None:
        assert record.task not in self.records, "one record per task"
        self.records[record.task] = record

    def tasks_up_to_date(self, tasks: Sequence[tuple[str, str]]) -> None:
        self.up_to_date += [name for name, _ in tasks]

    def held(self, *_: Any) -> None:
        pass

    def note(self, text: str) -> None:
        self.notes.append(text)

    def overheard(self, record: dict[str, Any], text: str) -> None:
        self.notes.append(text)

    def run_ended(self, exit_code: int) -> None:
        self.exit_code = exit_code

    def outcomes(self) -> dict[str, str]:
        return {name: record.outcome.value for name, record in self.records.items()}


class Bench:
    """One project, one backend, and as many runs as a test likes."""

    def __init__(self) -> None:
        self.backend = ScriptedBackend()
        self.backend.on_submit = lambda backend, submission: backend.end(submission.task)
        self.witness = Witness()

    def run(self, namespace: dict[str, Any], *arguments: str) -> int:
        bench = self

        class Scripted(Context):
            def backend(self, **_: Any) -> ScriptedBackend:
                return bench.backend

            def watchers(self, **_: Any) -> tuple[Witness, ...]:
                return (bench.witness,)

        self.witness = Witness()
        before, Run.context = Run.context, Scripted()
        try:
            code = MajorDomo(ModuleTaskLoader(namespace)).run(["run", *arguments])
        finally:
            Run.context = before
        assert self.witness.exit_code == code or code == 3
        return code


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("CF_HOME", str(tmp_path / "home"))
    with contextlib.suppress(KeyError):
        monkeypatch.delenv("CF_FARM")
    return Bench()


def task(**more: Any) -> Callable[[], dict[str, Any]]:
    return lambda: {"actions": ["true"], "meta": SHELL, **more}


def action_of(submission: Submission) -> Any:
    return decode_action(submission.action)


def test_ten_thousand_are_in_flight_at_once(bench: Bench) -> None:
    waiting: list[int] = []

    def gather(backend: ScriptedBackend, submission: Submission) -> None:
        waiting.append(submission.task)
        if len(waiting) == 10_000:
            for number in waiting:
                backend.end(number)

    bench.backend.on_submit = gather

    def task_many() -> Iterator[dict[str, Any]]:
        for i in range(10_000):
            yield {"name": str(i), "actions": ["true"], "meta": SHELL}

    assert bench.run({"task_many": task_many}) == 0
    assert len(bench.witness.records) == 10_000
    assert bench.witness.total == 10_000


def test_a_second_run_sends_nothing(bench: Bench) -> None:
    Path("in").write_text("in")
    tasks = {"task_a": task(file_dep=["in"])}
    assert bench.run(tasks) == 0
    assert bench.run(tasks) == 0
    assert bench.witness.up_to_date == ["a"]

    assert bench.run(tasks, "-a") == 0
    assert bench.witness.records["a"].rerun == ("asked to run whatever its state (-a)",)


def test_what_is_sent_is_what_the_task_says(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Submission] = []
    bench.backend.on_submit = lambda backend, submission: (
        seen.append(submission),
        backend.end(submission.task),
    )  # type: ignore[func-returns-value]
    monkeypatch.setenv("PASSED", "p")
    Path("src/deep").mkdir(parents=True)
    for name in ("src/b.c", "src/a.c", "src/x.h", "src/deep/y.h"):
        Path(name).write_text(name)
    Path("src/a.c").chmod(0o755)
    meta = needs(
        "shell", inputs=["src/**/*.h"], outputs=["log/*"], cpus=2, memory="1MiB", timeout="1m", retries=3,
        env={"E": "e"}, pass_env=["PASSED", "ABSENT"], cache=False, priority=7,
    )  # fmt: skip
    absolute = str(Path("src/b.c").absolute())
    tasks = {
        "task_a": task(
            actions=["cat %(dependencies)s", ["ls", "-l"]], file_dep=[absolute, "src/a.c"], meta=meta
        )
    }

    assert bench.run(tasks) == 0

    [submission], action = seen, action_of(seen[0])
    assert action.commands == (f"cat {absolute} src/a.c", ("ls", "-l"))
    assert [entry.path for entry in action.inputs] == ["src/a.c", "src/b.c", "src/deep/y.h", "src/x.h"]
    assert [entry.executable for entry in action.inputs] == [True, False, False, False]
    assert action.outputs == ("log/*",)
    assert action.env == (("E", "e"), ("PASSED", "p"))
    assert (action.timeout_s, action.capability, action.fingerprint) == (60.0, "shell", "shell-1")
    assert (submission.need.cpus, submission.need.memory, submission.need.load) == (2, 2**20, 2.0)
    assert (submission.retries, submission.read_cache, submission.write_cache) == (3, False, False)
    assert submission.priority == 7
    assert {Path(path).read_text() for path in submission.sources.values()} == {
        "src/a.c",
        "src/b.c",
        "src/x.h",
        "src/deep/y.h",
    }


def test_the_longest_path_goes_first(bench: Bench) -> None:
    seen: dict[str, float] = {}
    bench.backend.on_submit = lambda backend, s: (seen.update({s.name: s.priority}), backend.end(s.task))  # type: ignore[func-returns-value]
    tasks = {
        "task_leaf": task(),
        "task_start": task(),
        "task_middle": task(task_dep=["start"]),
        "task_group": lambda: {"actions": None, "task_dep": ["middle"]},
        "task_end": task(task_dep=["group"]),
    }

    assert bench.run(tasks) == 0
    assert seen == {"leaf": 0.0, "start": 2.0, "middle": 1.0, "end": 0.0}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"actions": ["echo other"]}, "the command changed: true → echo other"),
        ({"meta": needs("gcc")}, "capability changed shell → gcc"),
        ({"meta": needs("shell", env={"A": "b"})}, "its targets, parameters or environment changed"),
        ({"meta": needs("shell", inputs=["more"])}, "more changed"),
        ({"file_dep": ["in", "more"]}, "more was added to file_dep"),
    ],
)
def test_what_makes_a_result_stale(bench: Bench, changes: dict[str, Any], why: str) -> None:
    for name in ("in", "more"):
        Path(name).write_text(name)
    assert bench.run({"task_a": task(file_dep=["in"])}) == 0
    assert bench.run({"task_a": task(**{"file_dep": ["in"], **changes})}) == 0

    assert why in bench.witness.records["a"].rerun
    assert bench.run({"task_a": task(**{"file_dep": ["in"], **changes})}) == 0
    assert bench.witness.up_to_date == ["a"]


def test_a_live_offer_of_another_toolchain_makes_results_stale(bench: Bench) -> None:
    Path("in").write_text("in")
    old, new = pool(Offer("gcc", "12.2.0", "f12")), pool(Offer("gcc", "13.1.0", "f13"))
    plain = {"task_a": task(file_dep=["in"], meta=needs("gcc"))}
    bench.backend.pools = (old,)
    assert bench.run(plain) == 0

    bench.backend.pools = ()
    assert bench.run(plain) == 0
    assert bench.witness.up_to_date == ["a"]
    assert len([note for note in bench.witness.notes if "nothing offers gcc" in note]) == 1

    bench.backend.pools = (old, pool(Offer("gcc", "13.1.0", "f13"), slots=100))
    assert bench.run(plain) == 0
    assert bench.witness.up_to_date == ["a"]

    bench.backend.pools = (new,)
    assert bench.run({"task_a": task(file_dep=["in"], meta=needs("gcc", any_toolchain=True))}) == 0
    assert bench.witness.up_to_date == ["a"]
    assert bench.run(plain) == 0
    assert bench.witness.records["a"].rerun == ("gcc changed 12.2.0 → 13.1.0",)


def test_inputs_alone_never_make_a_task_up_to_date(bench: Bench) -> None:
    Path("in").write_text("in")
    tasks = {"task_a": task(meta=needs("shell", inputs=["in"]))}
    assert bench.run(tasks) == 0
    assert bench.run(tasks) == 0
    assert bench.witness.up_to_date == []


def test_an_input_changed_during_the_run_is_noticed_by_the_next(bench: Bench) -> None:
    Path("in").write_text("as sent")

    def change(backend: ScriptedBackend, submission: Submission) -> None:
        Path("in").write_text("changed meanwhile")
        backend.end(submission.task)

    bench.backend.on_submit = change
    assert bench.run({"task_a": task(file_dep=["in"])}) == 0
    assert bench.run({"task_a": task(file_dep=["in"])}) == 0
    assert bench.witness.records["a"].rerun == ("in changed",)


def test_a_success_without_its_target_is_a_failure(bench: Bench) -> None:
    assert bench.run({"task_a": task(targets=["never"])}) == 1
    assert "never was not produced" in bench.witness.records["a"].reason


@pytest.mark.parametrize(
    ("outcome", "exit_code", "code"),
    [
        (Outcome.FAILED, 3, 1),
        (Outcome.FAILED, 127, 2),
        (Outcome.TIMEOUT, None, 1),
        (Outcome.LOST, None, 1),
        (Outcome.CANCELLED, None, 1),
    ],
)
def test_how_a_task_ends_is_how_the_run_ends(
    bench: Bench, outcome: Outcome, exit_code: int | None, code: int
) -> None:
    bench.backend.on_submit = lambda backend, s: backend.end(s.task, outcome, exit_code=exit_code)

    assert bench.run({"task_a": task(), "task_b": task(task_dep=["a"])}) == code
    assert bench.witness.outcomes() == {"a": outcome.value, "b": "blocked"}
    assert bench.witness.records["a"].reason


def test_without_continue_what_waits_is_dropped_and_what_runs_may_end(bench: Bench) -> None:
    def script(backend: ScriptedBackend, submission: Submission) -> None:
        if submission.name == "running":
            backend.place(submission.task)
        if submission.name == "waiting":
            numbers = {s.name: s.task for s in backend.submitted.values()}
            backend.place(numbers["bad"])
            backend.end(numbers["bad"], Outcome.FAILED, exit_code=1)
            backend.on_cancel = lambda b, tasks, reason: (
                [b.end(t, Outcome.CANCELLED, exit_code=None) for t in tasks],
                b.end(numbers["running"]),
            )  # type: ignore[assignment, return-value]

    bench.backend.on_submit = script
    tasks = {
        "task_running": task(),
        "task_bad": task(),
        "task_waiting": task(),
        "task_after": task(task_dep=["bad"]),
    }

    assert bench.run(tasks) == 1
    assert bench.witness.outcomes() == {
        "running": "succeeded", "bad": "failed", "waiting": "cancelled", "after": "blocked",
    }  # fmt: skip
    assert bench.backend.cancelled[0][0] == (3,)


def test_with_continue_everything_that_can_run_does(bench: Bench) -> None:
    bench.backend.on_submit = lambda backend, s: (
        backend.end(s.task, Outcome.FAILED, exit_code=1) if s.name == "bad" else backend.end(s.task)
    )
    tasks = {
        "task_bad": task(),
        "task_after": task(task_dep=["bad"]),
        "task_good": task(),
        "task_later": task(task_dep=["good"]),
    }

    assert bench.run(tasks, "-c") == 1
    assert bench.witness.outcomes() == {
        "bad": "failed",
        "after": "blocked",
        "good": "succeeded",
        "later": "succeeded",
    }


def test_a_capability_that_nobody_ever_offered_ends_with_five(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("computefarm.majordomo.place.GRACE", 0.05)
    bench.backend.on_submit = lambda backend, s: (
        backend.hold(s.task) if "99" in s.need.version else backend.end(s.task)
    )
    tasks = {"task_a": task(meta=needs("gcc>=99")), "task_b": task()}

    assert bench.run(tasks, "-c") == 5
    assert bench.witness.outcomes() == {"a": "failed", "b": "succeeded"}
    assert "no worker offers gcc>=99 (w1: gcc 12.2.0)" in bench.witness.records["a"].reason
    assert "cf-worker --capability gcc" in bench.witness.records["a"].reason


def test_waiting_on_purpose_is_said_and_ends_when_a_worker_comes(bench: Bench) -> None:
    def script(backend: ScriptedBackend, submission: Submission) -> None:
        backend.hold(submission.task)
        backend.hold(submission.task, reason="")
        backend.place(submission.task)
        backend.end(submission.task)

    bench.backend.on_submit = script

    assert bench.run({"task_a": task(meta=needs("gcc>=99"))}, "--wait-workers", "10m") == 0
    assert any("waiting for up to 600 s" in note for note in bench.witness.notes)


def test_a_manager_that_cannot_be_reached_ends_with_four(bench: Bench) -> None:
    Path("in").write_text("in")

    def script(backend: ScriptedBackend, submission: Submission) -> None:
        if submission.name == "a":
            backend.end(submission.task)
        else:
            backend.report(Link(False, "the manager is silent"))
            backend.report(Broken(Unreachable("no manager at x", hint="majordomo run --farm local")))

    bench.backend.on_submit = script
    tasks = {"task_a": task(file_dep=["in"]), "task_b": task(task_dep=["a"])}

    assert bench.run(tasks) == 4
    assert bench.witness.outcomes() == {"a": "succeeded", "b": "cancelled"}
    assert bench.backend.closed
    bench.backend.on_submit = lambda backend, s: backend.end(s.task)
    assert bench.run(tasks) == 0
    assert bench.witness.up_to_date == ["a"]


def test_output_goes_to_doit_as_if_it_had_run_here(bench: Bench) -> None:
    bench.backend.on_submit = lambda backend, s: backend.end(s.task, out="one\n", err="two\n")
    got: list[Any] = []

    def use(text: str) -> None:
        got.append(text)

    tasks = {
        "task_say": task(actions=[CmdAction("echo", save_out="said")]),
        "task_use": lambda: {"actions": [use], "getargs": {"text": ("say", "said")}},
    }

    assert bench.run(tasks) == 0
    assert got == ["one\n"]


def test_output_too_long_to_be_kept_is_an_error_not_a_guess(bench: Bench) -> None:
    bench.backend.on_submit = lambda backend, s: backend.end(s.task, out="x" * 70_000, cached=True)

    assert bench.run({"task_say": task(actions=[CmdAction("echo", save_out="said")])}) == 1
    assert "too long" in bench.witness.records["say"].reason


def test_a_task_sent_while_nobody_offered_learns_who_ran_it(bench: Bench) -> None:
    Path("in").write_text("in")
    offered = pool(Offer("gcc", "12.2.0", "f12"))
    bench.backend.pools, bench.backend.gone = (), (offered,)

    def script(backend: ScriptedBackend, submission: Submission) -> None:
        backend.report(Offered((offered,), True))
        backend.end(submission.task)

    bench.backend.on_submit = script
    tasks = {"task_a": task(file_dep=["in"], meta=needs("gcc"))}
    assert bench.run(tasks) == 0

    bench.backend.pools = (pool(Offer("gcc", "13.1.0", "f13")),)
    assert bench.run(tasks) == 0
    assert bench.witness.records["a"].rerun == ("gcc changed 12.2.0 → 13.1.0",)


def test_local_tasks_do_not_stop_the_farm(bench: Bench) -> None:
    import threading

    local_began, farm_ended = threading.Event(), threading.Event()

    def slow() -> bool:
        local_began.set()
        return farm_ended.wait(20)

    def script(backend: ScriptedBackend, submission: Submission) -> None:
        if submission.name == "second":
            farm_ended.set()
        backend.end(submission.task)

    bench.backend.on_submit = script
    tasks = {
        "task_slow": lambda: {"actions": [slow]},
        "task_first": task(),
        "task_second": task(task_dep=["first"]),
    }

    assert bench.run(tasks) == 0
    assert local_began.is_set()


def test_an_action_that_leaves_ends_the_run(bench: Bench) -> None:
    def leave() -> None:
        raise SystemExit(9)

    with pytest.raises(SystemExit):
        bench.run({"task_a": lambda: {"actions": [leave]}, "task_b": task()})
    assert bench.witness.exit_code is not None


def test_tasks_that_wait_for_one_another_are_told(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    tasks = {
        "task_a": lambda: {"actions": ["true"], "setup": ["b"], "meta": SHELL},
        "task_b": lambda: {"actions": ["true"], "setup": ["a"], "meta": SHELL},
    }

    assert bench.run(tasks) == 3
    assert "ERROR" in capsys.readouterr().err


def test_blobs_of_two_equal_files_are_read_from_either(bench: Bench) -> None:
    seen: list[Submission] = []
    bench.backend.on_submit = lambda backend, s: (seen.append(s), backend.end(s.task))  # type: ignore[func-returns-value]
    for name in ("one", "two"):
        Path(name).write_text("same")

    assert bench.run({"task_a": task(file_dep=["one", "two"])}) == 0
    assert len(seen[0].sources) == 1
    assert len(action_of(seen[0]).inputs) == 2


def test_marks_between_actions_tell_outputs_apart_and_are_never_seen(bench: Bench) -> None:
    pieces = (Piece(1, 0.0, f"one\n{MARK.format(1)}\ntwo\n"), Piece(2, 0.0, f"{MARK.format(1)}\n"))

    def script(backend: ScriptedBackend, submission: Submission) -> None:
        assert len(action_of(submission).commands) == 3
        backend.place(submission.task)
        backend.report(Printed(submission.task, 1, pieces))
        backend.end(submission.task)

    bench.backend.on_submit = script
    got: dict[str, str] = {}

    def use(first: str, second: str) -> None:
        got.update(first=first, second=second)

    tasks = {
        "task_say": task(actions=[CmdAction("echo one", save_out="a"), CmdAction("echo two", save_out="b")]),
        "task_use": lambda: {"actions": [use], "getargs": {"first": ("say", "a"), "second": ("say", "b")}},
    }
    assert bench.run(tasks) == 0
    assert got == {"first": "one\n", "second": "two\n"}
    assert bench.witness.printed == ["one\ntwo\n"]
