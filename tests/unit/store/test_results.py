from __future__ import annotations

import hashlib
import sqlite3
import threading
from pathlib import Path

import pytest

from computefarm.errors import StoreError
from computefarm.messages import Digest, FileEntry, Outcome, Piece, Result
from computefarm.store.results import ResultCache


def key(number: int) -> Digest:
    return hashlib.sha256(b"%d" % number).digest()


def result(number: int = 0, text: str = "") -> Result:
    return Result(
        Outcome.SUCCEEDED,
        exit_code=0,
        outputs=(FileEntry(f"out/{number}.o", key(-number), number, True),),
        run_s=1.5,
        log=(Piece(1, 2.0, text, 3),) if text else (),
    )


def test_results_come_back_equal_also_after_a_restart(tmp_path: Path) -> None:
    cache = ResultCache(tmp_path / "deep" / "results.db")
    stored = {key(n): result(n, "line\n" * n) for n in range(200)}
    cache.put_many(list(stored.items()))
    assert cache.get_many(list(stored)) == stored
    assert cache.get_many([key(1), key(999)]) == {key(1): stored[key(1)]}
    assert cache.get_many([]) == {}
    cache.close()
    again = ResultCache(tmp_path / "deep" / "results.db")
    assert len(again) == 200
    assert again.get_many([*stored, key(999)]) == stored
    again.close()
    again.close()


def test_a_later_result_replaces_an_earlier_one(tmp_path: Path) -> None:
    cache = ResultCache(tmp_path / "results.db")
    cache.put_many([(key(1), result(1)), (key(1), result(2))])
    cache.put_many([(key(1), result(3))])
    assert cache.get_many([key(1)]) == {key(1): result(3)}
    cache.close()


@pytest.mark.parametrize("outcome", [o for o in Outcome if o is not Outcome.SUCCEEDED])
def test_only_success_is_cached(tmp_path: Path, outcome: Outcome) -> None:
    cache = ResultCache(tmp_path / "results.db")
    with pytest.raises(ValueError, match=str(outcome)):
        cache.put_many([(key(1), result(1)), (key(2), Result(outcome))])
    assert cache.get_many([key(1), key(2)]) == {}
    cache.close()


def test_the_least_recently_used_rows_go_first(tmp_path: Path) -> None:
    cache = ResultCache(tmp_path / "results.db", max_rows=10)
    for number in range(10):
        cache.put_many([(key(number), result(number))])
    cache.get_many([key(0), key(1)])
    cache.put_many([(key(10), result(10))])
    left = set(cache.get_many([key(n) for n in range(11)]))
    assert left == {key(n) for n in (0, 1, 4, 5, 6, 7, 8, 9, 10)}
    assert len(cache) == 9
    cache.close()


def test_bytes_are_limited_too(tmp_path: Path) -> None:
    cache = ResultCache(tmp_path / "results.db", max_bytes=100_000)
    for number in range(50):
        cache.put_many([(key(number), result(number, "x" * 10_000))])
    left = cache.get_many([key(n) for n in range(50)])
    assert 5 <= len(left) <= 10
    assert key(49) in left
    cache.close()


@pytest.mark.parametrize("junk", [b"this is no database" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_corrupt_file_is_put_aside_and_said(tmp_path: Path, junk: bytes, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "results.db"
    (tmp_path / "results.db.corrupt-1").write_text("of last year")
    path.write_bytes(junk)
    cache = ResultCache(path)
    cache.put_many([(key(1), result(1))])
    assert cache.get_many([key(1)]) == {key(1): result(1)}
    (record,) = caplog.records
    assert "results.db.corrupt-2" in record.getMessage()
    assert (tmp_path / "results.db.corrupt-2").read_bytes() == junk
    assert (tmp_path / "results.db.corrupt-1").read_text() == "of last year"
    cache.close()


def test_a_file_that_breaks_later_is_put_aside_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "results.db"
    cache = ResultCache(path)
    cache.put_many([(key(n), result(n, "x" * 3000)) for n in range(200)])
    cache.close()
    pages = bytearray(path.read_bytes())
    pages[3 * 4096 :] = b"\xa5" * (len(pages) - 3 * 4096)
    path.write_bytes(pages)
    broken = ResultCache(path)
    assert broken.get_many([key(n) for n in range(200)]) == {}
    broken.put_many([(key(1), result(1))])
    assert broken.get_many([key(1)]) == {key(1): result(1)}
    assert any("corrupt-1" in record.getMessage() for record in caplog.records)
    broken.close()


def test_a_row_that_is_not_what_was_written_is_no_answer(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    cache = ResultCache(path)
    cache.put_many([(key(1), result(1)), (key(2), result(2))])
    cache.close()
    database = sqlite3.connect(path)
    database.execute("UPDATE results SET result = zeroblob(40) WHERE digest = ?", [key(1)])
    database.commit()
    database.close()
    again = ResultCache(path)
    assert again.get_many([key(1), key(2)]) == {key(2): result(2)}
    assert len(again) == 1
    again.close()


def test_another_schema_is_put_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "results.db"
    cache = ResultCache(path)
    cache.put_many([(key(1), result(1))])
    cache.close()
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.close()
    again = ResultCache(path)
    assert again.get_many([key(1)]) == {}
    assert "schema 99" in caplog.records[0].getMessage()
    assert (tmp_path / "results.db.schema-99-1").exists()
    again.close()


def test_a_locked_or_unusable_file_is_an_error_not_a_fresh_start(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="result cache"):
        ResultCache(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="result cache"):
        ResultCache(tmp_path / "file" / "results.db")
    assert tmp_path.is_dir()


def test_two_processes_may_share_the_file(tmp_path: Path) -> None:
    first, second = ResultCache(tmp_path / "r.db"), ResultCache(tmp_path / "r.db")
    first.put_many([(key(1), result(1))])
    second.put_many([(key(2), result(2))])
    assert set(first.get_many([key(1), key(2)])) == set(second.get_many([key(1), key(2)])) == {key(1), key(2)}
    first.close()
    second.close()


def test_many_threads(tmp_path: Path) -> None:
    cache = ResultCache(tmp_path / "r.db")
    failures: list[BaseException] = []

    def work(offset: int) -> None:
        try:
            for number in range(offset, offset + 20):
                cache.put_many([(key(number), result(number))])
                assert cache.get_many([key(number)]) == {key(number): result(number)}
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(offset * 20,)) for offset in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(cache) == 80
    cache.close()
