"""The notes example: programs compiled and run, their output plotted, a book typeset, by the real tools."""

from __future__ import annotations

import html
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import EXAMPLES, ROOT

TOOLS = {"gcc": "gcc", "dot": "graphviz", "pdflatex": "texlive-latex-base"}
MACHINES = (("gcc",), ("python", "graphviz"), ("latex",))
"""What each of three workers offers: no two the same, and none the whole."""


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    for program, package in TOOLS.items():
        if shutil.which(program) is None:
            pytest.skip(f"NOT TESTED: the notes example needs {program} (Debian: sudo apt install {package})")
    folder = tmp_path / "notes"
    shutil.copytree(
        EXAMPLES / "notes", folder, ignore=shutil.ignore_patterns("build", "*.pdf", ".majordomo*")
    )
    return folder


@pytest.fixture(params=["embedded", "three workers"])
def place(
    request: pytest.FixtureRequest, machine: Any, farm: Callable[..., Any], until: Callable[..., None]
) -> Any:
    """A machine alone, or one whose farm has three workers of different kinds."""
    if request.param == "embedded":
        return machine
    made = farm(0)
    for capabilities in MACHINES:
        made.capabilities = capabilities
        made.add_worker()
    until(lambda: len(made.status()["workers"]) == len(MACHINES), "three workers", made.logs)
    return made.here


def ran(history: dict[str, Any]) -> set[str]:
    return {
        task["task"] for task in history["tasks"] if task["outcome"] == "succeeded" and not task["cached"]
    }


def test_a_book_whose_figures_are_computed(place: Any, machine: Any, notes: Path) -> None:
    place.majordomo("run", "problem.yaml", cwd=notes)
    first = place.json("history", cwd=notes)
    assert ran(first) == {
        *(f"{kind}:{name}" for kind in ("compile", "link", "measure") for name in ("primes", "sorts", "tree")),
        "plot:primes", "plot:sorts", "draw", "book",
    }  # fmt: skip
    workers = {(task["worker"], task["capability"].partition(">")[0]) for task in first["tasks"]}
    if place is not machine:
        offered = {worker: {name for one, name in workers if one == worker} for worker, _ in workers}
        assert sorted(map(sorted, offered.values())) == sorted(map(sorted, MACHINES))
    book = (notes / "book.pdf").read_bytes()
    assert book.startswith(b"%PDF")
    assert len(book) > 50_000, "fonts and figures are in it"
    # Twice typeset at least: a reference that leads forward has its number only then.
    assert "undefined references" not in place.majordomo("logs", "book", cwd=notes)

    place.majordomo("run", "problem.yaml", cwd=notes)
    assert ran(place.json("history", cwd=notes)) == set()

    # The tree takes no notice of the parameter, so its picture is as good as before.
    place.majordomo("run", "problem.yaml", "-p", "most=500", cwd=notes)
    changed = {"measure:primes", "measure:sorts", "measure:tree", "plot:primes", "plot:sorts", "book"}
    assert ran(place.json("history", cwd=notes)) == changed
    assert "500 " in (notes / "build" / "sorts.txt").read_text()

    (notes / "chapters" / "trees.tex").write_text("\\section{Trees}\nNone.\n")
    place.majordomo("run", "problem.yaml", "-p", "most=500", cwd=notes)
    assert ran(place.json("history", cwd=notes)) == {"book"}

    # A mistake in a chapter is told with its file and line.
    (notes / "chapters" / "trees.tex").write_text("\\section{Trees}\n\\nosuchcommand\n")
    said = place.majordomo("run", "problem.yaml", "-p", "most=500", cwd=notes, code=1)
    assert "chapters/trees.tex:2" in said


def test_the_picture_in_the_documentation_is_that_of_the_example(machine: Any, notes: Path) -> None:
    machine.majordomo("graph", "-o", "graph.dot", cwd=notes)
    drawn = html.unescape((ROOT / "docs" / "pictures" / "notes-graph.svg").read_text())
    text = (notes / "graph.dot").read_text()
    edges = re.findall(r'"(\w+)" -> "(\w+)"', text)
    assert len(edges) == 6
    assert {f"{a}->{b}" for a, b in edges} == set(re.findall(r"<title>(\w+->\w+)</title>", drawn))
    for label in re.findall(r'label="(.*?)\\n', text):
        assert f">{label}</text>" in drawn
