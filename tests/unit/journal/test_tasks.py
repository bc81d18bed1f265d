"""The journal on the disk: what was synced comes back, whatever happens to the rest."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path

import pytest

from computefarm.core.commands import JournalFailed, JournalWorks, Record
from computefarm.core.entries import Cancelled, Ended, Forgotten, JournalEntry, Started, Submitted
from computefarm.errors import Refused
from computefarm.journal import compaction, files, reading, writer
from computefarm.journal.folder import segment_paths
from computefarm.journal.frames import HEADER_BYTES, Header, put_header
from computefarm.journal.tasks import JournalDamaged, TaskJournal, take_stock
from computefarm.journal.writer import Report, Synced
from computefarm.messages import Done, Need, Outcome, Result, TaskSpec


def submitted(key: int, size: int = 4) -> Submitted:
    """A task with an action of `size` bytes."""
    return Submitted(key, "s", "o", TaskSpec(key, f"t{key}", 0, b"a" * size), Need("shell"), 1.5)


def ended(key: int) -> Ended:
    """Its result."""
    return Ended(key, Done("s", key, Result(Outcome.SUCCEEDED, 0)))


def life(key: int) -> list[JournalEntry]:
    """Everything that is written of a task, in order."""
    return [submitted(key), Started(key, 1, "w", "e", 2.0), ended(key), Forgotten((key,))]


def records(entries: list[JournalEntry], first: int = 1) -> list[Record]:
    """Number them."""
    return [Record(number, entry) for number, entry in enumerate(entries, first)]


class Reports:
    """What a journal has reported, to be waited for."""

    def __init__(self) -> None:
        self.all: list[Report] = []
        self._changed = threading.Condition()

    def __call__(self, report: Report) -> None:
        with self._changed:
            self.all.append(report)
            self._changed.notify_all()

    def wait(self, *wanted: Report) -> None:
        """Wait until all of these have come, in this order."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._has(list(wanted)), 20), (wanted, self.all)

    def synced(self, number: int) -> None:
        """Wait until this record is on the disk."""
        with self._changed:
            assert self._changed.wait_for(
                lambda: any(isinstance(r, Synced) and r.number >= number for r in self.all), 20
            ), self.all

    def _has(self, wanted: list[Report]) -> bool:
        for report in self.all:
            if wanted and report == wanted[0]:
                del wanted[0]
        return not wanted

    def failure(self) -> JournalFailed:
        """Wait for a failure."""
        with self._changed:
            assert self._changed.wait_for(lambda: any(isinstance(r, JournalFailed) for r in self.all), 20), (
                self.all
            )
        return next(r for r in self.all if isinstance(r, JournalFailed))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries come at once."""
    monkeypatch.setattr(writer, "RETRY_S", 0.01)


def write(
    folder: Path, *batches: list[JournalEntry], clean: bool = True, segment_bytes: int = 1 << 24
) -> str:
    """Write each batch with a sync of its own; return the lineage."""
    journal = TaskJournal(folder, "f", segment_bytes=segment_bytes)
    reports = Reports()
    journal.start(reports)
    number = 0
    for batch in batches:
        journal.append(records(batch, number + 1), urgent=True)
        number += len(batch)
        reports.synced(number)
    before = segment_paths(folder)
    held = {path: path.read_bytes() for path in before.values()}
    assert journal.close()
    if not clean:  # as if it had been killed then
        for path, data in held.items():
            if path.exists():
                path.write_bytes(data)
    return journal.lineage


def read(folder: Path) -> list[JournalEntry]:
    """Open, look and close."""
    journal = TaskJournal(folder, "f")
    journal.close()
    return journal.entries


def test_what_is_not_forgotten_comes_back_in_order(folder: Path) -> None:
    lineage = write(folder, life(1), [submitted(2), submitted(3)], [Started(3, 1, "w", "e", 2.0), ended(2)])
    journal = TaskJournal(folder, "f")
    assert journal.entries == [submitted(2), submitted(3), Started(3, 1, "w", "e", 2.0), ended(2)]
    stock = take_stock(journal.entries)
    assert (stock.waiting, stock.running, stock.owed) == (0, 1, 1)
    assert journal.lineage == lineage
    assert not journal.fresh
    assert journal.notes == []
    journal.close()


def test_a_number_is_never_given_twice_though_its_task_is_forgotten(folder: Path) -> None:
    write(folder, [submitted(1)], life(7))
    assert read(folder) == [submitted(1), Forgotten((7,))]


def test_a_cancellation_stays_while_one_of_its_tasks_does(folder: Path) -> None:
    both = Cancelled((1, 2), "enough")
    write(folder, [submitted(1), submitted(2), both, Forgotten((1,))])
    assert read(folder) == [submitted(2), both]


def test_a_new_journal_has_a_lineage_of_its_own(folder: Path, tmp_path: Path) -> None:
    one, other = write(folder, life(1)), write(tmp_path / "other", life(1))
    assert len(one) == len(other) == 16
    assert one != other


def test_everything_is_private(folder: Path) -> None:
    write(folder, life(1))
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_two_managers_cannot_share_it(folder: Path) -> None:
    journal = TaskJournal(folder, "f")
    with pytest.raises(Refused, match=f"process {os.getpid()}"):
        TaskJournal(folder, "f")
    journal.close()
    TaskJournal(folder, "f").close()


def test_records_that_nobody_waits_for_are_synced_soon(folder: Path) -> None:
    journal = TaskJournal(folder, "f")
    reports = Reports()
    journal.start(reports)
    journal.append(records([submitted(1)]), urgent=False)
    reports.synced(1)
    journal.close()


def test_records_wait_for_company(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "BEHIND_S", 1000.0)
    journal = TaskJournal(folder, "f")
    reports = Reports()
    journal.start(reports)
    for number in range(1, 100):
        journal.append([Record(number, submitted(number))], urgent=False)
    journal.append([Record(100, submitted(100), True)], urgent=True)
    reports.synced(100)
    assert reports.all == [Synced(100)]
    journal.close()


def test_what_was_handed_over_is_written_at_the_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "BEHIND_S", 1000.0)
    journal = TaskJournal(folder, "f")
    journal.start(Reports())
    journal.append(records([submitted(1)]), urgent=False)
    assert journal.close()
    assert read(folder) == [submitted(1)]


# --- torn and flipped -------------------------------------------------------------------------------------

BATCHES: list[list[JournalEntry]] = [
    [submitted(1), submitted(2)],
    [Started(1, 1, "w", "e", 2.0)],
    [ended(1), submitted(3)],
]
EVERYTHING = [entry for batch in BATCHES for entry in batch]


@pytest.mark.parametrize("clean", [True, False], ids=["closed", "killed"])
def test_cut_at_any_byte_it_is_a_prefix_or_refused(folder: Path, clean: bool) -> None:
    write(folder, *BATCHES, clean=clean)
    path = next(iter(segment_paths(folder).values()))
    data = path.read_bytes()
    seen = set()
    for length in range(len(data) + 1):
        path.write_bytes(data[:length])
        journal = TaskJournal(folder, "f")
        found = journal.entries
        journal.close()
        assert found == EVERYTHING[: len(found)]
        if length <= HEADER_BYTES:
            assert found == []
        seen.add(len(found))
        # Only where a batch ends nothing tells that there was more.
        if found != EVERYTHING and length > HEADER_BYTES and not journal.notes:
            assert len(found) in (2, 3)
    assert seen == set(range(len(EVERYTHING) + 1))


@pytest.mark.parametrize("clean", [True, False], ids=["closed", "killed"])
@pytest.mark.parametrize("mask", [0x01, 0xFF])
def test_flipped_at_any_byte_it_is_a_prefix_or_refused(folder: Path, clean: bool, mask: int) -> None:
    write(folder, *BATCHES, clean=clean)
    path = next(iter(segment_paths(folder).values()))
    data = path.read_bytes()
    refused = dropped = 0
    for offset in range(len(data)):
        broken = bytearray(data)
        broken[offset] ^= mask
        path.write_bytes(broken)
        try:
            journal = TaskJournal(folder, "f")
        except JournalDamaged as error:
            refused += 1
            said = str(error)
            for expected in (str(path), "byte", "cf-taskmanager fsck --name f"):
                assert said.count(expected)
            continue
        journal.close()
        dropped += 1
        assert journal.entries == EVERYTHING[: len(journal.entries)]
        assert journal.notes
        assert "dropped" in journal.notes[0]
        assert len(journal.entries) >= 3, "synced before the last write"
    assert refused > 0
    assert dropped > 0


@pytest.mark.parametrize("mask", [0x01, 0xFF])
def test_a_flip_in_an_earlier_segment_is_refused(folder: Path, mask: int) -> None:
    write(folder, *BATCHES)
    write(folder, [submitted(4)])
    first, _ = segment_paths(folder).values()
    data = first.read_bytes()
    for offset in range(len(data)):
        broken = bytearray(data)
        broken[offset] ^= mask
        first.write_bytes(broken)
        with pytest.raises(JournalDamaged, match="byte"):
            TaskJournal(folder, "f")
    for length in range(len(data)):
        first.write_bytes(data[:length])
        with pytest.raises(JournalDamaged):
            TaskJournal(folder, "f")


def test_what_follows_a_torn_tail_is_kept(folder: Path) -> None:
    write(folder, *BATCHES, clean=False)
    path = next(iter(segment_paths(folder).values()))
    path.write_bytes(path.read_bytes()[:-3])
    write(folder, [submitted(9)], clean=False)
    assert read(folder) == [*EVERYTHING[:-1], submitted(9)]


def test_zeros_where_a_crash_lost_a_page_are_a_torn_tail(folder: Path) -> None:
    write(folder, *BATCHES, clean=False)
    path = next(iter(segment_paths(folder).values()))
    with path.open("ab") as file:
        file.write(bytes(4096))
    assert read(folder) == EVERYTHING


def test_another_version_is_named(folder: Path) -> None:
    write(folder, life(1))
    path = next(iter(segment_paths(folder).values()))
    header = put_header(Header(1, "0" * 16, version=7))
    path.write_bytes(header + path.read_bytes()[HEADER_BYTES:])
    with pytest.raises(JournalDamaged, match="format 7, and this version reads format 1"):
        TaskJournal(folder, "f")


def test_a_missing_segment_is_named(folder: Path) -> None:
    for key in (1, 2, 3):
        write(folder, [submitted(key)])
    paths = segment_paths(folder)
    paths[2].unlink()
    with pytest.raises(JournalDamaged, match="segment 2 is missing"):
        TaskJournal(folder, "f")
    paths[1].unlink()
    with pytest.raises(JournalDamaged, match="before it are missing"):
        TaskJournal(folder, "f")


def test_a_segment_of_another_journal_is_refused(folder: Path, tmp_path: Path) -> None:
    for key in (1, 2):
        write(folder, [submitted(key)])
        write(tmp_path / "other", [submitted(key)])
    segment_paths(folder)[2].write_bytes(segment_paths(tmp_path / "other")[2].read_bytes())
    with pytest.raises(JournalDamaged, match="another journal"):
        TaskJournal(folder, "f")


# --- a disk that fails ------------------------------------------------------------------------------------


class Disk:
    """Fails on demand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.broken: str = ""
        self.part = 0
        self._write, self._sync = files.write, files.sync
        monkeypatch.setattr(files, "write", self.write)
        monkeypatch.setattr(files, "sync", self.sync)

    def write(self, descriptor: int, data: bytes) -> None:
        if self.broken == "write":
            self._write(descriptor, data[: self.part])
            raise OSError(28, "No space left on device")
        self._write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        if self.broken == "sync":
            raise OSError(5, "Input/output error")
        self._sync(descriptor)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("how", ["write", "sync"])
@pytest.mark.parametrize("part", [0, 5, 40])
def test_a_disk_that_fails_is_told_once_and_nothing_is_lost(
    folder: Path, monkeypatch: pytest.MonkeyPatch, how: str, part: int
) -> None:
    disk = Disk(monkeypatch)
    journal = TaskJournal(folder, "f")
    reports = Reports()
    journal.start(reports)
    journal.append(records([submitted(1)]), urgent=True)
    reports.synced(1)
    disk.part, disk.broken = part, how
    journal.append(records([submitted(2)], 2), urgent=True)
    failure = reports.failure()
    assert str(folder) in failure.text
    journal.append(records([submitted(3)], 3), urgent=True)
    threading.Event().wait(0.1)  # several tries
    disk.broken = ""
    reports.wait(Synced(1), failure, Synced(3), JournalWorks())
    assert len(reports.all) == 4
    assert journal.close()
    assert read(folder) == [submitted(1), submitted(2), submitted(3)]
    assert len(segment_paths(folder)) <= 3


@pytest.mark.usefixtures("quick")
def test_a_disk_that_is_full_from_the_start_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    disk.broken, disk.part = "write", 10
    journal = TaskJournal(folder, "f")
    reports = Reports()
    journal.start(reports)
    failure = reports.failure()
    disk.broken = ""
    reports.wait(failure, JournalWorks())
    journal.append(records([submitted(1)]), urgent=True)
    reports.synced(1)
    journal.close()
    assert read(folder) == [submitted(1)]


@pytest.mark.usefixtures("quick")
def test_what_could_not_be_written_at_the_end_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    journal = TaskJournal(folder, "f")
    reports = Reports()
    journal.start(reports)
    disk.broken = "write"
    journal.append(records([submitted(1)]), urgent=True)
    reports.failure()
    assert not journal.close()


def test_a_fault_of_our_own_is_told_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("computefarm.journal.segments.put_records", lambda _entries: 1 / 0)
    journal = TaskJournal(folder, "f")
    reports = Reports()
    journal.start(reports)
    journal.append(records([submitted(1)]), urgent=True)
    assert "ZeroDivisionError" in reports.failure().text
    assert not journal.close()


# --- compaction -------------------------------------------------------------------------------------------


def occupied(folder: Path) -> int:
    """Return the bytes of all files, though some are just being renamed or removed."""
    total = 0
    for path in list(folder.iterdir()):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def test_its_size_follows_what_is_alive(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "SEGMENT_BYTES", 20_000)
    journal = TaskJournal(folder, "f", segment_bytes=20_000)
    reports = Reports()
    journal.start(reports)
    number = 0
    for key in range(1, 3001):
        entries = [submitted(key)] if key % 100 == 0 else life(key)
        journal.append(records(entries, number + 1), urgent=True)
        number += len(entries)
        if key % 500 == 0:
            reports.synced(number)
            deadline = time.monotonic() + 20
            while occupied(folder) > 80_000:  # 420 000 are written in the end
                assert time.monotonic() < deadline, f"{occupied(folder)} bytes"
                time.sleep(0.01)
    assert journal.close()
    assert read(folder) == [submitted(key) for key in range(100, 3001, 100)]


def test_killed_at_any_step_of_a_compaction_it_loses_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, life(1), [submitted(2)])
    write(folder, life(3), [submitted(4)])
    write(folder, [Forgotten((2,)), submitted(5)])
    expected = [submitted(4), submitted(5)]

    class Killed(BaseException):
        pass

    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1
        if steps == deadly:
            raise Killed

    for module, name in ((files, "write"), (files, "sync"), (files, "sync_folder")):
        before = getattr(module, name)

        def call(*args: object, before: object = before) -> None:
            step()
            before(*args)  # type: ignore[operator]
            step()

        monkeypatch.setattr(module, name, call)
    unlink = Path.unlink

    def unlinked(path: Path, missing_ok: bool = False) -> None:
        step()
        unlink(path, missing_ok)

    for deadly in range(1, 40):
        steps = 0
        copy = tmp_path / f"copy{deadly}"
        copy.mkdir(mode=0o700)
        for path in segment_paths(folder).values():
            (copy / path.name).write_bytes(path.read_bytes())
        contents = reading.survey(copy)
        closed = [compaction.Closed(s.number, s.counts) for s in contents.segments[:2]]
        monkeypatch.setattr(Path, "unlink", unlinked)
        try:
            compaction.compact(copy, closed, contents.lineage)
            done = True
        except Killed:
            done = False
        monkeypatch.setattr(Path, "unlink", unlink)
        deadly = -1
        assert read(copy) == expected
        if done:
            assert len(segment_paths(copy)) == 2
            break
    else:
        pytest.fail("it never came to its end")
    assert steps > 8
