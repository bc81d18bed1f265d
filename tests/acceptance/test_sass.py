"""LibSass out of a source distribution of PyPI: sixty files of C++, described in forty lines, built on two workers."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import EXAMPLES

RELEASE = "libsass==0.23.0"
SOURCES = Path("build/libsass-0.23.0/libsass")
HEADER = SOURCES / "src" / "color_maps.hpp"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Fetch the source distribution with pip, which knows this machine's indexes and compares the digest."""
    if shutil.which("g++") is None:
        pytest.skip(
            "NOT TESTED: the sass example needs g++, which is not installed (Debian: sudo apt install g++)"
        )
    wanted = tmp_path / "requirements.txt"
    wanted.write_text(f"{RELEASE} --hash=sha256:{digest()}\n")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--no-deps"]
    pip += ["--no-binary", ":all:", "--no-build-isolation", "--dest", str(tmp_path), "-r", str(wanted)]
    done = subprocess.run(pip, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        pytest.skip(
            f"NOT TESTED: {RELEASE} cannot be had from an index of Python packages: {done.stderr[-300:]}"
        )
    [found] = tmp_path.glob("libsass-*.tar.gz")
    return found


def digest() -> str:
    found = re.search(r"sha256: ([0-9a-f]{64})", (EXAMPLES / "sass" / "problem.yaml").read_text())
    assert found
    return found[1]


def ran(history: dict[str, Any]) -> set[str]:
    return {
        task["task"] for task in history["tasks"] if task["outcome"] == "succeeded" and not task["cached"]
    }


def readers(folder: Path) -> set[str]:
    """Ask the compiler which files read the header."""
    found = set()
    for source in [*folder.glob(f"{SOURCES}/src/**/*.c*"), folder / "main.c"]:
        said = subprocess.run(
            ["gcc", "-MM", f"-I{SOURCES}/include", source.relative_to(folder)],
            cwd=folder, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        if HEADER.name in said:
            found.add(f"compile:{source.stem}")
    return found


@pytest.mark.slow
def test_sixty_files_of_another_project_are_built_on_two_workers(
    farm: Callable[..., Any], archive: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "sass"
    shutil.copytree(EXAMPLES / "sass", folder, ignore=shutil.ignore_patterns("build", ".majordomo*", "*.css"))
    lines = (folder / "problem.yaml").read_text().splitlines()
    assert len(lines) <= 40
    # A path where the address was: the file itself was fetched above.
    said = "\n".join(f"    url: {archive}" if "url:" in line else line for line in lines)
    (folder / "problem.yaml").write_text(said)
    place = farm(2, "gcc", "shell")

    def run() -> dict[str, Any]:
        place.here.majordomo("run", "problem.yaml", "-p", "opt=-O0", cwd=folder, timeout=500)
        return dict(place.here.json("history", cwd=folder))

    first = run()
    compiled = {task["task"] for task in first["tasks"] if task["task"].startswith("compile:")}
    assert len(compiled) >= 50
    assert ran(first) == {*compiled, "link", "translate:style"}
    assert len({task["worker"] for task in first["tasks"]}) == 2
    assert "width: 20em" in (folder / "style.css").read_text()

    assert ran(run()) == set()

    (folder / HEADER).touch()
    assert ran(run()) == set(), "its content is the same"

    expected = readers(folder)
    assert 2 <= len(expected) <= 30
    with (folder / HEADER).open("a") as header:
        header.write("// changed\n")
    # The objects come out equal, so nothing else is to be done.
    assert ran(run()) == expected
