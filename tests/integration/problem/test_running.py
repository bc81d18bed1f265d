"""problem.yaml as a source of tasks: run, list, info, why, graph, export, packages."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

from computefarm.majordomo.packages import STAMP, ensure
from computefarm.problem import Package, ProblemError

from .running import majordomo

PROBLEM = """\
problem: hello
summary: a greeting
params: {who: world}
tasks:
  word:
    capability: shell
    foreach: {source: 'words/*.txt'}
    run: 'tr a-z A-Z < {source} > out/{source.stem}'
    outputs: ['out/{source.stem}']
  join:
    capability: shell
    summary: put the words together
    run: [sh, -c, 'echo "$1, 100%" > all.txt; shift; cat "$@" >> all.txt', sh, '{who}', '{word.outputs}']
    outputs: all.txt
groups: {everything: [word, join]}
default: everything
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "words").mkdir(parents=True)
    (folder / "words" / "one.txt").write_text("one\n")
    (folder / "words" / "two.txt").write_text("two\n")
    (folder / "problem.yaml").write_text(PROBLEM)
    return folder


def test_a_description_runs_as_a_dodo_file_does(project: Path) -> None:
    assert "3 run" in majordomo(project, "run", "problem.yaml")
    assert (project / "all.txt").read_text() == "world, 100%\nONE\nTWO\n"
    assert "3 up to date" in majordomo(project, "run", "problem.yaml")
    (project / "words" / "two.txt").write_text("three\n")
    assert "2 run" in majordomo(project, "run", "problem.yaml")
    assert "1 run" in majordomo(project, "run", "problem.yaml", "-p", "who=you", "join")
    assert (project / "all.txt").read_text() == "you, 100%\nONE\nTHREE\n"
    listed = majordomo(project, "list", "--all", "problem.yaml")
    assert "word:one" in listed
    assert "put the words together" in listed
    assert "file_dep" in majordomo(project, "info", "problem.yaml", "join", code=1)  # doit: it is to be run
    assert "the command changed" in majordomo(project, "why", "join")
    majordomo(project, "clean", "problem.yaml")
    majordomo(project, "forget", "problem.yaml")


def test_it_may_be_run_from_elsewhere(project: Path) -> None:
    majordomo(project.parent, "run", "project/problem.yaml")
    assert (project / "all.txt").exists()


def test_a_graph_as_text_dot_and_picture(project: Path) -> None:
    tree = majordomo(project, "graph", "problem.yaml")
    assert "└─ word (2)  shell · 2 to run" in tree
    majordomo(project, "run", "problem.yaml")
    assert "2 up to date" in majordomo(project, "graph", "problem.yaml")
    assert "word:one" in majordomo(project, "graph", "problem.yaml", "--all")
    majordomo(project, "graph", "problem.yaml", "-o", "graph.dot", "join")
    assert '"word" -> "join"' in (project / "graph.dot").read_text()
    if shutil.which("dot"):
        majordomo(project, "graph", "problem.yaml", "-o", "graph.svg")
        assert "<svg" in (project / "graph.svg").read_text()
    else:
        assert "apt install graphviz" in majordomo(project, "graph", "problem.yaml", "-o", "graph.svg", code=3)
    assert "expected a name that ends with" in majordomo(project, "graph", "problem.yaml", "-o", "x.jpg", code=3)
    assert "nosuch" in majordomo(project, "graph", "problem.yaml", "nosuch", code=3)


def test_an_exported_dodo_file_does_the_same(project: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(project, other)
    majordomo(project, "run", "problem.yaml")
    majordomo(other, "export", "problem.yaml", "-o", "dodo.py")
    assert "already" in majordomo(other, "export", "problem.yaml", "-o", "dodo.py", code=3)
    (other / "problem.yaml").unlink()
    assert "3 from cache" in majordomo(other, "run", "dodo.py"), "the very same actions"
    assert (other / "all.txt").read_bytes() == (project / "all.txt").read_bytes()
    listed = [majordomo(folder, "list", "--all", "--quiet", "-f", file).split() for folder, file in
              ((project, "problem.yaml"), (other, "dodo.py"))]  # fmt: skip
    assert sorted(listed[0]) == sorted(listed[1])
    assert "takes a problem description" in majordomo(other, "export", "dodo.py", code=3)


def test_mistakes_end_with_3_and_their_place(project: Path) -> None:
    (project / "problem.yaml").write_text(PROBLEM.replace("outputs: all.txt", "output: all.txt"))
    said = majordomo(project, "run", "problem.yaml", code=3)
    assert "problem.yaml:14:5: " in said
    assert "did you mean `outputs`" in said
    assert "no such problem description" in majordomo(project, "run", "nothere.yaml", code=3)


# --- packages ---


def archive(path: Path, files: dict[str, str], *, links: dict[str, str] | None = None) -> str:
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            info.mode = 0o755 if text.startswith("#!") else 0o644
            tar.addfile(info, io.BytesIO(text.encode()))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def fetch(project: Path, url: str, sha256: str, *, strip: int = 1, unpack: str = "lib") -> list[str]:
    said: list[str] = []
    package = Package("lib", url, sha256, unpack, strip, "")
    ensure(package, project, project.parent / "cache", "problem.yaml:3:3", said.append)
    return said


def test_a_package_is_fetched_once_and_verified(project: Path) -> None:
    digest = archive(project / "lib.tar.gz", {"lib-1.0/words/a.txt": "package\n", "lib-1.0/run.sh": "#!/bin/sh\n"})
    assert fetch(project, "lib.tar.gz", digest) == ["fetching package lib from lib.tar.gz"]
    assert (project / "lib" / "words" / "a.txt").read_text() == "package\n"
    assert os.access(project / "lib" / "run.sh", os.X_OK)
    assert fetch(project, "lib.tar.gz", digest) == []
    shutil.rmtree(project / "lib")
    (project / "lib.tar.gz").unlink()
    assert fetch(project, "lib.tar.gz", digest) == [], "it is in the cache"
    assert (project / "lib" / STAMP).exists()


def test_a_file_url_and_a_zip(project: Path) -> None:
    with zipfile.ZipFile(project / "lib.zip", "w") as file:
        file.writestr("a.txt", "zipped\n")
    digest = hashlib.sha256((project / "lib.zip").read_bytes()).hexdigest()
    fetch(project, f"file://{project}/lib.zip", digest.upper(), strip=0)
    assert (project / "lib" / "a.txt").read_text() == "zipped\n"


def test_another_file_than_the_one_described_is_refused(project: Path) -> None:
    digest = archive(project / "lib.tar.gz", {"x/a": "1"})
    with pytest.raises(ProblemError, match=r"problem\.yaml:3:3: package lib: lib\.tar\.gz has sha256 ") as caught:
        fetch(project, "lib.tar.gz", "0" * 64)
    assert digest in str(caught.value)
    assert not (project / "lib").exists()


@pytest.mark.parametrize("name", ["../evil", "/evil", "x/../../evil"])
def test_nothing_leaves_the_folder(project: Path, name: str) -> None:
    digest = archive(project / "lib.tar.gz", {"x/good": "1", name: "evil"})
    with pytest.raises(ProblemError, match="leads outside"):
        fetch(project, "lib.tar.gz", digest, strip=0)
    assert not (project / "lib").exists()
    assert not list(project.glob(".unpacking*"))
    assert not (project / "evil").exists()


def test_links_in_an_archive_are_left_out(project: Path) -> None:
    digest = archive(project / "lib.tar.gz", {"x/a": "1"}, links={"x/passwd": "/etc/passwd"})
    fetch(project, "lib.tar.gz", digest)
    assert not (project / "lib" / "passwd").exists()


def test_the_users_own_files_are_not_replaced(project: Path) -> None:
    digest = archive(project / "lib.tar.gz", {"x/a": "1"})
    (project / "lib").mkdir()
    (project / "lib" / "mine.txt").write_text("mine")
    with pytest.raises(ProblemError, match="has files that are not the package's"):
        fetch(project, "lib.tar.gz", digest)
    assert (project / "lib" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("url", "word"),
    [("nothere.tar.gz", "No such file"), ("ftp://x/y", "ftp:// is not one of"), ("http://127.0.0.1:1/x", "refused")],
)
def test_what_cannot_be_fetched_says_what_to_do(project: Path, url: str, word: str) -> None:
    with pytest.raises(ProblemError, match="cannot be fetched") as caught:
        fetch(project, url, "0" * 64)
    assert word in str(caught.value)
    assert "set url: to its path" in str(caught.value)


def test_a_description_with_a_package_builds_from_it(project: Path) -> None:
    digest = archive(project / "lib.tar.gz", {"lib-1.0/words/a.txt": "package\n"})
    (project / "problem.yaml").write_text(
        f"packages:\n  lib: {{url: lib.tar.gz, sha256: {digest}, unpack: build/lib}}\n"
        + PROBLEM.replace("words/*.txt", "build/lib/words/*.txt")
    )
    majordomo(project, "run", "problem.yaml")
    assert (project / "all.txt").read_text() == "world, 100%\nPACKAGE\n"
