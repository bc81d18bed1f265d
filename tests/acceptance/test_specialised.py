"""The shipped capabilities on the real tools: their examples, as a user runs them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def example(tmp_path: Path) -> Callable[..., Path]:
    """Return a copy of an example; skip, saying so, where its tools are not installed."""

    def copy(name: str, *programs: str) -> Path:
        absent = [program for program in programs if shutil.which(program) is None]
        if absent:
            pytest.skip(f"NOT TESTED: examples/{name} needs {', '.join(absent)}, which is not installed")
        ignored = shutil.ignore_patterns("build", ".*db*", "__pycache__")
        return Path(shutil.copytree(EXAMPLES / name, tmp_path / name, ignore=ignored))

    return copy


def built(machine: Any, folder: Path, tasks: int) -> dict[str, Any]:
    """Run an example twice; return the records of the first run. The second has nothing to do."""
    machine.majordomo("run", cwd=folder)
    records = {task["task"]: task for task in machine.json("history", cwd=folder)["tasks"]}
    assert len(records) == tasks
    assert {task["outcome"] for task in records.values()} == {"succeeded"}
    assert f"0 run, 0 from cache, {tasks} up to date" in machine.majordomo("run", cwd=folder)
    return records


def test_gcc(machine: Any, example: Callable[..., Path]) -> None:
    folder = example("gcc", "gcc")
    records = built(machine, folder, 4)
    assert records["compile:main"]["capability"] == "gcc"
    assert (folder / "words.txt").read_text() == "words 1.0: 5\n"

    # Of all headers that were sent, only those that a file has read are its dependencies.
    (folder / "include/version.h").write_text('#define VERSION "1.1"\n')
    assert "3 run, 0 from cache, 1 up to date" in machine.majordomo("run", cwd=folder)
    assert (folder / "words.txt").read_text() == "words 1.1: 5\n"


def test_clang(machine: Any, example: Callable[..., Path]) -> None:
    folder = example("clang", "clang", "clang++")
    built(machine, folder, 3)
    done = subprocess.run([folder / "build/primes"], capture_output=True, text=True, check=True)
    assert done.stdout == "168 primes below 1000\n"


def test_cmake_is_one_task_with_the_slots_it_was_given(
    farm: Callable[..., Any], example: Callable[..., Path]
) -> None:
    folder = example("cmake", "cmake", "ninja", "gcc", "c++")
    made = farm(1, "cmake", "shell", slots=2)
    records = built(made.here, folder, 2)
    assert records["build"]["capability"] == "cmake"
    assert (folder / "greeting.txt").read_text() == "hello, world\n"
    # With fewer slots it does not fit, and that is said.
    (folder / "problem.yaml").write_text((folder / "problem.yaml").read_text().replace("cpus: 2", "cpus: 3"))
    (folder / "src/words.h").write_text("const char *greeting(void);\n\n")
    assert "has 2 slots, needs 3" in made.here.majordomo("run", cwd=folder, code=5)


def test_a_cmake_project_with_a_mistake_says_where(machine: Any, example: Callable[..., Path]) -> None:
    folder = example("cmake", "cmake", "ninja", "gcc", "c++")
    (folder / "src/greet.c").write_text("int main(void) { return nothing; }\n")
    text = machine.majordomo("run", cwd=folder, code=1)
    assert "greet.c:1" in text
    assert "nothing" in text


def test_latex_runs_until_nothing_changes(machine: Any, example: Callable[..., Path]) -> None:
    folder = example("latex", "pdflatex", "bibtex", "makeindex", "kpsewhich")
    machine.majordomo("run", cwd=folder)
    assert (folder / "article.pdf").read_bytes().startswith(b"%PDF")
    text = machine.majordomo("logs", "article", cwd=folder)
    # The first, the one that reads the bibliography, the one that knows its numbers, and the one that proves it.
    assert "stable after 4 passes" in text or "stable after 3 passes" in text
    assert "undefined" not in text
    assert "0 run, 0 from cache, 1 up to date" in machine.majordomo("run", cwd=folder)

    (folder / "parts/first.tex").write_text("\\section{First}\\label{first}\n\\nonsense\n")
    text = machine.majordomo("run", cwd=folder, code=1)
    assert "parts/first.tex:2" in text
    assert "Undefined control sequence" in text


def test_a_plain_document_is_typeset_once(machine: Any, example: Callable[..., Path]) -> None:
    folder = example("latex", "pdflatex", "bibtex", "makeindex", "kpsewhich")
    (folder / "article.tex").write_text("\\documentclass{article}\n\\begin{document}\nHi.\n\\end{document}\n")
    machine.majordomo("run", cwd=folder)
    assert "stable after 1 pass\n" in machine.majordomo("logs", "article", cwd=folder)


def test_a_document_cannot_run_commands(machine: Any, example: Callable[..., Path], tmp_path: Path) -> None:
    folder = example("latex", "pdflatex", "bibtex", "makeindex", "kpsewhich")
    mark = tmp_path / "mark"
    command = f"\\immediate\\write18{{touch {mark}}}"
    (folder / "article.tex").write_text(
        f"\\documentclass{{article}}\n\\begin{{document}}\nHi.{command}\n\\end{{document}}\n"
    )
    machine.majordomo("run", cwd=folder)
    assert not mark.exists()


def test_lualatex(machine: Any, example: Callable[..., Path]) -> None:
    folder = example("latex", "lualatex", "bibtex", "makeindex", "kpsewhich")
    problem = (folder / "problem.yaml").read_text().replace("capability: latex", "capability: lualatex")
    (folder / "problem.yaml").write_text(problem)
    (folder / "article.tex").write_text(
        "\\documentclass{article}\n\\begin{document}\n\\directlua{tex.print(6*7)}\n\\end{document}\n"
    )
    if "lualatex: no" in machine.call("cf-worker", "--probe", "--capability", "lualatex", cwd=folder).stdout:
        pytest.skip("NOT TESTED: lualatex is not installed completely")
    machine.majordomo("run", cwd=folder)
    assert (folder / "article.pdf").read_bytes().startswith(b"%PDF")


def test_context(machine: Any, tmp_path: Path) -> None:
    if shutil.which("context") is None:
        pytest.skip("NOT TESTED: context is not installed")
    (tmp_path / "a.tex").write_text("\\starttext Hi. \\stoptext\n")
    (tmp_path / "dodo.py").write_text(
        "from computefarm import farm\n\ndef task_a():\n"
        "    return farm.action('context', 'typeset', source='a.tex', pdf='a.pdf')\n"
    )
    machine.majordomo("run", cwd=tmp_path)
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")


def test_python(machine: Any, example: Callable[..., Path]) -> None:
    folder = example("python", "python3")
    built(machine, folder, 3)
    assert json.loads((folder / "total.json").read_text())["o"] == 7


def test_pytest(machine: Any, example: Callable[..., Path]) -> None:
    folder = example("pytest", "python3")
    if "pytest: no" in machine.call("cf-worker", "--probe", "--capability", "pytest", cwd=folder).stdout:
        pytest.skip("NOT TESTED: the python3 of the PATH has no pytest")
    built(machine, folder, 2)
    assert 'tests="1"' in (folder / "reports/test_large.xml").read_text()

    (folder / "tests/test_small.py").write_text("def test_wrong():\n    assert 1 == 2\n")
    text = machine.majordomo("run", cwd=folder, code=1)
    assert "assert 1 == 2" in text
    assert "test_small.py:2" in text


def test_pictures(machine: Any, example: Callable[..., Path]) -> None:
    folder = example("image", "dot", "convert")
    if "image: no" in machine.call("cf-worker", "--probe", "--capability", "image", cwd=folder).stdout:
        pytest.skip("NOT TESTED: ImageMagick is not installed")
    built(machine, folder, 3)
    small = (folder / "small.png").read_bytes()
    assert small.startswith(b"\x89PNG")
    assert (int.from_bytes(small[16:20]), int.from_bytes(small[20:24])) == (40, 40)
    assert (folder / "farm.jpg").read_bytes().startswith(b"\xff\xd8\xff")

    # The same picture again, bit by bit: no times in it.
    (folder / "small.png").unlink()
    machine.majordomo("run", "-a", cwd=folder)
    assert (folder / "small.png").read_bytes() == small


def test_every_shipped_capability_has_an_example() -> None:
    shipped = {path.stem for path in (EXAMPLES.parent / "capabilities").glob("*.yaml")}
    used = "".join(
        path.read_text() for path in EXAMPLES.glob("*/*") if path.name in ("dodo.py", "problem.yaml")
    )
    # One document does for all of the three.
    without = {"lualatex", "context"} | {"recompute"}
    assert not [name for name in shipped - without if name not in used]
