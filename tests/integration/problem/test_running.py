"""problem.yaml as a source of tasks: run, list, info, why, graph, export, packages."""

from __future__ import annotations

import hashlib
import io
import json
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


# --- the command line ---


def test_problem_yaml_is_taken_where_there_is_no_dodo_file(project: Path) -> None:
    assert "3 run" in majordomo(project, "run")
    assert "3 up to date" in majordomo(project, "run")
    assert "Could not find dodo file" in majordomo(project, "run", "-f", "dodo.py", code=3)
    (project / "dodo.py").write_text("def task_mine(): return {'actions': None}\n")
    assert majordomo(project, "list").split() == ["mine"]


def test_p_may_be_given_twice_and_to_every_command_that_reads_tasks(project: Path) -> None:
    text = (project / "problem.yaml").read_text().replace("{who: world}", "{who: world, tail: ''}")
    (project / "problem.yaml").write_text(text.replace("'{who}'", "'{who}{tail}'"))
    majordomo(project, "run", "problem.yaml", "-p", "who=you", "-p", "tail=!", "-pwho=they")
    assert (project / "all.txt").read_text().startswith("they!, ")
    given = ("-p", "who=they", "-p", "tail=!")
    assert "up-to-date" in majordomo(project, "info", "problem.yaml", *given, "join")
    assert "3 to run" not in majordomo(project, "graph", *given)
    assert "they!" in majordomo(project, "export", *given)
    assert "join" in majordomo(project, "list", "-p", "who=x")
    assert "NAME=VALUE" in majordomo(project, "run", "-p", "who", code=3)
    assert "no such parameter" in majordomo(project, "list", "-p", "nobody=x", code=3)


def test_clean_removes_what_the_tasks_made_and_forget_needs_no_names(project: Path) -> None:
    text = (project / "problem.yaml").read_text().replace("default: everything\n", "")
    (project / "problem.yaml").write_text(text)
    majordomo(project, "run")
    assert "removing file 'all.txt'" in majordomo(project, "clean")
    assert not (project / "all.txt").exists()
    assert not (project / "out" / "one").exists()
    assert (project / "words" / "one.txt").exists()
    assert "forgetting join" in majordomo(project, "forget")


def test_help_problem_says_every_key_and_prints_the_schema(project: Path) -> None:
    said = majordomo(project, "help", "problem")
    for key in ("foreach", "packages", "sha256", "platforms", "{source.stem}", "problem-schema"):
        assert key in said
    example = said.partition("\n\n")[2].partition("\n\n")[0]
    (project / "src").mkdir()
    (project / "src" / "main.c").write_text("int main(void) { return 0; }\n")
    (project / "problem.yaml").write_text("\n".join(line[2:] for line in example.splitlines()))
    assert "greet" in majordomo(project, "list"), "the example on the page is right"
    schema = json.loads(majordomo(project, "help", "problem-schema"))
    assert schema["required"] == ["problem", "tasks"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("groups:", "  c: {capability: gcc, action: compile, source: words/on.txt, object: c.o}\ngroups:", "problem.yaml:15:41: field `tasks.c.source`: there is no file words/on.txt, and no task makes it; did you mean words/one.txt?"),
        ("outputs: all.txt", "outputs: all.txt\n    inputs: ['*.md', words/one.txt]", "problem.yaml:15:5: field `tasks.join.inputs`: no file matches *.md"),
    ],
)  # fmt: skip
def test_what_is_read_and_never_made_is_told_before_anything_runs(
    project: Path, old: str, new: str, said: str
) -> None:
    (project / "problem.yaml").write_text(PROBLEM.replace(old, new))
    assert said in majordomo(project, "run", code=3)
    assert not (project / "out").exists()
    majordomo(project, "list")


def test_a_file_s_name_in_a_list_is_that_file(project: Path) -> None:
    (project / "problem.yaml").write_text(PROBLEM.replace("'words/*.txt'", "[words/one.txt]"))
    majordomo(project, "run")
    assert (project / "all.txt").read_text() == "world, 100%\nONE\n"


def test_what_comes_back_in_a_folder_may_be_read(project: Path) -> None:
    (project / "problem.yaml").write_text(
        """\
problem: p
tasks:
  make: {capability: shell, run: 'mkdir -p gen/deep; echo 1 > gen/deep/a.txt', outputs: [gen/]}
  use: {capability: shell, run: 'cat gen/deep/a.txt gen/*/*.txt > {outputs}', after: make, inputs: [gen/deep/a.txt, 'gen/**/*.txt'], outputs: used.txt}
"""
    )
    majordomo(project, "run")
    assert (project / "used.txt").read_text() == "1\n1\n"
