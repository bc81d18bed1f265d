"""A warm process: what it takes, how soon it is there, and what happens when it finds nothing compiled."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from computefarm.workers.recompute.kernels import pos1_plain as plain
from computefarm.workers.recompute.kernels.pos1_known import KNOWN, request_of

from computefarm.worker_api.resident import unpack, warmed

from .warm_process import WarmProcess

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what a process takes is read from /proc")

COMPILING = """
import os
from pathlib import Path

from computefarm.worker_api.kernel import Context, Cost, Result

BALLAST = []


class Compiling:
    name, version, devices = "test.compiling", 1, frozenset({"cpu"})

    def parse(self, raw):
        return raw

    def cost(self, request):
        return Cost(memory=0, cpu_s=0.0)

    def split(self, request, parts):
        return [request]

    def run(self, request, context):
        return os.getpid()

    def merge(self, request, partials):
        return Result("ok", {"pid": partials[0], "ballast": len(BALLAST), "nice": os.nice(0)})

    def verify(self, request, result):
        return True

    def warmup(self, context):
        made = Path(context.cache) / "made"
        if ALWAYS or not made.exists():
            BALLAST.append(bytearray(1000))
            made.write_text("compiled")

    def selftest(self, context):
        pass

    def tags(self):
        return {}
"""


def installed(folder: Path, *, always: bool) -> str:
    """Make a folder for PYTHONPATH with a kernel that leaves something in memory when it compiles."""
    about = folder / "compiling-1.0.dist-info"
    about.mkdir(parents=True)
    (folder / "compiling.py").write_text(f"ALWAYS = {always}\n{COMPILING}")
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: compiling\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[computefarm.kernels]\ntest.compiling = compiling:Compiling\n")
    return str(folder)


@pytest.mark.parametrize("always", [False, True])
def test_what_had_to_compile_starts_over_once(tmp_path: Path, always: bool) -> None:
    (tmp_path / "cache").mkdir()
    path = installed(tmp_path / "kernels", always=always)
    process = WarmProcess(tmp_path / "cache", kernels="test.compiling", path=path)
    try:
        values = unpack(process.ask({"kernel": "test.compiling"}).values)
    finally:
        process.close()

    assert values["pid"] == process.popen.pid, "it is the process that the worker knows"
    assert warmed(str(tmp_path / "cache")).exists(), "the next ones may start together"
    # A cache that keeps nothing is no reason to start over for ever.
    assert values["ballast"] == (1 if always else 0)


@pytest.fixture
def process(kernel_cache: Path) -> Iterator[WarmProcess]:
    made = WarmProcess(kernel_cache)
    yield made
    made.close()


def bound(d: int) -> int:
    return 60 * 2**d + 150_000_000


def test_it_is_warm_within_two_seconds_of_work(process: WarmProcess) -> None:
    assert process.ready.lacking == ()
    assert process.cpu_s <= 2.0


def test_memory_of_proofs(process: WarmProcess) -> None:
    for level in (1, 2, 3, 4):
        told = process.ask(request_of(KNOWN, 15 + level))
        assert told.status == "ok", told
        assert process.peak <= bound(15 + level), f"C{level}: {process.peak / 1e6:.0f} MB"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_memory_of_large_proofs(process: WarmProcess) -> None:
    """Up to C9, whose table 2 alone has millions of rows."""
    kept = KNOWN.truncated(24)
    pairs = [kept[n + 1] << 8 | kept[n] for n in range(0, 64, 2)]
    words = [plain.line_point(pairs[n], pairs[n + 1]) for n in range(0, 32, 2)]
    requests = [(d, request_of(KNOWN, d)) for d in (20, 21, 22)]
    requests.append((24, {**request_of(KNOWN, 24), "form": "w16", "data": words}))
    for d, raw in requests:
        told = process.ask(raw)
        assert told.status == "ok", told
        assert unpack(told.values)["proof"] == KNOWN.proof
        assert process.peak <= bound(d), f"d = {d}: {process.peak / 1e6:.0f} MB"
