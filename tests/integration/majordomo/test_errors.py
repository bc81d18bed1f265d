"""What a user reads and which exit code comes when something is wrong; never a traceback."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from .front_end import MAJORDOMO, environment, run

HEAD = "from computefarm import needs\n"

TASK_ERRORS = {
    "target not produced": (
        """
def task_a():
    return {"actions": ["true"], "targets": ["absent.o"], "meta": needs("shell")}
""",
        1,
        ["absent.o", "was not produced"],
    ),
    "target outside the project": (
        """
def task_a():
    return {"actions": ["touch ../x"], "targets": ["../x"], "meta": needs("shell")}
""",
        1,
        ["../x", "outside the project"],
    ),
    "absolute target outside": (
        """
def task_a():
    return {"actions": ["true"], "targets": ["/tmp/outside-of-all"], "meta": needs("shell")}
""",
        1,
        ["/tmp/outside-of-all", "outside the project"],
    ),
    "file_dep outside the project": (
        """
def task_a():
    return {"actions": ["true"], "file_dep": ["/etc/hosts"], "meta": needs("shell")}
""",
        3,
        ["/etc/hosts", "outside the project", "host_files=['/etc/hosts']"],
    ),
    "undeclared file": (
        """
def task_a():
    return {"actions": ["cat hidden.txt > out"], "targets": ["out"], "meta": needs("shell")}
""",
        1,
        ["hidden.txt", "not declared", "inputs=['hidden.txt']"],
    ),
    "pattern without a match": (
        """
def task_a():
    return {"actions": ["true"], "meta": needs("shell", inputs=["no/**/*.such"])}
""",
        1,
        ["no/**/*.such", "matches no file"],
    ),
    "folder in file_dep": (
        """
def task_a():
    return {"actions": ["true"], "file_dep": ["folder"], "meta": needs("shell")}
""",
        1,
        ["folder", "is a folder"],
    ),
    "python action with needs": (
        """
def task_a():
    return {"actions": ["true", print_it], "meta": needs("shell")}
def print_it():
    print("no")
""",
        3,
        ["task a", "action 2", "print_it"],
    ),
    "timeout": (
        """
def task_a():
    return {"actions": ["sleep 60"], "meta": needs("shell", timeout=0.2)}
""",
        1,
        ["time"],
    ),
    "first failing command ends the task": (
        """
def task_a():
    return {"actions": ["false\\necho not reached > out"], "targets": ["out"], "meta": needs("shell")}
""",
        1,
        ["exit"],
    ),
    "nothing offers the capability": (
        """
def task_a():
    return {"actions": ["true"], "meta": needs("no-such-thing>=99")}
""",
        5,
        ["no worker offers no-such-thing>=99", "cf-worker --probe"],
    ),
    "nothing offers the version": (
        """
def task_a():
    return {"actions": ["true"], "meta": needs("shell>=99")}
""",
        5,
        ["no worker offers shell>=99", "local", "1.0"],
    ),
    "unknown need": (
        """
def task_a():
    return {"actions": ["true"], "meta": {"farm": {"capability": "shell", "colour": "red"}}}
""",
        3,
        ["task a", "colour"],
    ),
    "dodo file with a mistake": (
        "def task_a():\n    return {'actions': [undefined]}\n",
        3,
        ["undefined", "dodo.py"],
    ),
    "syntax error": ("def task_a(:\n", 3, ["SyntaxError", "dodo.py"]),
}


def project(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "dodo.py").write_text(HEAD + text)
    (folder / "hidden.txt").write_text("hidden")
    (folder / "folder").mkdir()
    return folder


@pytest.mark.parametrize("name", TASK_ERRORS)
def test_an_error_says_what_and_where(name: str, tmp_path: Path) -> None:
    text, code, words = TASK_ERRORS[name]
    folder = project(tmp_path / "project", text)

    done = run(MAJORDOMO, "run", folder=folder)

    said = done.out + done.err
    assert done.code == code, said
    assert all(word in said for word in words), said
    assert "Traceback" not in said
    assert not (folder / "out").exists()


def test_with_continue_the_rest_is_built(tmp_path: Path) -> None:
    folder = project(
        tmp_path / "project",
        """
def task_bad():
    return {"actions": ["exit 3"], "targets": ["bad"], "meta": needs("shell")}
def task_blocked():
    return {"actions": ["cp bad blocked"], "file_dep": ["bad"], "targets": ["blocked"], "meta": needs("shell")}
def task_nowhere():
    return {"actions": ["true"], "meta": needs("nothing-has-this")}
def task_good():
    return {"actions": ["echo good > good"], "targets": ["good"], "meta": needs("shell")}
""",
    )

    done = run(MAJORDOMO, "run", "-c", folder=folder)

    assert done.code == 5, done.out
    assert (folder / "good").exists()
    assert "blocked" in done.out


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["run", "problem.yaml"], 3, "no such problem description"),
        (["run", "nosuch"], 3, "nosuch"),
        (["run", "--nosuch"], 3, "nosuch"),
        (["run", "-n", "-3"], 3, "-n -3"),
        (["run", "-p", "novalue"], 3, "NAME=VALUE"),
        (["run", "--wait-workers", "soon"], 3, "soon"),
        (["run", "-f", "absent.py"], 3, "absent.py"),
        (["nosuch"], 3, "nosuch"),
        (["dumpdb"], 3, "majordomo run"),
    ],
)
def test_a_wrong_command_line_is_told(arguments: list[str], code: int, word: str, tmp_path: Path) -> None:
    folder = project(tmp_path / "project", "def task_a():\n    return {'actions': ['true']}\n")

    done = run(MAJORDOMO, *arguments, folder=folder)

    assert (done.code, word in done.err) == (code, True), done.err
    assert "Traceback" not in done.err


def test_a_damaged_database_is_moved_aside(tmp_path: Path) -> None:
    folder = project(
        tmp_path / "project", "def task_a():\n    return {'actions': ['true'], 'file_dep': ['hidden.txt']}\n"
    )
    assert run(MAJORDOMO, "run", folder=folder).code == 0
    database = folder / ".majordomo.db"
    database.write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 40)

    done = run(MAJORDOMO, "run", folder=folder)

    assert done.code == 0
    assert "damaged" in done.err
    assert "Traceback" not in done.err
    assert list(folder.glob(".majordomo.db.damaged-*"))
    assert "1 up to date" in run(MAJORDOMO, "run", folder=folder).out


def test_a_foreign_database_is_left_alone(tmp_path: Path) -> None:
    import sqlite3

    folder = project(tmp_path / "project", "def task_a():\n    return {'actions': ['true']}\n")
    connection = sqlite3.connect(folder / "mine.db")
    connection.execute("create table precious (x)")
    connection.close()

    done = run(MAJORDOMO, "run", "--db-file", "mine.db", folder=folder)

    assert done.code == 3
    assert "mine.db" in done.err


def test_doit_s_own_database_is_left_alone(tmp_path: Path) -> None:
    folder = project(
        tmp_path / "project",
        "DOIT_CONFIG = {'dep_file': 'other.db', 'backend': 'json'}\ndef task_a():\n    return {'actions': ['true']}\n",
    )

    assert run(MAJORDOMO, "run", folder=folder).code == 0
    assert not (folder / "other.db").exists()
    assert (folder / ".majordomo.db").exists()


def test_options_before_and_after_the_dodo_file(tmp_path: Path) -> None:
    folder = project(
        tmp_path / "project",
        "from doit import get_var\ndef task_a():\n    return {'actions': ['echo %s > out' % get_var('word')]}\n"
        "def task_b():\n    return {'actions': ['touch b']}\n",
    )
    (folder / "dodo.py").rename(folder / "build.py")

    done = run(
        MAJORDOMO,
        "run",
        "-v",
        "2",
        "build.py",
        "-n",
        "1",
        "-P",
        "thread",
        "-p",
        "word=yes",
        "a",
        folder=folder,
    )

    assert done.code == 0, done.err
    assert (folder / "out").read_text() == "yes\n"
    assert not (folder / "b").exists()
    assert run(MAJORDOMO, "list", "build.py", folder=folder).out.split() == ["a", "b"]


def test_default_capability_sends_command_tasks_out(tmp_path: Path) -> None:
    text = """
def task_far():
    return {"actions": ["test ! -e hidden.txt; touch out"], "targets": ["out"]}
def task_near():
    return {"actions": [lambda: open("near", "w").close()]}
"""
    folder = project(tmp_path / "project", text)
    (folder / "pyproject.toml").write_text('[tool.computefarm]\ndefault-capability = "shell"\n')

    by_settings = run(MAJORDOMO, "run", folder=folder)
    by_flag = run(MAJORDOMO, "run", "-a", "--capability", "shell", folder=folder)
    plain = run(
        MAJORDOMO, "run", "far", folder=folder, env=environment(tmp_path / "home", CF_DEFAULT_CAPABILITY="")
    )

    assert (by_settings.code, by_flag.code) == (0, 0), by_settings.out + by_flag.out
    assert (folder / "near").exists()
    assert plain.code == 0


@pytest.mark.parametrize("reporter", ["console", "executed-only", "zero", "json", "error-only"])
def test_doit_s_reporters_work(reporter: str, tmp_path: Path) -> None:
    folder = project(
        tmp_path / "project",
        """
def task_far():
    return {"actions": ["echo made > out; echo printed"], "targets": ["out"], "meta": needs("shell")}
def task_bad():
    return {"actions": ["exit 9"], "meta": needs("shell"), "task_dep": ["far"]}
""",
    )

    done = run(MAJORDOMO, "run", "-r", reporter, "--failure-verbosity", "2", folder=folder)

    assert done.code == 1, done.err
    assert (folder / "out").exists()
    assert "Traceback" not in done.err
    if reporter == "json":
        import json

        tasks = {task["name"]: task for task in json.loads(done.out)["tasks"]}
        assert tasks["far"]["result"] == "success"
        assert tasks["far"]["out"] == "printed\n"
        assert tasks["bad"]["result"] == "fail"
    elif reporter in ("console", "executed-only"):
        assert ".  far" in done.out
        assert "TaskFailed - taskid:bad" in done.out


@pytest.mark.parametrize("arguments", [("help", "run"), ("list",), ("run",)])
def test_a_reader_that_goes_away_is_no_error(arguments: tuple[str, ...], tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "dodo.py").write_text(
        "def task_many():\n    for i in range(3000):\n        yield {'name': 'x' * 9 + str(i), 'actions': [lambda: None]}\n"
    )
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.Popen(
        [*MAJORDOMO, *arguments], cwd=folder, env=environment(tmp_path / "home"), stdout=writer,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    os.close(writer)
    _, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    assert process.returncode in (0, 141), err
