"""A run that others cancel, or whose farm cannot be reached, against a backend that does as it is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from computefarm.errors import Refused, Unreachable
from computefarm.home import Home
from computefarm.majordomo.cancelling import RUN_CANCELLED, select
from computefarm.majordomo.requests import Inbox, Reply, Request, ask
from computefarm.majordomo.watching import Watching
from computefarm.messages import Outcome
from computefarm.testing.backend import ScriptedBackend

from .test_runner import SHELL, Bench, bench, task

__all__ = ["bench"]


def many(count: int = 3) -> Any:
    def task_many() -> Iterator[dict[str, Any]]:
        for i in range(count):
            yield {"name": str(i), "actions": ["true"], "meta": SHELL}

    return task_many


def cancels(reason: str, *chosen: str) -> Any:
    """Let the farm say of these tasks that somebody has cancelled them; the others succeed at the end."""

    def submitted(backend: ScriptedBackend, submission: Any) -> None:
        if not chosen or submission.name in chosen:
            backend.place(submission.task)
            backend.end(submission.task, Outcome.CANCELLED, exit_code=None, reason=reason)
        else:
            backend.end(submission.task)

    return submitted


def test_a_task_that_somebody_cancelled_is_a_failure_of_the_run_and_is_said_once(bench: Bench) -> None:
    bench.backend.on_submit = cancels("cancelled by eve@pc", "many:0", "many:1")
    assert bench.run({"task_many": many()}, "-c") == 1
    assert bench.witness.outcomes() == {"many:0": "cancelled", "many:1": "cancelled", "many:2": "succeeded"}
    assert bench.witness.records["many:0"].kind == "cancelled"
    assert bench.witness.notes == ["many:0: cancelled by eve@pc"]


def test_the_word_that_the_whole_run_is_cancelled_may_come_through_the_farm(bench: Bench) -> None:
    def submit(backend: ScriptedBackend, submission: Any) -> None:
        if submission.name == "a":
            backend.place(submission.task)
            reason = f"{RUN_CANCELLED}eve@pc"
            backend.end(submission.task, Outcome.CANCELLED, exit_code=None, reason=reason)

    bench.backend.on_submit = submit
    tasks = {
        "task_slow": task(), "task_a": task(), "task_b": task(task_dep=["a"]), "task_c": task(task_dep=["slow"]),
    }  # fmt: skip
    # With -c a single failure would let the rest go on.
    assert bench.run(tasks, "-c") == 1
    assert bench.witness.notes == [f"{RUN_CANCELLED}eve@pc"]
    assert set(bench.witness.outcomes().values()) <= {"cancelled", "blocked"}
    assert "cancelled by eve@pc" in bench.witness.records["c"].reason


@pytest.mark.parametrize("names", [(), ("many:1",), ("many",), ("nosuch",)])
def test_a_run_does_what_it_is_asked(
    names: tuple[str, ...], bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("computefarm.majordomo.command_run.run_id", lambda: "run-1")
    replies: list[Reply | None] = []
    asking: list[threading.Thread] = []
    state = Home.find({"CF_HOME": str(tmp_path / "home")}).state
    submitted: list[int] = []

    def submit(backend: ScriptedBackend, submission: Any) -> None:
        submitted.append(submission.task)
        if len(submitted) > 3:
            backend.end(submission.task)
        if len(submitted) != 3:
            return

        def go() -> None:
            request = Request("run-1", names, "eve@pc")
            replies.append(ask(state, request, going=lambda: True, patience_s=20, late=lambda: None))
            for number in submitted if names else ():
                backend.end(number)

        asking.append(threading.Thread(target=go))
        asking[0].start()

    bench.backend.on_submit = submit
    code = bench.run({"task_many": many(), "task_after": task(task_dep=["many:1"])}, "-c")
    asking[0].join(30)
    [reply] = replies
    assert reply is not None
    outcomes = bench.witness.outcomes()
    if names == ("nosuch",):
        assert (code, reply.unknown, reply.cancelled) == (0, ("nosuch",), ())
        assert set(reply.unfinished) == {"many:0", "many:1", "many:2", "after"}
    elif names == ("many:1",):
        assert (code, reply.cancelled, reply.unknown) == (1, ("many:1",), ())
        assert outcomes == {
            "many:0": "succeeded", "many:1": "cancelled", "many:2": "succeeded", "after": "blocked",
        }  # fmt: skip
        assert bench.backend.cancelled == [((2,), "cancelled by eve@pc")]
    elif names == ("many",):
        assert (code, reply.cancelled) == (1, ("many:0", "many:1", "many:2"))
    else:
        assert code == 1
        assert set(reply.cancelled) == {"many:0", "many:1", "many:2", "after"}
        assert set(outcomes.values()) == {"cancelled"}
        assert f"{RUN_CANCELLED}eve@pc" in bench.witness.notes
    assert not list((state / "requests").iterdir()), "nothing is left lying about"


def test_a_task_that_is_cancelled_before_its_turn_never_starts(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("computefarm.majordomo.command_run.run_id", lambda: "run-1")
    state = Home.find({"CF_HOME": str(tmp_path / "home")}).state

    def submit(backend: ScriptedBackend, submission: Any) -> None:
        def go() -> None:
            ask(
                state,
                Request("run-1", ("b",), "eve@pc"),
                going=lambda: True,
                patience_s=20,
                late=lambda: None,
            )
            backend.end(submission.task)

        threading.Thread(target=go, daemon=True).start()

    bench.backend.on_submit = submit
    tasks = {"task_a": task(), "task_b": task(task_dep=["a"]), "task_c": task(task_dep=["b"])}
    assert bench.run(tasks) == 1
    assert bench.witness.outcomes() == {"a": "succeeded", "b": "cancelled", "c": "blocked"}
    assert bench.witness.records["b"].reason == "cancelled by eve@pc"
    assert len(bench.backend.submitted) == 0


def test_requests_that_cannot_be_read_are_thrown_away(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path, "r1")
    assert inbox.take() == []
    (tmp_path / "requests").mkdir()
    (tmp_path / "requests" / "r1.x.ask").write_text("{")
    (tmp_path / "requests" / "r10.x.ask").write_text("{}")
    assert inbox.take() == []
    assert [path.name for path in (tmp_path / "requests").iterdir()] == ["r10.x.ask"], "another run's"
    assert Inbox(None, "r1").take() == []


def test_a_run_that_does_not_answer_is_hurried_and_given_up(tmp_path: Path) -> None:
    hurried: list[int] = []
    request = Request("r1", (), "eve")
    assert ask(tmp_path, request, going=lambda: True, patience_s=0.1, late=lambda: hurried.append(1)) is None
    assert hurried == [1]
    assert ask(tmp_path, request, going=lambda: False, patience_s=9, late=lambda: None) is None
    assert list((tmp_path / "requests").iterdir()) == []


def test_names_mean_tasks_and_groups() -> None:
    there = ["a", "a:1", "ab", "b:x"]
    assert select(["a", "b", "zz"], there) == (["a", "a:1", "b:x"], ["zz"])


# --- a farm that cannot be reached ----------------------------------------------------------------------


class Lost(ScriptedBackend):
    """A farm that does not answer."""

    def __init__(self, error: Exception) -> None:
        super().__init__(name="lab")
        self._error = error

    def start(self, sink: Any) -> None:
        raise self._error


def test_an_unreachable_farm_is_only_a_note_when_nothing_has_to_run(bench: Bench) -> None:
    Path("in").write_text("in")
    tasks = {"task_a": task(file_dep=["in"]), "task_b": task(file_dep=["in"])}
    assert bench.run(tasks) == 0
    bench.backend = Lost(Unreachable("nobody answers"))
    assert bench.run(tasks) == 0
    assert bench.witness.notes == ["farm lab cannot be reached; results that exist count as up to date"]
    assert sorted(bench.witness.up_to_date) == ["a", "b"]

    Path("in").write_text("changed")
    assert bench.run(tasks) == 4
    bench.backend = Lost(Refused("your key is not known"))
    assert bench.run(tasks) == 6


def test_a_run_that_never_began_has_no_summary() -> None:
    class Deaf:
        def run_ended(self, exit_code: int) -> None:
            pytest.fail("a run that never began cannot end")

    Watching((Deaf(),)).run_ended(4)  # type: ignore[arg-type]
