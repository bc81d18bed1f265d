"""What a run shows in the log window, and what happens without one."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from computefarm.logs.records import Record
from computefarm.logs.window.cutelog import NoWindow, Window
from computefarm.majordomo import log_window
from computefarm.majordomo.log_window import STAYS, LogWindow, WindowFeed, feed_or_say
from computefarm.majordomo.reporting import TaskRecord
from computefarm.messages import Attempt, Need, Outcome, Piece


class Kept(WindowFeed):
    """A feed without a window."""

    def __init__(self, *, there: bool = True, trouble: str = "", lost: int = 0) -> None:
        self.records: list[Record] = []
        self.trouble = trouble
        self._there = there
        self._lost = lost

    def begin(self) -> None:
        pass

    def put(self, record: Record) -> None:
        self.records.append(record)

    @property
    def dropped(self) -> int:
        return self._lost

    @property
    def closed(self) -> bool:
        return not self._there

    def close(self) -> bool:
        return self._there


def shown(window: LogWindow, feed: Kept) -> list[tuple[str, str, str]]:
    return [(each["level"], each["name"].split(".")[-1], each["msg"]) for each in feed.records]


def test_a_run_in_the_window() -> None:
    feed, said = Kept(), list[str]()
    window = LogWindow(feed, said.append, parser=lambda name: "gcc", capability=lambda name: "gcc")
    window.run_started("r1", 3, ["all"], "lab")
    window.task_placed("a", "w1", "nn02", 1)
    window.task_printed("a", [Piece(2, 5.0, "a.c:3:5: warning: unused\n")])
    lost, won = Attempt(1, "w1", "nn02", "lost", "silent for 9 s"), Attempt(2, "w2", "nn03", "succeeded")
    window.task_ended(TaskRecord("a", Outcome.SUCCEEDED, "gcc", "nn03", "w2", 2, (lost, won)))
    window.task_ended(
        TaskRecord("b", Outcome.FAILED, "gcc", "nn02", attempt=1, exit_code=3, log=(Piece(1, 6.0, "out\n"),))
    )
    window.task_ended(TaskRecord("c", Outcome.BLOCKED, reason="blocked by b"))
    window.held(["d"], Need("latex"), [], False, False)
    window.overheard({"level": "error", "name": "farm.r1.vm.worker", "msg": "disk full"}, "worker: disk full")
    window.run_ended(1)

    assert shown(window, feed)[:-1] == [
        ("info", "run", "run r1 begins on farm lab: 3 tasks"),
        ("warning", "gcc", "unused"),
        ("warning", "run", "a: attempt 1 on nn02: silent for 9 s"),
        ("info", "gcc", "out"),
        ("error", "run", "b failed: exit code 3"),
        ("warning", "run", "c blocked: blocked by b"),
        ("warning", "run", "waiting: 1 task (d) and nothing offers latex"),
        ("error", "worker", "disk full"),
    ]
    assert feed.records[1]["name"] == "farm.r1.nn02.gcc"
    assert (feed.records[1]["file"], feed.records[1]["line"], feed.records[1]["task"]) == ("a.c", 3, "a")
    level, _, text = shown(window, feed)[-1]
    assert level == "error"
    assert text.startswith("run r1 ended, exit code 1: 3 tasks: 1 run")
    assert said == [STAYS]


@pytest.mark.parametrize(
    ("feed", "said"),
    [
        (Kept(there=False), ["the log window was closed before the end; every line: majordomo logs"]),
        (Kept(lost=7), [f"{STAYS}; 7 lines are not in it: majordomo logs"]),
        (Kept(there=False, trouble="no window"), ["no window"]),
    ],
)
def test_the_end_says_what_has_become_of_the_window(feed: Kept, said: list[str]) -> None:
    told: list[str] = []
    window = LogWindow(feed, told.append)
    window.run_started("r1", 0, [], "local")
    window.run_ended(0)
    assert told == said


def test_a_missing_program_is_one_line_and_no_feed(tmp_path: Path) -> None:
    said: list[str] = []
    environ = {"CF_CUTELOG": "/nonexistent", "PATH": "/usr/bin"}
    assert feed_or_say(environ, tmp_path, said.append) is None
    (line,) = said
    assert "\n" not in line
    assert "pip install 'computefarm[gui]'" in line


def test_nothing_waits_while_the_window_comes_up_and_a_failure_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    come = threading.Event()

    def open_window(environ: Mapping[str, str], folder: Path, **_: Any) -> Window:
        come.wait(10)
        raise NoWindow("cutelog ended at once: no", hint="see the log")

    monkeypatch.setattr(log_window, "open_window", open_window)
    monkeypatch.setattr(log_window, "check", lambda environ: "cutelog")
    monkeypatch.setattr(log_window, "running", lambda: None)
    feed = WindowFeed({}, tmp_path)
    feed.begin()
    for number in range(20_000):
        feed.put({"msg": str(number)})
    come.set()
    assert not feed.close()
    assert "cutelog ended at once" in feed.trouble
    feed.put({"msg": "later"})
    feed.put_all([{"msg": "and this"}])
