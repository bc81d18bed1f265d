"""A large output, read page by page where its worker keeps it."""

from __future__ import annotations

from pathlib import Path

import pytest

from computefarm.errors import FarmError
from computefarm.logs.kept_output import end_path, kept_path, read_page


def everything(path: Path, most: int) -> tuple[bytes, int]:
    data, cursor, gone = b"", "", 0
    while True:
        page = read_page(path, cursor, most)
        data, cursor, gone = data + page.data, page.cursor, gone + page.left_out
        assert len(page.data) <= most
        if not cursor:
            return data, gone


@pytest.mark.parametrize("most", [1, 3, 7, 10, 100])
def test_its_beginning_and_its_ends_in_order(tmp_path: Path, most: int) -> None:
    path = kept_path(tmp_path, "r1", "compile:main", 2)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"0123456789")
    assert everything(path, most) == (b"0123456789", 0)
    end_path(path, 1).write_bytes(b"abcde")
    assert everything(path, most) == (b"0123456789abcde", 0)
    # Of twelve ends of five bytes the last two are there.
    end_path(path, 1).unlink()
    end_path(path, 11).write_bytes(b"vwxyz")
    end_path(path, 12).write_bytes(b"!")
    assert everything(path, most) == (b"0123456789vwxyz!", 50)


def test_what_is_gone_or_has_changed_is_said(tmp_path: Path) -> None:
    path = kept_path(tmp_path, "r1", "a", 1)
    with pytest.raises(FarmError, match="there is no such file"):
        read_page(path)
    path.parent.mkdir()
    path.write_bytes(b"0123456789")
    end_path(path, 1).write_bytes(b"abcde")
    cursor = read_page(path, "", 10).cursor
    cursor = read_page(path, cursor, 2).cursor
    end_path(path, 1).rename(end_path(path, 3))
    with pytest.raises(FarmError, match="was changed while it was read"):
        read_page(path, cursor)
    with pytest.raises(FarmError, match="no place in an output"):
        read_page(path, "nonsense")


def test_no_name_leads_outside_the_folder(tmp_path: Path) -> None:
    for run, task in (("..", "../../etc/passwd"), ("/etc", "/etc/passwd"), ("a/../..", "..")):
        path = kept_path(tmp_path, run, task, 1)
        assert path.parent.parent == tmp_path
        assert ".." not in path.parts
