"""What compilers say they have read."""

from __future__ import annotations

from pathlib import Path

import pytest

from computefarm.majordomo.database import FileState
from computefarm.majordomo.depfiles import discovered, prerequisites


@pytest.mark.parametrize(
    ("text", "files"),
    [
        ("build/a.o: src/a.c include/x.h\n", ["src/a.c", "include/x.h"]),
        ("a.o: a.c \\\n  x.h \\\n  y.h\n", ["a.c", "x.h", "y.h"]),
        ("a.o: a.c \\\r\n x.h\r\n", ["a.c", "x.h"]),
        (r"a.o: my\ file.c cost$$.h a\#b.h back\slash.h" + "\n", ["my file.c", "cost$.h", "a#b.h", r"back\slash.h"]),
        ("a.o: a.c x.h\nx.h:\ny.h:\n", ["a.c", "x.h"]),
        ("a.o b.o: C:/x.h\n", ["C:/x.h"]),
        ("a.o:\n", []),
        ("", []),
        ("# made by gcc\na.o: a.c a.c\n", ["a.c"]),
    ],
)  # fmt: skip
def test_rules_as_compilers_write_them(text: str, files: list[str]) -> None:
    assert prerequisites(text) == files


def test_what_is_no_rule() -> None:
    with pytest.raises(ValueError, match="is not a rule"):
        prerequisites("hello world\n")


def state(path: str) -> FileState:
    return FileState(path, 0, 0, b"")


INPUTS = [state("include/x.h"), state("include/y.h"), state("src/a.c")]


def inside(path: str) -> str | None:
    return None if path.startswith(("/", "..")) else path.removeprefix("./")


def read(folder: Path, text: str | None) -> list[str]:
    depfile = folder / "a.o.d"
    if text is not None:
        depfile.write_text(text)
    return [one.path for one in discovered(depfile, INPUTS, inside)]


def test_only_what_was_read_counts(tmp_path: Path) -> None:
    assert read(tmp_path, "a.o: src/a.c ./include/x.h /usr/include/stdio.h\n") == ["include/x.h", "src/a.c"]


def test_a_file_named_by_its_place_in_the_tasks_own_directory_counts(tmp_path: Path) -> None:
    assert read(tmp_path, "a.o: /var/cache/private/17/include/y.h\n") == ["include/y.h"]


@pytest.mark.parametrize("text", [None, "no rule at all\n"])
def test_without_a_depfile_that_can_be_trusted_everything_counts(tmp_path: Path, text: str | None) -> None:
    assert read(tmp_path, text) == [one.path for one in INPUTS]
