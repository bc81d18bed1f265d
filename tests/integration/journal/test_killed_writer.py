"""A process that writes a journal is killed: whatever it had reported as synced is there."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from computefarm.core.entries import Submitted
from computefarm.errors import Refused
from computefarm.journal.tasks import TaskJournal

WRITER = """
import sys
from pathlib import Path
from computefarm.core.commands import Record
from computefarm.core.entries import Forgotten, Submitted
from computefarm.journal.tasks import TaskJournal
from computefarm.journal.writer import Synced
from computefarm.messages import Need, TaskSpec

key = int(sys.argv[2])
journal = TaskJournal(Path(sys.argv[1]), "f", segment_bytes=20_000)
keys = {}

def report(report):
    if isinstance(report, Synced):
        print(keys[report.number], flush=True)

journal.start(report)
number = 0
while True:
    number += 2
    keys[number] = key
    spec = TaskSpec(key, "t", 0, b"x" * (key % 300))
    made = Record(number - 1, Submitted(key, "s", "o", spec, Need("shell"), 1.0), True)
    gone = Record(number, Forgotten((key - 50,) if key % 10 else ()))
    journal.append([made, gone], True)
    key += 1
    if journal._writer._queue.qsize() > 100:
        import time
        time.sleep(0.001)
"""


def test_killed_again_and_again_it_has_everything_it_reported(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    key = 1
    for _ in range(12):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder), str(key)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            first = writer.stdout.readline()
            assert first, f"seed {seed}: it did not start"
            if chance.random() < 0.3:
                with pytest.raises(Refused, match=f"process {writer.pid}"):
                    TaskJournal(folder, "f")
            time.sleep(chance.random() * 0.3)
            writer.kill()
            told = [int(line) for line in [first, *writer.stdout] if line.endswith("\n")]
        journal = TaskJournal(folder, "f")
        journal.close()
        alive = {entry.key for entry in journal.entries if isinstance(entry, Submitted)}
        # Every tenth stays for ever, the others are forgotten fifty later.
        owed = {k for k in range(1, max(told) + 1) if k > max(alive) - 50 or (k + 50) % 10 == 0}
        assert owed <= alive, f"seed {seed}: lost {sorted(owed - alive)[:5]}"
        key = max(alive) + 1
