from __future__ import annotations

import os
from pathlib import Path

from computefarm.host.pids import OwnProcesses
from computefarm.host.processes import identity, read_process


def folder(root: Path, uid: int | None = None) -> Path:
    return root / f"computefarm-{os.geteuid() if uid is None else uid}" / "pids"


def test_a_registered_process_is_found_by_all(tmp_path: Path) -> None:
    OwnProcesses(tmp_path).register()

    assert OwnProcesses(tmp_path).registered() == [os.getpid()]


def test_a_forgotten_one_is_not(tmp_path: Path) -> None:
    own = OwnProcesses(tmp_path)
    own.register()
    own.forget()
    own.forget()

    assert own.registered() == []


def test_a_dead_one_is_cleared_away(tmp_path: Path) -> None:
    own = OwnProcesses(tmp_path)
    own.register()
    (folder(tmp_path) / str(os.getpid())).rename(folder(tmp_path) / "999999999")

    assert own.registered() == []
    assert list(folder(tmp_path).iterdir()) == []


def test_another_process_with_an_old_number_is_not_taken_for_it(tmp_path: Path) -> None:
    own = OwnProcesses(tmp_path)
    own.register()
    entry = folder(tmp_path) / str(os.getpid())
    entry.write_text("1" + entry.read_text())

    assert own.registered() == []
    assert not entry.exists()


def test_a_containers_entries_are_neither_believed_nor_cleared(tmp_path: Path) -> None:
    own = OwnProcesses(tmp_path)
    own.register()
    entry = folder(tmp_path) / str(os.getpid())
    entry.write_text(entry.read_text().partition("@")[0] + "@pid:[1]")

    assert own.registered() == []
    assert entry.exists()


def test_a_folder_of_somebody_else_under_a_users_name_is_ignored(tmp_path: Path) -> None:
    own = OwnProcesses(tmp_path)
    own.register()
    folder(tmp_path).parent.rename(tmp_path / f"computefarm-{os.geteuid() + 1}")

    assert own.registered() == []


def test_rubbish_in_the_folder_is_ignored(tmp_path: Path) -> None:
    own = OwnProcesses(tmp_path)
    own.register()
    (folder(tmp_path) / "notes").write_text("x")
    (folder(tmp_path) / "17").write_bytes(b"\xff")

    assert own.registered() == [os.getpid()]


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere/pids").mkdir(parents=True)
    folder(tmp_path).parent.symlink_to(tmp_path / "elsewhere")

    OwnProcesses(tmp_path).register()

    assert list((tmp_path / "elsewhere/pids").iterdir()) == []


def test_a_planted_pipe_makes_nobody_wait(tmp_path: Path) -> None:
    own = OwnProcesses(tmp_path)
    own.register()
    os.mkfifo(folder(tmp_path) / "17")

    assert own.registered() == [os.getpid()]


def test_registering_where_nothing_can_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    OwnProcesses(tmp_path / "file").register()

    assert OwnProcesses(tmp_path / "file").registered() == []


def test_a_dead_process_cannot_be_registered(tmp_path: Path) -> None:
    OwnProcesses(tmp_path).register(999999999)

    assert not folder(tmp_path).exists()


def test_this_process_by_its_facts() -> None:
    me = read_process(os.getpid())

    assert me is not None
    assert me.parent == os.getppid()
    assert me.cpu_s > 0
    assert identity(os.getpid()) == identity(os.getpid())
    assert identity(999999999) is None
