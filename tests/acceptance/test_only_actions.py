"""A machine that is lent: `cf-worker --only-actions` does its named actions and nothing else."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(
    shutil.which("gcc") is None, reason="NOT TESTED: lending a compiler needs gcc, which is not installed"
)

HEAD = """\
from computefarm import farm, needs

def task_compile():
    return farm.action("gcc", "compile", source="a.c", object="a.o", flags=["-O2", "-Wall"])
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "a.c").write_text("int main(void) { return 0; }\n")
    return folder


def dodo(project: Path, text: str = "") -> None:
    (project / "dodo.py").write_text(HEAD + "\n" + textwrap.dedent(text))


@pytest.fixture
def lent(farm: Callable[..., Any], until: Callable[..., None]) -> Any:
    """A farm with one worker, which is lent."""
    made = farm(0)
    machine = type(made.here)(made.folder / "lender")
    made.machines.append(machine)
    line = made.here.call("cf-taskmanager", "invite", "--role", "worker", cwd=made.folder).stdout.split()[-1]
    machine.start(
        "cf-worker", "--capability", "gcc", "--capability", "shell", "--only-actions", "--slots", "1",
        "--name", "lender", "--join", line,
    )  # fmt: skip
    until(lambda: made.status()["workers"], "a worker", made.logs)
    return made


def test_named_actions_run_and_nothing_else_does(lent: Any, project: Path, tmp_path: Path) -> None:
    said = lent.machines[-1].logs()
    assert "of gcc only: compile, archive, link" in said
    assert "not offering shell" in said

    victim = tmp_path / "victim"
    victim.mkdir()
    dodo(
        project,
        f"""
        def task_free():
            return {{"actions": ["rm -rf {victim}"], "meta": needs("gcc")}}

        def task_options():
            return farm.action("gcc", "compile", source="a.c", object="b.o", flags=["-wrapper", "touch,{victim}/x"])

        def planted(command, made):
            parts = farm.action("gcc", "compile", source="a.c", object=made)
            parts["actions"] = [command]
            return parts

        def task_planted():
            return planted(["rm", "-rf", "{victim}"], "c.o")

        def task_script():
            return planted("rm -rf {victim}", "e.o")

        def task_environment():
            return farm.action("gcc", "compile", source="a.c", object="d.o", env={{"GCC_EXEC_PREFIX": "./"}})
        """,
    )
    here = lent.here
    here.majordomo("run", "compile", cwd=project)
    assert (project / "a.o").exists()

    # The manager does not even send it there, and the error says what to do.
    text = here.majordomo("run", "free", cwd=project, code=5)
    assert "lender: runs named actions only (compile, archive, link)" in text
    assert "farm.action('gcc', …)" in text
    assert "cf-worker --capability gcc" in text
    text = here.majordomo("run", "options", cwd=project, code=5)
    assert "compile only with ordinary flags" in text

    text = here.majordomo("run", "environment", cwd=project, code=5)
    assert "compile only with ordinary env" in text

    # What says that it is the action and is not reaches the worker, which makes the command itself and compares.
    for name in ("planted", "script"):
        text = here.majordomo("run", name, cwd=project, code=1)
        assert "--only-actions" in text, text
        [record] = here.json("history", cwd=project)["tasks"]
        assert (record["outcome"], record["kind"]) == ("failed", "refused")
    assert victim.is_dir()
    assert "refused planted of run" in lent.machines[-1].logs()

    assert "only: compile, archive, link" in here.majordomo("capabilities", cwd=project)
    [pool] = here.json("capabilities", cwd=project)["capabilities"]["gcc"]
    assert pool["only_actions"] == ["compile", "archive", "link"]


def test_a_project_that_describes_the_action_otherwise_is_told_so(lent: Any, project: Path) -> None:
    (project / "capabilities").mkdir()
    (project / "capabilities/gcc.yaml").write_text(
        "capability: gcc\nextend: true\nactions:\n"
        "  compile: {run: [rm, -rf, '{source}', '{object}', '{flags...}'], inputs: [source], outputs: [object]}\n"
    )
    dodo(project)
    text = lent.here.majordomo("run", cwd=project, code=5)
    assert "its own capability file describes compile otherwise" in text


def test_a_free_command_goes_to_the_worker_that_runs_any(
    lent: Any, project: Path, until: Callable[..., None]
) -> None:
    lent.capabilities = ("gcc",)
    lent.add_worker()
    until(lambda: len(lent.status()["workers"]) == 2, "two workers", lent.logs)
    dodo(
        project,
        """
        def task_free():
            for n in range(4):
                yield {"name": str(n), "actions": [f"gcc -O{n} -c a.c -o {n}.o"], "file_dep": ["a.c"],
                       "targets": [f"{n}.o"], "meta": needs("gcc")}
        """,
    )
    lent.here.majordomo("run", cwd=project)
    tasks = lent.here.json("history", cwd=project)["tasks"]
    assert {task["worker"] == "lender" for task in tasks if task["task"].startswith("free")} == {False}
