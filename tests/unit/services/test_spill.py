"""All that a talkative task printed, in bounded files."""

from __future__ import annotations

import os
import time
from pathlib import Path

from computefarm.codec import encode_action
from computefarm.messages import Action, Run
from computefarm.services.attempts import Execution
from computefarm.services.spill import FROM, Spill, SpillFile

ACTION = Action("shell", ("true",))


def execution(name: str = "big", ticket: int = 1) -> Execution:
    return Execution(Run(1, 1, name, encode_action(ACTION), session="r1"), ACTION, ticket)


def spill(folder: Path, limit: int = 64 << 20, hold_s: float = 3600.0) -> Spill:
    return Spill(folder, limit=limit, hold_s=hold_s, hostname="nn02")


def test_little_is_not_written(tmp_path: Path) -> None:
    kept, task = spill(tmp_path / "o"), execution()
    kept.take(task, "x\n" * 100)
    assert kept.where(task) == ""
    kept.finish(task)
    kept.close()
    assert not (tmp_path / "o").exists()


def test_much_is_written_from_its_first_line_to_its_last(tmp_path: Path) -> None:
    kept, task = spill(tmp_path), execution()
    lines = [f"{n:019d}\n" * 1000 for n in range(200)]
    for text in lines:
        kept.take(task, text)
    where = kept.where(task)
    kept.finish(task)
    kept.close()
    path = tmp_path / "r1" / "big~1.txt"
    assert f"nn02:{path}" in where
    assert path.read_text() == "".join(lines)
    assert sum(map(len, lines)) > 2 * FROM


def test_too_much_keeps_the_beginning_and_the_end(tmp_path: Path) -> None:
    file = SpillFile(tmp_path / "t.txt", 1000)
    for n in range(1000):
        file.write(b"%09d\n" % n)
    file.close()
    head = (tmp_path / "t.txt").read_bytes()
    ends = sorted(tmp_path.glob("t.txt.end-*"), key=lambda path: path.stat().st_mtime_ns)
    tail = b"".join(path.read_bytes() for path in ends)
    assert head == b"".join(b"%09d\n" % n for n in range(50))
    assert tail.endswith(b"%09d\n" % 999)
    assert len(tail) >= 250
    assert len(head) + len(tail) <= 1000


def test_a_disk_that_is_full_loses_lines_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    kept, task = spill(tmp_path / "file"), execution()
    kept.take(task, "x" * (FROM + 1))
    kept.take(task, "y")
    kept.finish(task)
    kept.close()
    assert kept.lost == FROM + 2


def test_old_files_are_removed_and_new_ones_stay(tmp_path: Path) -> None:
    for name, age_s in (("r0/a~1.txt", 7200), ("r0/a~1.txt.end-1", 7200), ("r1/b~1.txt", 10)):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
        os.utime(path, (time.time() - age_s,) * 2)
    kept = spill(tmp_path)
    kept.sweep(1.0)
    kept.close()
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["r1", "r1/b~1.txt"]
