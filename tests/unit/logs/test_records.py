"""Lines of output as records."""

from __future__ import annotations

import pytest

from computefarm.logs.records import Records, in_project, line_of, logger_name, plain
from computefarm.messages import Piece


def records(parser: str = "gcc", **more: object) -> Records:
    facts = {"run": "r1", "host": "nn02", "capability": "gcc", "task": "compile:a", "attempt": 2, **more}
    return Records(parser=parser, **facts)  # type: ignore[arg-type]


def test_a_record_has_the_fields_in_their_order_and_counts_lines() -> None:
    made = records()
    first = made.feed([Piece(1, 10.0, "one\ntwo\n", 0)])
    second = made.feed([Piece(2, 11.0, "a.c:3:5: warning: unused\n", 1)], offset_s=0.5)
    assert first + second == [
        {"created": 10.0, "level": "info", "name": "farm.r1.nn02.gcc", "msg": "one", "task": "compile:a",
         "attempt": 2, "host": "nn02", "stream": "stdout", "seq": 0},
        {"created": 10.0, "level": "info", "name": "farm.r1.nn02.gcc", "msg": "two", "task": "compile:a",
         "attempt": 2, "host": "nn02", "stream": "stdout", "seq": 1},
        {"created": 11.5, "level": "warning", "name": "farm.r1.nn02.gcc", "msg": "unused", "task": "compile:a",
         "attempt": 2, "host": "nn02", "stream": "stderr", "seq": 2,
         "dir": "", "file": "a.c", "line": 3, "column": 5},
    ]  # fmt: skip
    assert list(second[0]) == [
        *("created", "level", "name", "msg", "task", "attempt", "host", "stream", "seq"),
        *("dir", "file", "line", "column"),
    ]


def test_a_blank_line_and_a_line_without_an_end_are_lines() -> None:
    assert [r["msg"] for r in records().feed([Piece(1, 0.0, "\nx"), Piece(1, 0.0, "")])] == ["", "x"]


def test_streams_are_parsed_apart() -> None:
    made = records("latex")
    made.feed([Piece(1, 0.0, "! Undefined control sequence.\n")])
    assert made.feed([Piece(2, 0.0, "l.3 \\x\n")])[0]["level"] == "info"
    assert made.feed([Piece(1, 0.0, "l.3 \\x\n")])[0]["level"] == "error"


def test_make_names_on_one_stream_the_folder_of_the_other() -> None:
    made = records("make")
    made.feed([Piece(1, 0.0, "make[1]: Entering directory '/p/sub'\n")])
    assert made.feed([Piece(2, 0.0, "x.c:1:2: error: no\n")])[0]["dir"] == "/p/sub"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("\x1b[01m\x1b[Ka.c:1:2:\x1b[m\x1b[K x", "a.c:1:2: x"),
        ("\x1b]8;;http://a\x1b\\link\x1b]8;;\x07", "link"),
        (" 10%\r 20%\r 30%", " 30%"),
        ("windows\r", "windows"),
        ("plain", "plain"),
    ],
)
def test_what_a_terminal_would_leave(text: str, left: str) -> None:
    assert plain(text) == left


def test_colours_do_not_hide_a_message() -> None:
    text = "\x1b[1ma.c:1:2: \x1b[0m\x1b[31merror: \x1b[0mno\n"
    found = records().feed([Piece(2, 0.0, text)])[0]
    assert (found["level"], found["file"], found["line"]) == ("error", "a.c", 1)


def test_no_part_of_a_name_is_empty_or_branches() -> None:
    assert logger_name("r1", "nn02.example.org", "gcc") == "farm.r1.nn02_example_org.gcc"
    assert logger_name("", "h", "gcc") == "farm.-.h.gcc"
    assert records(capability="").feed([Piece(1, 0.0, "x\n")])[0]["name"] == "farm.r1.nn02.local"


def test_the_folder_of_a_task_is_the_project() -> None:
    made = records("python")
    base = "/home/u/.cache/computefarm/private/tasks-d05ef5d5aba1/17"
    texts = f'  File "{base}/lib/s.py", line 3\nSyntaxError: no\n  File "{base}/s.py", line 3\nSyntaxError: no\n'
    places = [(r["dir"], r["file"]) for r in made.feed([Piece(2, 0.0, texts)]) if "file" in r]
    assert places == [("lib", "s.py"), ("", "s.py")]
    assert in_project("/home/u/private/notes") == "/home/u/private/notes"


def test_a_record_is_written_like_a_compilers_line() -> None:
    made = records()
    texts = "a.c:3:5: warning: unused\n/usr/x.h:7: note: here\nplain\n"
    assert [line_of(r) for r in made.feed([Piece(2, 0.0, texts)])] == [
        "a.c:3:5: warning: unused",
        "/usr/x.h:7: info: here",
        "plain",
    ]
