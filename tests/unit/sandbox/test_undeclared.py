"""The messages are real ones: GNU coreutils 9.1, gcc 12.2, binutils 2.40, make 4.3, dash, bash, tar, Python 3.11."""

from __future__ import annotations

import pytest

from computefarm.sandbox.undeclared import undeclared_file

DIRECTORY = "/var/cf/tasks/17"


def found(
    log: str, *project: str, declared: tuple[str, ...] = (), folders: tuple[str, ...] = ()
) -> str | None:
    return undeclared_file(log, set(project).__contains__, declared, directory=DIRECTORY, folders=folders)


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("cat: hidden_input.txt: No such file or directory", "hidden_input.txt"),
        ("cat: 'my file.txt': No such file or directory", "my file.txt"),
        ("cp: cannot stat 'nope.txt': No such file or directory", "nope.txt"),
        ("mv: cannot stat 'a/b.txt': No such file or directory", "a/b.txt"),
        ("head: cannot open 'x.txt' for reading: No such file or directory", "x.txt"),
        ("ls: cannot access 'nodir/x': No such file or directory", "nodir/x"),
        ("sed: can't read x.txt: No such file or directory", "x.txt"),
        ("sort: cannot read: x.txt: No such file or directory", "x.txt"),
        ("awk: cannot open x.txt (No such file or directory)", "x.txt"),
        ("tar: src.tar: Cannot open: No such file or directory", "src.tar"),
        ("tar: src/a.c: Cannot stat: No such file or directory", "src/a.c"),
        ("make: rules.mk: No such file or directory", "rules.mk"),
        ("Makefile:3: config.mk: No such file or directory", "config.mk"),
        ("make: *** No rule to make target 'gen.c', needed by 'gen.o'.  Stop.", "gen.c"),
        ("sh: 0: cannot open scripts/no.sh: No such file", "scripts/no.sh"),
        ("sh: 1: cannot open in.txt: No such file", "in.txt"),
        ("sh: 1: .: cannot open ./env.sh: No such file", "env.sh"),
        ("sh: 1: ./run_me.sh: not found", "run_me.sh"),
        ("/bin/sh: 1: tools/gen: not found", "tools/gen"),
        ("bash: line 1: in.txt: No such file or directory", "in.txt"),
        ("bash: line 1: ./run_me.sh: No such file or directory", "run_me.sh"),
        ("cc1: fatal error: no.c: No such file or directory", "no.c"),
        ("src/t.c:1:10: fatal error: inc/foo.h: No such file or directory", "inc/foo.h"),
        ("gcc: error: obj/no.o: No such file or directory", "obj/no.o"),
        ("gcc: error: @resp.txt: linker input file not found: No such file or directory", "resp.txt"),
        ("/usr/bin/ld: cannot find no.o: No such file or directory", "no.o"),
        ("ld: cannot open linker script file script.ld: No such file or directory", "script.ld"),
        ("ar: x.o: No such file or directory", "x.o"),
        ("strip: 'nofile': No such file", "nofile"),
        (
            "python3: can't open file '/var/cf/tasks/17/tools/gen.py': [Errno 2] No such file or directory",
            "tools/gen.py",
        ),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'data/x.csv'", "data/x.csv"),
        ("ModuleNotFoundError: No module named 'pkg.mymod'", "pkg/mymod.py"),
        ("ModuleNotFoundError: No module named 'pkg'", "pkg/__init__.py"),
        ('Can\'t open perl script "no.pl": No such file or directory', "no.pl"),
        ("xargs: Cannot open input file \u2018list.txt\u2019: No such file or directory", "list.txt"),
        ("patch: **** Can't open patch file x.patch : No such file or directory", "x.patch"),
        ("ninja: error: loading 'no.ninja': No such file or directory", "no.ninja"),
        ("Error: Cannot find module '/var/cf/tasks/17/nof.js'", "nof.js"),
    ],
)
def test_real_messages(line: str, path: str) -> None:
    log = f"working...\n{line}\ngive up\n"

    assert found(log, path) == path
    assert found(log, path, declared=(path,)) is None
    assert found(log) is None


def test_header_is_looked_for_in_include_folders() -> None:
    line = "t.c:1:10: fatal error: foo.h: No such file or directory"

    assert found(line, "include/foo.h", "t.c") is None
    assert found(line, "include/foo.h", folders=("src", "include"), declared=("t.c",)) == "include/foo.h"


def test_file_beside_the_one_that_includes_it_comes_from_its_folder() -> None:
    line = "src/t.c:1:10: fatal error: foo.h: No such file or directory"

    assert found(line, "src/foo.h", declared=("src/t.c",)) == "src/foo.h"


def test_first_missing_file_wins_over_later_ones() -> None:
    assert found("cat: a: No such file or directory\ncat: b: No such file or directory", "b", "a") == "a"


def test_file_is_preferred_to_the_place_that_wants_it() -> None:
    line = "src/t.c:1:10: fatal error: inc/foo.h: No such file or directory"

    assert found(line, "inc/foo.h", "src/t.c") == "inc/foo.h"


@pytest.mark.parametrize(
    "line",
    [
        "cat: ../outside: No such file or directory",
        "cat: /etc/absent: No such file or directory",
        "cat: hidden_input.txt: Permission denied",
        "hidden_input.txt is fine",
        "make: *** [Makefile:2: hidden_input.txt] Error 1",
        "",
    ],
)
def test_nothing_to_say(line: str) -> None:
    assert found(line, "hidden_input.txt", "../outside", "/etc/absent", "etc/absent", "outside") is None


def test_huge_log_is_searched_at_both_ends() -> None:
    noise = "hidden.txt: all is well\n" * 100_000
    wanted = "cat: hidden.txt: No such file or directory\n"

    assert found(wanted + noise, "hidden.txt") == "hidden.txt"
    assert found(noise + wanted, "hidden.txt") == "hidden.txt"
