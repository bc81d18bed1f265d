from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from computefarm.errors import TaskError
from computefarm.messages import FileEntry
from computefarm.store import digests
from computefarm.store.digests import DigestCache

OLD = time.time() - 3600


@pytest.fixture(autouse=True)
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an hour pass between writing the files and hashing them, unless a test says otherwise."""
    now = time.time_ns
    monkeypatch.setattr(digests.time, "time_ns", lambda: now() + 3600 * 10**9)


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files hashed."""
    names: list[str] = []
    real = digests._hash_once

    def count(name: str, seen_at: int) -> object:
        names.append(name)
        return real(name, seen_at)

    monkeypatch.setattr(digests, "_hash_once", count)
    return names


def put(path: Path, data: bytes, when: float = OLD) -> Path:
    path.write_bytes(data)
    os.utime(path, (when, when))
    return path


@pytest.mark.parametrize("data", [b"", b"int main;", b"big" * 100_000])
def test_an_entry_says_what_the_file_is(tmp_path: Path, data: bytes) -> None:
    path = put(tmp_path / "a.c", data)
    cache = DigestCache()
    sha = hashlib.sha256(data).digest()
    assert cache.entry(path, "src/a.c") == FileEntry("src/a.c", sha, len(data), False)
    assert cache.digest(path) == cache.digest(str(path), os.stat(path)) == sha


def test_an_unchanged_file_is_hashed_once(tmp_path: Path, hashed: list[str]) -> None:
    path = put(tmp_path / "a", b"1")
    cache = DigestCache(tmp_path / "cache")
    first = cache.entry(path, "a")
    assert cache.entry(str(path), "a") is first
    cache.digest(path)
    cache.save()
    again = DigestCache(tmp_path / "cache")
    assert len(again) == 1
    assert again.entry(path, "a") == first
    assert len(hashed) == 1


def test_a_change_of_content_size_time_or_inode_is_seen(tmp_path: Path, hashed: list[str]) -> None:
    path = put(tmp_path / "a", b"1")
    cache = DigestCache()
    cache.entry(path, "a")
    put(path, b"22", OLD)
    assert cache.entry(path, "a").digest == hashlib.sha256(b"22").digest()
    put(path, b"33", OLD + 1)
    assert cache.entry(path, "a").digest == hashlib.sha256(b"33").digest()
    put(tmp_path / "new", b"44", OLD + 1).rename(path)
    assert cache.entry(path, "a").digest == hashlib.sha256(b"44").digest()
    assert len(hashed) == 4


def test_the_executable_bit_needs_no_hashing(tmp_path: Path, hashed: list[str]) -> None:
    path = put(tmp_path / "a", b"1")
    cache = DigestCache()
    assert not cache.entry(path, "a").executable
    path.chmod(0o755)
    assert cache.entry(path, "a").executable
    assert cache.entry(path, "b") == FileEntry("b", hashlib.sha256(b"1").digest(), 1, True)
    assert len(hashed) == 1


def test_links_are_followed(tmp_path: Path) -> None:
    put(tmp_path / "real", b"1")
    (tmp_path / "link").symlink_to("real")
    assert DigestCache().entry(tmp_path / "link", "link").digest == hashlib.sha256(b"1").digest()


def test_a_file_changed_within_the_clocks_tick_of_its_hashing_is_found_out(
    tmp_path: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    path = tmp_path / "a"
    path.write_bytes(b"1")
    found = path.stat()
    cache = DigestCache(tmp_path / "cache")
    cache.entry(path, "a")
    path.write_bytes(b"2")
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    new = hashlib.sha256(b"2").digest()
    assert cache.entry(path, "a").digest == new
    assert cache.digest(path) == new
    cache.save()
    path.write_bytes(b"3")
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert DigestCache(tmp_path / "cache").entry(path, "a").digest == hashlib.sha256(b"3").digest()


def test_a_time_in_the_future_does_not_mean_hashing_for_ever(tmp_path: Path, hashed: list[str]) -> None:
    path = put(tmp_path / "a", b"1", time.time() + 10**6)
    cache = DigestCache()
    for _ in range(3):
        cache.entry(path, "a")
    assert len(hashed) == 1


def test_a_file_that_does_not_hold_still_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path / "a", b"1")
    real = hashlib.sha256

    def scribble(data: bytes) -> object:
        with path.open("ab") as file:
            file.write(b"more")
        return real(data)

    monkeypatch.setattr(digests.hashlib, "sha256", scribble)
    with pytest.raises(TaskError, match="written to while"):
        DigestCache().entry(path, "a")


@pytest.mark.parametrize(
    ("name", "why"),
    [("nothing", "No such file"), ("folder", "is a folder"), ("pipe", "not a regular file"), ("loop", "cannot read")],
)
def test_what_is_no_file_is_refused_by_name(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(TaskError, match=f"{name}.*{why}|{why}.*{name}"):
        DigestCache().entry(tmp_path / name, name)


@pytest.mark.parametrize("junk", [b"", b"junk", b"\x92\x63\x80", b"\x92\x01\x81\xa1a\x90"])
def test_a_broken_cache_is_an_empty_one(tmp_path: Path, junk: bytes) -> None:
    (tmp_path / "cache").write_bytes(junk)
    path = put(tmp_path / "a", b"1")
    cache = DigestCache(tmp_path / "cache")
    assert len(cache) == 0
    cache.entry(path, "a")
    cache.save()
    assert len(DigestCache(tmp_path / "cache")) == 1


def test_saving_is_atomic_and_only_when_needed(tmp_path: Path) -> None:
    path = put(tmp_path / "a", b"1")
    cache = DigestCache(tmp_path / "deep" / "cache")
    cache.save()
    assert not (tmp_path / "deep").exists()
    cache.entry(path, "a")
    cache.save()
    inode = (tmp_path / "deep" / "cache").stat().st_ino
    cache.entry(path, "a")
    cache.save()
    assert (tmp_path / "deep" / "cache").stat().st_ino == inode
    assert os.listdir(tmp_path / "deep") == ["cache"]


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = DigestCache(tmp_path / "file" / "cache")
    cache.entry(put(tmp_path / "a", b"1"), "a")
    cache.save()


def test_files_long_unused_are_left_out(tmp_path: Path) -> None:
    cache = DigestCache(tmp_path / "cache")
    cache.entry(put(tmp_path / "a", b"1"), "a")
    cache.entry(put(tmp_path / "b", b"2"), "b")
    cache._known[str(tmp_path / "a")].seen_at -= digests.KEEP_S + 1
    cache.save()
    assert list(DigestCache(tmp_path / "cache")._known) == [str(tmp_path / "b")]
