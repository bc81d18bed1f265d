"""A damaged journal gives back every record that can still be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from computefarm.core.entries import Ended, Entry, Forgotten, Started, Submitted
from computefarm.journal.folder import segment_path
from computefarm.journal.frames import (
    HEADER_BYTES,
    MARK_BYTES,
    RECORD_BYTES,
    Header,
    put_header,
    put_mark,
    put_records,
)
from computefarm.journal.reading import survey
from computefarm.journal.repair import repair
from computefarm.journal.tasks import TaskJournal
from computefarm.messages import Done, Need, Outcome, Result, TaskSpec

LINEAGE = "0123456789abcdef"


def submitted(key: int) -> Submitted:
    return Submitted(key, "s", "o", TaskSpec(key, f"t{key}", 0, b"act"), Need("shell"), 1.5)


def ended(key: int) -> Ended:
    return Ended(key, Done("s", key, Result(Outcome.SUCCEEDED, 0)))


def segment(number: int, *batches: list[Entry]) -> bytes:
    """Return a segment's bytes; one that was never closed."""
    data = put_header(Header(number, LINEAGE))
    for batch in batches:
        records = b"".join(put_records(batch))
        data += put_mark(len(data), len(records)) + records
    return data


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A journal's folder on a disk that is quick, for want of trust."""
    for name in ("computefarm.journal.files.sync", "computefarm.journal.files.sync_folder",
                 "computefarm.journal.repair.sync_folder"):  # fmt: skip
        monkeypatch.setattr(name, lambda _: None)
    made = tmp_path / "journal"
    made.mkdir(mode=0o700)
    return made


def living(folder: Path) -> list[Entry]:
    journal = TaskJournal(folder, "f")
    journal.close()
    return list(journal.entries)


def test_one_broken_record_is_all_that_is_lost(folder: Path) -> None:
    data = bytearray(segment(1, [submitted(1), submitted(2), submitted(3)], [submitted(4)]))
    second = HEADER_BYTES + MARK_BYTES + len(b"".join(put_records([submitted(1)])))
    data[second + RECORD_BYTES + 5] ^= 0xFF
    segment_path(folder, 1).write_bytes(data)
    assert survey(folder).damage
    done = repair(folder, "f" * 16)
    assert done.kept == 3
    assert len(done.lost) == 1
    assert f"byte {second:,}" in done.lost[0]
    assert living(folder) == [submitted(1), submitted(3), submitted(4)]
    assert (done.aside / segment_path(folder, 1).name).read_bytes() == bytes(data)


def test_a_broken_length_loses_the_rest_of_its_group_only(folder: Path) -> None:
    data = bytearray(segment(1, [submitted(1), submitted(2)], [submitted(3)]))
    data[HEADER_BYTES + MARK_BYTES + 2] ^= 0xFF
    segment_path(folder, 1).write_bytes(data)
    assert repair(folder, "f" * 16).kept == 1
    assert living(folder) == [submitted(3)]


def test_a_broken_header_loses_nothing(folder: Path) -> None:
    data = bytearray(segment(1, [submitted(1)]))
    data[20] ^= 0xFF
    segment_path(folder, 1).write_bytes(data)
    done = repair(folder, "f" * 16)
    assert done.kept == 1
    assert living(folder) == [submitted(1)]
    assert survey(folder).lineage == "f" * 16, "nobody knows the old one"


def test_a_missing_segment_is_given_up(folder: Path) -> None:
    segment_path(folder, 1).write_bytes(segment(1, [submitted(1)]))
    segment_path(folder, 3).write_bytes(segment(3, [submitted(3), ended(2), ended(9), Forgotten((9,))]))
    done = repair(folder, "f" * 16)
    assert done.orphans == {2}
    assert living(folder)[:2] == [submitted(1), submitted(3)]
    assert survey(folder).lineage == LINEAGE


@pytest.mark.parametrize("mask", [0x01, 0xFF])
def test_flipped_anywhere_it_gives_back_all_but_the_group_that_was_hit(folder: Path, mask: int) -> None:
    batches: list[list[Entry]] = [
        [submitted(1), submitted(2)],
        [Started(1, 1, "w", "e", 2.0), submitted(3)],
        [ended(1)],
    ]
    good = segment(1, *batches)
    everything = [entry for batch in batches for entry in batch]
    for offset in range(len(good)):
        for path in folder.glob("*.journal"):
            path.unlink()
        data = bytearray(good)
        data[offset] ^= mask
        segment_path(folder, 1).write_bytes(data)
        done = repair(folder, "f" * 16)
        for path in done.aside.iterdir():
            path.unlink()
        found = living(folder)
        rest = iter(everything)
        assert all(entry in rest for entry in found), "in order, and nothing but what was written"
        assert len(found) + len(done.orphans) >= len(everything) - 3
