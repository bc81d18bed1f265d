from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from computefarm.errors import Unreachable
from computefarm.home import Home
from computefarm.journal.history import FILE, HistoryWriter, RunRow, TaskRow
from computefarm.majordomo.commands import (
    COMMANDS,
    CapabilitiesCommand,
    ConfigCommand,
    HistoryCommand,
    WhyCommand,
)
from computefarm.majordomo.commands_logs import LogsCommand
from computefarm.majordomo.commands_status import StatusCommand
from computefarm.majordomo.look import Look, Viewer
from computefarm.messages import Explanation, Obstacle, Offer, Outcome, Pool, Status
from computefarm.settings import Settings

Run = Callable[..., tuple[int, str, str]]


class Farm:
    """A farm that answers with what a test put in."""

    def __init__(self, explanation: Explanation | None = None) -> None:
        self.name = "lab"
        self.explanation = explanation
        self.closed = False

    def status(self) -> Status:
        return Status(self.name, "0.1.0", 1.0, (), (), 0, 0)

    def pools(self) -> tuple[Pool, ...]:
        return (Pool(Offer("gcc", "12.2.0"), "linux-x86_64", 2, ("w1",)),)

    def explain_name(self, task: str, session: str = "") -> Explanation:
        return self.explanation or Explanation(task, "unknown")

    def close(self) -> None:
        self.closed = True


def no_farm(home: Home, settings: Settings) -> Viewer | None:
    return None


def lost_farm(home: Home, settings: Settings) -> Viewer | None:
    raise Unreachable("nobody answers at tcp://127.0.0.1:1", hint="majordomo run --farm local")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def run(tmp_path: Path, project: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    environ = {"CF_HOME": str(tmp_path / "home"), "PATH": os.environ["PATH"], "HOME": str(tmp_path)}

    def run_command(
        command: type[Look], *args: str, farm: Any = no_farm, **kwargs: Any
    ) -> tuple[int, str, str]:
        members = {"connect": staticmethod(farm), "environ": environ, "name": command.name}
        made = type(command.__name__, (command,), members)(bin_name="majordomo", **kwargs)
        code = made.parse_execute(list(args))
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run_command


def record(home: Path, folder: Path, *rows: TaskRow, run: str = "r1", ended: bool = True) -> None:
    row = RunRow(run, str(folder), "dodo.py", "local", 2**22 + 1, time.time())
    writer = HistoryWriter(home / "state" / FILE, row)
    for one in rows:
        writer.add(one)
    writer.close(row.started + 1, 0)
    assert writer.trouble == ""


def failed(log: Path) -> TaskRow:
    log.write_text("first\nsecond\n")
    return TaskRow(
        "compile:lapi", Outcome.FAILED, "gcc", "nn01", "w1", reason="exit code 1", log_path=str(log)
    )


def test_history_of_this_folder(run: Run, tmp_path: Path, project: Path) -> None:
    record(tmp_path / "home", project, TaskRow("a", Outcome.SUCCEEDED), run="r1")
    record(tmp_path / "home", project, TaskRow("b", Outcome.UP_TO_DATE), run="r2")
    record(tmp_path / "home", tmp_path, run="r3")

    code, out, _ = run(HistoryCommand, "--json")
    assert (code, json.loads(out)["run"], json.loads(out)["state"]) == (0, "r2", "ended")
    assert json.loads(run(HistoryCommand, "--json", "--run", "r1")[1])["tasks"][0]["task"] == "a"
    assert json.loads(run(HistoryCommand, "--json", "--run", "last", "-d", str(tmp_path))[1])["run"] == "r3"
    assert [line.split()[1] for line in run(HistoryCommand, "--list")[1].splitlines()] == ["r2", "r1"]
    assert "up-to-date" in run(HistoryCommand)[1]


def test_history_that_is_not_there_is_a_usage_error_with_the_next_command(run: Run, tmp_path: Path) -> None:
    code, out, err = run(HistoryCommand, "--json")
    assert (code, out) == (3, "")
    assert err.startswith("majordomo history: no run is recorded for ")
    assert err.endswith("\n  majordomo run\n")

    record(tmp_path / "home", tmp_path, run="abc")
    code, _, err = run(HistoryCommand, "--run", "nope")
    assert code == 3
    assert "the newest are: abc" in err


def test_a_killed_run_says_so(run: Run, tmp_path: Path, project: Path) -> None:
    path = tmp_path / "home" / "state" / FILE
    row = RunRow("r1", str(project), "dodo.py", "local", 2**22 + 1, time.time())
    HistoryWriter(path, row).close(1.0, 0)
    import sqlite3

    db = sqlite3.connect(path)
    db.execute("UPDATE runs SET ended = NULL, exit = NULL")
    db.commit()
    db.close()

    found = json.loads(run(HistoryCommand, "--json")[1])
    assert (found["ended"], found["exit"], found["state"]) == (None, None, "killed")


def test_why_after_the_run(run: Run, tmp_path: Path, project: Path) -> None:
    record(tmp_path / "home", project, failed(tmp_path / "l.log"))

    code, out, _ = run(WhyCommand, "compile:lapi")
    assert code == 0
    assert out.splitlines()[0] == "compile:lapi: failed"
    assert "   | first\n   | second\n" in out
    assert json.loads(run(WhyCommand, "compile:lapi", "--json")[1])["state"] == "failed"


def test_why_asks_the_farm_first(run: Run, project: Path) -> None:
    farm = Farm(Explanation("t", "waiting", (Obstacle("worker", "w1", "busy"),)))
    found = json.loads(run(WhyCommand, "t", "--json", farm=lambda home, settings: farm)[1])

    assert (found["state"], found["waiting"]) == ("waiting", [{"worker": "w1", "reason": "busy"}])
    assert farm.closed


def test_why_goes_on_with_history_when_the_farm_is_away(run: Run, tmp_path: Path, project: Path) -> None:
    record(tmp_path / "home", project, failed(tmp_path / "l.log"))

    code, out, err = run(WhyCommand, "compile:lapi", farm=lost_farm)
    assert (code, out.splitlines()[0]) == (0, "compile:lapi: failed")
    assert "from history only: nobody answers" in err
    assert run(WhyCommand, "other", farm=lost_farm)[0] == 4


def test_why_of_an_unknown_task_offers_the_nearest_names(run: Run, tmp_path: Path, project: Path) -> None:
    record(tmp_path / "home", project, TaskRow("compile:lapi", Outcome.UP_TO_DATE))

    code, _, err = run(WhyCommand, "compile:lap")
    assert code == 3
    assert "there is no task 'compile:lap'" in err
    assert "did you mean compile:lapi?" in err


def test_why_knows_the_tasks_of_a_dodo_file_that_never_ran(run: Run, project: Path) -> None:
    from doit.cmd_base import DodoTaskLoader

    (project / "dodo.py").write_text("def task_fresh():\n    return {'actions': ['true']}\n")
    assert run(WhyCommand, "fresh", task_loader=DodoTaskLoader())[:2] == (0, "fresh: never run\n")


@pytest.mark.parametrize("args", [(), ("a", "b")])
def test_why_needs_one_task(run: Run, args: tuple[str, ...]) -> None:
    assert run(WhyCommand, *args)[0] == 3


def test_logs_are_printed_from_their_files(run: Run, tmp_path: Path, project: Path) -> None:
    gone = TaskRow("gone", Outcome.SUCCEEDED, log_path=str(tmp_path / "nowhere.log"))
    quiet = TaskRow("quiet", Outcome.SUCCEEDED)
    record(tmp_path / "home", project, failed(tmp_path / "l.log"), gone, quiet)

    assert run(LogsCommand, "compile:lapi")[1] == "first\nsecond\n"
    code, out, err = run(LogsCommand)
    assert (code, out) == (0, "==> compile:lapi <==\nfirst\nsecond\n==> gone <==\n")
    assert "its log is gone" in err
    assert "quiet printed nothing" in run(LogsCommand, "quiet")[2]
    assert "did you mean quiet?" in run(LogsCommand, "quite")[2]


def test_status_without_a_farm_shows_this_machine(run: Run) -> None:
    found = json.loads(run(StatusCommand, "--json")[1])
    assert (found["farm"], found["workers"], found["tasks"]) == ("local", [], {"waiting": 0, "running": 0})
    assert found["hosts"][0]["cpus"] >= 1

    code, out, _ = run(StatusCommand)
    assert code == 0
    assert out.startswith("no farm is configured")
    assert "this machine offers:" in out
    assert "\nshell" in out


def test_status_of_a_farm(run: Run) -> None:
    farm = Farm()
    found = json.loads(run(StatusCommand, "--json", farm=lambda home, settings: farm)[1])

    assert found["farm"] == "lab"
    assert farm.closed


def test_a_farm_that_cannot_be_reached_is_exit_4_with_the_next_command(run: Run) -> None:
    code, out, err = run(StatusCommand, "--json", farm=lost_farm)

    assert (code, out) == (4, "")
    assert err == "majordomo status: nobody answers at tcp://127.0.0.1:1\n  majordomo run --farm local\n"


def test_capabilities_of_a_farm_and_of_this_machine(run: Run) -> None:
    found = json.loads(run(CapabilitiesCommand, "--json", farm=lambda home, settings: Farm())[1])
    assert found["capabilities"]["gcc"][0]["workers"] == ["w1"]
    assert found["missing"]["shell"] == ["no worker offers it"]

    here = json.loads(run(CapabilitiesCommand, "--json")[1])
    assert here["farm"] == "local"
    assert "shell" in here["capabilities"]


def test_config_shows_values_and_where_they_come_from(run: Run, project: Path) -> None:
    (project / "pyproject.toml").write_text('[tool.computefarm]\nwait-workers = "10m"\n')

    assert "wait-workers = 600.0" in run(ConfigCommand)[1].splitlines()
    lines = [line.split(maxsplit=2) for line in run(ConfigCommand, "--show-origin")[1].splitlines()]
    assert ["wait-workers", "600.0", f"{project}/pyproject.toml [tool.computefarm]"] in lines
    assert json.loads(run(ConfigCommand, "--json")[1])["farm"] == {"value": "", "origin": "default"}

    (project / "pyproject.toml").write_text("[tool.computefarm]\nwait = 1\n")
    code, _, err = run(ConfigCommand)
    assert code == 3
    assert "unknown key 'wait'" in err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_refuses_what_it_does_not_know(run: Run, command: type[Look]) -> None:
    assert command(bin_name="majordomo").help().startswith("PURPOSE")
    if command not in (WhyCommand, LogsCommand):
        code, _, err = run(command, "surprise")
        assert (code, err) == (3, f"majordomo {command.name}: unexpected: surprise\n")


# --- status -i ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["0", "-1", "nan", "inf", "0.001"])
def test_status_refuses_an_interval_that_is_none(run: Run, given: str) -> None:
    code, _, err = run(StatusCommand, "-i", given)
    assert code == 3
    assert "expected seconds" in err


def test_status_repeats_until_interrupted_one_object_a_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    naps = []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("computefarm.majordomo.commands_status.time.sleep", sleep)
    with pytest.raises(KeyboardInterrupt):
        run(StatusCommand, "--json", "-i", "2", farm=lambda home, settings: Farm())
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["farm"] for line in lines] == ["lab"] * 3
    assert naps == [2.0] * 3


def test_status_repeats_in_blocks_where_there_is_no_terminal(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("computefarm.majordomo.commands_status.time.sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(StatusCommand, "-i", "2", farm=lambda home, settings: Farm())
    out = capsys.readouterr().out
    assert "tasks: 0 waiting, 0 running" in out
    assert "\x1b" not in out


def interrupt(seconds: float) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("stats",),
            "'stats' is no command, and there is no dodo.py here with such a task; did you mean 'status'?",
        ),
        (("run",), "dodo.py', nor problem.yaml"),
        (("run", "nodo.py"), "nodo.py'\n  ls *.py *.yaml"),
        (("list", "-f", "x/nodo.py"), "x/nodo.py'\n  ls *.py *.yaml"),
    ],
)
def test_nothing_to_work_on_is_said_with_what_to_type(
    words: tuple[str, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CF_HOME", str(tmp_path / "h"))
    from computefarm.majordomo.app import MajorDomo

    assert MajorDomo().run(words) == 3
    assert said in capsys.readouterr().err


def test_a_dodo_file_that_is_configured_may_have_any_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CF_HOME", str(tmp_path / "h"))
    (tmp_path / "tasks.py").write_text("def task_stats(): return {'actions': None}\n")
    (tmp_path / "doit.cfg").write_text("[GLOBAL]\ndodoFile = tasks.py\n")
    from computefarm.majordomo.app import MajorDomo

    assert MajorDomo(config_filenames=("doit.cfg",)).run(["stats"]) == 0
