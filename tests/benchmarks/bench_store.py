"""What storing, laying out, collecting and reading cost, beside the plain commands that do the least of it.

Run: python -m pytest -m benchmark -s tests/benchmarks/bench_store.py
The two columns of a line come from one run on one file system; read the ratio, not the numbers.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from computefarm.messages import FileEntry, Outcome, Result
from computefarm.store.blobs import BlobStore
from computefarm.store.collect import collect
from computefarm.store.deliver import Delivery, from_store
from computefarm.store.digests import DigestCache
from computefarm.store.layout import PrivateDirs, lay_out
from computefarm.store.results import ResultCache

pytestmark = pytest.mark.benchmark

BIG = 256 * 1024 * 1024
FRAME = 1024 * 1024
MANY = 1000
SMALL = 4000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[BlobStore]:
    opened = BlobStore(tmp_path / "store")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def big_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("big") / "big"
    portion = os.urandom(FRAME)
    with path.open("wb") as file:
        for number in range(BIG // FRAME):
            file.write(number.to_bytes(8, "little") + portion[8:])
    yield path
    path.unlink()


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def say_rate(name: str, took: float, floor_name: str, floor: float) -> None:
    print(
        f"\n{name:34} {BIG / took / 1e6:7.0f} MB/s   {floor_name:26} {BIG / floor / 1e6:7.0f} MB/s"
        f"   {floor / took:5.2f} x"
    )


def say_each(name: str, took: float, floor_name: str, floor: float, count: int = MANY) -> None:
    print(
        f"\n{name:34} {took / count * 1e6:7.1f} us     {floor_name:26} {floor / count * 1e6:7.1f} us"
        f"     {took / floor:5.2f} x"
    )


def copy_command(source: Path, target: Path) -> None:
    subprocess.run(["cp", "--reflink=auto", str(source), str(target)], check=True)


def test_large_files(tmp_path: Path, store: BlobStore, big_file: Path) -> None:
    floor = seconds(lambda: copy_command(big_file, tmp_path / "by-cp"))
    say_rate("add_file", seconds(lambda: store.add_file(big_file)), "cp", floor)
    digest = store.add_file(big_file)
    entry = FileEntry("in/big", digest, BIG)
    say_rate("lay_out", seconds(lambda: lay_out(store, [entry], tmp_path / "task")), "cp", floor)
    (tmp_path / "task" / "out").write_bytes(b"")
    with (tmp_path / "task" / "in" / "big").open("r+b") as file:
        file.write(b"another")
    copied = seconds(lambda: collect(tmp_path / "task", ["in"], store))
    say_rate("collect, copying", copied, "cp", floor)
    with (tmp_path / "task" / "in" / "big").open("r+b") as file:
        file.write(b"a third")
    moved = seconds(lambda: collect(tmp_path / "task", ["in"], store, consume=True))
    say_rate("collect, moving", moved, "cp", floor)
    (tmp_path / "project").mkdir()
    delivery = Delivery(tmp_path / "project")
    say_rate("deliver", seconds(lambda: delivery.install([entry], from_store(store))), "cp", floor)


def test_small_files(tmp_path: Path, store: BlobStore) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(MANY):
        (source / f"{number}").write_bytes(b"%06d" % number * (SMALL // 6))
    shutil.copytree(source, tmp_path / "warm")
    floor = seconds(lambda: subprocess.run(["cp", "-r", str(source), str(tmp_path / "by-cp")], check=True))
    paths = [str(source / f"{number}") for number in range(MANY)]
    added = seconds(lambda: [store.add_file(path) for path in paths])
    say_each("add_file, new", added, "cp -r", floor)
    say_each("add_file, known", seconds(lambda: [store.add_file(path) for path in paths]), "cp -r", floor)
    entries = [FileEntry(f"in/{n}", store.add_file(path), SMALL // 6 * 6) for n, path in enumerate(paths)]
    took = seconds(lambda: lay_out(store, entries, tmp_path / "task"))
    say_each("lay_out, one directory", took, "cp -r", floor)
    took = seconds(lambda: collect(tmp_path / "task", ["in"], store))
    say_each("collect, known content", took, "cp -r", floor)
    for number in range(MANY):
        (tmp_path / "task" / "in" / f"{number}").write_bytes(b"%07d" % number * (SMALL // 7))
    took = seconds(lambda: collect(tmp_path / "task", ["in"], store, consume=True))
    say_each("collect, new content, moving", took, "cp -r", floor)
    (tmp_path / "project").mkdir()
    delivery = Delivery(tmp_path / "project")
    took = seconds(lambda: [delivery.install([entry], from_store(store)) for entry in entries])
    say_each("deliver, one by one", took, "cp -r", floor)


def test_directories_of_tasks(tmp_path: Path, store: BlobStore) -> None:
    def plain() -> None:
        for number in range(MANY):
            os.mkdir(f"{tmp_path}/{number}")
            os.rmdir(f"{tmp_path}/{number}")

    dirs = PrivateDirs(tmp_path / "tasks")
    took = seconds(lambda: [dirs.remove(dirs.make(f"{number}-1")) for number in range(MANY)])
    say_each("make and remove a directory", took, "mkdir and rmdir", seconds(plain))
    headers = [
        FileEntry(f"include/{n}.h", store.add_bytes(b"%04d" % n * 1000), SMALL) for n in range(20)
    ]

    def task(number: int, kept: bool) -> None:
        directory = dirs.make(f"{number}-2")
        lay_out(store, headers, directory, ["build/x.o"], dirs=dirs if kept else None)
        dirs.remove(directory, reuse=kept)

    count = 100
    kept = seconds(lambda: [task(number, True) for number in range(count)])
    fresh = seconds(lambda: [task(number, False) for number in range(count)])
    say_each("task of 20 headers, kept files", kept, "without keeping", fresh, count)
    dirs.close()


def test_memories(tmp_path: Path) -> None:
    path = tmp_path / "source.c"
    path.write_text("int main;")
    os.utime(path, (1, 1))
    digests, name = DigestCache(tmp_path / "digests"), str(path)
    digests._now += 10
    entry_of = seconds(lambda: [digests.entry(name, "source.c") for _ in range(MANY * 20)])
    stat = seconds(lambda: [os.stat(name) for _ in range(MANY * 20)])
    say_each("digest entry, unchanged", entry_of, "os.stat", stat, MANY * 20)
    for number in range(10_000):
        digests._known[f"/home/user/project/src/some/folder/{number}.c"] = digests._known[name]
    digests._changed = True
    saved = seconds(digests.save)
    loaded = seconds(lambda: DigestCache(tmp_path / "digests"))
    print(f"\ndigests of 10 000 files: save {saved * 1e3:.1f} ms, load {loaded * 1e3:.1f} ms")
    cache = ResultCache(tmp_path / "results.db")
    result = Result(Outcome.SUCCEEDED, outputs=(FileEntry("out/x.o", b"\1" * 32, 9),), run_s=1.0)
    rows = [(number.to_bytes(32, "little"), result) for number in range(10_000)]
    put = seconds(lambda: cache.put_many(rows))
    got = seconds(lambda: cache.get_many([digest for digest, _ in rows]))
    print(f"\nresult cache: put {put / 1e4 * 1e6:.1f} us, get {got / 1e4 * 1e6:.1f} us each of 10 000")
    cache.close()


def through_a_pipe(frames: Callable[[], Iterator[bytes]]) -> float:
    """Return the seconds it takes to push all frames to a reader in another thread, over loopback."""
    with zmq.Context() as context, context.socket(zmq.PULL) as pull, context.socket(zmq.PUSH) as push:
        port = pull.bind_to_random_port("tcp://127.0.0.1")
        push.connect(f"tcp://127.0.0.1:{port}")
        received = [0]

        def drain() -> None:
            while received[0] < BIG:
                received[0] += len(pull.recv(copy=False).buffer)

        reader = threading.Thread(target=drain)
        reader.start()
        began = time.perf_counter()
        for frame in frames():
            push.send(frame, copy=False)
        reader.join()
        return time.perf_counter() - began


def test_reading_into_a_pipe(store: BlobStore, big_file: Path) -> None:
    digest = store.add_file(big_file)
    frame = os.urandom(FRAME)
    raw = through_a_pipe(lambda: (frame for _ in range(BIG // FRAME)))
    read = through_a_pipe(lambda: (store.read(digest, at, FRAME) for at in range(0, BIG, FRAME)))
    say_rate("store to PUSH/PULL", read, "one frame to PUSH/PULL", raw)


def test_writing_chunks(store: BlobStore, big_file: Path) -> None:
    data = big_file.read_bytes()
    digest = store.add_file(big_file)
    os.unlink(store.path(digest))
    store.refresh(digest)

    def write() -> None:
        writer = store.writer(digest, BIG)
        for at in range(0, BIG, FRAME):
            writer.write(at, data[at : at + FRAME])
        writer.finish()

    plain = big_file.with_name("plain")

    def floor() -> None:
        with plain.open("wb", buffering=0) as file:
            for at in range(0, BIG, FRAME):
                file.write(data[at : at + FRAME])

    say_rate("chunks to a blob, verified", seconds(write), "chunks to a file", seconds(floor))
    plain.unlink()
