from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Sequence
from pathlib import Path

import pytest
from doit.dependency import JSONCodec

from computefarm.errors import FarmError, UsageError
from computefarm.majordomo.database import Database, FileState
from computefarm.majordomo.lock import RunLock


def opened(path: Path) -> Database:
    return Database(str(path / "db"), JSONCodec())


def test_what_was_set_is_there_after_reopening(tmp_path: Path) -> None:
    database = opened(tmp_path)
    database.set("a", "_values_:", {"n": [1, None]})
    database.set("a", "checker:", "MD5")
    database.dump()

    again = opened(tmp_path)

    assert again.get("a", "_values_:") == {"n": [1, None]}
    assert again.get("a", "checker:") == "MD5"
    assert again.get("a", "absent") is None
    assert (again.in_("a"), again.in_("b")) == (True, False)


def test_nothing_is_written_where_nothing_changed(tmp_path: Path) -> None:
    database = opened(tmp_path)

    assert database.get("a", "x") is None
    database.dump()

    assert list(tmp_path.iterdir()) == []


def test_forgetting_one_task_and_all(tmp_path: Path) -> None:
    database = opened(tmp_path)
    for name in "abc":
        database.set(name, "k", name)
    database.dump()
    database = opened(tmp_path)
    database.remove("a")
    database.dump()
    assert sorted(opened(tmp_path).names()) == ["b", "c"]

    database = opened(tmp_path)
    database.remove_all()
    database.set("d", "k", 1)
    database.dump()
    assert sorted(opened(tmp_path).names()) == ["d"]


def test_a_state_is_stored_once_and_its_time_can_move(tmp_path: Path) -> None:
    database = opened(tmp_path)
    first = database.state_id(FileState("h", 3, 100, b"x" * 32))
    for name in "ab":
        entry = database.edit(name)
        entry.deps = array("I", [first])
        database.commit(name)
    assert database.state_id(FileState("h", 3, 200, b"x" * 32)) == first
    other = database.state_id(FileState("h", 3, 200, b"y" * 32))
    database.dump()

    again = opened(tmp_path)

    assert other != first
    assert again.get("a", "deps:") == ["h"]
    assert again.states[first] == FileState("h", 3, 200, b"x" * 32)
    assert again.get("b", "h") == [200 / 1e9, 3, (b"x" * 32).hex()]


def test_a_success_is_on_disk_while_the_run_goes_on(tmp_path: Path) -> None:
    synced: list[Sequence[str]] = []
    database = Database(str(tmp_path / "db"), JSONCodec(), sync=synced.append)
    database.edit("a")
    database.commit("a", sync=["target"])
    reader = sqlite3.connect(tmp_path / "db")
    try:
        while not reader.execute("select task from tasks").fetchall():
            pass  # the test's own time limit ends a wait that is in vain
        assert synced == [["target"]]
    finally:
        reader.close()
        database.dump()


def test_what_cannot_be_made_durable_is_not_remembered(tmp_path: Path) -> None:
    def full(_: Sequence[str]) -> None:
        raise OSError(28, "No space left on device")

    database = Database(str(tmp_path / "db"), JSONCodec(), sync=full)
    database.edit("a")
    database.commit("a", sync=["target"])

    with pytest.raises(FarmError, match="No space left"):
        database.dump()
    assert list(opened(tmp_path).names()) == []


@pytest.mark.parametrize("garbage", [b"nonsense" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_file_is_moved_aside(
    garbage: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "db").write_bytes(garbage)
    database = opened(tmp_path)

    assert not database.in_("a")
    database.set("a", "k", 1)
    database.dump()

    assert [path.read_bytes() for path in tmp_path.glob("db.damaged-*")] == [garbage]
    assert "damaged" in capsys.readouterr().err
    assert opened(tmp_path).get("a", "k") == 1


def test_every_torn_length_is_survived(tmp_path: Path) -> None:
    database = opened(tmp_path)
    for i in range(50):
        database.set(str(i), "k", "v" * 100)
    database.dump()
    whole = (tmp_path / "db").read_bytes()
    for length in range(0, len(whole), 1237):
        (tmp_path / "db").write_bytes(whole[:length])
        torn = opened(tmp_path)
        torn.in_("1")
        torn.set("x", "k", 1)
        torn.dump()
        assert opened(tmp_path).get("x", "k") == 1
        for path in tmp_path.iterdir():
            path.unlink()


def test_somebody_else_s_database_is_refused(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "db")
    connection.execute("create table precious (x)")
    connection.close()

    with pytest.raises(UsageError, match="not a database of majordomo"):
        opened(tmp_path).in_("a")


def test_the_lock_names_who_holds_it(tmp_path: Path) -> None:
    import os

    path = str(tmp_path / "lock")
    with RunLock(path), pytest.raises(FarmError, match=f"pid {os.getpid()}") as caught, RunLock(path):
        pass
    assert caught.value.exit_code == 6
    with RunLock(path):
        pass
