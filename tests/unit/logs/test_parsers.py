"""What real tools printed, and what the parsers made of it."""

from __future__ import annotations

import logging
import re
import sys
import time
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest

from computefarm.logs import parsers
from computefarm.logs.parsers import Parsed, at_least, parser


def parsed(name: str, text: str) -> list[tuple[str, str, str, int, int, str]]:
    """Return what the parser found, as (level, dir, file, line, column, message)."""
    reader = parser(name)
    found = [reader.feed(line) for line in text.splitlines()]
    return [(f.level, f.dir, f.file, f.line, f.column, f.message) for f in found if f is not None]


# Each text is what the named version printed, cut to the lines that matter.
GCC_12 = """\
In file included from a.c:2:
b.h:1:13: error: expected declaration specifiers or '...' before '{' token
    1 | int broken( { ;
      |             ^
l.c: In function 'main':
l.c:1:36: warning: unused variable 'z' [-Wunused-variable]
    1 | int foo(void); int main(void){ int z; return foo(); }
/usr/bin/ld: /tmp/ccwKdt72.o: in function `main':
l.c:(.text+0x5): undefined reference to `foo'
collect2: error: ld returned 1 exit status
/usr/bin/ld: cannot find -lnothere: No such file or directory
cc1: fatal error: nofile.c: No such file or directory
compilation terminated.
gcc: error: unrecognized command-line option '-fbogus'
"""

CLANG_14 = """\
In file included from a.c:2:
./b.h:1:13: error: expected parameter declarator
int broken( { ;
            ^
./b.h:1:11: note: to match this '('
a.c:4:47: error: expected function body after function declarator
3 errors generated.
clang: error: linker command failed with exit code 1 (use -v to see invocation)
"""


def test_gcc() -> None:
    assert parsed("gcc", GCC_12) == [
        ("error", "", "b.h", 1, 13, "expected declaration specifiers or '...' before '{' token"),
        ("warning", "", "l.c", 1, 36, "unused variable 'z' [-Wunused-variable]"),
        ("error", "", "l.c", 0, 0, "undefined reference to `foo'"),
        ("error", "", "", 0, 0, "collect2: ld returned 1 exit status"),
        ("error", "", "", 0, 0, "cannot find -lnothere: No such file or directory"),
        ("error", "", "", 0, 0, "cc1: nofile.c: No such file or directory"),
        ("error", "", "", 0, 0, "gcc: unrecognized command-line option '-fbogus'"),
    ]


def test_clang_speaks_like_gcc() -> None:
    assert parsed("clang", CLANG_14) == [
        ("error", "", "b.h", 1, 13, "expected parameter declarator"),
        ("info", "", "b.h", 1, 11, "to match this '('"),
        ("error", "", "a.c", 4, 47, "expected function body after function declarator"),
        ("error", "", "", 0, 0, "clang: linker command failed with exit code 1 (use -v to see invocation)"),
    ]


def test_an_absolute_path_is_split_so_that_an_editor_can_jump() -> None:
    assert parsed("gcc", "/usr/include/stdio.h:7:1: note: declared here") == [
        ("info", "/usr/include", "stdio.h", 7, 1, "declared here")
    ]


def test_ordinary_talk_is_plain() -> None:
    assert parsed("gcc", "compiling a.c: all is well\n12:30: no error here\nhttp://x:80: y") == []


MAKE = """\
make -C d
make[1]: Entering directory '/tmp/lp/d'
gcc -c x.c
x.c:3:1: error: expected ';'
make[1]: *** [Makefile:2: x] Error 1
make[1]: Leaving directory '/tmp/lp/d'
make: *** [Makefile:4: sub] Error 2
make: *** No rule to make target 'nothere'.
bad.mk:1: *** missing separator.  Stop.
"""


def test_make_knows_its_folders() -> None:
    assert parsed("make", MAKE) == [
        ("error", "/tmp/lp/d", "x.c", 3, 1, "expected ';'"),
        ("error", "/tmp/lp/d", "Makefile", 2, 0, "x: Error 1"),
        ("error", "", "Makefile", 4, 0, "sub: Error 2"),
        ("error", "", "", 0, 0, "No rule to make target 'nothere'."),
        ("error", "", "bad.mk", 1, 0, "missing separator.  Stop."),
    ]


def test_cmake_and_ninja() -> None:
    text = """\
CMake Error at CMakeLists.txt:3 (foo):
  Unknown CMake command "foo".

CMake Warning (dev) at sub/CMakeLists.txt:4 (message):
  careful
-- Configuring incomplete, errors occurred!
FAILED: x.o
ninja: build stopped: subcommand failed.
"""
    assert parsed("cmake", text) == [
        ("error", "", "CMakeLists.txt", 3, 0, 'Unknown CMake command "foo".'),
        ("warning", "", "sub/CMakeLists.txt", 4, 0, "careful"),
        ("error", "", "", 0, 0, "FAILED: x.o"),
        ("error", "", "", 0, 0, "build stopped: subcommand failed."),
    ]


PDFLATEX = r"""(./t.tex
LaTeX2e <2022-11-01> patch level 1
(/usr/share/texlive/texmf-dist/tex/latex/base/article.cls
Document Class: article 2022/07/02 v1.4n Standard LaTeX document class
(/usr/share/texlive/texmf-dist/tex/latex/base/size10.clo))
No file t.aux.
! Undefined control sequence.
l.3 Hello \undefinedthing
                         . See \ref{nope}. \input{ch}
LaTeX Warning: Reference `nope' on page 1 undefined on input line 3.
(./ch.tex
! Undefined control sequence.
l.1 In chapter \alsobad
                        here
)
Overfull \hbox (339.89986pt too wide) in paragraph at lines 3--5
Package hyperref Warning: Token not allowed in a PDF string.

"""


def test_latex_follows_the_files_that_it_opens() -> None:
    assert parsed("latex", PDFLATEX) == [
        ("error", "", "t.tex", 3, 0, "Undefined control sequence. Hello \\undefinedthing"),
        ("warning", "", "t.tex", 3, 0, "Reference `nope' on page 1 undefined on input line 3."),
        ("error", "", "ch.tex", 1, 0, "Undefined control sequence. In chapter \\alsobad"),
        ("info", "", "t.tex", 3, 0, r"Overfull \hbox (339.89986pt too wide) in paragraph"),
        ("warning", "", "t.tex", 0, 0, "Token not allowed in a PDF string."),
    ]


def test_latex_with_file_line_error_and_context() -> None:
    text = r"""./ch.tex:1: Undefined control sequence.
tex error       > tex error on line 5 in file ./book.tex: ! Undefined control sequence
mtx-context     | fatal error: return code: 256
"""
    assert parsed("latex", text) == [
        ("error", "", "ch.tex", 1, 0, "Undefined control sequence."),
        ("error", "", "book.tex", 5, 0, "Undefined control sequence"),
        ("error", "", "", 0, 0, "return code: 256"),
    ]


def test_python_points_at_the_users_own_line() -> None:
    text = """\
/tmp/lp/t.py:2: DeprecationWarning: old
  warnings.warn("old", DeprecationWarning)
Traceback (most recent call last):
  File "/tmp/lp/t.py", line 4, in <module>
    f()
  File "/tmp/lp/t.py", line 3, in f
    def f(): return json.loads("{")
                    ^^^^^^^^^^^^^^^
  File "/usr/lib/python3.11/json/__init__.py", line 346, in loads
    return _default_decoder.decode(s)
json.decoder.JSONDecodeError: Expecting property name enclosed in double quotes
after all: that is plain
  File "s.py", line 1
    def f(:
          ^
SyntaxError: invalid syntax
"""
    assert parsed("python", text) == [
        ("warning", "/tmp/lp", "t.py", 2, 0, "DeprecationWarning: old"),
        ("error", "/tmp/lp", "t.py", 3, 0, "json.decoder.JSONDecodeError: Expecting property name enclosed in double quotes"),
        ("error", "", "s.py", 1, 0, "SyntaxError: invalid syntax"),
    ]


def test_pytest() -> None:
    text = """\
FF                                                                       [100%]
____________________________________ test_a ____________________________________
>       assert 1 == 2, "no"
E       AssertionError: no
E       assert 1 == 2

tt/test_x.py:4: AssertionError
  /tmp/lp/tt/test_x.py:3: UserWarning: hm
=========================== short test summary info ============================
FAILED tt/test_x.py::test_a - AssertionError: no
ERROR tt/test_y.py - ImportError: nothing
2 failed, 1 warning in 0.22s
==================== 3 passed in 0.10s ====================
"""
    assert parsed("pytest", text) == [
        ("error", "", "tt/test_x.py", 4, 0, "AssertionError: no"),
        ("warning", "/tmp/lp/tt", "test_x.py", 3, 0, "UserWarning: hm"),
        ("info", "", "tt/test_x.py", 0, 0, "test_a: AssertionError: no"),
        ("error", "", "tt/test_y.py", 0, 0, "collection: ImportError: nothing"),
        ("error", "", "", 0, 0, "2 failed, 1 warning in 0.22s"),
        ("info", "", "", 0, 0, "3 passed in 0.10s"),
    ]


LINKERS = """\
/usr/bin/ld:j.o: file format not recognized; treating as linker script
/usr/bin/ld:j.o:0: syntax error
<artificial>:(.text+0x5): undefined reference to `foo'
/tmp/lv/t/l1.c:1: undefined reference to `foo'
ld.lld: error: undefined symbol: foo
ar: nothing.o: No such file or directory
x.c:3:5: runtime error: signed integer overflow
"""


def test_linkers_archivers_and_sanitizers() -> None:
    assert parsed("gcc", LINKERS) == [
        ("error", "", "", 0, 0, "j.o: file format not recognized; treating as linker script"),
        ("error", "", "", 0, 0, "j.o:0: syntax error"),
        ("error", "", "", 0, 0, "undefined reference to `foo'"),
        ("error", "/tmp/lv/t", "l1.c", 1, 0, "undefined reference to `foo'"),
        ("error", "", "", 0, 0, "ld.lld: undefined symbol: foo"),
        ("error", "", "", 0, 0, "ar: nothing.o: No such file or directory"),
        ("error", "", "x.c", 3, 5, "signed integer overflow"),
    ]


MAKE_4_3 = """\
Makefile:16: warning: overriding recipe for target 'twice'
make: nosuchcommand: No such file or directory
make: *** [Makefile:11: kill] Killed
make: [Makefile:2: x] Error 1 (ignored)
err.mk:5: note this
err.mk:6: *** stop here.  Stop.
make: warning:  Clock skew detected.  Your build may be incomplete.
/bin/sh: 1: nosuchcommand: not found
ninja: Entering directory `b4'
x.c:1:31: error: 'q' undeclared
ninja: error: build.ninja:2: expected 'command =' line
CMake Warning (dev) in CMakeLists.txt:
  No cmake_minimum_required command is present.
CMake Error: The source directory "/p/nodir" does not exist.
"""


def test_what_else_make_ninja_and_cmake_say() -> None:
    assert parsed("make", MAKE_4_3) == [
        ("warning", "", "Makefile", 16, 0, "overriding recipe for target 'twice'"),
        ("error", "", "", 0, 0, "nosuchcommand: No such file or directory"),
        ("error", "", "Makefile", 11, 0, "kill: Killed"),
        ("warning", "", "Makefile", 2, 0, "x: Error 1 (ignored)"),
        ("warning", "", "err.mk", 5, 0, "note this"),
        ("error", "", "err.mk", 6, 0, "stop here.  Stop."),
        ("warning", "", "", 0, 0, "Clock skew detected.  Your build may be incomplete."),
        ("error", "", "", 0, 0, "nosuchcommand: not found"),
        ("error", "b4", "x.c", 1, 31, "'q' undeclared"),
        ("error", "b4", "build.ninja", 2, 0, "expected 'command =' line"),
        ("warning", "", "CMakeLists.txt", 0, 0, "No cmake_minimum_required command is present."),
        ("error", "", "", 0, 0, 'The source directory "/p/nodir" does not exist.'),
    ]


LONG_WARNINGS = r"""(./t.tex
Package hyperref Warning: Token not allowed in a PDF string (Unicode):
(hyperref)                removing `math shift' on input line 6.

LaTeX Warning: Reference `a-rather-long-label-of-some-section' on page 1 undefi
ned on input line 12.

LaTeX Warning: There were undefined references.

! LaTeX Error: File `nosuchpackage.sty' not found.

! Emergency stop.
<read *>
l.3 \begin
          {document}^^M
!  ==> Fatal error occurred, no output PDF file produced!
"""


def test_latex_warnings_of_several_lines() -> None:
    assert parsed("latex", LONG_WARNINGS) == [
        ("warning", "", "t.tex", 6, 0, "Token not allowed in a PDF string (Unicode): removing `math shift' on input line 6."),
        ("warning", "", "t.tex", 12, 0, "Reference `a-rather-long-label-of-some-section' on page 1 undefined on input line 12."),
        ("warning", "", "t.tex", 0, 0, "There were undefined references."),
        ("error", "", "t.tex", 0, 0, "LaTeX Error: File `nosuchpackage.sty' not found."),
        ("error", "", "t.tex", 3, 0, "Emergency stop. \\begin"),
        ("error", "", "t.tex", 0, 0, "==> Fatal error occurred, no output PDF file produced!"),
    ]


def test_python_groups_bare_exceptions_and_the_interpreter_itself() -> None:
    text = """\
  + Exception Group Traceback (most recent call last):
  |   File "/tmp/lv/py/s.py", line 11, in <module>
  |     raise ExceptionGroup("many", [ValueError("a"), TypeError("b")])
  | ExceptionGroup: many (2 sub-exceptions)
  +-+---------------- 1 ----------------
    | ValueError: a
Traceback (most recent call last):
  File "/tmp/lv/py/s.py", line 6, in f
    raise Weird from e
Weird
/usr/bin/python3: can't open file '/p/nofile.py': [Errno 2] No such file or directory
/usr/bin/python3: No module named nomodule
"""
    assert parsed("python", text) == [
        ("error", "/tmp/lv/py", "s.py", 11, 0, "ExceptionGroup: many (2 sub-exceptions)"),
        ("error", "/tmp/lv/py", "s.py", 6, 0, "Weird"),
        ("error", "", "", 0, 0, "can't open file '/p/nofile.py': [Errno 2] No such file or directory"),
        ("error", "", "", 0, 0, "No module named nomodule"),
    ]


def test_pytest_short_tracebacks_have_the_place_above() -> None:
    text = """\
____________________________________ test_b ____________________________________
test_x.py:8: in test_b
    helper(1)
test_x.py:6: in helper
    raise ValueError("two\\nlines")
E   ValueError: two
E   lines
_______________________ ERROR collecting test_y.py _____________________________
/usr/lib/python3.11/importlib/__init__.py:126: in import_module
    return _bootstrap._gcd_import(name[level:], package, level)
test_y.py:1: in <module>
    import nothing_here
E   ModuleNotFoundError: No module named 'nothing_here'
=========================== short test summary info ============================
FAILED test_x.py::test_b - ValueError: two
ERROR test_y.py
FAILED test_x.py::test_p[a b] - AssertionError: assert 'a b' == 1
ERROR: file or directory not found: nofile.py
"""
    assert parsed("pytest", text) == [
        ("error", "", "test_x.py", 6, 0, "ValueError: two"),
        ("error", "", "test_y.py", 1, 0, "ModuleNotFoundError: No module named 'nothing_here'"),
        ("info", "", "test_x.py", 0, 0, "test_b: ValueError: two"),
        ("info", "", "test_y.py", 0, 0, "collection: error"),
        ("error", "", "test_x.py", 0, 0, "test_p[a b]: AssertionError: assert 'a b' == 1"),
        ("error", "", "", 0, 0, "file or directory not found: nofile.py"),
    ]


def test_a_script_may_run_anything() -> None:
    text = """\
make: *** [Makefile:2: x] Error 1
a.c:1:2: warning: unused
Traceback (most recent call last):
  File "/p/s.py", line 4, in <module>
    error: this is source text
ValueError: no
plain
"""
    assert parsed("script", text) == [
        ("error", "", "Makefile", 2, 0, "x: Error 1"),
        ("warning", "", "a.c", 1, 2, "unused"),
        ("error", "/p", "s.py", 4, 0, "ValueError: no"),
    ]


def test_a_line_of_a_megabyte_is_no_message_and_takes_no_time() -> None:
    before = time.process_time()
    for name in parsers.names():
        assert parser(name).feed("x: " * 300_000) is None
    assert time.process_time() - before < 0.5


# --- whoever ships it ---


class Raises:
    def feed(self, line: str) -> Parsed | None:
        raise ZeroDivisionError(line)


class Confused:
    def feed(self, line: str) -> Parsed | None:
        return "text"  # type: ignore[return-value]


class Unloadable:
    def __init__(self) -> None:
        raise OSError("no")


@pytest.mark.parametrize(
    ("name", "words"),
    [("Raises", "ZeroDivisionError"), ("Confused", "returned str"), ("Unloadable", "OSError"), ("", "not installed")],
)
def test_a_bad_parser_is_named_once_and_costs_no_line(
    name: str, words: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    label = f"mine-{name}"
    point = metadata.EntryPoint(label, f"{__name__}:{name}", parsers.GROUP)
    monkeypatch.setattr(parsers, "_installed", lambda: {label: point} if name else {})
    monkeypatch.setattr(metadata.EntryPoint, "load", lambda self: globals()[name])
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            reader = parser(label)
            assert [reader.feed(line) for line in ("a.c:1:1: error: x", "b")] == [None, None]
    assert len(caplog.records) == 1
    assert label in caplog.text
    assert words in caplog.text


def test_no_parser_is_no_complaint(caplog: pytest.LogCaptureFixture) -> None:
    assert parser("").feed("a.c:1:1: error: x") is None
    assert not caplog.records


def test_levels_are_ordered() -> None:
    assert at_least("error", "warning")
    assert at_least("WARN", "warning")
    assert at_least("note", "info")
    assert not at_least("info", "warning")
    assert at_least("strange", "info")


def test_the_shipped_parsers_are_installed() -> None:
    assert set(parsers.names()) >= {"gcc", "clang", "make", "cmake", "latex", "python", "pytest"}


def test_the_parser_of_the_documentation_works_as_a_plug_in(monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "logs.md").read_text()
    block = re.search(r"<!-- file: scons_lines.py -->\n```python\n(.*?)```", page, re.DOTALL)
    line = re.search(r'^scons = "scons_lines:(\w+)"$', page, re.MULTILINE)
    assert block is not None
    assert line is not None
    module = ModuleType("scons_lines")
    exec(block[1], module.__dict__)
    monkeypatch.setitem(sys.modules, "scons_lines", module)
    point = metadata.EntryPoint("scons", f"scons_lines:{line[1]}", parsers.GROUP)
    monkeypatch.setattr(parsers, "_installed", lambda: {"scons": point})

    text = 'scons: *** [build/a.o] Error 1\nFile "/p/SConstruct", line 3\nscons: done\n'
    assert parsed("scons", text) == [
        ("error", "", "", 0, 0, "[build/a.o] Error 1"),
        ("info", "/p", "SConstruct", 3, 0, 'File "/p/SConstruct", line 3'),
    ]
