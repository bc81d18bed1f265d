"""Logs of JSON lines in files of bounded size."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from computefarm.logs.jsonl import START, Cursor, Filter, LineLog, parse_cursor, read_page

ALL = Filter()


def read_all(path: Path, cursor: Cursor = START, wanted: Filter = ALL, **limits: int) -> list[bytes]:
    found: list[bytes] = []
    for _ in range(10_000):
        page = read_page(path, cursor, wanted, **limits)
        found += page.lines
        assert page.at_end or page.cursor > cursor
        cursor = page.cursor
        if page.at_end:
            return found
    raise AssertionError("reading does not end")


def test_what_was_written_is_read_in_pages_of_any_size(tmp_path: Path) -> None:
    log = LineLog(tmp_path / "a" / "farm.jsonl", 1 << 20)
    lines = [b'{"n":%d}' % n for n in range(1000)]
    log.append(lines[:1])
    log.append([])
    log.append(lines[1:])
    for most, scan in ((1, 64), (100, 64), (1 << 20, 1 << 20)):
        assert read_all(log.path, most=most, scan=scan) == lines


def test_a_reader_at_the_end_is_given_what_comes_later(tmp_path: Path) -> None:
    log = LineLog(tmp_path / "farm.jsonl", 1 << 20)
    first = read_page(log.path, log.end(), Filter())
    assert first.at_end
    assert not first.lines
    log.append([b"one"])
    second = read_page(log.path, first.cursor, Filter())
    assert (second.lines, second.at_end) == ((b"one",), True)
    assert read_page(log.path, second.cursor, Filter()).lines == ()


def test_the_oldest_files_are_removed_and_a_late_reader_is_told(tmp_path: Path) -> None:
    log = LineLog(tmp_path / "farm.jsonl", 64 * 1024)
    log.append([b"x" * 100])
    early = read_page(log.path, START, Filter()).cursor
    for n in range(2000):
        log.append([b"%0100d" % n])
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 64 * 1024 + 10_000
    page = read_page(log.path, early, Filter())
    assert page.lost
    assert page.lines[0] != b"%0100d" % 0
    found = read_all(log.path, page.cursor)
    assert found[-1] == b"%0100d" % 1999
    assert read_page(log.path, START, Filter()).lost == 0  # who asks for the oldest has missed nothing


def test_a_log_goes_on_after_a_restart_without_gluing_to_half_a_line(tmp_path: Path) -> None:
    log = LineLog(tmp_path / "farm.jsonl", 1 << 20)
    log.append([b"one"])
    log.close()
    with log.path.open("ab") as file:
        file.write(b'{"half')
    again = LineLog(log.path, 1 << 20)
    again.append([b"two"])
    assert read_all(log.path) == [b"one", b'{"half', b"two"]
    assert again.end() == read_page(log.path, START, Filter()).cursor


def test_a_filter_sees_fields_and_not_text(tmp_path: Path) -> None:
    log = LineLog(tmp_path / "farm.jsonl", 1 << 20)
    log.append([b'{"task":"a","msg":"1"}', rb'{"task":"b","msg":"\"task\":\"a\""}', b'{"task":"ab"}'])
    assert read_all(log.path, wanted=Filter(((b'"task":"a"',),))) == [b'{"task":"a","msg":"1"}']
    both = Filter(((b'"task":"a"', b'"task":"b"'), (b'"msg":"1"',)))
    assert read_all(log.path, wanted=both) == [b'{"task":"a","msg":"1"}']
    assert len(read_all(log.path, wanted=Filter(((b'"task":"a"', b'"task":"ab"'),)))) == 2


def test_a_full_disk_is_counted_and_leaves_no_half_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = LineLog(tmp_path / "farm.jsonl", 1 << 20)
    log.append([b"one"])
    write, calls = os.write, []

    def full(fd: int, data: bytes) -> int:
        calls.append(data)
        if len(calls) == 1:
            return write(fd, bytes(data)[:2])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        log.append([b"two"])
    assert (log.lost, "No space left" in log.fault) == (4, True)
    log.append([b"three"])
    assert log.fault == ""
    assert read_all(log.path) == [b"one", b"three"]


def test_a_folder_that_cannot_be_made_is_no_crash(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    log = LineLog(tmp_path / "file" / "farm.jsonl", 1 << 20)
    log.append([b"one"])
    assert log.lost == 4
    assert log.fault
    assert read_page(log.path, START, Filter()).at_end


@pytest.mark.parametrize("text", ["", "1", "a:b", "-1:0", "1:2:3", "9" * 30 + ":0"])
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="place in a log"):
        parse_cursor(text)


def test_a_cursor_is_read_as_it_is_written() -> None:
    assert parse_cursor(str(Cursor(3, 17))) == Cursor(3, 17)
