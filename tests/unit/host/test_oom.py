from __future__ import annotations

from pathlib import Path

import pytest

from computefarm.host.oom import SAMPLE_S, OomCounter


def write(root: Path, name: str, text: str) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


VERSION_1 = ("9:cpu:/\n4:memory:/farm/a\n0::/\n", "sys/fs/cgroup/memory/farm/a/memory.oom_control")
VERSION_2 = ("0::/user/worker\n", "sys/fs/cgroup/user/worker/memory.events")
IN_A_CONTAINER = ("4:memory:/docker/5a7f\n", "sys/fs/cgroup/memory/memory.oom_control")
NO_GROUP = ("0::/\n", "proc/vmstat")


@pytest.mark.parametrize(("groups", "file"), [VERSION_1, VERSION_2, IN_A_CONTAINER, NO_GROUP])
def test_a_count_that_moves_is_noticed_and_forgotten_again(tmp_path: Path, groups: str, file: str) -> None:
    write(tmp_path, "proc/self/cgroup", groups)
    write(tmp_path, "proc/vmstat", "nr_free_pages 9\noom_kill 70\n")
    path = write(tmp_path, file, "low 0\noom_kill_disable 0\noom_kill 2\n")
    counter = OomCounter(tmp_path, now=0.0)
    assert not counter.moved()

    path.write_text("low 0\noom_kill 3\n")
    assert counter.moved()
    # One sample may fall between the kill and the news of it.
    counter.sample(SAMPLE_S)
    assert counter.moved()
    counter.sample(SAMPLE_S * 1.5)
    assert counter.moved()
    counter.sample(SAMPLE_S * 2)
    assert not counter.moved()


def test_a_system_without_a_count_never_blames_memory(tmp_path: Path) -> None:
    counter = OomCounter(tmp_path)
    counter.sample(10.0)

    assert not counter.moved()


def test_a_group_that_is_gone_reads_as_nothing(tmp_path: Path) -> None:
    write(tmp_path, "proc/self/cgroup", VERSION_2[0])
    path = write(tmp_path, VERSION_2[1], "oom_kill 2\n")
    counter = OomCounter(tmp_path)
    path.unlink()

    assert not counter.moved()
